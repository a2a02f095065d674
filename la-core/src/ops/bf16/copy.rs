//! The zero-padded copy of a piece's source pixels.

use super::{
    grid::{real, Grid, Piece},
    tile::SIDE,
};
use crate::ops::host::scratch_of;
use half::bf16;
use std::ops::{Deref, DerefMut};

/// A piece's positions.
pub(super) struct Copied<'a> {
    /// One plane after the other.
    pub values: Values<'a>,
    /// Values of a plane.
    pub plane: usize,
}

/// Values as they lie in the source, or a copy of them.
pub(super) enum Values<'a> {
    Source(&'a [bf16]),
    Copy(Lines),
}

impl Deref for Values<'_> {
    type Target = [bf16];
    fn deref(&self) -> &[bf16] {
        match self {
            Values::Source(values) => values,
            Values::Copy(values) => values,
        }
    }
}

/// Values that begin at a cache line: tiles are loaded by lines.
pub(super) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [bf16; SIDE]);

impl Lines {
    /// Values that the caller writes before it reads them.
    pub fn scratch(len: usize) -> Self {
        Self { lines: scratch_of(len.div_ceil(SIDE)), len }
    }
}

impl Deref for Lines {
    type Target = [bf16];
    fn deref(&self) -> &[bf16] {
        // SAFETY: the lines hold at least `len` values.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [bf16] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Positions of a piece that its taps read, a multiple of 32.
pub(super) fn read_positions(grid: &Grid, piece: &Piece) -> usize {
    (grid.positions(piece).next_multiple_of(SIDE) + grid.reach()).next_multiple_of(SIDE)
}

/// The copy of `piece` of `source`; what lies there as it is needed is not copied.
pub(super) fn copy<'a>(grid: &Grid, source: &'a [bf16], piece: &Piece) -> Copied<'a> {
    // A run of values reads on past its position.
    let run = if grid.is_merged { SIDE.div_ceil(grid.width) } else { 0 };
    let positions = (read_positions(grid, piece) + run).max(piece.images * grid.copied_rows(piece) * grid.pitch);
    let plane = (positions * grid.width).next_multiple_of(SIDE);
    let start = piece.row * grid.channels;
    if grid.is_plain() && source.len() >= start + plane {
        return Copied { values: Values::Source(&source[start..start + plane]), plane };
    }
    let mut values = Lines::scratch(grid.planes.len() * plane);
    for (&phase, to) in grid.planes.iter().zip(values.chunks_exact_mut(plane.max(1))) {
        copy_plane(grid, source, piece, phase, to);
    }
    Copied { values: Values::Copy(values), plane }
}

/// Writes every value of a plane.
fn copy_plane(grid: &Grid, source: &[bf16], piece: &Piece, (phase_y, phase_x): (usize, usize), to: &mut [bf16]) {
    let (row, rows) = (grid.pitch * grid.width, grid.copied_rows(piece));
    let (height, width) = grid.source;
    let (first, end) = real(height, grid.lead.0, grid.step, phase_y);
    let (filled, rest) = to.split_at_mut(piece.images * rows * row);
    for (i, to) in filled.chunks_exact_mut(row).enumerate() {
        let at = piece.row + i % rows;
        if !(first..end).contains(&at) {
            to.fill(bf16::ZERO);
            continue;
        }
        let y = (piece.image + i / rows) * height + at * grid.step + phase_y - grid.lead.0;
        copy_row(grid, &source[y * width * grid.channels..][..width * grid.channels], phase_x, to);
    }
    rest.fill(bf16::ZERO);
}

fn copy_row(grid: &Grid, from: &[bf16], phase: usize, to: &mut [bf16]) {
    let lead = grid.lead.1;
    if grid.is_merged {
        let (before, rest) = to.split_at_mut(lead * grid.channels);
        let (filled, after) = rest.split_at_mut(from.len());
        filled.copy_from_slice(from);
        before.fill(bf16::ZERO);
        return after.fill(bf16::ZERO);
    }
    let (first, end) = real(grid.source.1, lead, grid.step, phase);
    let (rest, after) = to.split_at_mut(end * grid.width);
    let (before, filled) = rest.split_at_mut(first * grid.width);
    before.fill(bf16::ZERO);
    after.fill(bf16::ZERO);
    if grid.step == 1 && grid.width == grid.channels {
        return filled.copy_from_slice(from);
    }
    let start = first * grid.step + phase - lead;
    for (i, to) in filled.chunks_exact_mut(grid.width).enumerate() {
        let from = &from[(start + i * grid.step) * grid.channels..][..grid.channels];
        let (pixel, padding) = to.split_at_mut(grid.channels);
        pixel.copy_from_slice(from);
        padding.fill(bf16::ZERO);
    }
}
