//! The gradient to the weights over the positions of a grid.

use super::{
    copy::{copy, read_positions, Lines},
    grid::{Grid, Piece, NOWHERE},
    outer_product::{group_positions, odd_lines, Operands, Tap},
    tile::{Run, BLOCK, PAIRS, SIDE},
    transpose::{columns, pair_rows, LANES},
};
use crate::ops::{
    parallel::{for_each, SharedMut},
    shape::Shape,
};
use half::bf16;

/// See [`super::backward_weight`].
pub(super) fn backward_weight(x: &[bf16], grad: &[bf16], shape: &Shape, grid: &Grid, out: &mut [f32]) {
    let pieces = grid.pieces();
    let (mut positions, mut blocks) = (SIDE, 1);
    for piece in &pieces {
        positions = positions.max(read_positions(grid, piece));
        blocks = blocks.max(grid.positions(piece).div_ceil(SIDE));
    }
    let values = grid.depth * grid.planes.len() + shape.out_channels.next_multiple_of(SIDE);
    let count = (group_positions(values) / positions).clamp(1, pieces.len());
    let row = odd_lines(positions);
    let mut groups = Groups {
        grid,
        out_channels: shape.out_channels,
        blocks,
        count,
        operands: Operands {
            inputs: Lines::scratch(count * grid.planes.len() * grid.depth * row),
            row,
            grads: Lines::scratch(count * shape.out_channels.div_ceil(SIDE) * blocks * BLOCK),
            panel: count * blocks * BLOCK,
        },
    };
    for (i, group) in pieces.chunks(count).enumerate() {
        groups.fill(x, grad, group);
        groups.operands.multiply(&groups.taps(group.len()), shape.out_channels, out, i > 0);
    }
}

struct Groups<'a> {
    grid: &'a Grid,
    out_channels: usize,
    /// Blocks of 32 positions of a piece.
    blocks: usize,
    /// Pieces of a group.
    count: usize,
    /// Inputs `(piece, plane, channel, position)`, gradients `(block of channels, piece, block of positions)`.
    operands: Operands,
}

impl Groups<'_> {
    /// Values of the inputs of one piece.
    fn piece_inputs(&self) -> usize {
        self.grid.planes.len() * self.grid.depth * self.operands.row
    }

    /// The runs of each tap: one for each piece.
    fn taps(&self, pieces: usize) -> Vec<Tap> {
        let bytes = |values: usize| (values * size_of::<bf16>()) as isize;
        let of_tap = |tap: &super::grid::Tap| {
            let first = tap.plane * self.grid.depth * self.operands.row + self.grid.offset(tap);
            let run = |piece: usize| Run {
                a: bytes(piece * self.piece_inputs() + first),
                panel: bytes(piece * self.blocks * BLOCK),
                pairs: self.blocks * PAIRS,
            };
            Tap { weight: tap.weight, runs: (0..pieces).map(run).collect() }
        };
        self.grid.taps.iter().map(of_tap).collect()
    }

    fn fill(&mut self, x: &[bf16], grad: &[bf16], group: &[Piece]) {
        let inputs = SharedMut(self.operands.inputs.as_mut_ptr());
        let grads = SharedMut(self.operands.grads.as_mut_ptr());
        let this = &*self;
        for_each(2 * group.len(), |i| {
            let j = i / 2;
            if i % 2 == 0 {
                let len = this.piece_inputs();
                // SAFETY: each piece has its own inputs, all of which are written.
                let to = unsafe { std::slice::from_raw_parts_mut(inputs.get().add(j * len), len) };
                return this.fill_inputs(x, &group[j], to);
            }
            let targets = this.grid.targets(&group[j]);
            for block in 0..this.out_channels.div_ceil(SIDE) {
                let len = this.blocks * BLOCK;
                // SAFETY: each block and piece has its own gradients, all of which are written.
                let to = unsafe { std::slice::from_raw_parts_mut(grads.get().add((block * this.count + j) * len), len) };
                this.fill_grads(grad, &targets, block * SIDE, to);
            }
        });
    }

    /// Transposes a piece's copy.
    fn fill_inputs(&self, x: &[bf16], piece: &Piece, to: &mut [bf16]) {
        let (grid, row) = (self.grid, self.operands.row);
        let (copied, positions) = (copy(grid, x, piece), read_positions(grid, piece));
        for (plane, to) in to.chunks_exact_mut(grid.depth * row).enumerate() {
            let from = copied.values[plane * copied.plane..].as_ptr();
            for (first, position) in (0..grid.depth).step_by(LANES).flat_map(|c| (0..positions).step_by(SIDE).map(move |q| (c, q))) {
                let to = to[first * row + position..].as_mut_ptr();
                // SAFETY: a plane has 32 positions from here, each with `depth` values from its first; `to` has 16 rows of
                // `row` positions. The path has AVX-512.
                unsafe {
                    let rows = std::array::from_fn(|i| from.add((position + i) * grid.width + first));
                    columns(&rows, to, row);
                }
            }
            to.chunks_exact_mut(row).for_each(|row| row[positions..].fill(bf16::ZERO));
        }
    }

    /// Pairs the gradients of a piece's positions, zeros where a position is no output.
    fn fill_grads(&self, grad: &[bf16], targets: &[usize], start: usize, to: &mut [bf16]) {
        const ZEROS: [bf16; LANES] = [bf16::ZERO; LANES];
        let (filled, rest) = to.split_at_mut(targets.len() / SIDE * BLOCK);
        rest.fill(bf16::ZERO);
        for (targets, to) in targets.chunks_exact(SIDE).zip(filled.chunks_exact_mut(BLOCK)) {
            for half in 0..2 {
                let first = start + half * LANES;
                let used = LANES.min(self.out_channels.saturating_sub(first));
                let mut narrow = [[bf16::ZERO; LANES]; SIDE];
                let mut rows = [ZEROS.as_ptr(); SIDE];
                for ((row, &target), narrow) in rows.iter_mut().zip(targets).zip(&mut narrow) {
                    if target != NOWHERE && used > 0 {
                        let from = &grad[target * self.out_channels + first..][..used];
                        *row = if used == LANES { from.as_ptr() } else { narrow.as_ptr() };
                        if used < LANES {
                            narrow[..used].copy_from_slice(from);
                        }
                    }
                }
                // SAFETY: each row has 16 values, `to` is a block; the path has AVX-512.
                unsafe { pair_rows(&rows, to[half * SIDE..].as_mut_ptr()) };
            }
        }
    }
}
