//! Weights in bf16 as panels: for each 32 columns, one block after the other for each tap and 32 rows.

use super::{
    copy::Lines,
    tile::{BLOCK, SIDE},
    transpose::{narrowed_columns, narrowed_rows, LANES},
};
use crate::ops::parallel::{for_each, SharedMut};
use half::bf16;

/// Panels of weights.
pub(super) struct Panels {
    pub values: Lines,
    /// Columns of the product.
    pub columns: usize,
    /// How many taps.
    pub taps: usize,
    /// Rows of each tap.
    pub rows: usize,
    /// The same in blocks of 32.
    pub depth: usize,
}

impl Panels {
    /// Rows are a tap's input channels, columns output channels; weights `(taps, rows, columns)`.
    pub fn forward(weight: &[f32], taps: &[usize], (rows, columns): (usize, usize)) -> Self {
        Self::pack(taps, (rows, columns), |tap, row, column, size, to| {
            let from = weight[(tap * rows + row) * columns + column..].as_ptr();
            // SAFETY: `size` columns and rows of the weights begin at `from`; `to` is half of a block; the path has AVX512-BF16.
            unsafe { narrowed_rows(from, columns, size, to) }
        })
    }

    /// Rows are output channels, columns input channels; weights `(taps, columns, rows)`.
    pub fn backward(weight: &[f32], taps: &[usize], (rows, columns): (usize, usize)) -> Self {
        Self::pack(taps, (rows, columns), |tap, row, column, size, to| {
            let from = weight[(tap * columns + column) * rows + row..].as_ptr();
            // SAFETY: as above, rows and columns exchanged.
            unsafe { narrowed_columns(from, rows, size, to) }
        })
    }

    /// Blocks of 32 columns.
    pub fn len(&self) -> usize {
        self.columns.div_ceil(SIDE)
    }

    /// The panel of a block of columns.
    pub fn of(&self, block: usize) -> *const bf16 {
        self.values[block * self.taps * self.depth * BLOCK..].as_ptr()
    }

    /// `fill(tap, first row, first column, (columns, rows), half of a block)` writes each half, zeros where its size is.
    fn pack(taps: &[usize], (rows, columns): (usize, usize), fill: impl Fn(usize, usize, usize, (usize, usize), *mut bf16) + Sync) -> Self {
        let depth = rows.div_ceil(SIDE);
        let mut values = Lines::scratch(columns.div_ceil(SIDE) * taps.len() * depth * BLOCK);
        let shared = SharedMut(values.as_mut_ptr());
        for_each(columns.div_ceil(SIDE) * taps.len(), |i| {
            let (column, tap) = (i / taps.len() * SIDE, taps[i % taps.len()]);
            for (block, half) in (0..depth).flat_map(|block| (0..2).map(move |half| (block, half))) {
                let (row, column) = (block * SIDE, column + half * LANES);
                // SAFETY: each panel, tap, block and half has its own part of `values`.
                let to = unsafe { shared.get().add((i * depth + block) * BLOCK + half * SIDE) };
                let size = (columns.saturating_sub(column).min(LANES), (rows - row).min(SIDE));
                fill(tap, row, column.min(columns - 1), size, to);
            }
        });
        Self { values, columns, taps: taps.len(), rows, depth }
    }
}
