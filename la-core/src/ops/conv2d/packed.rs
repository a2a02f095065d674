//! Convolution for inference: weights packed once, in the precision they were stored in, and what follows in one pass.

use super::{
    cpu::{gather_all, Images},
    panels::Panels,
    winograd::{self, Points},
    Conv2d, Shape,
};
use crate::{error::bail, ops::host::scratch, Result};
use half::f16;
use std::{borrow::Cow, ops::Range};

/// Up to this many channels, 3×3 stride-1 weights are kept ready for Winograd, four times their size.
const POINTS_CHANNELS: usize = 128;

/// Weights in the precision they are kept in.
pub enum Values {
    /// As they are.
    F32(Vec<f32>),
    /// Halves.
    F16(Vec<f16>),
    /// Codes; the scale of an output channel is a factor of its [`Finish`].
    I8(Vec<i8>),
}

impl Values {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
            Values::I8(values) => values.len(),
        }
    }

    /// Some of them in full precision.
    pub(super) fn range(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        match self {
            Values::F32(values) => Cow::Borrowed(&values[range]),
            Values::F16(values) => Cow::Owned(values[range].iter().map(|&x| widen(x)).collect()),
            Values::I8(values) => Cow::Owned(values[range].iter().map(|&x| f32::from(x)).collect()),
        }
    }
}

/// A finite half by shifts and one product, which vectorise where [`f16::to_f32`] branches.
#[inline(always)]
fn widen(x: f16) -> f32 {
    let bits = u32::from(x.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((254 - 15) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// What becomes of each output channel's sum: `sum * scale + shift`, batch norm and the weights' scales in one.
pub struct Finish {
    /// A factor for each output channel.
    pub scale: Vec<f32>,
    /// A summand for each output channel.
    pub shift: Vec<f32>,
}

/// [`Finish`], the residual sum and ReLU, on outputs that are still in cache.
pub(super) struct Epilogue<'a> {
    finish: &'a Finish,
    residual: Option<&'a [f32]>,
    relu: bool,
}

impl Epilogue<'_> {
    /// Finishes the columns `start..start + columns` of one pixel, which begin at `out[at]`.
    ///
    /// # Safety
    /// `out[at..at + columns]` may be read and written, and no other thread touches it.
    pub unsafe fn apply(&self, out: *mut f32, at: usize, start: usize, columns: usize) {
        // SAFETY: the caller's promise.
        let out = unsafe { std::slice::from_raw_parts_mut(out.add(at), columns) };
        let (scale, shift) = (&self.finish.scale[start..start + columns], &self.finish.shift[start..start + columns]);
        out.iter_mut().zip(scale.iter().zip(shift)).for_each(|(y, (scale, shift))| *y = *y * scale + shift);
        if let Some(residual) = self.residual {
            out.iter_mut().zip(&residual[at..]).for_each(|(y, x)| *y += x);
        }
        if self.relu {
            out.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y });
        }
    }
}

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
