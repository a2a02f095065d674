//! Which input pixels each output pixel of a convolution gathers: the geometry, once per image.

use crate::ops::shape::Conv2d;

/// Marks a tap that falls into the padding.
pub(super) const PADDED: i32 = -1;

/// A gather over one image: for each output pixel and tap, the offset of the input values it multiplies.
pub(super) struct Plan {
    /// Weight taps in use, as indices into `kernel.0 × kernel.1`.
    pub taps: Vec<usize>,
    /// `out_pixels × taps` offsets of input values from the image's first, or [`PADDED`].
    pub inputs: Vec<i32>,
    /// Offset of each output pixel's first value from the image's first.
    pub outputs: Vec<u32>,
}

impl Plan {
    /// Forward: output `(y, x)` gathers input `(y·s + ky − p, x·s + kx − p)`.
    pub fn forward(conv: &Conv2d, input: (usize, usize), channels: usize, out_channels: usize) -> Self {
        let output = conv.output_size(input).unwrap_or((0, 0));
        let at = |o: usize, k: usize, size: usize| (o * conv.stride + k).checked_sub(conv.padding).filter(|&i| i < size);
        let taps = (0..conv.kernel.0 * conv.kernel.1).collect();
        let pixels = (0..output.0).flat_map(|y| (0..output.1).map(move |x| (y, x)));
        Self::build(conv, taps, pixels, (input, channels), (output.1, out_channels), |y, ky| at(y, ky, input.0), |x, kx| at(x, kx, input.1))
    }

    /// Backward to the input: pixels `(y, x)` of one residue class modulo the stride gather
    /// the gradients `((y + p − ky) / s, (x + p − kx) / s)` that the same taps scattered from.
    pub fn backward(conv: &Conv2d, input: (usize, usize), channels: usize, out_channels: usize, phase: (usize, usize)) -> Self {
        let output = conv.output_size(input).unwrap_or((0, 0));
        let s = conv.stride;
        let hits = |r: usize, k: usize| (r + conv.padding + s * k - k).is_multiple_of(s);
        let taps =
            (0..conv.kernel.0 * conv.kernel.1).filter(|t| hits(phase.0, t / conv.kernel.1) && hits(phase.1, t % conv.kernel.1)).collect();
        let at = |i: usize, k: usize, size: usize| (i + conv.padding).checked_sub(k).map(|j| j / s).filter(|&o| o < size);
        let pixels = (phase.0..input.0).step_by(s).flat_map(|y| (phase.1..input.1).step_by(s).map(move |x| (y, x)));
        let columns = (input.1, channels);
        Self::build(conv, taps, pixels, (output, out_channels), columns, |y, ky| at(y, ky, output.0), |x, kx| at(x, kx, output.1))
    }

    fn build(
        conv: &Conv2d,
        taps: Vec<usize>,
        pixels: impl Iterator<Item = (usize, usize)>,
        ((_, width), channels): ((usize, usize), usize),
        (out_width, out_channels): (usize, usize),
        row: impl Fn(usize, usize) -> Option<usize>,
        column: impl Fn(usize, usize) -> Option<usize>,
    ) -> Self {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (y, x) in pixels {
            outputs.push(((y * out_width + x) * out_channels) as u32);
            inputs.extend(taps.iter().map(|t| match (row(y, t / conv.kernel.1), column(x, t % conv.kernel.1)) {
                (Some(y), Some(x)) => ((y * width + x) * channels) as i32,
                _ => PADDED,
            }));
        }
        Self { taps, inputs, outputs }
    }

    /// Output pixels of one image.
    pub fn pixels(&self) -> usize {
        self.outputs.len()
    }
}
