//! Weights laid out as the register tiles read them, in the precision that they came in.

use super::kernel::{lanes, max_vectors};
use super::operands::Values;
use crate::ops::{
    host::scratch_of,
    parallel::{for_each, SharedMut},
};
use std::borrow::Cow;

/// Weights as panels: for each block of output columns, `taps × channels` rows of `width` values, zero-padded.
pub(super) struct Panels {
    pub values: Values,
    pub blocks: Vec<Block>,
    pub channels: usize,
}

/// Some output columns: the first, how many, the vectors they fill, and where their panel starts.
pub(super) struct Block {
    pub start: usize,
    pub columns: usize,
    pub vectors: usize,
    pub offset: usize,
}

impl Panels {
    /// For the forward pass, from weights `(taps, channels, columns)`.
    pub fn forward(weight: &[f32], taps: usize, channels: usize, columns: usize) -> Self {
        let (values, blocks) = forward(weight, taps, channels, columns);
        Self { values: Values::F32(values), blocks, channels }
    }

    /// The same in the precision of the weights, without a copy in another.
    pub fn keeping(weight: &Values, taps: usize, channels: usize, columns: usize) -> Self {
        let (values, blocks) = match weight {
            Values::F32(weight) => of(forward(weight, taps, channels, columns), Values::F32),
            Values::F16(weight) => of(forward(weight, taps, channels, columns), Values::F16),
            Values::I8(weight) => of(forward(weight, taps, channels, columns), Values::I8),
        };
        Self { values, blocks, channels }
    }

    /// The panel of a block in full precision.
    pub fn block(&self, block: &Block) -> Cow<'_, [f32]> {
        let next = self.blocks.iter().map(|other| other.offset).find(|&offset| offset > block.offset);
        self.values.range(block.offset..next.unwrap_or(self.values.len()))
    }

    /// For the backward pass: rows are `(tap, output channel)`, columns input channels; weights `(taps, columns, channels)`.
    pub fn backward(weight: &[f32], taps: &[usize], channels: usize, columns: usize) -> Self {
        let (values, blocks) = pack(taps.len(), channels, columns, |tap, start, used, panel| {
            let width = panel.len() / channels;
            if used < width {
                panel.fill(0.0);
            }
            let from = &weight[(taps[tap] * columns + start) * channels..][..used * channels];
            transpose(from, channels, panel, width);
        });
        Self { values: Values::F32(values), blocks, channels }
    }
}

/// Packs the matrix whose rows are `(tap, channel)`: `fill(tap, first column, columns, panel)` writes one tap's panel whole.
fn pack<T: Copy>(
    taps: usize,
    channels: usize,
    columns: usize,
    fill: impl Fn(usize, usize, usize, &mut [T]) + Sync + Send,
) -> (Vec<T>, Vec<Block>) {
    let blocks = Block::cut(columns, taps * channels);
    let total = blocks.last().map_or(0, |b| b.offset + taps * channels * b.width());
    let mut values: Vec<T> = scratch_of(total);
    let out = SharedMut(values.as_mut_ptr());
    for_each(blocks.len() * taps, |i| {
        let (block, tap) = (&blocks[i / taps], i % taps);
        let len = channels * block.width();
        // SAFETY: each (block, tap) owns its own range of `values`.
        let panel = unsafe { std::slice::from_raw_parts_mut(out.get().add(block.offset + tap * len), len) };
        fill(tap, block.start, block.columns, panel);
    });
    (values, blocks)
}

fn forward<T: Copy + Default + Sync>(weight: &[T], taps: usize, channels: usize, columns: usize) -> (Vec<T>, Vec<Block>) {
    pack(taps, channels, columns, |tap, start, used, panel: &mut [T]| {
        let width = panel.len() / channels;
        for (c, row) in panel.chunks_exact_mut(width).enumerate() {
            let from = (tap * channels + c) * columns + start;
            row[..used].copy_from_slice(&weight[from..from + used]);
            row[used..].fill(T::default());
        }
    })
}

fn of<T>((values, blocks): (Vec<T>, Vec<Block>), precision: impl Fn(Vec<T>) -> Values) -> (Values, Vec<Block>) {
    (precision(values), blocks)
}

/// Writes `from` `(rows, columns)` transposed to `to`, whose rows lie `stride` apart, in blocks that stay in cache.
fn transpose(from: &[f32], columns: usize, to: &mut [f32], stride: usize) {
    const SIDE: usize = 16;
    let rows = from.len() / columns;
    for c0 in (0..columns).step_by(SIDE) {
        for r0 in (0..rows).step_by(SIDE) {
            for c in c0..(c0 + SIDE).min(columns) {
                for r in r0..(r0 + SIDE).min(rows) {
                    to[c * stride + r] = from[r * columns + c];
                }
            }
        }
    }
}

impl Block {
    /// Cuts `columns` into blocks as wide as the widest tile, the last one narrower.
    fn cut(columns: usize, rows: usize) -> Vec<Self> {
        let widest = max_vectors() * lanes();
        let (mut blocks, mut start, mut offset) = (Vec::new(), 0, 0);
        while start < columns {
            let used = widest.min(columns - start);
            let block = Self { start, columns: used, vectors: used.div_ceil(lanes()), offset };
            offset += rows * block.width();
            start += used;
            blocks.push(block);
        }
        blocks
    }

    pub fn width(&self) -> usize {
        self.vectors * lanes()
    }
}
