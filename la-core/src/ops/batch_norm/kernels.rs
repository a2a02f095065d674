//! The passes of batch normalisation over memory: each cut into blocks by shape, each block in vectors of channels.

use super::{channels, Affine, Epilogue, HostStats};
use crate::{
    error::bail,
    ops::{
        host::{read_as, scratch, write_as, Element},
        parallel::{for_each, SharedMut},
        simd::{dispatch, over_lanes, One, Simd, Stored},
    },
    Result,
};
use candle_core::Tensor;

/// The kernels, compiled for a type of values.
pub(super) trait Value: Element {
    /// # Safety
    /// The buffers of the job hold what its kernel reads and writes.
    unsafe fn apply(job: &Apply<Self>);
    /// # Safety
    /// As above.
    unsafe fn sums(job: &Sums<Self>);
    /// # Safety
    /// As above.
    unsafe fn input_grad(job: &InputGrad<Self>);
}

impl Value for f32 {
    unsafe fn apply(job: &Apply<f32>) {
        // SAFETY: the caller's promise.
        unsafe { dispatch!(apply_block::<f32>(job: &Apply<f32>)) }
    }
    unsafe fn sums(job: &Sums<f32>) {
        // SAFETY: the caller's promise.
        unsafe { dispatch!(sums_block::<f32>(job: &Sums<f32>)) }
    }
    unsafe fn input_grad(job: &InputGrad<f32>) {
        // SAFETY: the caller's promise.
        unsafe { dispatch!(input_grad_block::<f32>(job: &InputGrad<f32>)) }
    }
}

#[cfg(target_arch = "x86_64")]
mod narrow {
    use super::*;
    use crate::ops::simd::dispatch_bf16;
    use half::bf16;

    impl Value for bf16 {
        unsafe fn apply(job: &Apply<bf16>) {
            // SAFETY: the caller's promise; bf16 is refused where the processor lacks AVX512-BF16.
            unsafe { dispatch_bf16!(apply_block(job: &Apply<bf16>)) }
        }
        unsafe fn sums(job: &Sums<bf16>) {
            // SAFETY: as above.
            unsafe { dispatch_bf16!(sums_block(job: &Sums<bf16>)) }
        }
        unsafe fn input_grad(job: &InputGrad<bf16>) {
            // SAFETY: as above.
            unsafe { dispatch_bf16!(input_grad_block(job: &InputGrad<bf16>)) }
        }
    }
}

/// Values of one block of pixels: they stay in the second-level cache between two passes.
const BLOCK_VALUES: usize = 32 * 1024;

/// Pixels of a block: fixed by the shape, so that sums have one order for any number of threads.
fn block_pixels(channels: usize) -> usize {
    (BLOCK_VALUES / channels).max(1)
}

/// Mean and sum of squared deviations of each channel: per block in f32, joined in f64 (Chan, Golub, LeVeque 1979).
pub(super) fn moments(x: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let len = block_pixels(channels) * channels;
    let blocks = x.len().div_ceil(len);
    let mut parts = scratch(blocks * 2 * channels);
    let out = SharedMut(parts.as_mut_ptr());
    for_each(blocks, |i| {
        let block = &x[i * len..((i + 1) * len).min(x.len())];
        let (p, pixels) = (block.as_ptr(), block.len() / channels);
        // SAFETY: block `i` owns its 2 · channels results.
        let (mean, squares) = unsafe { (out.get().add(i * 2 * channels), out.get().add((i * 2 + 1) * channels)) };
        // SAFETY: `p` has pixels · channels values, both results have `channels`.
        unsafe { dispatch!(moments_block(p: *const f32, pixels: usize, channels: usize, mean: *mut f32, squares: *mut f32)) };
    });
    let (mut mean, mut squares, mut count) = (vec![0f64; channels], vec![0f64; channels], 0f64);
    for (i, part) in parts.chunks_exact(2 * channels).enumerate() {
        let n = (len.min(x.len() - i * len) / channels) as f64;
        let total = count + n;
        for c in 0..channels {
            let delta = part[c] as f64 - mean[c];
            squares[c] += part[channels + c] as f64 + delta * delta * count * n / total;
            mean[c] += delta * n / total;
        }
        count = total;
    }
    (mean, squares)
}

#[inline(always)]
unsafe fn moments_block<S: Simd>(x: *const f32, pixels: usize, channels: usize, mean: *mut f32, squares: *mut f32) {
    // SAFETY: the caller gives pixels · channels values and `channels` results of each kind.
    unsafe { over_lanes!(S, channels, c, moments_column(x.add(c), pixels, channels, mean.add(c), squares.add(c))) }
}

