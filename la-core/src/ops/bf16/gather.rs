//! The passes whose outputs are pixels: forward, and backward to the input.

use super::{
    copy::copy,
    grid::{Grid, Piece, NOWHERE},
    panels::Panels,
    rows::{write, Rows},
    tile::{Multiplier, Product, Sums, BLOCK, SIDE},
};
use crate::ops::{
    parallel::{for_each, SharedMut},
    shape::Shape,
};
use half::bf16;

pub(crate) use super::rows::Norm;

/// Pieces of work that keep many threads busy; fewer pieces are cut by columns as well.
const PARTS: usize = 16;

/// What is done with the sums.
#[derive(Clone, Copy)]
enum End<'a> {
    Write,
    Add,
    /// Written, and the written values' moments kept.
    Count,
    Norm(&'a Norm<'a>),
}

/// `x` `(B, H, W, C)` through `weight` `(KH, KW, C, O)`, over `out` `(B, H', W', O)`; gives Σ y and Σ y² of each channel.
pub(crate) fn forward(x: &[bf16], weight: &[f32], shape: &Shape, out: &mut [bf16]) -> (Vec<f64>, Vec<f64>) {
    let parts = product(x, weight, shape, out, End::Count);
    let columns = shape.out_channels;
    let (mut sums, mut squares) = (vec![0f64; columns], vec![0f64; columns]);
    for part in parts.chunks_exact(2 * columns.next_multiple_of(SIDE)) {
        let (sum, square) = part.split_at(part.len() / 2);
        sums.iter_mut().zip(sum).for_each(|(total, &x)| *total += f64::from(x));
        squares.iter_mut().zip(square).for_each(|(total, &x)| *total += f64::from(x));
    }
    (sums, squares)
}

/// [`forward`] with batch norm in eval mode, before anything is rounded.
pub(crate) fn forward_eval(x: &[bf16], weight: &[f32], shape: &Shape, norm: &Norm, out: &mut [bf16]) {
    product(x, weight, shape, out, End::Norm(norm));
}

fn product(x: &[bf16], weight: &[f32], shape: &Shape, out: &mut [bf16], end: End) -> Vec<f32> {
    let grid = Grid::forward(shape);
    let run = if grid.is_merged { shape.conv.kernel.1 * shape.channels } else { shape.channels };
    let panels = Panels::forward(weight, &grid, (run, shape.out_channels));
    gather(&grid, x, &panels, out, end)
}

/// The gradient to the input from `grad` `(B, H', W', O)`, written over `out` `(B, H, W, C)` or added to it.
pub(crate) fn backward_input(grad: &[bf16], weight: &[f32], shape: &Shape, out: &mut [bf16], is_added: bool) {
    let strides = 0..shape.conv.stride;
    for phase in strides.clone().flat_map(|y| strides.clone().map(move |x| (y, x))) {
        let grid = Grid::backward(shape, phase);
        if grid.is_empty() {
            continue;
        }
        if !grid.taps.is_empty() {
            let panels = Panels::backward(weight, &grid, (shape.out_channels, shape.channels));
            gather(&grid, grad, &panels, out, if is_added { End::Add } else { End::Write });
        } else if !is_added {
            zero(&grid, shape.channels, out);
        }
    }
}

/// Zeros at the pixels that no output saw.
fn zero(grid: &Grid, channels: usize, out: &mut [bf16]) {
    let (pieces, shared) = (grid.pieces(), SharedMut(out.as_mut_ptr()));
    for_each(pieces.len(), |i| {
        for target in grid.targets(&pieces[i]).into_iter().filter(|&target| target != NOWHERE) {
            // SAFETY: the target is a pixel of `out`, and of this piece alone.
            unsafe { std::slice::from_raw_parts_mut(shared.get().add(target * channels), channels) }.fill(bf16::ZERO);
        }
    });
}

/// Every output of the grid; gives for each piece the moments that `end` asks for, 2 · columns of them, in whole blocks.
fn gather(grid: &Grid, source: &[bf16], panels: &Panels, out: &mut [bf16], end: End) -> Vec<f32> {
    let pieces = grid.pieces();
    let blocks = panels.len();
    let groups = PARTS.div_ceil(pieces.len()).clamp(1, blocks);
    let width = blocks * SIDE;
    let mut moments = vec![0f32; if matches!(end, End::Count) { pieces.len() * 2 * width } else { 0 }];
    let (shared, counted) = (SharedMut(out.as_mut_ptr()), SharedMut(moments.as_mut_ptr()));
    let is_counted = !moments.is_empty();
    for_each(pieces.len() * groups, |i| {
        let (piece, group) = (&pieces[i / groups], i % groups);
        let (start, stop) = (group * blocks / groups, (group + 1) * blocks / groups);
        let rows = |block: usize| {
            // SAFETY: piece and block have their own 32 moments of each kind.
            let at = |kind: usize| unsafe { counted.get().add((i / groups * 2 + kind) * width + block * SIDE) };
            Rows {
                out: shared.get(),
                channels: panels.columns,
                start: block * SIDE,
                is_added: matches!(end, End::Add),
                norm: if let End::Norm(norm) = end { Some(norm) } else { None },
                moments: if is_counted { [at(0), at(1)] } else { [std::ptr::null_mut(); 2] },
            }
        };
        gather_piece(grid, source, panels, piece, (start..stop).map(|block| (block, rows(block))));
    });
    moments
}

fn gather_piece<'a>(grid: &Grid, source: &[bf16], panels: &Panels, piece: &Piece, blocks: impl Iterator<Item = (usize, Rows<'a>)>) {
    let multiplier = Multiplier::new().expect("bf16 is refused where the processor does not multiply it");
    let copied = copy(grid, source, piece);
    let targets = grid.targets(piece);
    let offset = |tap| (grid.offset(tap) * grid.width * size_of::<bf16>()) as isize;
    let taps: Vec<isize> = grid.taps.iter().map(|tap| (tap.plane * copied.plane * size_of::<bf16>()) as isize + offset(tap)).collect();
    let depth = grid.depth / SIDE;
    let mut sums = Sums([0.0; SIDE * SIDE]);
    for (block, rows) in blocks {
        let panel = panels.values[block * taps.len() * depth * BLOCK..].as_ptr();
        for (m, targets) in targets.chunks_exact(SIDE).enumerate() {
            if targets.iter().all(|&target| target == NOWHERE) {
                continue;
            }
            let a = copied.values[m * SIDE * grid.width..].as_ptr();
            let product = Product { a, row: grid.width, taps: &taps, blocks: depth, panel };
            // SAFETY: the copy has 32 positions past each block's, and as far again as a tap reaches; the panel its blocks.
            // Each target is a pixel of the output, and of this piece alone in these columns.
            unsafe {
                multiplier.run(&product, &mut sums);
                write(&rows, &sums, targets);
            }
        }
    }
}
