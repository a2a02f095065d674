//! Batch normalisation over `(…, C)` tensors, fused with the residual sum and the ReLU that follow it in a ResNet.
//!
//! Ioffe, Szegedy 2015, <https://arxiv.org/abs/1502.03167>; statistics as torchvision keeps them (eps 1e-5, unbiased running variance).

pub(crate) mod epilogue;
mod kernels;

use super::{
    device::on_gpu,
    gradients::refuse_tracked,
    host::{by_type, read, read_as, scratch_of, tensor, write, write_as},
    parallel::SharedMut,
};
use crate::{error::bail, Result};
use candle_core::{Device, Tensor};
pub use epilogue::{Epilogue, EPSILON};
use kernels::{apply, input_grad, moments, sums, Terms, Value};

/// Mean and inverse standard deviation of each channel over a batch.
#[derive(Debug, Clone)]
pub struct BatchStats(Kept);

/// Where the statistics are.
#[derive(Debug, Clone)]
enum Kept {
    Host(HostStats),
    /// `(3, C)`: mean, inverse standard deviation, unbiased variance.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    Gpu(Tensor),
}

/// `C` values each.
#[derive(Debug, Clone)]
struct HostStats {
    mean: Vec<f32>,
    /// What the running variance is moved by.
    unbiased_variance: Vec<f32>,
    inv_std: Vec<f32>,
}

/// Statistics of `x` `(…, C)` over all but the last dimension.
///
/// Refuses a single value per channel: its variance says nothing and its gradient is 0; and a tensor that tracks gradients.
pub fn batch_stats(x: &Tensor) -> Result<BatchStats> {
    refuse_tracked(x, "batch_stats")?;
    let channels = channels(x)?;
    let pixels = x.elem_count() / channels;
    check_pixels(pixels)?;
    on_gpu!(x, Ok(BatchStats(Kept::Gpu(super::cuda::norm::stats(x)?))));
    let (mean, squares) = read(x, |x| moments(x, channels))?;
    Ok(BatchStats::of_moments(&mean, &squares, pixels))
}

fn check_pixels(pixels: usize) -> Result<()> {
    if pixels < 2 {
        bail!("batch norm: expected at least 2 values per channel in training, got {pixels} (batch size 1 on 1x1 features)");
    }
    Ok(())
}

impl BatchStats {
    /// From each channel's sum and sum of squares over `pixels` values: exact enough where the values are bf16, whose own
    /// rounding is larger. Refuses a single value per channel.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn of_sums(sums: &[f64], squares: &[f64], pixels: usize) -> Result<Self> {
        check_pixels(pixels)?;
        let mean: Vec<f64> = sums.iter().map(|sum| sum / pixels as f64).collect();
        // `max` would turn NaN into 0 and hide it.
        let deviation = |(square, mean): (&f64, &f64)| square - mean * mean * pixels as f64;
        let deviations = squares.iter().zip(&mean).map(deviation).map(|s| if s < 0.0 { 0.0 } else { s });
        Ok(Self::of_moments(&mean, &deviations.collect::<Vec<_>>(), pixels))
    }

    /// From each channel's mean and sum of squared deviations.
    fn of_moments(mean: &[f64], squares: &[f64], pixels: usize) -> Self {
        Self(Kept::Host(HostStats {
            inv_std: squares.iter().map(|s| (1.0 / (s / pixels as f64 + EPSILON).sqrt()) as f32).collect(),
            mean: mean.iter().map(|&m| m as f32).collect(),
            unbiased_variance: squares.iter().map(|s| (s / (pixels - 1) as f64) as f32).collect(),
        }))
    }

    /// Moves the running `mean` and `variance` `(C,)` by `momentum` towards this batch's, in place.
    pub fn move_running(&self, (mean, variance): (&Tensor, &Tensor), momentum: f32) -> Result<()> {
        match &self.0 {
            Kept::Host(stats) => {
                move_towards(mean, &stats.mean, momentum)?;
                move_towards(variance, &stats.unbiased_variance, momentum)
            }
            Kept::Gpu(_stats) => {
                on_gpu!(mean, super::cuda::norm::move_running(_stats, (mean, variance), momentum));
                bail!("batch norm: statistics on a GPU, running ones on {:?}", mean.device().location())
            }
        }
    }

    /// The statistics in this process's memory.
    fn host(&self) -> Result<&HostStats> {
        match &self.0 {
            Kept::Host(stats) => Ok(stats),
            Kept::Gpu(stats) => bail!("batch norm: statistics on {:?}, input on the CPU", stats.device().location()),
        }
    }
}

fn move_towards(running: &Tensor, new: &[f32], momentum: f32) -> Result<()> {
    write(running, |running| {
        running.iter_mut().zip(new).for_each(|(r, n)| *r += momentum * (n - *r));
    })
}

/// `(x − mean) / std · weight + bias`, then the epilogue; a new tensor. Fails where a tensor tracks gradients.
pub fn batch_norm(x: &Tensor, stats: &BatchStats, (weight, bias): (&Tensor, &Tensor), epilogue: Epilogue) -> Result<Tensor> {
    [x, weight, bias].into_iter().chain(epilogue.residual).try_for_each(|tensor| refuse_tracked(tensor, "batch_norm"))?;
    #[cfg(feature = "cuda")]
    if let Kept::Gpu(stats) = &stats.0 {
        return super::cuda::norm::apply(x, stats, (weight, bias), epilogue, false);
    }
    let stats = stats.host()?;
    let affine = Affine::new(&stats.mean, &stats.inv_std, weight, bias)?;
    by_type!(x, E => normalized::<E>(x, &affine, epilogue))
}