#[inline(always)]
unsafe fn moments_column<S: Simd>(x: *const f32, pixels: usize, stride: usize, mean: *mut f32, squares: *mut f32) {
    // SAFETY: as in `moments_block`.
    unsafe {
        // Four sums hide the latency of the addition.
        let mut sum = [S::splat(0.0); 4];
        (0..pixels).for_each(|p| sum[p % 4] = S::add(sum[p % 4], S::load(x.add(p * stride))));
        let total = S::add(S::add(sum[0], sum[1]), S::add(sum[2], sum[3]));
        let m = S::mul(total, S::splat(1.0 / pixels as f32));
        let mut square = [S::splat(0.0); 4];
        for p in 0..pixels {
            let d = S::sub(S::load(x.add(p * stride)), m);
            square[p % 4] = S::mul_add(d, d, square[p % 4]);
        }
        S::store(mean, m);
        S::store(squares, S::add(S::add(square[0], square[1]), S::add(square[2], square[3])));
    }
}

/// `out = affine(x) (+ residual), (relu)`; `x` absent means `out` itself.
pub(super) fn apply<E: Value>(x: Option<&Tensor>, out: &Tensor, affine: &Affine, epilogue: Epilogue) -> Result<()> {
    let channels = channels(out)?;
    if affine.scale.len() != channels {
        bail!("batch norm: expected {channels} channels, got weights for {}", affine.scale.len());
    }
    let run = |out: &mut [E], x: *const E, residual: *const E| {
        let (len, total) = (block_pixels(channels) * channels, out.len());
        let (shared, source, added) = (SharedMut(out.as_mut_ptr()), SharedMut(x.cast_mut()), SharedMut(residual.cast_mut()));
        for_each(total.div_ceil(len), |i| {
            let start = i * len;
            // SAFETY: all three buffers have `total` values; block `i` is written by this piece alone.
            let job = unsafe {
                Apply {
                    x: source.get().add(start),
                    residual: if added.get().is_null() { std::ptr::null() } else { added.get().add(start) },
                    out: shared.get().add(start),
                    pixels: len.min(total - start) / channels,
                    affine,
                    relu: epilogue.relu,
                }
            };
            // SAFETY: as above.
            unsafe { E::apply(&job) };
        });
    };
    write_as(out, |out: &mut [E]| {
        let own = out.as_ptr();
        let with_x = |x: *const E, out: &mut [E]| match epilogue.residual {
            Some(residual) => read_as(residual, |r: &[E]| run(out, x, r.as_ptr())),
            None => {
                run(out, x, std::ptr::null());
                Ok(())
            }
        };
        match x {
            Some(x) => read_as(x, |x: &[E]| with_x(x.as_ptr(), out))?,
            None => with_x(own, out),
        }
    })?
}

pub(super) struct Apply<'a, E> {
    x: *const E,
    residual: *const E,
    out: *mut E,
    pixels: usize,
    affine: &'a Affine,
    relu: bool,
}

#[inline(always)]
unsafe fn apply_block<S: Simd, E: Stored<S> + Stored<One>>(job: &Apply<E>) {
    let channels = job.affine.scale.len();
    for p in 0..job.pixels {
        // SAFETY: pixel `p` has `channels` values in each buffer.
        unsafe { over_lanes!(S, channels, c, apply_at::<E>(job, p * channels, c)) }
    }
}

#[inline(always)]
unsafe fn apply_at<S: Simd, E: Stored<S>>(job: &Apply<E>, row: usize, c: usize) {
    // SAFETY: as in `apply_block`.
    unsafe {
        let affine = job.affine;
        let centred = S::sub(E::load(job.x.add(row + c)), S::load(affine.mean.as_ptr().add(c)));
        let mut y = S::mul_add(centred, S::load(affine.scale.as_ptr().add(c)), S::load(affine.bias.as_ptr().add(c)));
        if !job.residual.is_null() {
            y = S::add(y, E::load(job.residual.add(row + c)));
        }
        if job.relu {
            y = S::max(S::splat(0.0), y);
        }
        E::store(job.out.add(row + c), y);
    }
}

/// Per channel, Σ g and Σ g · x̂ with g gated by the ReLU; with `keep`, the gated gradient is written back.
pub(super) fn sums<E: Value>(grad: &mut [E], x: &[E], y: &[E], stats: &HostStats, relu: bool, keep: bool) -> (Vec<f64>, Vec<f64>) {
    let channels = stats.mean.len();
    let len = block_pixels(channels) * channels;
    let blocks = x.len().div_ceil(len);
    let mut parts = scratch(blocks * 2 * channels);
    let (out, shared, total) = (SharedMut(parts.as_mut_ptr()), SharedMut(grad.as_mut_ptr()), x.len());
    for_each(blocks, |i| {
        let start = i * len;
        // SAFETY: all buffers have `total` values; block `i` and its results belong to this piece alone.
        let job = unsafe {
            Sums {
                grad: shared.get().add(start),
                x: x.as_ptr().add(start),
                y: y.as_ptr().add(start),
                pixels: len.min(total - start) / channels,
                stats,
                relu,
                keep: keep && relu,
                out: out.get().add(i * 2 * channels),
            }
        };
        // SAFETY: as above.
        unsafe { E::sums(&job) };
    });
    let mut result = (vec![0f64; channels], vec![0f64; channels]);
    for part in parts.chunks_exact(2 * channels) {
        for c in 0..channels {
            result.0[c] += part[c] as f64;
            result.1[c] += part[channels + c] as f64;
        }
    }
    result
}

