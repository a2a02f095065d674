//! The passes whose outputs are pixels: forward, and backward to the input.

use super::{
    copy::copy,
    grid::{self, is_pointwise, Grid, NOWHERE},
    panels::Panels,
    pixels::{self, Pixels},
    rows::{write, Rows},
    tile::{pairs, Multiplier, Product, Run, Sums, BLOCK, SIDE},
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
    if let Some(pixels) = by_pixels(shape, shape.channels, grid.work(), Pixels::forward) {
        let panels = Panels::forward(weight, &shape.taps(), (shape.channels, shape.out_channels));
        return gather(&pixels.pieces(), &panels, out, end, |piece, blocks| gather_pixels(&pixels, x, &panels, piece, blocks));
    }
    let run = if grid.is_merged { shape.conv.kernel.1 * shape.channels } else { shape.channels };
    let panels = Panels::forward(weight, &grid.weights(), (run, shape.out_channels));
    gather(&grid.pieces(), &panels, out, end, |piece, blocks| gather_grid(&grid, x, &panels, piece, blocks))
}

/// The geometry by pixels, where that multiplies less; of a 1×1 convolution all pixels of a batch are rows of the grid already.
fn by_pixels(shape: &Shape, channels: usize, by_grid: usize, pixels: fn(&Shape) -> Pixels) -> Option<Pixels> {
    if is_pointwise(&shape.conv) || !channels.is_multiple_of(SIDE) {
        return None;
    }
    Some(pixels(shape)).filter(|pixels| pixels.work().is_some_and(|work| work <= by_grid))
}

/// The gradient to the input from `grad` `(B, H', W', O)`, written over `out` `(B, H, W, C)` or added to it.
pub(crate) fn backward_input(grad: &[bf16], weight: &[f32], shape: &Shape, out: &mut [bf16], is_added: bool) {
    let strides = 0..shape.conv.stride;
    let phases = strides.clone().flat_map(|y| strides.clone().map(move |x| (y, x)));
    let grids: Vec<Grid> = phases.map(|phase| Grid::backward(shape, phase)).filter(|grid| !grid.is_empty()).collect();
    let end = if is_added { End::Add } else { End::Write };
    if let Some(pixels) = by_pixels(shape, shape.out_channels, grids.iter().map(Grid::work).sum(), Pixels::backward) {
        let panels = Panels::backward(weight, &shape.taps(), (shape.out_channels, shape.channels));
        gather(&pixels.pieces(), &panels, out, end, |piece, blocks| gather_pixels(&pixels, grad, &panels, piece, blocks));
        return;
    }
    for grid in grids {
        if !grid.taps.is_empty() {
            let panels = Panels::backward(weight, &grid.weights(), (shape.out_channels, shape.channels));
            gather(&grid.pieces(), &panels, out, end, |piece, blocks| gather_grid(&grid, grad, &panels, piece, blocks));
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

/// A block of columns, and what becomes of its sums.
type Block<'a> = (usize, Rows<'a>);

/// Every output, piece by piece; gives for each piece the moments that `end` asks for, 2 · columns of them, in whole blocks.
fn gather<P: Sync>(
    pieces: &[P],
    panels: &Panels,
    out: &mut [bf16],
    end: End,
    run: impl Fn(&P, &mut dyn Iterator<Item = Block>) + Sync,
) -> Vec<f32> {
    let blocks = panels.len();
    let groups = PARTS.div_ceil(pieces.len()).clamp(1, blocks);
    let width = blocks * SIDE;
    let mut moments = vec![0f32; if matches!(end, End::Count) { pieces.len() * 2 * width } else { 0 }];
    let (shared, counted) = (SharedMut(out.as_mut_ptr()), SharedMut(moments.as_mut_ptr()));
    let is_counted = !moments.is_empty();
    for_each(pieces.len() * groups, |i| {
        let group = i % groups;
        let rows = |block: usize| {
            // SAFETY: piece and block have their own 32 moments of each kind.
            let at = |kind: usize| unsafe { counted.get().add((i / groups * 2 + kind) * width + block * SIDE) };
            let rows = Rows {
                out: shared.get(),
                channels: panels.columns,
                start: block * SIDE,
                is_added: matches!(end, End::Add),
                norm: if let End::Norm(norm) = end { Some(norm) } else { None },
                moments: if is_counted { [at(0), at(1)] } else { [std::ptr::null_mut(); 2] },
            };
            (block, rows)
        };
        run(&pieces[i / groups], &mut (group * blocks / groups..(group + 1) * blocks / groups).map(rows));
    });
    moments
}

fn gather_grid(grid: &Grid, source: &[bf16], panels: &Panels, piece: &grid::Piece, blocks: &mut dyn Iterator<Item = Block>) {
    let multiplier = Multiplier::new().expect("bf16 is refused where the processor does not multiply it");
    let copied = copy(grid, source, piece);
    let targets = grid.targets(piece);
    let bytes = |values: usize| (values * size_of::<bf16>()) as isize;
    let run = |(i, tap): (usize, &grid::Tap)| Run {
        a: bytes(tap.plane * copied.plane + grid.offset(tap) * grid.width),
        panel: bytes(i * panels.depth * BLOCK),
        pairs: pairs(panels.rows),
    };
    let runs: Vec<Run> = grid.taps.iter().enumerate().map(run).collect();
    let mut sums = Sums([0.0; SIDE * SIDE]);
    for (block, rows) in blocks {
        for (m, targets) in targets.chunks_exact(SIDE).enumerate() {
            if targets.iter().all(|&target| target == NOWHERE) {
                continue;
            }
            let a = copied.values[m * SIDE * grid.width..].as_ptr();
            let product = Product { a, row: grid.width, rows: SIDE, runs: &runs, panel: panels.of(block) };
            // SAFETY: the copy has 32 positions past each block's, and as far again as a tap reaches; the panel its blocks.
            // Each target is a pixel of the output, and of this piece alone in these columns.
            unsafe {
                multiplier.run(&product, &mut sums);
                write(&rows, &sums, targets);
            }
        }
    }
}

fn gather_pixels(pixels: &Pixels, source: &[bf16], panels: &Panels, piece: &pixels::Piece, blocks: &mut dyn Iterator<Item = Block>) {
    let multiplier = Multiplier::new().expect("bf16 is refused where the processor does not multiply it");
    let images = piece.images;
    let source = &source[images.first * pixels.image..(images.first + images.count) * pixels.image];
    let mut sums = Sums([0.0; SIDE * SIDE]);
    for (block, rows) in blocks {
        let panel = panels.of(block);
        for pixel in piece.pixels.clone() {
            let target = |row: usize| if row < images.skipped { NOWHERE } else { (images.first + row) * pixels.len() + pixel };
            let targets: [usize; SIDE] = std::array::from_fn(target);
            let (first, runs) = pixels.runs(pixel);
            let product = Product { a: source[first..].as_ptr(), row: pixels.image, rows: images.count, runs, panel };
            // SAFETY: each run of a pixel lies in the picture, of which `source` has `count`; the panel has every tap. Each target
            // is a pixel of the output, and of this piece alone in these columns.
            unsafe {
                multiplier.run(&product, &mut sums);
                write(&rows, &sums, &targets[..images.count]);
            }
        }
    }
}
