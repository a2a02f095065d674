//! Features of many images, kept in half precision, and their standardisation.

use crate::error::Result;
use candle_core::Tensor;
use half::{f16, slice::HalfFloatSliceExt};
use la_core::ops::{host, parallel};

/// Pieces that sums over rows are cut into: by number alone, so that threads change no sum.
pub(super) const PIECES: usize = 16;

/// Rows of features `(N, F)` in half precision: 11 bits of each value, half of the memory.
#[derive(Debug, Clone)]
pub struct HalfRows {
    values: Vec<f16>,
    width: usize,
}

impl HalfRows {
    /// No rows yet, with room for `capacity` of `width` values.
    pub fn new(width: usize, capacity: usize) -> Self {
        Self { values: Vec::with_capacity(width * capacity), width }
    }

    /// The rows of a tensor `(N, F)`.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let (num_rows, width) = tensor.dims2()?;
        let mut rows = Self::new(width, num_rows);
        host::read(&host::local(tensor)?, |values| rows.push(values))?;
        Ok(rows)
    }

    /// Adds one row or several, nearest values; those beyond 65,504 become infinite.
    pub fn push(&mut self, rows: &[f32]) {
        let first = self.values.len();
        self.values.resize(first + rows.len(), f16::ZERO);
        self.values[first..].convert_from_f32_slice(rows);
    }

    /// Values a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The first row that holds NaN or infinity.
    pub fn first_not_finite(&self) -> Option<usize> {
        self.values.iter().position(|x| !x.is_finite()).map(|at| at / self.width)
    }

    /// A row in full precision.
    pub fn row(&self, index: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.width];
        self.read(index as u32, &mut row);
        row
    }

    /// Writes a row to `out` in full precision.
    pub(super) fn read(&self, row: u32, out: &mut [f32]) {
        self.values[row as usize * self.width..][..self.width].convert_to_f32_slice(out);
    }
}

/// What brings each feature of some rows to mean 0 and deviation 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardization {
    /// `(F,)` reciprocal deviations; 1 for a feature that is constant.
    pub scale: Vec<f32>,
    /// `(F,)` what is added after that: the means, scaled, below 0.
    pub shift: Vec<f32>,
}

impl Standardization {
    /// Of all rows.
    pub fn of(rows: &HalfRows) -> Self {
        let count = rows.len().max(1) as f64;
        let mean: Vec<f64> = sums(rows, &|_, x| f64::from(x)).iter().map(|sum| sum / count).collect();
        let variance = sums(rows, &|column, x| (f64::from(x) - mean[column]).powi(2)).into_iter().map(|sum| sum / count);
        let scale: Vec<f64> = variance.map(|variance| if variance > 1e-12 { 1.0 / variance.sqrt() } else { 1.0 }).collect();
        let shift = mean.iter().zip(&scale).map(|(mean, scale)| (-mean * scale) as f32).collect();
        Self { scale: scale.iter().map(|&scale| scale as f32).collect(), shift }
    }

    /// Changes a row in place.
    pub(super) fn apply(&self, row: &mut [f32]) {
        row.iter_mut().zip(self.scale.iter().zip(&self.shift)).for_each(|(x, (scale, shift))| *x = *x * scale + shift);
    }
}

/// For each column the sum of `f(column, value)` over the rows.
fn sums(rows: &HalfRows, f: &(impl Fn(usize, f32) -> f64 + Sync)) -> Vec<f64> {
    let pieces = parallel::map(PIECES, |piece| {
        let (mut row, mut sums) = (vec![0.0; rows.width], vec![0.0; rows.width]);
        for index in rows.len() * piece / PIECES..rows.len() * (piece + 1) / PIECES {
            rows.read(index as u32, &mut row);
            sums.iter_mut().zip(&row).enumerate().for_each(|(column, (sum, &x))| *sum += f(column, x));
        }
        sums
    });
    let mut total = vec![0.0; rows.width];
    pieces.iter().for_each(|piece| total.iter_mut().zip(piece).for_each(|(total, sum)| *total += sum));
    total
}