pub(super) struct Sums<'a, E> {
    grad: *mut E,
    x: *const E,
    y: *const E,
    pixels: usize,
    stats: &'a HostStats,
    relu: bool,
    keep: bool,
    out: *mut f32,
}

#[inline(always)]
unsafe fn sums_block<S: Simd, E: Stored<S> + Stored<One>>(job: &Sums<E>) {
    let channels = job.stats.mean.len();
    // SAFETY: every buffer of the job has pixels · channels values, `out` has 2 · channels.
    unsafe { over_lanes!(S, channels, c, sums_column::<E>(job, channels, c)) }
}

#[inline(always)]
unsafe fn sums_column<S: Simd, E: Stored<S>>(job: &Sums<E>, channels: usize, c: usize) {
    // SAFETY: as in `sums_block`.
    unsafe {
        let (mean, inv_std) = (S::load(job.stats.mean.as_ptr().add(c)), S::load(job.stats.inv_std.as_ptr().add(c)));
        let (mut sum, mut dot) = ([S::splat(0.0); 2], [S::splat(0.0); 2]);
        for p in 0..job.pixels {
            let at = p * channels + c;
            let mut g = E::load(job.grad.add(at));
            if job.relu {
                g = S::where_positive(E::load(job.y.add(at)), g);
            }
            if job.keep {
                E::store(job.grad.add(at), g);
            }
            sum[p % 2] = S::add(sum[p % 2], g);
            dot[p % 2] = S::mul_add(g, S::sub(E::load(job.x.add(at)), mean), dot[p % 2]);
        }
        S::store(job.out.add(c), S::add(sum[0], sum[1]));
        S::store(job.out.add(channels + c), S::mul(S::add(dot[0], dot[1]), inv_std));
    }
}

/// The coefficients of [`input_grad`], one each a channel.
pub(super) struct Terms<'a> {
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub c: &'a [f32],
    pub mean: &'a [f32],
}

/// `out = a · g + b · (x − mean) + c`, with g gated by `y > 0` where `gate`; `out` may be `grad` itself.
pub(super) fn input_grad<E: Value>(grad: *const E, x: &[E], y: &[E], terms: &Terms, gate: bool, out: SharedMut<E>) {
    let channels = terms.a.len();
    let (len, total, grad) = (block_pixels(channels) * channels, x.len(), SharedMut(grad.cast_mut()));
    for_each(total.div_ceil(len), |i| {
        let start = i * len;
        // SAFETY: all buffers have `total` values; block `i` is written by this piece alone.
        let job = unsafe {
            InputGrad {
                grad: grad.get().add(start),
                x: x.as_ptr().add(start),
                y: y.as_ptr().add(start),
                out: out.get().add(start),
                pixels: len.min(total - start) / channels,
                terms,
                gate,
            }
        };
        // SAFETY: as above.
        unsafe { E::input_grad(&job) };
    });
}

pub(super) struct InputGrad<'a, E> {
    grad: *const E,
    x: *const E,
    y: *const E,
    out: *mut E,
    pixels: usize,
    terms: &'a Terms<'a>,
    gate: bool,
}

#[inline(always)]
unsafe fn input_grad_block<S: Simd, E: Stored<S> + Stored<One>>(job: &InputGrad<E>) {
    let channels = job.terms.a.len();
    for p in 0..job.pixels {
        // SAFETY: pixel `p` has `channels` values in each buffer.
        unsafe { over_lanes!(S, channels, c, input_grad_at::<E>(job, p * channels, c)) }
    }
}

#[inline(always)]
unsafe fn input_grad_at<S: Simd, E: Stored<S>>(job: &InputGrad<E>, row: usize, c: usize) {
    // SAFETY: as in `input_grad_block`.
    unsafe {
        let mut g = E::load(job.grad.add(row + c));
        if job.gate {
            g = S::where_positive(E::load(job.y.add(row + c)), g);
        }
        let terms = job.terms;
        let centred = S::sub(E::load(job.x.add(row + c)), S::load(terms.mean.as_ptr().add(c)));
        let offset = S::mul_add(centred, S::load(terms.b.as_ptr().add(c)), S::load(terms.c.as_ptr().add(c)));
        E::store(job.out.add(row + c), S::mul_add(g, S::load(terms.a.as_ptr().add(c)), offset));
    }
}
