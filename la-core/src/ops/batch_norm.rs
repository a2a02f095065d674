//! Batch normalisation over `(…, C)` tensors, fused with the residual sum and the ReLU that follow it in a ResNet.
//!
//! Ioffe, Szegedy 2015, <https://arxiv.org/abs/1502.03167>; statistics as torchvision keeps them (eps 1e-5, unbiased running variance).

use super::{
    host::{read, scratch, tensor, write},
    parallel::{for_each, SharedMut},
    simd::{dispatch, One, Simd},
};
use crate::{error::bail, Result};
use candle_core::{Device, Tensor};

/// Added to the variance.
pub const EPSILON: f64 = 1e-5;

/// Values of one block of pixels: they stay in the second-level cache between two passes.
const BLOCK_VALUES: usize = 32 * 1024;

/// Mean and inverse standard deviation of each channel over a batch.
#[derive(Debug, Clone)]
pub struct BatchStats {
    /// `C` means.
    pub mean: Vec<f32>,
    /// `C` unbiased variances, what the running variance is moved by.
    pub unbiased_variance: Vec<f32>,
    inv_std: Vec<f32>,
}

/// The gradients of a batch norm in training mode.
pub struct BatchNormGrads {
    /// To the input; the shape of the input.
    pub input: Tensor,
    /// To the residual that was added, if one was.
    pub residual: Option<Tensor>,
    /// `C` gradients to the weight and to the bias.
    pub weight: Vec<f32>,
    /// See `weight`.
    pub bias: Vec<f32>,
}

/// What follows the normalisation: `relu(norm(x) + residual)`, each part optional.
#[derive(Default, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Added before the ReLU; the shape of the input.
    pub residual: Option<&'a Tensor>,
    /// Whether negative results become 0.
    pub relu: bool,
}

/// Statistics of `x` `(…, C)` over all but the last dimension.
///
/// Refuses a single value per channel: its variance says nothing and its gradient is 0.
pub fn batch_stats(x: &Tensor) -> Result<BatchStats> {
    let channels = channels(x)?;
    let pixels = x.elem_count() / channels;
    if pixels < 2 {
        bail!("batch norm: expected at least 2 values per channel in training, got {pixels} (batch size 1 on 1x1 features)");
    }
    let (mean, squares) = read(x, |x| moments(x, channels))?;
    let variance = |count: usize| squares.iter().map(|s| (s / count as f64) as f32).collect::<Vec<f32>>();
    Ok(BatchStats {
        inv_std: squares.iter().map(|s| (1.0 / (s / pixels as f64 + EPSILON).sqrt()) as f32).collect(),
        mean: mean.iter().map(|&m| m as f32).collect(),
        unbiased_variance: variance(pixels - 1),
    })
}

/// `(x − mean) / std · weight + bias`, then the epilogue; a new tensor.
pub fn batch_norm(x: &Tensor, stats: &BatchStats, (weight, bias): (&Tensor, &Tensor), epilogue: Epilogue) -> Result<Tensor> {
    let affine = Affine::new(&stats.mean, &stats.inv_std, weight, bias)?;
    let out = tensor(scratch(x.elem_count()), x.shape());
    apply(Some(x), &out, &affine, epilogue)?;
    Ok(out)
}

/// The same with running statistics (eval mode), over `x` in place.
pub fn batch_norm_eval(x: &Tensor, running: (&Tensor, &Tensor), (weight, bias): (&Tensor, &Tensor), epilogue: Epilogue) -> Result<()> {
    let inv_std: Vec<f32> = running.1.to_vec1::<f32>()?.iter().map(|&v| (1.0 / (v as f64 + EPSILON).sqrt()) as f32).collect();
    apply(None, x, &Affine::new(&running.0.to_vec1::<f32>()?, &inv_std, weight, bias)?, epilogue)
}

