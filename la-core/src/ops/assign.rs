//! The nearest centroid of each point, exactly: coarse products rule most centroids out where the processor has them.

use super::{
    parallel,
    products::{panel_width, Panels},
    quantize::{self, CodePanels, Codes},
    row_sums::dot,
    top_k::{at_least, max},
};

/// Points that one piece of work assigns.
const BLOCK: usize = 480;

/// Points whose scores are held at once.
const TILE: usize = 24;

/// Points to assign, coded once for every round.
pub(crate) struct Points<'a> {
    rows: &'a [f32],
    dim: usize,
    codes: Option<Codes>,
}

/// Centroids, packed.
struct Centroids<'a> {
    rows: &'a [f32],
    /// `|c|² / 2`.
    half_squares: Vec<f32>,
    packed: Packed,
}

enum Packed {
    Exact(Panels),
    Coarse { panels: CodePanels, bound: quantize::Bound, largest_bias: f32 },
}

impl<'a> Points<'a> {
    /// Prepares `rows` `(N, dim)`, all finite.
    pub fn new(rows: &'a [f32], dim: usize) -> Self {
        Self { rows, dim, codes: quantize::is_available().then(|| Codes::new(rows, dim)) }
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
        let packed = match &self.codes {
            None => Packed::Exact(Panels::pack(rows, self.dim, |i| -half_squares[i])),
            Some(_) => {
                let codes = Codes::new(rows, self.dim);
                Packed::Coarse {
                    panels: CodePanels::pack(&codes, 0..half_squares.len(), |i| -half_squares[i]),
                    bound: codes.bound_of_all(),
                    largest_bias: half_squares.iter().copied().fold(0.0, f32::max),
                }
            }
        };
        Centroids { rows, half_squares, packed }
    }

    fn assign_block(&self, centroids: &Centroids, first: usize, labels: &mut [u32]) {
        let stride = match &centroids.packed {
            Packed::Exact(panels) => panels.len() * panel_width(),
            Packed::Coarse { panels, .. } => panels.len() * quantize::PANEL_WIDTH,
        };
        let (mut scores, mut candidates) = (vec![0.0; TILE * stride], Vec::new());
        for (tile, labels) in labels.chunks_mut(TILE).enumerate() {
            let first = first + tile * TILE;
            self.score(centroids, first..first + labels.len(), &mut scores);
            for (i, label) in labels.iter_mut().enumerate() {
                *label = self.best(centroids, first + i, &scores[i * stride..][..stride], &mut candidates);
            }
        }
    }

    fn score(&self, centroids: &Centroids, range: std::ops::Range<usize>, scores: &mut [f32]) {
        match (&centroids.packed, &self.codes) {
            (Packed::Exact(panels), _) => {
                panels.products(&self.rows[range.start * self.dim..range.end * self.dim], 0..panels.len(), scores);
            }
            (Packed::Coarse { panels, .. }, Some(codes)) => panels.products(codes, range, 0..panels.len(), scores),
            (Packed::Coarse { .. }, None) => unreachable!("centroids are coded only where the points are"),
        }
    }

    /// The centroid of the best score, computed exactly where coarse scores leave a doubt.
    fn best(&self, centroids: &Centroids, point: usize, scores: &[f32], candidates: &mut Vec<u32>) -> u32 {
        let slack = match (&centroids.packed, &self.codes) {
            (Packed::Coarse { bound, largest_bias, .. }, Some(codes)) => codes.bound(point).slack(*bound, *largest_bias),
            _ => 0.0,
        };
        at_least(scores, max(scores) - 2.0 * slack, candidates);
        if candidates.len() < 2 || slack == 0.0 {
            return candidates.first().copied().unwrap_or(0);
        }
        let point = &self.rows[point * self.dim..][..self.dim];
        let exact = |c: u32| dot(point, &centroids.rows[c as usize * self.dim..][..self.dim]) - centroids.half_squares[c as usize];
        let scores = candidates.iter().map(|&c| (c, exact(c)));
        scores.fold((0, f32::NEG_INFINITY), |best, new| if new.1 > best.1 { new } else { best }).0
    }
}
