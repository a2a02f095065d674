//! A convolution as a sum over positions: the geometry.
//!
//! A zero-padded copy of the source holds one position after the other, row after row, image after image. Output `q` sums,
//! for each tap, the values at position `q` plus the tap's offset; outputs past the end of a row are computed and dropped.
//! With a stride the copy has one plane for each residue class of rows and columns, so that every tap keeps this form.
//! The zeros right of a row are those left of the next.

use super::tile::SIDE;
use crate::ops::shape::{Conv2d, Shape};

/// Positions of one piece of work: copy, sums and one panel stay in the second-level cache.
const POSITIONS: usize = 1024;
/// Values of a piece's copy, for the same reason.
const VALUES: usize = 512 * 1024;

/// One tap: which weights, and where it reads relative to an output's position.
pub(super) struct Tap {
    pub weight: usize,
    pub plane: usize,
    y: usize,
    x: usize,
}

/// Where the outputs of a grid lie among an image's pixels.
#[derive(Clone, Copy)]
struct Target {
    step: usize,
    first: (usize, usize),
    width: usize,
    image: usize,
}

/// See the module.
pub(super) struct Grid {
    images: usize,
    pub source: (usize, usize),
    /// Values of a source pixel.
    pub channels: usize,
    /// Source pixels from one position to the next, and zeros before the first.
    pub step: usize,
    pub lead: (usize, usize),
    /// Whether a position is `step` pixels wide and a tap reads a run of `depth` values: with few channels.
    pub is_merged: bool,
    /// Values of a position, and how many of them a tap multiplies.
    pub width: usize,
    pub depth: usize,
    /// Positions from one row to the next, and rows from one image to the next.
    pub pitch: usize,
    pub rows: usize,
    /// Residue classes of rows and columns that a tap reads.
    pub planes: Vec<(usize, usize)>,
    pub taps: Vec<Tap>,
    /// Rows and columns of outputs.
    outputs: (usize, usize),
    target: Target,
}

/// Some images, or some rows of one.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub image: usize,
    pub images: usize,
    pub row: usize,
    pub rows: usize,
}

/// Positions with a source pixel along one side: the first, and the one after the last.
pub(super) fn real(size: usize, lead: usize, step: usize, phase: usize) -> (usize, usize) {
    (lead.saturating_sub(phase).div_ceil(step), (size + lead).saturating_sub(phase).div_ceil(step))
}

impl Grid {
    /// Output pixels from input pixels.
    pub fn forward(shape: &Shape) -> Self {
        let Shape { conv, batch, input, output, channels, .. } = *shape;
        let (kernel, s) = (conv.kernel, conv.stride);
        let target = Target { step: 1, first: (0, 0), width: output.1, image: output.0 * output.1 };
        if is_pointwise(&conv) {
            return Self::pointwise(batch * input.0 * input.1, channels);
        }
        let mut grid = Self::empty(batch, (input, channels), (s, (conv.padding, conv.padding)), (output, target));
        if conv.merges_rows(channels) {
            (grid.is_merged, grid.width, grid.depth) = (true, s * channels, SIDE);
            (0..kernel.0).for_each(|y| grid.add(y, (y % s, 0), (y / s, 0)));
        } else {
            for (y, x) in (0..kernel.0).flat_map(|y| (0..kernel.1).map(move |x| (y, x))) {
                grid.add(y * kernel.1 + x, (y % s, x % s), (y / s, x / s));
            }
        }
        grid.fit()
    }

