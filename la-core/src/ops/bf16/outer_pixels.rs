//! The gradient to the weights over the pixels of pictures: positions are one pixel of some images, then the next, so that taps join
//! only pixels of the pictures.

use super::{
    copy::Lines,
    outer_product::{group_positions, odd_lines, Operands, Tap},
    tile::{unit, Run, BLOCK, PAIR, SIDE},
    transpose::{columns, pair_rows, LANES},
};
use crate::ops::{
    parallel::{for_each, SharedMut},
    shape::Shape,
};
use half::bf16;
use std::ops::Range;

/// The fewest images of a group whose pictures are too large for one: runs of a few pairs are slow.
const IMAGES: usize = 4;

/// See [`super::backward_weight`].
pub(super) fn backward_weight(x: &[bf16], grad: &[bf16], shape: &Shape, out: &mut [f32]) {
    let plan = Plan::new(shape);
    let groups = plan.groups();
    let inputs = groups.iter().map(Group::num_inputs).max().unwrap_or(0);
    let outputs = groups.iter().map(Group::num_outputs).max().unwrap_or(0);
    let (row, panel) = (odd_lines(inputs), outputs.div_ceil(SIDE) * BLOCK);
    let mut operands =
        Operands { inputs: Lines::scratch(shape.channels * row), row, grads: Lines::scratch(shape.out_channels / SIDE * panel), panel };
    for (i, group) in groups.iter().enumerate() {
        group.fill(x, grad, &mut operands);
        operands.multiply(&group.taps(), shape.out_channels, out, i > 0);
    }
}

/// Positions times taps that are multiplied; `None` where the channels are no whole blocks.
pub(super) fn work(shape: &Shape) -> Option<usize> {
    let is_whole = shape.channels.is_multiple_of(SIDE) && shape.out_channels.is_multiple_of(SIDE);
    is_whole.then(|| Plan::new(shape).groups().iter().map(Group::work).sum())
}

struct Plan<'a> {
    shape: &'a Shape,
    /// Images and rows of outputs of a group.
    images: usize,
    rows: usize,
}

/// Some rows of outputs of some images.
struct Group<'a> {
    shape: &'a Shape,
    images: Range<usize>,
    /// How many places an image's pixel has: zeros stand for images that are not there.
    places: usize,
    rows: Range<usize>,
}

/// Images come in multiples of this: pairs, or the depth of a tile.
fn image_unit() -> usize {
    match unit() {
        SIDE => SIDE,
        _ => 2,
    }
}

impl<'a> Plan<'a> {
    fn new(shape: &'a Shape) -> Self {
        let (height, width) = shape.output;
        let positions = group_positions(shape.channels * shape.conv.stride.pow(2) + shape.out_channels);
        let fit = (positions / (height * width).max(1)).max(IMAGES).next_multiple_of(image_unit());
        let images = shape.batch.min(fit);
        let rows = (positions / (images * width).max(1)).clamp(1, height.max(1));
        // Groups of one size.
        let even = |total: usize, part: usize| total.div_ceil(total.div_ceil(part).max(1));
        Self { shape, images: even(shape.batch, images).next_multiple_of(image_unit()), rows: even(height, rows).max(1) }
    }

    fn groups(&self) -> Vec<Group<'a>> {
        let (shape, batch, height) = (self.shape, self.shape.batch, self.shape.output.0);
        let group = |first: usize, row: usize| {
            let images = first..(first + self.images).min(batch);
            Group { shape, places: images.len().next_multiple_of(image_unit()), images, rows: row..(row + self.rows).min(height) }
        };
        (0..batch)
            .step_by(self.images)
            .flat_map(|first| (0..height).step_by(self.rows).map(move |row| (first, row)))
            .map(|(f, r)| group(f, r))
            .collect()
    }
}

