//! The product behind a gradient to the weights: for each tap the inputs' columns times the gradients' rows.

use super::{
    copy::Lines,
    tile::{unit, Multiplier, Product, Run, Sums, SIDE},
};
use crate::ops::parallel::{for_each, SharedMut};
use std::ops::RangeInclusive;

/// Values of the transposed operands of a group of pieces: what the second-level cache holds.
const VALUES: usize = 512 * 1024;
/// Positions of a group: each pass over the weights' gradient joins at least so many.
const POSITIONS: RangeInclusive<usize> = 4096..=8192;
/// Blocks of output channels that one piece of work goes through, and pieces that keep many threads busy.
const BLOCKS: usize = 4;
const PARTS: usize = 16;

/// How many positions a group joins where each has so many values.
pub(super) fn group_positions(values: usize) -> usize {
    (VALUES / values).clamp(*POSITIONS.start(), *POSITIONS.end())
}

/// An odd number of cache lines, which spreads a column of tiles over the cache.
pub(super) fn odd_lines(values: usize) -> usize {
    (values.div_ceil(SIDE) | 1) * SIDE
}

/// The operands of a group of positions.
pub(super) struct Operands {
    /// A row of positions for each input channel, `row` values apart.
    pub inputs: Lines,
    pub row: usize,
    /// A panel of pairs of positions for each 32 output channels, `panel` values apart.
    pub grads: Lines,
    pub panel: usize,
}

/// One tap: which weights, and the positions that its product joins.
pub(super) struct Tap {
    pub weight: usize,
    pub runs: Vec<Run>,
}

impl Operands {
    /// Adds the group's share to `out` `(taps, rows, out_channels)`, or writes it.
    pub fn multiply(&self, taps: &[Tap], out_channels: usize, out: &mut [f32], is_added: bool) {
        let height = out.len() / (taps.len() * out_channels);
        let (rows, columns) = (height.div_ceil(SIDE), out_channels.div_ceil(SIDE));
        let groups = columns.div_ceil(BLOCKS);
        let cuts = PARTS.div_ceil(rows * groups).clamp(1, taps.len());
        let shared = SharedMut(out.as_mut_ptr());
        for_each(rows * groups * cuts, |i| {
            let (row, group, cut) = (i / (groups * cuts), i / cuts % groups, i % cuts);
            let multiplier = Multiplier::new().expect("bf16 is refused where the processor does not multiply it");
            let used = (height - row * SIDE).min(SIDE);
            let mut sums = Sums([0.0; SIDE * SIDE]);
            for tap in &taps[cut * taps.len() / cuts..(cut + 1) * taps.len() / cuts] {
                for column in group * BLOCKS..((group + 1) * BLOCKS).min(columns) {
                    self.product(&multiplier, tap, (row, column), used, &mut sums);
                    let width = SIDE.min(out_channels - column * SIDE);
                    for (r, sums) in sums.0.chunks_exact(SIDE).take(used).enumerate() {
                        let at = (tap.weight * height + row * SIDE + r) * out_channels + column * SIDE;
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

    fn product(&self, multiplier: &Multiplier, tap: &Tap, (row, column): (usize, usize), used: usize, sums: &mut Sums) {
        let a = self.inputs[row * SIDE * self.row..].as_ptr();
        let panel = self.grads[column * self.panel..].as_ptr();
        let product = Product { a, row: self.row, rows: used.next_multiple_of(unit()), runs: &tap.runs, panel };
        // SAFETY: 32 channels begin at `a`; the runs lie within a channel's positions and a panel's pairs.
        unsafe { multiplier.run(&product, sums) };
    }
}
