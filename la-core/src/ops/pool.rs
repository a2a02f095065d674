//! Max-pooling with padding and stored indices, and global average pooling, over `(B, H, W, C)` tensors.

use super::{
    conv2d::Conv2d,
    device::{is_bf16_on_cpu, on_gpu},
    gradients::refuse_tracked,
    host::{by_type, read, read_as, scratch_of, tensor, Element},
    parallel::{for_each, for_each_chunk, SharedMut},
    simd::{dispatch, Simd},
};
use crate::{error::bail, Result};
use candle_core::Tensor;
use std::ops::Range;

/// Which tap of the window each output value came from, for the backward pass.
pub struct MaxIndices {
    taps: Taps,
    input: (usize, usize, usize, usize),
    window: Conv2d,
}

/// A tap for each output value.
enum Taps {
    Host(Vec<u8>),
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    Gpu(Tensor),
}

/// Largest value of each window of `x` `(B, H, W, C)`; padding never wins, the first of equal values does.
///
/// Fails where the window does not fit, or `x` tracks gradients.
pub fn max_pool(x: &Tensor, window: &Conv2d) -> Result<(Tensor, MaxIndices)> {
    refuse_tracked(x, "max_pool")?;
    let (batch, height, width, channels) = x.dims4()?;
    let Some((oh, ow)) = window.output_size((height, width)).filter(|_| window.padding < window.kernel.0.min(window.kernel.1)) else {
        bail!("max-pool: a {:?} window with padding {} does not fit a {height}x{width} image", window.kernel, window.padding);
    };
    let input = (batch, height, width, channels);
    on_gpu!(x, {
        let (out, taps) = super::cuda::pool::max(x, window, (oh, ow))?;
        Ok((out, MaxIndices { taps: Taps::Gpu(taps), input, window: *window }))
    });
    let geometry = Geometry { window, height, width, channels, out: (oh, ow) };
    let (out, taps) = geometry.pool_any(x, batch)?;
    Ok((out, MaxIndices { taps: Taps::Host(taps), input, window: *window }))
}

/// [`max_pool`] of values `(B, H, W, C)` for inference: without the indices.
pub(crate) fn max_pool_values(x: &[f32], (batch, height, width, channels): (usize, usize, usize, usize), window: &Conv2d) -> Vec<f32> {
    let out = window.output_size((height, width)).unwrap_or((0, 0));
    let mut pooled = vec![f32::NEG_INFINITY; batch * out.0 * out.1 * channels];
    let geometry = Geometry { window, height, width, channels, out };
    let (row, image) = ((out.1 * channels).max(1), height * width * channels);
    for_each_chunk(&mut pooled, row, |i, pooled| {
        let (image, y) = (&x[i / out.0 * image..][..image], i % out.0);
        geometry.visit_rows(y..y + 1, |to, _, from| {
            let pair = pooled[to - y * row..][..channels].iter_mut().zip(&image[from..from + channels]);
            pair.for_each(|(max, x)| *max = if x > max { *x } else { *max });
        });
    });
    pooled
}

/// Gradient to the input of [`max_pool`]: each output's gradient goes to the value that won.
pub fn max_pool_backward(grad: &Tensor, indices: &MaxIndices) -> Result<Tensor> {
    let (batch, height, width, channels) = indices.input;
    let (_, oh, ow, _) = grad.dims4()?;
    let num_taps = match &indices.taps {
        Taps::Host(taps) => taps.len(),
        Taps::Gpu(taps) => taps.elem_count(),
    };
    if grad.elem_count() != num_taps {
        bail!("max-pool backward: expected {num_taps} gradients, got {:?}", grad.dims());
    }
    let taps = match &indices.taps {
        Taps::Host(taps) => taps,
        Taps::Gpu(_taps) => {
            on_gpu!(grad, super::cuda::pool::max_backward(grad, _taps, indices.input, &indices.window));
            bail!("max-pool backward: indices on a GPU, gradient on {:?}", grad.device().location())
        }
    };
    let geometry = Geometry { window: &indices.window, height, width, channels, out: (oh, ow) };
    by_type!(grad, E => geometry.unpool::<E>(grad, taps, batch))
}

/// Mean over height and width: `(B, H, W, C)` to `(B, C)`. Fails where `x` tracks gradients.
pub fn global_average_pool(x: &Tensor) -> Result<Tensor> {
    refuse_tracked(x, "global_average_pool")?;
    let (batch, height, width, channels) = x.dims4()?;
    on_gpu!(x, super::cuda::pool::mean(x));
    by_type!(x, E => mean_of::<E>(x, (batch, height * width, channels)))
}