/// Backward of [`batch_norm`]: `grad` is overwritten.
///
/// - `x`, `y`: input and output of the forward pass; `y` gates the gradient where `epilogue.relu`.
/// - With a residual, its gradient is `grad` gated, in `grad`'s own memory.
pub fn batch_norm_backward(
    grad: Tensor,
    (x, y): (&Tensor, &Tensor),
    stats: &BatchStats,
    weight: &Tensor,
    epilogue: Epilogue,
) -> Result<BatchNormGrads> {
    let channels = channels(x)?;
    let pixels = (x.elem_count() / channels) as f64;
    let keep = epilogue.residual.is_some();
    let (sum, dot) = write(&grad, |g| read(x, |x| read(y, |y| sums(g, x, y, stats, epilogue.relu, keep))))???;
    // dx = w/σ · (g − mean(g) − x̂ · mean(g · x̂)), written as a·g + b·(x − mean) + c.
    let (mut a, mut b, mut c) = (vec![0f32; channels], vec![0f32; channels], vec![0f32; channels]);
    let weights = weight.to_vec1::<f32>()?;
    for i in 0..channels {
        let scale = weights[i] as f64 * stats.inv_std[i] as f64;
        let slope = -scale * stats.inv_std[i] as f64 * dot[i] / pixels;
        (a[i], b[i]) = (scale as f32, slope as f32);
        c[i] = (-scale * sum[i] / pixels) as f32;
    }
    let input = if keep { tensor(scratch(x.elem_count()), x.shape()) } else { grad.clone() };
    let gate = epilogue.relu && !keep;
    write(&input, |out| {
        let out = SharedMut(out.as_mut_ptr());
        let terms = Terms { a: &a, b: &b, c: &c, mean: &stats.mean };
        let from = |g: *const f32| read(x, |x| read(y, |y| input_grad(g, x, y, &terms, gate, out)));
        if keep {
            read(&grad, |g| from(g.as_ptr()))?
        } else {
            from(out.get())
        }
    })???;
    let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect();
    Ok(BatchNormGrads { input, residual: keep.then_some(grad), weight: narrow(&dot), bias: narrow(&sum) })
}

fn channels(x: &Tensor) -> Result<usize> {
    if !matches!(x.device(), Device::Cpu) {
        bail!("batch norm: no implementation for device {:?}", x.device().location());
    }
    Ok(x.dim(candle_core::D::Minus1)?)
}

/// `(x − mean) · scale + bias` per channel; the mean goes first, since `x` may be small against it.
struct Affine {
    mean: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Affine {
    fn new(mean: &[f32], inv_std: &[f32], weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let scale = read(weight, |w| w.iter().zip(inv_std).map(|(w, s)| w * s).collect())?;
        Ok(Self { mean: mean.to_vec(), scale, bias: bias.to_vec1()? })
    }
}

/// Pixels of a block: fixed by the shape, so that sums have one order for any number of threads.
fn block_pixels(channels: usize) -> usize {
    (BLOCK_VALUES / channels).max(1)
}

/// Mean and sum of squared deviations of each channel: per block in f32, joined in f64 (Chan, Golub, LeVeque 1979).
fn moments(x: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
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

/// Runs `$body` for vectors of `S` over `0..$channels`, then for the values that are left, one at a time.
macro_rules! over_channels {
    ($s:ident, $channels:expr, $c:ident, $function:ident($($arg:expr),*)) => {{
        let mut $c = 0;
        while $c + $s::LANES <= $channels {
            $function::<$s>($($arg),*);
            $c += $s::LANES;
        }
        while $c < $channels {
            $function::<One>($($arg),*);
            $c += 1;
        }
    }};
}

#[inline(always)]
unsafe fn moments_block<S: Simd>(x: *const f32, pixels: usize, channels: usize, mean: *mut f32, squares: *mut f32) {
    // SAFETY: the caller gives pixels · channels values and `channels` results of each kind.
    unsafe { over_channels!(S, channels, c, moments_column(x.add(c), pixels, channels, mean.add(c), squares.add(c))) }
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
fn apply(x: Option<&Tensor>, out: &Tensor, affine: &Affine, epilogue: Epilogue) -> Result<()> {
    let channels = channels(out)?;
    if affine.scale.len() != channels {
        bail!("batch norm: expected {channels} channels, got weights for {}", affine.scale.len());
    }
    let run = |out: &mut [f32], x: *const f32, residual: *const f32| {
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
            let job = &job;
            // SAFETY: as above.
            unsafe { dispatch!(apply_block(job: &Apply)) };
        });
    };
    write(out, |out| {
        let own = out.as_ptr();
        let with_x = |x: *const f32, out: &mut [f32]| match epilogue.residual {
            Some(residual) => read(residual, |r| run(out, x, r.as_ptr())),
            None => Ok(run(out, x, std::ptr::null())),
        };
        match x {
            Some(x) => read(x, |x| with_x(x.as_ptr(), out))?,
            None => with_x(own, out),
        }
    })?
}

struct Apply<'a> {
    x: *const f32,
    residual: *const f32,
    out: *mut f32,
    pixels: usize,
    affine: &'a Affine,
    relu: bool,
}

#[inline(always)]
unsafe fn apply_block<S: Simd>(job: &Apply) {
    let channels = job.affine.scale.len();
    for p in 0..job.pixels {
        // SAFETY: pixel `p` has `channels` values in each buffer.
        unsafe { over_channels!(S, channels, c, apply_at(job, p * channels, c)) }
    }
}

