//! Weights in bf16 as panels: for each 32 columns, one block after the other for each tap and 32 rows.

use super::{
    copy::Lines,
    grid::Grid,
    tile::{BLOCK, SIDE, TILE},
    transpose::{narrowed_columns, narrowed_rows, LANES},
};
use crate::ops::parallel::{for_each, SharedMut};
use half::bf16;

/// Panels of weights.
pub(super) struct Panels {
    pub values: Lines,
    /// Columns of the product.
    pub columns: usize,
}

impl Panels {
    /// Rows are a tap's input channels, columns output channels; weights `(taps, rows, columns)`.
    pub fn forward(weight: &[f32], grid: &Grid, (rows, columns): (usize, usize)) -> Self {
        Self::pack(grid, (rows, columns), |tap, row, column, size, to| {
            let from = weight[(tap * rows + row) * columns + column..].as_ptr();
            // SAFETY: `size` columns and rows of the weights begin at `from`; `to` is one tile; the path has AVX512-BF16.
            unsafe { narrowed_rows(from, columns, size, to) }
        })
    }

    /// Rows are output channels, columns input channels; weights `(taps, columns, rows)`.
    pub fn backward(weight: &[f32], grid: &Grid, (rows, columns): (usize, usize)) -> Self {
        Self::pack(grid, (rows, columns), |tap, row, column, size, to| {
            let from = weight[(tap * columns + column) * rows + row..].as_ptr();
            // SAFETY: as above, rows and columns exchanged.
            unsafe { narrowed_columns(from, rows, size, to) }
        })
    }

    /// Blocks of 32 columns.
    pub fn len(&self) -> usize {
        self.columns.div_ceil(SIDE)
    }

    /// `fill(tap, first row, first column, (columns, rows), tile)` writes each tile that is not all zeros.
    fn pack(grid: &Grid, (rows, columns): (usize, usize), fill: impl Fn(usize, usize, usize, (usize, usize), *mut bf16) + Sync) -> Self {
        let (depth, taps) = (grid.depth / SIDE, grid.taps.len());
        let mut values = Lines::scratch(columns.div_ceil(SIDE) * taps * depth * BLOCK);
        let shared = SharedMut(values.as_mut_ptr());
        for_each(columns.div_ceil(SIDE) * taps, |i| {
            let (column, tap) = (i / taps * SIDE, grid.taps[i % taps].weight);
            for (block, half) in (0..depth).flat_map(|block| (0..2).map(move |half| (block, half))) {
                let (row, column) = (block * SIDE, column + half * LANES);
                // SAFETY: each panel, tap, block and half has its own tile of `values`.
                let to = unsafe { shared.get().add((i * depth + block) * BLOCK + half * TILE) };
                if row < rows && column < columns {
                    fill(tap, row, column, ((columns - column).min(LANES), (rows - row).min(SIDE)), to);
                } else {
                    // SAFETY: as above.
                    unsafe { std::slice::from_raw_parts_mut(to, TILE) }.fill(bf16::ZERO);
                }
            }
        });
        Self { values, columns }
    }
}