    /// Gradients to the input pixels of one residue class modulo the stride, from gradients to the output pixels.
    pub fn backward(shape: &Shape, phase: (usize, usize)) -> Self {
        let Shape { conv, batch, input, output, out_channels, .. } = *shape;
        if is_pointwise(&conv) {
            return Self::pointwise(batch * output.0 * output.1, out_channels);
        }
        let (s, p) = (conv.stride as isize, conv.padding as isize);
        // Input `s·m + phase` took part in output `m + (phase + p - k) / s` through tap `k`, where that is whole.
        let shifts = |phase: usize, kernel: usize| -> Vec<(usize, isize)> {
            let at = |k: usize| (k, phase as isize + p - k as isize);
            (0..kernel).map(at).filter(|(_, shift)| shift % s == 0).map(|(k, shift)| (k, shift / s)).collect()
        };
        let (ys, xs) = (shifts(phase.0, conv.kernel.0), shifts(phase.1, conv.kernel.1));
        let lead = |shifts: &[(usize, isize)]| shifts.iter().map(|(_, shift)| -shift).max().unwrap_or(0).max(0);
        let (top, left) = (lead(&ys), lead(&xs));
        let count = |size: usize, phase: usize| size.saturating_sub(phase).div_ceil(conv.stride);
        let outputs = (count(input.0, phase.0), count(input.1, phase.1));
        let target = Target { step: conv.stride, first: phase, width: input.1, image: input.0 * input.1 };
        let mut grid = Self::empty(batch, (output, out_channels), (1, (top as usize, left as usize)), (outputs, target));
        for (&(ky, y), &(kx, x)) in ys.iter().flat_map(|y| xs.iter().map(move |x| (y, x))) {
            grid.add(ky * conv.kernel.1 + kx, (0, 0), ((y + top) as usize, (x + left) as usize));
        }
        grid.fit()
    }

    /// A 1×1 convolution: every pixel of the batch is a row of one column.
    fn pointwise(pixels: usize, channels: usize) -> Self {
        let target = Target { step: 1, first: (0, 0), width: 1, image: pixels };
        let mut grid = Self::empty(1, ((pixels, 1), channels), (1, (0, 0)), ((pixels, 1), target));
        grid.add(0, (0, 0), (0, 0));
        grid.fit()
    }

    fn empty(
        images: usize,
        (source, channels): ((usize, usize), usize),
        (step, lead): (usize, (usize, usize)),
        (outputs, target): ((usize, usize), Target),
    ) -> Self {
        let width = channels.next_multiple_of(SIDE);
        let (planes, taps) = (Vec::new(), Vec::new());
        let is_merged = false;
        Self { images, source, channels, step, lead, is_merged, width, depth: width, pitch: 1, rows: 1, planes, taps, outputs, target }
    }

    fn add(&mut self, weight: usize, phase: (usize, usize), (y, x): (usize, usize)) {
        let plane = self.planes.iter().position(|&known| known == phase).unwrap_or_else(|| {
            self.planes.push(phase);
            self.planes.len() - 1
        });
        self.taps.push(Tap { weight, plane, y, x });
    }

    /// Sets the pitches: wide enough for all outputs and pixels, and that what a tap reads past a row's end is zero.
    fn fit(mut self) -> Self {
        let (mut pitch, mut rows) = (self.outputs.1, self.outputs.0);
        for &(y, x) in &self.planes {
            rows = rows.max(real(self.source.0, self.lead.0, self.step, y).1);
            pitch = pitch.max(match self.is_merged {
                true => (self.source.1 + 2 * self.lead.1).div_ceil(self.step),
                false => real(self.source.1, self.lead.1, self.step, x).1,
            });
        }
        for tap in &self.taps {
            let (y, x) = self.planes[tap.plane];
            rows = rows.max(self.outputs.0 + tap.y - real(self.source.0, self.lead.0, self.step, y).0.min(tap.y));
            let first = if self.is_merged { 0 } else { real(self.source.1, self.lead.1, self.step, x).0 };
            pitch = pitch.max(self.outputs.1 + tap.x - first.min(tap.x));
        }
        (self.pitch, self.rows) = (pitch.max(1), rows.max(1));
        self
    }

    /// Positions from an output's to a tap's, within its plane.
    pub fn offset(&self, tap: &Tap) -> usize {
        tap.y * self.pitch + tap.x
    }

