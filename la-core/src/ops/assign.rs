//! The nearest centroid of each point, exactly: coarse products rule most centroids out where the processor has them.

use super::{
    parallel,
    quantize::{self, Bound},
    row_sums::dot,
    scores::{Columns, Rows},
    top_k::{at_least, max},
};
use std::ops::Range;

/// Points that one piece of work assigns.
const BLOCK: usize = 480;

/// Points whose scores are held at once.
const TILE: usize = 24;

/// Points to assign, coded once for every round.
pub(crate) struct Points<'a> {
    rows: Rows<'a>,
    dim: usize,
}

/// Centroids, packed.
struct Centroids<'a> {
    rows: Rows<'a>,
    /// `|c|² / 2`.
    half_squares: Vec<f32>,
    columns: Columns,
    bound: Bound,
    largest_bias: f32,
}

impl<'a> Points<'a> {
    /// Prepares `rows` `(N, dim)`, all finite.
    pub fn new(rows: &'a [f32], dim: usize) -> Self {
        Self { rows: if quantize::is_available() { Rows::coarse(rows, dim) } else { Rows::exact(rows, dim) }, dim }
    }

    /// Writes the index of each point's nearest centroid, the lowest where several are.
    ///
    /// The nearest maximises `x·c - |c|² / 2`. `centroids` is `(k, dim)`, `labels` `(N,)`.
    pub fn assign(&self, centroids: &[f32], labels: &mut [u32]) {
        let centroids = self.pack(centroids);
        parallel::for_each_chunk(labels, BLOCK, |block, labels| self.assign_block(&centroids, block * BLOCK, labels));
    }

    fn pack<'c>(&self, rows: &'c [f32]) -> Centroids<'c> {
        let half_squares: Vec<f32> = rows.chunks_exact(self.dim).map(|row| 0.5 * dot(row, row)).collect();
        let rows = if self.rows.is_coarse() { Rows::coarse(rows, self.dim) } else { Rows::exact(rows, self.dim) };
        let columns = Columns::pack(&rows, 0..rows.len(), |i| -half_squares[i]);
        let largest_bias = half_squares.iter().copied().fold(0.0, f32::max);
        Centroids { bound: rows.bound_of_all(), rows, half_squares, columns, largest_bias }
    }

    fn assign_block(&self, centroids: &Centroids, first: usize, labels: &mut [u32]) {
        let stride = centroids.columns.len();
        let (mut scores, mut candidates) = (vec![0.0; TILE * stride], Vec::new());
        for (tile, labels) in labels.chunks_mut(TILE).enumerate() {
            let range = Range { start: first + tile * TILE, end: first + tile * TILE + labels.len() };
            centroids.columns.products(&self.rows, range.clone(), &mut scores);
            for ((point, label), scores) in range.zip(labels).zip(scores.chunks_exact(stride)) {
                *label = self.best(centroids, point, scores, &mut candidates);
            }
        }
    }

    /// The centroid of the best score, computed exactly where coarse scores leave a doubt.
    fn best(&self, centroids: &Centroids, point: usize, scores: &[f32], candidates: &mut Vec<u32>) -> u32 {
        let is_coarse = self.rows.is_coarse();
        let slack = if is_coarse { self.rows.bound(point).slack(centroids.bound, centroids.largest_bias) } else { 0.0 };
        at_least(scores, max(scores) - 2.0 * slack, candidates);
        if candidates.len() < 2 || !is_coarse {
            return candidates.first().copied().unwrap_or(0);
        }
        let point = self.rows.row(point);
        let exact = |c: u32| dot(point, centroids.rows.row(c as usize)) - centroids.half_squares[c as usize];
        let scores = candidates.iter().map(|&c| (c, exact(c)));
        scores.fold((0, f32::NEG_INFINITY), |best, new| if new.1 > best.1 { new } else { best }).0
    }
}