fn mean_of<E: Element>(x: &Tensor, (batch, pixels, channels): (usize, usize, usize)) -> Result<Tensor> {
    let mut out = vec![0f32; batch * channels];
    read_as(x, |x: &[E]| mean_pixels(x, pixels, channels, &mut out))?;
    Ok(tensor(out, (batch, channels)))
}

/// Cuts `len` rows into `parts` ranges as adaptive pooling does: where `parts` does not divide `len`, neighbours share a row.
pub fn split(len: usize, parts: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..parts).map(move |part| part * len / parts..((part + 1) * len).div_ceil(parts))
}

/// Adds to each row of `out` `(B, C)`, which holds zeros, the mean of an image's pixels.
pub(crate) fn mean_pixels<E: Element>(x: &[E], pixels: usize, channels: usize, out: &mut [f32]) {
    for (image, mean) in x.chunks_exact(pixels * channels).zip(out.chunks_exact_mut(channels)) {
        for pixel in image.chunks_exact(channels) {
            mean.iter_mut().zip(pixel).for_each(|(m, v)| *m += v.wide());
        }
        mean.iter_mut().for_each(|m| *m /= pixels as f32);
    }
}

/// Gradient to the input `(B, H, W, C)` of [`global_average_pool`] from `grad` `(B, C)`, in the type of activations.
pub fn global_average_pool_backward(grad: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (batch, channels) = grad.dims2()?;
    on_gpu!(grad, super::cuda::pool::mean_backward(grad, (height, width)));
    let dims = (batch, height, width, channels);
    match is_bf16_on_cpu() {
        true => spread::<half::bf16>(grad, dims),
        false => spread::<f32>(grad, dims),
    }
}

fn spread<E: Element>(grad: &Tensor, (batch, height, width, channels): (usize, usize, usize, usize)) -> Result<Tensor> {
    let pixels = height * width;
    let mut out: Vec<E> = scratch_of(batch * pixels * channels);
    read(grad, |g| {
        for (image, g) in out.chunks_exact_mut(pixels * channels).zip(g.chunks_exact(channels)) {
            let (first, rest) = image.split_at_mut(channels);
            first.iter_mut().zip(g).for_each(|(p, g)| *p = E::narrow(g / pixels as f32));
            rest.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(first));
        }
    })?;
    Ok(tensor(out, (batch, height, width, channels)))
}

/// The kernels, compiled for a type of values.
trait Value: Element {
    /// # Safety
    /// Each pointer has `channels` values.
    unsafe fn keep_larger(best: *mut Self, value: *const Self, taps: *mut u8, tap: u8, channels: usize);
    /// # Safety
    /// Each pointer has `channels` values.
    unsafe fn add_where_tap(from: *const Self, taps: *const u8, to: *mut f32, tap: u8, channels: usize);
}

macro_rules! value {
    ($type:ty) => {
        impl Value for $type {
            unsafe fn keep_larger(best: *mut $type, value: *const $type, taps: *mut u8, tap: u8, channels: usize) {
                // SAFETY: the caller's promise.
                unsafe { dispatch!(keep_larger::<$type>(best: *mut $type, value: *const $type, taps: *mut u8, tap: u8, channels: usize)) }
            }
            unsafe fn add_where_tap(from: *const $type, taps: *const u8, to: *mut f32, tap: u8, channels: usize) {
                // SAFETY: the caller's promise.
                unsafe { dispatch!(add_where_tap::<$type>(from: *const $type, taps: *const u8, to: *mut f32, tap: u8, channels: usize)) }
            }
        }
    };
}
value!(f32);
#[cfg(target_arch = "x86_64")]
value!(half::bf16);

struct Geometry<'a> {
    window: &'a Conv2d,
    height: usize,
    width: usize,
    channels: usize,
    out: (usize, usize),
}