    /// The farthest that a tap reads past an output's position.
    pub fn reach(&self) -> usize {
        self.taps.iter().map(|tap| self.offset(tap)).max().unwrap_or(0)
    }

    /// Rows of the copy that a piece of some rows of one image needs.
    pub fn copied_rows(&self, piece: &Piece) -> usize {
        match piece.rows == self.outputs.0 {
            true => self.rows,
            false => piece.rows + self.taps.iter().map(|tap| tap.y).max().unwrap_or(0),
        }
    }

    /// The whole batch in pieces, cut by shape alone.
    pub fn pieces(&self) -> Vec<Piece> {
        let most = (VALUES / (self.width * self.planes.len().max(1))).clamp(SIDE, POSITIONS);
        let image = self.rows * self.pitch;
        if 2 * image > 3 * most {
            let count = self.outputs.0.div_ceil((most / self.pitch).max(1));
            // Whole blocks where positions are pixels.
            let rows = self.outputs.0.div_ceil(count).next_multiple_of(if self.pitch == 1 { SIDE } else { 1 });
            let of_image = |image| {
                let piece = move |row| Piece { image, images: 1, row, rows: rows.min(self.outputs.0 - row) };
                (0..self.outputs.0).step_by(rows).map(piece)
            };
            return (0..self.images).flat_map(of_image).collect();
        }
        let images = self.images.div_ceil(self.images.div_ceil((most / image).max(1)));
        let piece = |image| Piece { image, images: images.min(self.images - image), row: 0, rows: self.outputs.0 };
        (0..self.images).step_by(images).map(piece).collect()
    }

    /// Which weights its taps have.
    pub fn weights(&self) -> Vec<usize> {
        self.taps.iter().map(|tap| tap.weight).collect()
    }

    /// Rows times taps that are multiplied.
    pub fn work(&self) -> usize {
        self.pieces().iter().map(|piece| self.positions(piece).next_multiple_of(SIDE)).sum::<usize>() * self.taps.len()
    }

    /// Positions of a piece, up to its last output's.
    pub fn positions(&self, piece: &Piece) -> usize {
        ((piece.images - 1) * self.copied_rows(piece) + piece.rows - 1) * self.pitch + self.outputs.1
    }

    /// The target pixel of each position of a piece, or [`NOWHERE`], up to whole blocks of 32.
    pub fn targets(&self, piece: &Piece) -> Vec<usize> {
        let Target { step, first, width, image } = self.target;
        let mut targets = vec![NOWHERE; self.positions(piece).next_multiple_of(SIDE)];
        for (i, y) in (0..piece.images).flat_map(|i| (0..piece.rows).map(move |y| (i, y))) {
            let at = (i * self.copied_rows(piece) + y) * self.pitch;
            let pixel = (piece.image + i) * image + ((piece.row + y) * step + first.0) * width + first.1;
            for (x, target) in targets[at..at + self.outputs.1].iter_mut().enumerate() {
                *target = pixel + x * step;
            }
        }
        targets
    }

    /// Whether there is no output at all.
    pub fn is_empty(&self) -> bool {
        self.outputs.0 * self.outputs.1 == 0
    }

    /// Whether a batch's pixels are the positions, without zeros or gaps.
    pub fn is_plain(&self) -> bool {
        let is_one = self.images == 1 && self.source == (self.source.0, 1) && self.taps.len() == 1;
        is_one && self.pitch == 1 && self.lead == (0, 0) && self.step == 1 && self.width == self.channels
    }
}

/// The target of a position that is no output.
pub(super) const NOWHERE: usize = usize::MAX;

/// Whether each output is a pixel of the input.
pub(super) fn is_pointwise(conv: &Conv2d) -> bool {
    conv.kernel == (1, 1) && conv.stride == 1 && conv.padding == 0
}