#[inline(always)]
unsafe fn apply_at<S: Simd>(job: &Apply, row: usize, c: usize) {
    // SAFETY: as in `apply_block`.
    unsafe {
        let affine = job.affine;
        let centred = S::sub(S::load(job.x.add(row + c)), S::load(affine.mean.as_ptr().add(c)));
        let mut y = S::mul_add(centred, S::load(affine.scale.as_ptr().add(c)), S::load(affine.bias.as_ptr().add(c)));
        if !job.residual.is_null() {
            y = S::add(y, S::load(job.residual.add(row + c)));
        }
        if job.relu {
            y = S::max(S::splat(0.0), y);
        }
        S::store(job.out.add(row + c), y);
    }
}

/// Per channel, Σ g and Σ g · x̂ with g gated by the ReLU; with `keep`, the gated gradient is written back.
fn sums(grad: &mut [f32], x: &[f32], y: &[f32], stats: &BatchStats, relu: bool, keep: bool) -> (Vec<f64>, Vec<f64>) {
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
        let job = &job;
        // SAFETY: as above.
        unsafe { dispatch!(sums_block(job: &Sums)) };
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

struct Sums<'a> {
    grad: *mut f32,
    x: *const f32,
    y: *const f32,
    pixels: usize,
    stats: &'a BatchStats,
    relu: bool,
    keep: bool,
    out: *mut f32,
}

#[inline(always)]
unsafe fn sums_block<S: Simd>(job: &Sums) {
    let channels = job.stats.mean.len();
    // SAFETY: every buffer of the job has pixels · channels values, `out` has 2 · channels.
    unsafe { over_channels!(S, channels, c, sums_column(job, channels, c)) }
}

#[inline(always)]
unsafe fn sums_column<S: Simd>(job: &Sums, channels: usize, c: usize) {
    // SAFETY: as in `sums_block`.
    unsafe {
        let (mean, inv_std) = (S::load(job.stats.mean.as_ptr().add(c)), S::load(job.stats.inv_std.as_ptr().add(c)));
        let (mut sum, mut dot) = ([S::splat(0.0); 2], [S::splat(0.0); 2]);
        for p in 0..job.pixels {
            let at = p * channels + c;
            let mut g = S::load(job.grad.add(at));
            if job.relu {
                g = S::where_positive(S::load(job.y.add(at)), g);
            }
            if job.keep {
                S::store(job.grad.add(at), g);
            }
            sum[p % 2] = S::add(sum[p % 2], g);
            dot[p % 2] = S::mul_add(g, S::sub(S::load(job.x.add(at)), mean), dot[p % 2]);
        }
        S::store(job.out.add(c), S::add(sum[0], sum[1]));
        S::store(job.out.add(channels + c), S::mul(S::add(dot[0], dot[1]), inv_std));
    }
}

struct Terms<'a> {
    a: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    mean: &'a [f32],
}

/// `out = a · g + b · (x − mean) + c`, with g gated by `y > 0` where `gate`; `out` may be `grad` itself.
fn input_grad(grad: *const f32, x: &[f32], y: &[f32], terms: &Terms, gate: bool, out: SharedMut) {
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
        let job = &job;
        // SAFETY: as above.
        unsafe { dispatch!(input_grad_block(job: &InputGrad)) };
    });
}

struct InputGrad<'a> {
    grad: *const f32,
    x: *const f32,
    y: *const f32,
    out: *mut f32,
    pixels: usize,
    terms: &'a Terms<'a>,
    gate: bool,
}

#[inline(always)]
unsafe fn input_grad_block<S: Simd>(job: &InputGrad) {
    let channels = job.terms.a.len();
    for p in 0..job.pixels {
        // SAFETY: pixel `p` has `channels` values in each buffer.
        unsafe { over_channels!(S, channels, c, input_grad_at(job, p * channels, c)) }
    }
}

#[inline(always)]
unsafe fn input_grad_at<S: Simd>(job: &InputGrad, row: usize, c: usize) {
    // SAFETY: as in `input_grad_block`.
    unsafe {
        let mut g = S::load(job.grad.add(row + c));
        if job.gate {
            g = S::where_positive(S::load(job.y.add(row + c)), g);
        }
        let terms = job.terms;
        let centred = S::sub(S::load(job.x.add(row + c)), S::load(terms.mean.as_ptr().add(c)));
        let offset = S::mul_add(centred, S::load(terms.b.as_ptr().add(c)), S::load(terms.c.as_ptr().add(c)));
        S::store(job.out.add(row + c), S::mul_add(g, S::load(terms.a.as_ptr().add(c)), offset));
    }
}
