//! Softmax down the columns of a stream of score blocks, with the sums kept relative to the largest score so far.

use super::simd::{dispatch, Simd};

/// For each column: the largest score so far and the sum of `exp(score - largest)`.
pub(crate) struct Columns {
    /// The largest score so far.
    pub largest: Vec<f32>,
    /// `Σ exp(score - largest)`.
    pub sums: Vec<f32>,
}

impl Columns {
    /// No scores yet in `width` columns.
    pub fn new(width: usize) -> Self {
        Self { largest: vec![f32::NEG_INFINITY; width], sums: vec![0.0; width] }
    }

    /// Turns `scores` `(rows, width)` into `exp(scale * score - largest)` and adds them up.
    ///
    /// Gives the factor of each column by which everything summed before must shrink.
    pub fn push(&mut self, scores: &mut [f32], scale: f32) -> Vec<f32> {
        let width = self.largest.len();
        let mut largest = self.largest.clone();
        for row in scores.chunks_exact(width) {
            largest.iter_mut().zip(row).for_each(|(max, &score)| *max = max.max(score * scale));
        }
        let factors = self.raise(&largest);
        for row in scores.chunks_exact_mut(width) {
            row.iter_mut().zip(&largest).for_each(|(score, max)| *score = *score * scale - max);
        }
        exp(scores);
        for row in scores.chunks_exact(width) {
            self.sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        factors
    }

    /// Takes in another part's columns; gives the factors for what was summed here and there.
    pub fn merge(&mut self, other: &Self) -> (Vec<f32>, Vec<f32>) {
        let largest: Vec<f32> = self.largest.iter().zip(&other.largest).map(|(a, b)| a.max(*b)).collect();
        let factors = self.raise(&largest);
        let others: Vec<f32> = other.largest.iter().zip(&largest).map(|(old, new)| factor(*old, *new)).collect();
        for ((sum, other), factor) in self.sums.iter_mut().zip(&other.sums).zip(&others) {
            *sum += other * factor;
        }
        (factors, others)
    }

    fn raise(&mut self, largest: &[f32]) -> Vec<f32> {
        let factors: Vec<f32> = self.largest.iter().zip(largest).map(|(old, new)| factor(*old, *new)).collect();
        self.sums.iter_mut().zip(&factors).for_each(|(sum, factor)| *sum *= factor);
        self.largest.copy_from_slice(largest);
        factors
    }
}

/// `exp(old - new)`, 0 where there was nothing.
fn factor(old: f32, new: f32) -> f32 {
    if old == f32::NEG_INFINITY {
        0.0
    } else {
        (old - new).exp()
    }
}

/// Replaces each value by its exponential; values must not exceed 0, those under -87 give 0.
pub(crate) fn exp(values: &mut [f32]) {
    let (at, len) = (values.as_mut_ptr(), values.len());
    // SAFETY: `at` holds `len` values.
    unsafe { dispatch!(exp_kernel(at: *mut f32, len: usize)) }
}

/// `2^n · p(r)` with `x = n ln 2 + r`, `|r| <= ln 2 / 2`, `p` of degree 6; the relative error is under 2e-7.
#[allow(clippy::extra_unused_type_parameters)] // The compiler vectorises it for each instruction set.
#[inline(always)]
unsafe fn exp_kernel<S: Simd>(values: *mut f32, len: usize) {
    // SAFETY: the caller gives `len` values.
    let values = unsafe { std::slice::from_raw_parts_mut(values, len) };
    for value in values {
        let x = value.max(-87.0);
        // Adding 1.5 * 2^23 rounds to a whole number, held in the low bits.
        let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
        let n = shifted - 12_582_912.0;
        // ln 2 in two parts, so that n times the first is exact.
        let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
        let mut p = 1.0 / 720.0;
        for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p * r + coefficient;
        }
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        *value = if *value < -87.0 { 0.0 } else { p * power };
    }
}
