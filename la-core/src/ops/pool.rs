//! Max-pooling with padding and stored indices, and global average pooling, over `(B, H, W, C)` tensors.

use super::{
    conv2d::Conv2d,
    device::on_gpu,
    gradients::refuse_tracked,
    host::{read, scratch, tensor},
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
    let len = oh * ow * channels;
    let (mut out, mut taps) = (scratch(batch * len), vec![0u8; batch * len]);
    let (shared, indices) = (SharedMut(out.as_mut_ptr()), SharedMut(taps.as_mut_ptr()));
    let geometry = Geometry { window, height, width, channels, out: (oh, ow) };
    read(x, |x| {
        for_each(batch, |b| {
            let image = &x[b * height * width * channels..][..height * width * channels];
            // SAFETY: image `b` owns its range of both outputs.
            let (out, taps) = unsafe {
                let taps = indices.get().add(b * len);
                (std::slice::from_raw_parts_mut(shared.get().add(b * len), len), std::slice::from_raw_parts_mut(taps, len))
            };
            geometry.forward(image, out, taps);
        })
    })?;
    Ok((tensor(out, (batch, oh, ow, channels)), MaxIndices { taps: Taps::Host(taps), input, window: *window }))
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
    let (len, image) = (oh * ow * channels, height * width * channels);
    let mut out = vec![0f32; batch * image];
    let shared = SharedMut(out.as_mut_ptr());
    let geometry = Geometry { window: &indices.window, height, width, channels, out: (oh, ow) };
    read(grad, |g| {
        for_each(batch, |b| {
            // SAFETY: image `b` owns its range of the output.
            let out = unsafe { std::slice::from_raw_parts_mut(shared.get().add(b * image), image) };
            geometry.backward(&g[b * len..][..len], &taps[b * len..][..len], out);
        })
    })?;
    Ok(tensor(out, indices.input))
}

/// Mean over height and width: `(B, H, W, C)` to `(B, C)`. Fails where `x` tracks gradients.
pub fn global_average_pool(x: &Tensor) -> Result<Tensor> {
    refuse_tracked(x, "global_average_pool")?;
    let (batch, height, width, channels) = x.dims4()?;
    on_gpu!(x, super::cuda::pool::mean(x));
    let pixels = height * width;
    let mut out = vec![0f32; batch * channels];
    read(x, |x| mean_pixels(x, pixels, channels, &mut out))?;
    Ok(tensor(out, (batch, channels)))
}

/// Adds to each row of `out` `(B, C)`, which holds zeros, the mean of an image's pixels.
pub(crate) fn mean_pixels(x: &[f32], pixels: usize, channels: usize, out: &mut [f32]) {
    for (image, mean) in x.chunks_exact(pixels * channels).zip(out.chunks_exact_mut(channels)) {
        for pixel in image.chunks_exact(channels) {
            mean.iter_mut().zip(pixel).for_each(|(m, v)| *m += v);
        }
        mean.iter_mut().for_each(|m| *m /= pixels as f32);
    }
}

/// Gradient to the input `(B, H, W, C)` of [`global_average_pool`] from `grad` `(B, C)`.
pub fn global_average_pool_backward(grad: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (batch, channels) = grad.dims2()?;
    on_gpu!(grad, super::cuda::pool::mean_backward(grad, (height, width)));
    let pixels = height * width;
    let mut out = scratch(batch * pixels * channels);
    read(grad, |g| {
        for (image, g) in out.chunks_exact_mut(pixels * channels).zip(g.chunks_exact(channels)) {
            for pixel in image.chunks_exact_mut(channels) {
                pixel.iter_mut().zip(g).for_each(|(p, g)| *p = g / pixels as f32);
            }
        }
    })?;
    Ok(tensor(out, (batch, height, width, channels)))
}

struct Geometry<'a> {
    window: &'a Conv2d,
    height: usize,
    width: usize,
    channels: usize,
    out: (usize, usize),
}

impl Geometry<'_> {
    /// Calls `f(output offset, tap, input offset)` for every window and tap that is not padding.
    fn visit(&self, f: impl FnMut(usize, u8, usize)) {
        self.visit_rows(0..self.out.0, f);
    }

    /// The same for some rows of outputs.
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

    fn forward(&self, image: &[f32], out: &mut [f32], taps: &mut [u8]) {
        out.fill(f32::NEG_INFINITY);
        let channels = self.channels;
        self.visit(|o, tap, i| {
            let (best, value, taps) =
                (out[o..o + channels].as_mut_ptr(), image[i..i + channels].as_ptr(), taps[o..o + channels].as_mut_ptr());
            // SAFETY: each pointer has `channels` values, as the slices above prove.
            unsafe { dispatch!(keep_larger(best: *mut f32, value: *const f32, taps: *mut u8, tap: u8, channels: usize)) };
        });
    }

    fn backward(&self, grad: &[f32], taps: &[u8], out: &mut [f32]) {
        let channels = self.channels;
        self.visit(|o, tap, i| {
            let (from, taps, to) = (grad[o..o + channels].as_ptr(), taps[o..o + channels].as_ptr(), out[i..i + channels].as_mut_ptr());
            // SAFETY: each pointer has `channels` values, as the slices above prove.
            unsafe { dispatch!(add_where_tap(from: *const f32, taps: *const u8, to: *mut f32, tap: u8, channels: usize)) };
        });
    }
}

// Plain loops over channels: compiled under each instruction set, they vectorise as they stand.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)]
unsafe fn keep_larger<S: Simd>(best: *mut f32, value: *const f32, taps: *mut u8, tap: u8, channels: usize) {
    for c in 0..channels {
        // SAFETY: the caller gives `channels` values at each pointer.
        unsafe {
            let (b, v) = (*best.add(c), *value.add(c));
            // A NaN wins, so that it reaches the loss.
            let wins = v > b || v.is_nan();
            *best.add(c) = if wins { v } else { b };
            *taps.add(c) = if wins { tap } else { *taps.add(c) };
        }
    }
}

#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)]
unsafe fn add_where_tap<S: Simd>(from: *const f32, taps: *const u8, to: *mut f32, tap: u8, channels: usize) {
    for c in 0..channels {
        // SAFETY: the caller gives `channels` values at each pointer.
        unsafe { *to.add(c) += if *taps.add(c) == tap { *from.add(c) } else { 0.0 } };
    }
}
