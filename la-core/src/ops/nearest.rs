//! Exact nearest rows by dot product: blocks of products, coarse where the processor multiplies bytes, running selection.

use super::{
    parallel,
    products::{panel_width, Panels},
    quantize::{self, Bound, CodePanels, Codes},
    row_sums::dot,
    top_k::{largest, rescore, TopK},
};

/// Rows of a block: their scores against a panel stay in the first-level cache.
const BLOCK_ROWS: usize = 96;

/// How many times as many rows as results there must be for the coarse pass to pay: each result costs a gathered row.
const COARSE_FROM: usize = 64;

/// The rows found for each query.
pub(crate) struct Found {
    /// `(Q, k)` row indices.
    pub indices: Vec<u32>,
    /// `(Q, k)` dot products.
    pub scores: Vec<f32>,
}

/// The `k` rows of largest dot product with each query; in decreasing order where `is_sorted`.
///
/// - `rows` `(N, dim)`, `queries` `(Q, dim)`, all finite; `1 <= k <= N`.
pub(crate) fn top_k(rows: &[f32], queries: &[f32], dim: usize, k: usize, is_sorted: bool) -> Found {
    let search = Search { rows, queries, dim, k, is_sorted };
    let num_queries = queries.len() / dim;
    let found =
        if quantize::is_available() && rows.len() / dim >= COARSE_FROM * k && num_queries > 1 { search.coarse() } else { search.exact() };
    let mut all = Found { indices: Vec::with_capacity(num_queries * k), scores: Vec::with_capacity(num_queries * k) };
    for (index, score) in found.into_iter().flatten() {
        all.indices.push(index);
        all.scores.push(score);
    }
    all
}

struct Search<'a> {
    rows: &'a [f32],
    queries: &'a [f32],
    dim: usize,
    k: usize,
    is_sorted: bool,
}

impl Search<'_> {
    /// Selection over products that are final as they come.
    fn exact(&self) -> Vec<Vec<(u32, f32)>> {
        let width = panel_width();
        parallel::map((self.queries.len() / self.dim).div_ceil(width), |group| {
            let queries = &self.queries[group * width * self.dim..((group + 1) * width * self.dim).min(self.queries.len())];
            let panels = Panels::pack(queries, self.dim, |_| 0.0);
            let mut top = TopK::new(self.k, &vec![0.0; queries.len() / self.dim], width);
            let mut scores = vec![0.0; BLOCK_ROWS * width];
            for (block, rows) in self.rows.chunks(BLOCK_ROWS * self.dim).enumerate() {
                let scores = &mut scores[..rows.len() / self.dim * width];
                panels.products(rows, 0..1, scores);
                top.push(scores, block * BLOCK_ROWS);
            }
            top.finish().flat_map(|keys| largest(keys, self.k, self.is_sorted)).collect()
        })
    }

    /// Selection over coarse products, then exact products of what is left.
    fn coarse(&self) -> Vec<Vec<(u32, f32)>> {
        let (rows, queries) = (Codes::new(self.rows, self.dim), Codes::new(self.queries, self.dim));
        let bound = rows.bound_of_all();
        let num_queries = self.queries.len() / self.dim;
        parallel::map(num_queries.div_ceil(quantize::PANEL_WIDTH), |group| {
            let first = group * quantize::PANEL_WIDTH;
            let range = first..(first + quantize::PANEL_WIDTH).min(num_queries);
            let candidates = self.candidates(&rows, bound, &queries, range);
            candidates.into_iter().enumerate().flat_map(|(i, keys)| self.refine(first + i, keys)).collect()
        })
    }

    fn candidates(&self, rows: &Codes, bound: Bound, queries: &Codes, range: std::ops::Range<usize>) -> Vec<Vec<u64>> {
        let slacks: Vec<f32> = range.clone().map(|query| queries.bound(query).slack(bound, 0.0)).collect();
        let panels = CodePanels::pack(queries, range, |_| 0.0);
        let mut top = TopK::new(self.k, &slacks, quantize::PANEL_WIDTH);
        let mut scores = vec![0.0; BLOCK_ROWS * quantize::PANEL_WIDTH];
        let num_rows = self.rows.len() / self.dim;
        for first in (0..num_rows).step_by(BLOCK_ROWS) {
            let range = first..(first + BLOCK_ROWS).min(num_rows);
            let scores = &mut scores[..range.len() * quantize::PANEL_WIDTH];
            panels.products(rows, range, 0..1, scores);
            top.push(scores, first);
        }
        top.finish().collect()
    }

    fn refine(&self, query: usize, mut keys: Vec<u64>) -> impl Iterator<Item = (u32, f32)> {
        let query = &self.queries[query * self.dim..][..self.dim];
        rescore(&mut keys, |index| dot(query, &self.rows[index as usize * self.dim..][..self.dim]));
        largest(keys, self.k, self.is_sorted)
    }
}
