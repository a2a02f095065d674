//! What products of 8-bit codes tell about scores.

use crate::ops::{codes::root, scan::Query};

/// A row that may be among the best, and where its score lies.
#[derive(Clone)]
pub(super) struct Candidate {
    pub row: u32,
    pub low: f32,
    pub high: f32,
}

/// Between which bounds the product of codes leaves a score: within `norm * of_norm + error * of_error + LEAST`.
pub(super) struct Bounds {
    scale: f32,
    of_norm: f32,
    of_error: f32,
}

/// For scores that differ, but not as 32-bit floats.
const LEAST: f32 = 1e-30;

impl Bounds {
    /// Of a query and its codes.
    pub fn new(values: &[f32], query: &Query) -> Self {
        let norm = length(values.iter().map(|&x| f64::from(x)));
        let lost = length(values.iter().zip(query.decoded()).map(|(&x, y)| f64::from(x) - y));
        // The last summand of the first, and the factor of the second, cover the rounding of everything here.
        Self { scale: query.scale, of_norm: lost * 1.00001 + norm * 2e-6, of_error: (norm + lost) * 1.00001 }
    }

    /// The most that each score can be; gives the largest of them.
    pub fn highs(&self, dots: &[i32], [scale, norm, error]: [&[f32]; 3], highs: &mut [f32]) -> f32 {
        for (((high, &dot), &scale), (&norm, &error)) in highs.iter_mut().zip(dots).zip(scale).zip(norm.iter().zip(error)) {
            *high = dot as f32 * (scale * self.scale) + (norm * self.of_norm + error * self.of_error + LEAST);
        }
        highs.iter().fold(f32::NEG_INFINITY, |largest, &high| if high > largest { high } else { largest })
    }

    /// The least that a score can be which can be `high`.
    pub fn low(&self, high: f32, norm: f32, error: f32) -> f32 {
        high - 2.0 * (norm * self.of_norm + error * self.of_error + LEAST)
    }
}

/// Drops what cannot be among the `k` best; gives the least score that can.
pub(super) fn shrink(kept: &mut Vec<Candidate>, k: usize) -> f32 {
    let (_, kth, _) = kept.select_nth_unstable_by(k - 1, |a, b| b.low.total_cmp(&a.low));
    let floor = kth.low;
    kept.retain(|candidate| candidate.high >= floor);
    floor
}

fn length(values: impl Iterator<Item = f64>) -> f32 {
    root(values.map(|x| x * x).sum())
}
