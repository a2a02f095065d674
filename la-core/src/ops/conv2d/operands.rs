//! What the kernels of a convolution take: images, weights, and what follows each sum.

use half::f16;
use std::{borrow::Cow, ops::Range};

/// Values of a batch and the distance from one image to the next.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub values: &'a [f32],
    pub image: usize,
}

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
    pub finish: &'a Finish,
    pub residual: Option<&'a [f32]>,
    pub relu: bool,
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