impl Group<'_> {
    /// Rows of the inputs that its outputs read.
    fn source(&self) -> Range<usize> {
        let conv = &self.shape.conv;
        let first = (self.rows.start * conv.stride).saturating_sub(conv.padding);
        let end = ((self.rows.end - 1) * conv.stride + conv.kernel.0).saturating_sub(conv.padding).min(self.shape.input.0);
        first.min(end)..end
    }

    /// Positions of its inputs.
    fn num_inputs(&self) -> usize {
        self.source().len() * self.shape.input.1 * self.places
    }

    /// Positions of its outputs.
    fn num_outputs(&self) -> usize {
        self.rows.len() * self.shape.output.1 * self.places
    }

    fn work(&self) -> usize {
        let Shape { conv, input, output, .. } = self.shape;
        let inside = |outputs: Range<usize>, kernel: usize, size: usize| -> usize {
            (0..kernel).map(|tap| outputs.clone().filter(|&at| self.read(at, tap, size).is_some()).count()).sum()
        };
        self.places * inside(self.rows.clone(), conv.kernel.0, input.0) * inside(0..output.1, conv.kernel.1, input.1)
    }

    /// The row or column of the inputs that a tap reads for one of the outputs, if it lies in the picture.
    fn read(&self, at: usize, tap: usize, size: usize) -> Option<usize> {
        (at * self.shape.conv.stride + tap).checked_sub(self.shape.conv.padding).filter(|&at| at < size)
    }

    fn taps(&self) -> Vec<Tap> {
        let kernel = self.shape.conv.kernel;
        let tap = |(y, x): (usize, usize)| Tap { weight: y * kernel.1 + x, runs: self.runs(y, x) };
        (0..kernel.0).flat_map(|y| (0..kernel.1).map(move |x| (y, x))).map(tap).collect()
    }

    /// What a tap joins: for each row of outputs the pixels whose inputs lie in the picture.
    fn runs(&self, ky: usize, kx: usize) -> Vec<Run> {
        let Shape { conv, input, output, .. } = *self.shape;
        let source = self.source();
        let inside: Vec<usize> = (0..output.1).filter(|&x| self.read(x, kx, input.1).is_some()).collect();
        let (Some(&first), count) = (inside.first(), inside.len()) else { return vec![] };
        // Neighbours read neighbours where the stride is 1: one run for all.
        let (step, len) = if conv.stride == 1 { (count, count) } else { (1, 1) };
        let mut runs = Vec::new();
        for y in self.rows.clone() {
            let Some(row) = self.read(y, ky, input.0) else { continue };
            for x in (first..first + count).step_by(step) {
                let from = (row - source.start) * input.1 + x * conv.stride + kx - conv.padding;
                let to = (y - self.rows.start) * output.1 + x;
                runs.push(Run {
                    a: (from * self.places * size_of::<bf16>()) as isize,
                    panel: (to * self.places / 2 * PAIR * size_of::<bf16>()) as isize,
                    pairs: len * self.places / 2,
                });
            }
        }
        runs
    }

    fn fill(&self, x: &[bf16], grad: &[bf16], operands: &mut Operands) {
        let Shape { channels, out_channels, input, output, .. } = *self.shape;
        let (row, panel) = (operands.row, operands.panel);
        let (inputs, grads) = (SharedMut(operands.inputs.as_mut_ptr()), SharedMut(operands.grads.as_mut_ptr()));
        let (read, written) = (self.num_inputs().div_ceil(SIDE), self.num_outputs().div_ceil(SIDE));
        let source = self.source();
        let zeros = vec![bf16::ZERO; channels.max(out_channels)];
        for_each(read + written, |i| {
            if i < read {
                let rows =
                    self.pixels(i * SIDE, x, (input.0 * input.1, source.start * input.1, source.len() * input.1), &zeros[..channels]);
                for first in (0..channels).step_by(LANES) {
                    // SAFETY: each channel and block of positions has its own values; a pixel has 16 from `first`. The path has
                    // AVX-512.
                    unsafe { columns(&shifted(&rows, first), inputs.get().add(first * row + i * SIDE), row) };
                }
                return;
            }
            let i = i - read;
            let place = (output.0 * output.1, self.rows.start * output.1, self.rows.len() * output.1);
            let rows = self.pixels(i * SIDE, grad, place, &zeros[..out_channels]);
            for first in (0..out_channels).step_by(LANES) {
                // SAFETY: each half of a block of channels and of positions has its own values; the rest as above.
                unsafe {
                    let to = grads.get().add(first / SIDE * panel + i * BLOCK + first % SIDE * 2);
                    pair_rows(&shifted(&rows, first), to);
                }
            }
        });
    }

    /// Where the pixels of 32 positions from `start` begin, or zeros where there is none: of images of `image` pixels, `count`
    /// of them from `first` are positions.
    fn pixels(&self, start: usize, values: &[bf16], (image, first, count): (usize, usize, usize), zeros: &[bf16]) -> [*const bf16; SIDE] {
        let channels = zeros.len();
        std::array::from_fn(|i| {
            let (pixel, place) = ((start + i) / self.places, (start + i) % self.places);
            if pixel >= count || place >= self.images.len() {
                return zeros.as_ptr();
            }
            values[((self.images.start + place) * image + first + pixel) * channels..][..channels].as_ptr()
        })
    }
}

/// The same rows from a later channel.
fn shifted(rows: &[*const bf16; SIDE], first: usize) -> [*const bf16; SIDE] {
    rows.map(|row| row.wrapping_add(first))
}