impl Geometry<'_> {
    /// Calls `f(output offset, tap, input offset)` for every window of some rows of outputs, and tap that is not padding.
    fn visit_rows(&self, rows: Range<usize>, mut f: impl FnMut(usize, u8, usize)) {
        let (kh, kw) = self.window.kernel;
        for (oy, ox) in rows.flat_map(|y| (0..self.out.1).map(move |x| (y, x))) {
            for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                let y = (oy * self.window.stride + ky).wrapping_sub(self.window.padding);
                let x = (ox * self.window.stride + kx).wrapping_sub(self.window.padding);
                if y < self.height && x < self.width {
                    f((oy * self.out.1 + ox) * self.channels, (ky * kw + kx) as u8, (y * self.width + x) * self.channels);
                }
            }
        }
    }

    fn pool_any(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Vec<u8>)> {
        by_type!(x, E => self.pool::<E>(x, batch))
    }

    /// The largest values `(B, H', W', C)`, and each one's tap.
    fn pool<E: Value>(&self, x: &Tensor, batch: usize) -> Result<(Tensor, Vec<u8>)> {
        let (row, image) = (self.out.1 * self.channels, self.height * self.width * self.channels);
        let len = batch * self.out.0 * row;
        let (mut out, mut taps) = (scratch_of::<E>(len), vec![0u8; len]);
        let (shared, indices) = (SharedMut(out.as_mut_ptr()), SharedMut(taps.as_mut_ptr()));
        read_as(x, |x: &[E]| {
            for_each(batch * self.out.0, |i| {
                // SAFETY: row `i` of the batch owns its range of both outputs.
                let (out, taps) = unsafe {
                    let taps = indices.get().add(i * row);
                    (std::slice::from_raw_parts_mut(shared.get().add(i * row), row), std::slice::from_raw_parts_mut(taps, row))
                };
                self.pool_row(&x[i / self.out.0 * image..][..image], i % self.out.0, out, taps);
            })
        })?;
        Ok((tensor(out, (batch, self.out.0, self.out.1, self.channels)), taps))
    }

    fn pool_row<E: Value>(&self, image: &[E], y: usize, out: &mut [E], taps: &mut [u8]) {
        let channels = self.channels;
        out.fill(E::narrow(f32::NEG_INFINITY));
        self.visit_rows(y..y + 1, |o, tap, i| {
            let o = o - y * out.len();
            let (best, value, taps) =
                (out[o..o + channels].as_mut_ptr(), image[i..i + channels].as_ptr(), taps[o..o + channels].as_mut_ptr());
            // SAFETY: each pointer has `channels` values, as the slices above prove.
            unsafe { E::keep_larger(best, value, taps, tap, channels) };
        });
    }

    /// The gradient `(B, H, W, C)`: each row sums what it gave to the windows that see it, in f32.
    fn unpool<E: Value>(&self, grad: &Tensor, taps: &[u8], batch: usize) -> Result<Tensor> {
        let (row, len) = (self.width * self.channels, self.out.0 * self.out.1 * self.channels);
        let mut out: Vec<E> = scratch_of(batch * self.height * row);
        read_as(grad, |grad: &[E]| {
            for_each_chunk(&mut out, row.max(1), |i, out| {
                let image = i / self.height * len..(i / self.height + 1) * len;
                let mut sums = vec![0f32; row];
                self.unpool_row(&grad[image.clone()], &taps[image], i % self.height, &mut sums);
                out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = E::narrow(sum));
            })
        })?;
        Ok(tensor(out, (batch, self.height, self.width, self.channels)))
    }

    fn unpool_row<E: Value>(&self, grad: &[E], taps: &[u8], y: usize, sums: &mut [f32]) {
        let (window, channels) = (self.window, self.channels);
        let padded = y + window.padding;
        let first = (padded + 1).saturating_sub(window.kernel.0).div_ceil(window.stride);
        for oy in first..(padded / window.stride + 1).min(self.out.0) {
            let ky = padded - oy * window.stride;
            for (ox, kx) in (0..self.out.1).flat_map(|x| (0..window.kernel.1).map(move |k| (x, k))) {
                let x = (ox * window.stride + kx).wrapping_sub(window.padding);
                if x < self.width {
                    let (o, i) = ((oy * self.out.1 + ox) * channels, x * channels);
                    let (from, taps, to) =
                        (grad[o..o + channels].as_ptr(), taps[o..o + channels].as_ptr(), sums[i..i + channels].as_mut_ptr());
                    let tap = (ky * window.kernel.1 + kx) as u8;
                    // SAFETY: each pointer has `channels` values, as the slices above prove.
                    unsafe { E::add_where_tap(from, taps, to, tap, channels) };
                }
            }
        }
    }
}

// Plain loops over channels: compiled under each instruction set, they vectorise as they stand.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)]
unsafe fn keep_larger<S: Simd, E: Element>(best: *mut E, value: *const E, taps: *mut u8, tap: u8, channels: usize) {
    for c in 0..channels {
        // SAFETY: the caller gives `channels` values at each pointer.
        unsafe {
            let (b, v) = (*best.add(c), *value.add(c));
            // A NaN wins, so that it reaches the loss.
            let wins = v.wide() > b.wide() || v.wide().is_nan();
            *best.add(c) = if wins { v } else { b };
            *taps.add(c) = if wins { tap } else { *taps.add(c) };
        }
    }
}

#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)]
unsafe fn add_where_tap<S: Simd, E: Element>(from: *const E, taps: *const u8, to: *mut f32, tap: u8, channels: usize) {
    for c in 0..channels {
        // SAFETY: the caller gives `channels` values at each pointer.
        unsafe { *to.add(c) += if *taps.add(c) == tap { (*from.add(c)).wide() } else { 0.0 } };
    }
}