fn normalized<E: Value>(x: &Tensor, affine: &Affine, epilogue: Epilogue) -> Result<Tensor> {
    let out = tensor(scratch_of::<E>(x.elem_count()), x.shape());
    apply::<E>(Some(x), &out, affine, epilogue)?;
    Ok(out)
}

/// The same with running statistics (eval mode), over `x` in place. Fails where a tensor tracks gradients.
pub fn batch_norm_eval(x: &Tensor, running: (&Tensor, &Tensor), (weight, bias): (&Tensor, &Tensor), epilogue: Epilogue) -> Result<()> {
    [x, weight, bias].into_iter().chain(epilogue.residual).try_for_each(|tensor| refuse_tracked(tensor, "batch_norm_eval"))?;
    on_gpu!(x, super::cuda::norm::apply(x, &super::cuda::norm::running_stats(running)?, (weight, bias), epilogue, true).map(drop));
    let inv_std: Vec<f32> = running.1.to_vec1::<f32>()?.iter().map(|&v| (1.0 / (v as f64 + EPSILON).sqrt()) as f32).collect();
    let affine = Affine::new(&running.0.to_vec1::<f32>()?, &inv_std, weight, bias)?;
    by_type!(x, E => apply::<E>(None, x, &affine, epilogue))
}

/// Running statistics, weight and bias as one factor and one summand for each channel.
#[cfg(target_arch = "x86_64")]
pub(crate) fn eval_affine((mean, var): (&Tensor, &Tensor), (weight, bias): (&Tensor, &Tensor)) -> Result<(Vec<f32>, Vec<f32>)> {
    let [mean, var, weight, bias] = [mean, var, weight, bias].map(Tensor::to_vec1::<f32>);
    let (mean, var, weight, bias) = (mean?, var?, weight?, bias?);
    let scale: Vec<f32> = weight.iter().zip(var).map(|(w, v)| (f64::from(*w) / (f64::from(v) + EPSILON).sqrt()) as f32).collect();
    let shift = scale.iter().zip(mean).zip(bias).map(|((s, m), b)| b - m * s).collect();
    Ok((scale, shift))
}

/// Backward of [`batch_norm`] in training mode: the gradients to the input and, if one was added, to the residual.
///
/// - `grad` is overwritten; `x`, `y`: input and output of the forward pass; `y` gates the gradient where `epilogue.relu`.
/// - With a residual, its gradient is `grad` gated, in `grad`'s own memory.
/// - `into`: weight's and bias's gradients `(C,)`, written over.
pub fn batch_norm_backward(
    grad: Tensor,
    (x, y): (&Tensor, &Tensor),
    stats: &BatchStats,
    (weight, _bias): (&Tensor, &Tensor),
    epilogue: Epilogue,
    into: (&Tensor, &Tensor),
) -> Result<(Tensor, Option<Tensor>)> {
    #[cfg(feature = "cuda")]
    if let Kept::Gpu(stats) = &stats.0 {
        return super::cuda::norm::backward(grad, (x, y), stats, (weight, _bias), epilogue, into);
    }
    by_type!(x, E => backward::<E>(grad, (x, y), stats.host()?, weight, epilogue, into))
}

fn backward<E: Value>(
    grad: Tensor,
    (x, y): (&Tensor, &Tensor),
    stats: &HostStats,
    weight: &Tensor,
    epilogue: Epilogue,
    into: (&Tensor, &Tensor),
) -> Result<(Tensor, Option<Tensor>)> {
    let channels = channels(x)?;
    let pixels = (x.elem_count() / channels) as f64;
    let keep = epilogue.residual.is_some();
    let (sum, dot) = write_as(&grad, |g: &mut [E]| read_as(x, |x| read_as(y, |y| sums(g, x, y, stats, epilogue.relu, keep))))???;
    // dx = w/σ · (g − mean(g) − x̂ · mean(g · x̂)), written as a·g + b·(x − mean) + c.
    let (mut a, mut b, mut c) = (vec![0f32; channels], vec![0f32; channels], vec![0f32; channels]);
    let weights = weight.to_vec1::<f32>()?;
    for i in 0..channels {
        let scale = weights[i] as f64 * stats.inv_std[i] as f64;
        let slope = -scale * stats.inv_std[i] as f64 * dot[i] / pixels;
        (a[i], b[i]) = (scale as f32, slope as f32);
        c[i] = (-scale * sum[i] / pixels) as f32;
    }
    let input = if keep { tensor(scratch_of::<E>(x.elem_count()), x.shape()) } else { grad.clone() };
    let gate = epilogue.relu && !keep;
    write_as(&input, |out: &mut [E]| {
        let out = SharedMut(out.as_mut_ptr());
        let terms = Terms { a: &a, b: &b, c: &c, mean: &stats.mean };
        let from = |g: *const E| read_as(x, |x| read_as(y, |y| input_grad(g, x, y, &terms, gate, out)));
        if keep {
            read_as(&grad, |g: &[E]| from(g.as_ptr()))?
        } else {
            from(out.get())
        }
    })???;
    let narrow = |to: &Tensor, from: &[f64]| write(to, |to| to.iter_mut().zip(from).for_each(|(to, &from)| *to = from as f32));
    narrow(into.0, &dot)?;
    narrow(into.1, &sum)?;
    Ok((input, keep.then_some(grad)))
}

fn channels(x: &Tensor) -> Result<usize> {
    if !matches!(x.device(), Device::Cpu | Device::Cuda(_)) {
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
