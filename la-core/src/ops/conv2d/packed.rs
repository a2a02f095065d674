//! Convolution for inference: weights packed once, in the precision they were stored in, and what follows in one pass.

use super::{
    cpu::gather_all,
    operands::{Epilogue, Finish, Images, Values},
    panels::Panels,
    winograd::{self, Points},
    Conv2d, Shape,
};
use crate::{error::bail, ops::host::scratch, Result};
/// Up to this many channels, 3×3 stride-1 weights are kept ready for Winograd, four times their size.
const POINTS_CHANNELS: usize = 128;

/// A convolution with its weights packed.
pub struct PackedConv2d {
    conv: Conv2d,
    channels: usize,
    out_channels: usize,
    weights: Packed,
    finish: Finish,
}

enum Packed {
    Taps(Panels),
    Points(Points),
}

impl PackedConv2d {
    /// Packs `weight` `(KH, KW, C, O)`; fails where it or `finish` has another number of values.
    pub fn new(conv: Conv2d, (channels, out_channels): (usize, usize), weight: &Values, finish: Finish) -> Result<Self> {
        let taps = conv.kernel.0 * conv.kernel.1;
        let expected = taps.checked_mul(channels).and_then(|n| n.checked_mul(out_channels)).filter(|&n| n > 0);
        if expected != Some(weight.len()) || finish.scale.len() != out_channels || finish.shift.len() != out_channels {
            bail!("convolution: expected {taps} x {channels} x {out_channels} weights, got {}", weight.len());
        }
        let weights = if is_winograd(&conv, channels) {
            Packed::Points(winograd::transform_weights(Panels::forward(&weight.range(0..weight.len()), taps, channels, out_channels)))
        } else {
            let run = if conv.merges_rows(channels) { conv.kernel.1 } else { 1 };
            Packed::Taps(Panels::keeping(weight, taps / run, channels * run, out_channels))
        };
        Ok(Self { conv, channels, out_channels, weights, finish })
    }

    /// Height and width of the output of an `(height, width)` input, or `None` where the kernel does not fit.
    pub fn output_size(&self, input: (usize, usize)) -> Option<(usize, usize)> {
        self.conv.output_size(input)
    }

    /// The outputs `(B, H', W', O)` of `x` `(B, H, W, C)`: finished, with `residual` `(B, H', W', O)` added, then ReLU.
    pub fn forward(
        &self,
        x: &[f32],
        (batch, height, width): (usize, usize, usize),
        residual: Option<&[f32]>,
        relu: bool,
    ) -> Result<Vec<f32>> {
        let shape = Shape::of((batch, height, width, self.channels), self.out_channels, &self.conv)?;
        let len = batch * shape.output.0 * shape.output.1 * self.out_channels;
        if x.len() != batch * height * width * self.channels || residual.is_some_and(|residual| residual.len() != len) {
            bail!("convolution: expected {batch} images of {height}x{width}x{}, got {} values", self.channels, x.len());
        }
        let mut out = scratch(len);
        let epilogue = Some(&Epilogue { finish: &self.finish, residual, relu });
        match &self.weights {
            Packed::Points(points) => {
                winograd::convolve(&shape.tiling(), Images { values: x, image: x.len() / batch }, points, &mut out, false, epilogue)
            }
            Packed::Taps(panels) => {
                let (rows, padded) = shape.merged(x);
                let input = Images { values: padded.as_deref().unwrap_or(x), image: rows.image };
                gather_all(&rows.plan, input, panels, &mut out, false, epilogue);
            }
        }
        Ok(out)
    }
}

fn is_winograd(conv: &Conv2d, channels: usize) -> bool {
    conv.kernel == (3, 3) && conv.stride == 1 && conv.padding <= 2 && (16..=POINTS_CHANNELS).contains(&channels)
}
