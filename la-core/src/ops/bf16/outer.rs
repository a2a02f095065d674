//! The gradient to the weights: for each tap a product over positions, of the inputs' columns with the gradients' rows.

use super::{
    copy::{copy, read_positions, Lines},
    grid::{Grid, Piece, Tap, NOWHERE},
    tile::{Multiplier, Product, Sums, BLOCK, SIDE, TILE},
    transpose::{columns, pair_rows, LANES},
};
use crate::ops::{
    parallel::{for_each, SharedMut},
    shape::Shape,
};
use half::bf16;

/// Values of the transposed operands of a group of pieces: what the second-level cache holds.
const VALUES: usize = 512 * 1024;
/// Positions of a group: each pass over the weights' gradient joins at least so many.
const POSITIONS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Blocks of output channels that one piece of work goes through, and pieces that keep many threads busy.
const BLOCKS: usize = 4;
const PARTS: usize = 16;

/// The gradient `(KH, KW, C, O)` from `x` `(B, H, W, C)` and `grad` `(B, H', W', O)`, written over `out`.
pub(crate) fn backward_weight(x: &[bf16], grad: &[bf16], shape: &Shape, out: &mut [f32]) {
    let grid = Grid::forward(shape);
    let pieces = grid.pieces();
    let (mut positions, mut blocks) = (SIDE, 1);
    for piece in &pieces {
        positions = positions.max(read_positions(&grid, piece));
        blocks = blocks.max(grid.positions(piece).div_ceil(SIDE));
    }
    let values = grid.depth * grid.planes.len() + shape.out_channels.next_multiple_of(SIDE);
    let count = ((VALUES / values).clamp(*POSITIONS.start(), *POSITIONS.end()) / positions).clamp(1, pieces.len());
    // An odd number of cache lines spreads a column of tiles over the cache.
    let stride = ((positions / SIDE) | 1) * SIDE;
    let mut operands = Operands {
        grid: &grid,
        inputs: Lines::scratch(count * grid.planes.len() * grid.depth * stride),
        grads: Lines::scratch(count * shape.out_channels.div_ceil(SIDE) * blocks * BLOCK),
        out_channels: shape.out_channels,
        blocks,
        stride,
    };
    for (i, group) in pieces.chunks(count).enumerate() {
        operands.fill(x, grad, group);
        operands.multiply(group.len(), out, i > 0);
    }
}

struct Operands<'a> {
    grid: &'a Grid,
    /// `(piece, plane, channel, position)`.
    inputs: Lines,
    /// `(block of output channels, piece, block of positions)`, each a block of a panel.
    grads: Lines,
    out_channels: usize,
    /// Blocks of 32 positions of a piece.
    blocks: usize,
    /// Positions from one channel to the next.
    stride: usize,
}

