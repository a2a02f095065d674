//! Products of the rows of one matrix with the rows of another, `X·Yᵀ`, a small block at a time.
//!
//! The rows of `Y` are packed into panels so that vectors run across them, and a register tile multiplies a few rows
//! of `X`, as they lie in memory, with one panel. Callers consume each block of scores while it is in cache: no
//! matrix of all scores is held.

use super::simd::{self, dispatch, Level, Simd};
use std::ops::Range;

/// Vectors in a panel: with twelve rows 24 of AVX-512's 32 registers accumulate, with six 12 of AVX2's 16.
const VECTORS: usize = 2;

/// Columns in a panel.
pub(crate) fn panel_width() -> usize {
    VECTORS
        * match simd::level() {
            Level::Avx512 => 16,
            Level::Avx2 => 8,
            Level::Portable => 4,
        }
}

/// The rows of `Y`, packed: the columns of the product.
pub struct Panels {
    /// Panel by panel, dimension by dimension, one value a column; missing columns are 0.
    values: Vec<f32>,
    /// Added to each column; `-inf` in missing columns, so that they never win.
    bias: Vec<f32>,
    dim: usize,
    width: usize,
}

impl Panels {
    /// Packs `rows` `(n, dim)`; `bias(i)` is added to every product with row `i`.
    pub fn pack(rows: &[f32], dim: usize, bias: impl Fn(usize) -> f32) -> Self {
        let (n, width) = (rows.len() / dim, panel_width());
        let num_panels = n.div_ceil(width);
        let mut values = vec![0.0; num_panels * width * dim];
        for (i, row) in rows.chunks_exact(dim).enumerate() {
            let first = i / width * width * dim + i % width;
            row.iter().enumerate().for_each(|(d, &value)| values[first + d * width] = value);
        }
        let bias = (0..num_panels * width).map(|i| if i < n { bias(i) } else { f32::NEG_INFINITY }).collect();
        Self { values, bias, dim, width }
    }

    /// Packs `rows` `(n, dim)`; missing columns are zeros like any other, without bias.
    pub fn pack_padded(rows: &[f32], dim: usize) -> Self {
        let mut panels = Self::pack(rows, dim, |_| 0.0);
        panels.bias.fill(0.0);
        panels
    }

    /// Packs columns of a matrix whose rows are `stride` long: a product is that with a column. Missing ones are zeros.
    #[cfg(feature = "train")]
    pub fn pack_columns(matrix: &[f32], stride: usize, columns: Range<usize>) -> Self {
        let (dim, width) = (matrix.len() / stride, panel_width());
        let num_panels = columns.len().div_ceil(width);
        let mut values = vec![0.0; num_panels * width * dim];
        for (panel, values) in values.chunks_exact_mut(width * dim).enumerate() {
            let first = columns.start + panel * width;
            let count = width.min(columns.end - first);
            for (row, to) in matrix.chunks_exact(stride).zip(values.chunks_exact_mut(width)) {
                to[..count].copy_from_slice(&row[first..first + count]);
            }
        }
        Self { values, bias: vec![0.0; num_panels * width], dim, width }
    }

    /// Columns of all panels, missing ones included.
    pub fn num_columns(&self) -> usize {
        self.bias.len()
    }

    /// How many panels there are.
    pub fn num_panels(&self) -> usize {
        self.bias.len() / self.width
    }

    /// Writes `out[i * stride + c] = rows[i] · column c + bias[c]`, columns counted from the first panel asked for;
    /// `stride` is the number of columns asked for.
    pub fn products(&self, rows: &[f32], panels: Range<usize>, out: &mut [f32]) {
        let num_rows = rows.len() / self.dim;
        let stride = panels.len() * self.width;
        assert!(panels.end <= self.num_panels() && rows.len() == num_rows * self.dim && out.len() >= num_rows * stride);
        for (at, panel) in panels.enumerate() {
            let tile = Tile {
                rows: rows.as_ptr(),
                num_rows,
                dim: self.dim,
                panel: self.values[panel * self.width * self.dim..].as_ptr(),
                bias: self.bias[panel * self.width..].as_ptr(),
                out: out[at * self.width..].as_mut_ptr(),
                stride,
            };
            // SAFETY: the assertion above bounds the rows, the panel and the written part of `out`; the panel's width
            // is that of the dispatched level.
            unsafe { dispatch!(panel_products(tile: Tile)) }
        }
    }
}

/// A block of rows against one panel.
#[derive(Clone, Copy)]
struct Tile {
    rows: *const f32,
    num_rows: usize,
    dim: usize,
    panel: *const f32,
    bias: *const f32,
    out: *mut f32,
    stride: usize,
}

#[inline(always)]
unsafe fn panel_products<S: Simd>(tile: Tile) {
    let mut row = 0;
    // SAFETY: rows stay below `num_rows`; the caller of the dispatch gives valid pointers.
    unsafe {
        while S::LANES == 16 && row + 12 <= tile.num_rows {
            tile_products::<S, 12>(tile, row);
            row += 12;
        }
        while row + 6 <= tile.num_rows {
            tile_products::<S, 6>(tile, row);
            row += 6;
        }
        while row < tile.num_rows {
            tile_products::<S, 1>(tile, row);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile_products<S: Simd, const R: usize>(tile: Tile, first: usize) {
    // SAFETY: `first + R` rows exist, the panel holds `dim` times two vectors, `out` holds two vectors at each row.
    unsafe {
        let rows = tile.rows.add(first * tile.dim);
        let mut sums = [[S::splat(0.0); VECTORS]; R];
        for d in 0..tile.dim {
            let column = tile.panel.add(d * VECTORS * S::LANES);
            let (a, b) = (S::load(column), S::load(column.add(S::LANES)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let value = S::splat(*rows.add(r * tile.dim + d));
                sum[0] = S::mul_add(value, a, sum[0]);
                sum[1] = S::mul_add(value, b, sum[1]);
            }
        }
        let bias = [S::load(tile.bias), S::load(tile.bias.add(S::LANES))];
        for (r, sum) in sums.iter().enumerate() {
            let out = tile.out.add((first + r) * tile.stride);
            S::store(out, S::add(sum[0], bias[0]));
            S::store(out.add(S::LANES), S::add(sum[1], bias[1]));
        }
    }
}
