//! Exact nearest rows by dot product: blocks of products, coarse where the processor multiplies bytes, running selection.

use super::{
    parallel,
    quantize::{self, Bound},
    row_sums::dots,
    scores::{Columns, Rows},
    top_k::{largest, least, rescore, score_of, split, TopK},
};
use crate::rng::{Rng, Stream};
use std::ops::Range;

/// Rows of a block: their scores against a panel stay in the first-level cache.
const BLOCK_ROWS: usize = 96;

/// How many times as many rows as results there must be for the coarse pass to pay: each result costs a gathered row.
const COARSE_FROM: usize = 64;

/// One row in this many is looked at first, to know what a score must exceed.
const SAMPLE: usize = 16;

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
    let (n, num_queries) = (rows.len() / dim, queries.len() / dim);
    let is_coarse = quantize::is_available() && n >= COARSE_FROM * k && num_queries > 1;
    let prepare = if is_coarse { Rows::coarse } else { Rows::exact };
    let sampled = sample(rows, dim);
    let (rows, sample, queries) = (prepare(rows, dim), prepare(&sampled, dim), prepare(queries, dim));
    let search = Search { bound: rows.bound_of_all(), rows, sample, queries, k, is_sorted };
    let width = Columns::panel_width(&search.queries);
    let found = parallel::map(num_queries.div_ceil(width), |panel| search.panel(panel * width..((panel + 1) * width).min(num_queries)));
    let mut all = Found { indices: Vec::with_capacity(num_queries * k), scores: Vec::with_capacity(num_queries * k) };
    for (index, score) in found.into_iter().flatten() {
        all.indices.push(index);
        all.scores.push(score);
    }
    all
}

/// A row of each `SAMPLE`, at random within them: rows may come in a periodic order.
fn sample(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut rng = Rng::new(Stream::Subset, &[SAMPLE as u64]);
    let mut sampled = Vec::with_capacity(rows.len().div_ceil(SAMPLE) + dim);
    for rows in rows.chunks(SAMPLE * dim) {
        sampled.extend_from_slice(&rows[rng.below(rows.len() / dim) * dim..][..dim]);
    }
    sampled
}

struct Search<'a> {
    rows: Rows<'a>,
    bound: Bound,
    sample: Rows<'a>,
    queries: Rows<'a>,
    k: usize,
    is_sorted: bool,
}

impl Search<'_> {
    /// The nearest rows of one panel of queries, one query after the other.
    fn panel(&self, queries: Range<usize>) -> Vec<(u32, f32)> {
        let slacks: Vec<f32> = queries.clone().map(|query| self.queries.bound(query).slack(self.bound, 0.0)).collect();
        let columns = Columns::pack(&self.queries, queries.clone(), |_| 0.0);
        let select = |floors: &[f32]| self.select(&columns, &slacks, floors, queries.start);
        let found = self.floors(&columns, &slacks).and_then(|floors| select(&floors));
        found.unwrap_or_else(|| select(&vec![f32::NEG_INFINITY; slacks.len()]).expect("every score exceeds this floor"))
    }

    /// What the coarse scores of each query's nearest rows very likely exceed: a low rank in the sample, less the slack.
    fn floors(&self, columns: &Columns, slacks: &[f32]) -> Option<Vec<f32>> {
        let expected = self.k as f64 / SAMPLE as f64;
        let rank = (expected + 4.0 * expected.sqrt() + 4.0) as usize;
        if rank * 2 > self.sample.len() {
            return None;
        }
        let mut top = TopK::new(rank, &vec![0.0; slacks.len()], columns.len());
        scan(&self.sample, columns, &mut top);
        Some(top.thresholds().zip(slacks).map(|(score, slack)| (score - 1.25 * slack).next_down()).collect())
    }

    /// Each query's nearest rows among those above its floor; none where a floor turns out too high.
    fn select(&self, columns: &Columns, slacks: &[f32], floors: &[f32], first: usize) -> Option<Vec<(u32, f32)>> {
        let mut top = TopK::new(self.k, slacks, columns.len());
        top.raise(floors);
        scan(&self.rows, columns, &mut top);
        let mut found = Vec::with_capacity(slacks.len() * self.k);
        for (i, keys) in top.finish().enumerate() {
            let (keys, least) = self.refine(first + i, keys, slacks[i])?;
            if least < floors[i] {
                return None;
            }
            found.extend(largest(keys, self.k, self.is_sorted));
        }
        Some(found)
    }

    /// Candidates that may be among a query's nearest, with exact scores, and the least coarse score that such may have.
    ///
    /// The least exact score of any `k` rows is one that the `k` nearest reach; coarse scores fall short by the slack at most.
    fn refine(&self, query: usize, mut keys: Vec<u64>, slack: f32) -> Option<(Vec<u64>, f32)> {
        let mut others = split(&mut keys, self.k)?;
        if !self.rows.is_coarse() {
            let least = least(&keys);
            return Some((keys, least));
        }
        let exact = |indices: &[u32], scores: &mut Vec<f32>| dots(self.queries.row(query), self.rows.values(), indices, scores);
        rescore(&mut keys, exact);
        let least = least(&keys) - slack;
        others.retain(|&key| score_of(key) >= least);
        rescore(&mut others, exact);
        keys.append(&mut others);
        Some((keys, least))
    }
}

fn scan(rows: &Rows, columns: &Columns, top: &mut TopK) {
    let mut scores = vec![0.0; BLOCK_ROWS * columns.len()];
    for first in (0..rows.len()).step_by(BLOCK_ROWS) {
        let range = first..(first + BLOCK_ROWS).min(rows.len());
        let scores = &mut scores[..range.len() * columns.len()];
        columns.products(rows, range, scores);
        top.push(scores, first);
    }
}