impl Operands<'_> {
    /// Values of the inputs of one piece.
    fn piece_inputs(&self) -> usize {
        self.grid.planes.len() * self.grid.depth * self.stride
    }

    fn fill(&mut self, x: &[bf16], grad: &[bf16], group: &[Piece]) {
        let (inputs, grads) = (SharedMut(self.inputs.as_mut_ptr()), SharedMut(self.grads.as_mut_ptr()));
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
                let to = unsafe { std::slice::from_raw_parts_mut(grads.get().add((block * group.len() + j) * len), len) };
                this.fill_grads(grad, &targets, block * SIDE, to);
            }
        });
    }

    /// Transposes a piece's copy.
    fn fill_inputs(&self, x: &[bf16], piece: &Piece, to: &mut [bf16]) {
        let (grid, copied, positions) = (self.grid, copy(self.grid, x, piece), read_positions(self.grid, piece));
        for (plane, to) in to.chunks_exact_mut(grid.depth * self.stride).enumerate() {
            let from = copied.values[plane * copied.plane..].as_ptr();
            for (first, position) in (0..grid.depth).step_by(LANES).flat_map(|c| (0..positions).step_by(SIDE).map(move |q| (c, q))) {
                let to = to[first * self.stride + position..].as_mut_ptr();
                // SAFETY: a plane has 32 positions from here, each with `depth` values from its first; `to` has 16 rows of
                // `stride` positions. The path has AVX-512.
                unsafe { columns(from.add(position * grid.width + first), grid.width, to, self.stride) };
            }
            to.chunks_exact_mut(self.stride).for_each(|row| row[positions..].fill(bf16::ZERO));
        }
    }

    /// Pairs the gradients of a piece's positions, zeros where a position is no output.
    fn fill_grads(&self, grad: &[bf16], targets: &[usize], start: usize, to: &mut [bf16]) {
        const ZEROS: [bf16; LANES] = [bf16::ZERO; LANES];
        let (filled, rest) = to.split_at_mut(targets.len() / SIDE * BLOCK);
        rest.fill(bf16::ZERO);
        for (targets, to) in targets.chunks_exact(SIDE).zip(filled.chunks_exact_mut(BLOCK)) {
            for (half, to) in to.chunks_exact_mut(TILE).enumerate() {
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
                // SAFETY: each row has 16 values, `to` is a tile; the path has AVX-512.
                unsafe { pair_rows(&rows, to.as_mut_ptr()) };
            }
        }
    }

    /// Adds the group's share to `out`, or writes it.
    fn multiply(&self, pieces: usize, out: &mut [f32], is_added: bool) {
        let (rows, columns) = (self.grid.depth.div_ceil(SIDE), self.out_channels.div_ceil(SIDE));
        let (taps, groups) = (self.grid.taps.len(), columns.div_ceil(BLOCKS));
        let cuts = PARTS.div_ceil(rows * groups).clamp(1, taps);
        let run = out.len() / (taps * self.out_channels);
        let shared = SharedMut(out.as_mut_ptr());
        for_each(rows * groups * cuts, |i| {
            let (row, group, cut) = (i / (groups * cuts), i / cuts % groups, i % cuts);
            let multiplier = Multiplier::new().expect("bf16 is refused where the processor does not multiply it");
            let mut sums = Sums([0.0; SIDE * SIDE]);
            for tap in &self.grid.taps[cut * taps / cuts..(cut + 1) * taps / cuts] {
                for column in group * BLOCKS..((group + 1) * BLOCKS).min(columns) {
                    self.product(&multiplier, (tap, row, column), pieces, &mut sums);
                    let height = SIDE.min(run.saturating_sub(row * SIDE));
                    let width = SIDE.min(self.out_channels - column * SIDE);
                    for (r, sums) in sums.0.chunks_exact(SIDE).take(height).enumerate() {
                        let at = (tap.weight * run + row * SIDE + r) * self.out_channels + column * SIDE;
                        // SAFETY: tap, row and columns are this piece's alone.
                        let out = unsafe { std::slice::from_raw_parts_mut(shared.get().add(at), width) };
                        match is_added {
                            true => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
                            false => out.copy_from_slice(&sums[..width]),
                        }
                    }
                }
            }
        });
    }

    fn product(&self, multiplier: &Multiplier, (tap, row, column): (&Tap, usize, usize), pieces: usize, sums: &mut Sums) {
        let first = (tap.plane * self.grid.depth + row * SIDE) * self.stride + self.grid.offset(tap);
        let at = |piece: usize| ((piece * self.piece_inputs() + first) * size_of::<bf16>()) as isize;
        let taps: Vec<isize> = (0..pieces).map(at).collect();
        let panel = self.grads[column * pieces * self.blocks * BLOCK..].as_ptr();
        let product = Product { a: self.inputs.as_ptr(), row: self.stride, taps: &taps, blocks: self.blocks, panel };
        // SAFETY: 32 channels of every piece begin at the taps, and positions reach past a tap's offset; the panel has a
        // block for each 32 positions of each piece.
        unsafe { multiplier.run(&product, sums) };
    }
}
