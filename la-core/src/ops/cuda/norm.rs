//! Batch norm on the GPU, fused with the residual sum and the ReLU.

use super::{
    context::timed,
    launch::{arg, device, empty, Arg, Launch},
};
use crate::{
    ops::batch_norm::{BatchNormGrads, Epilogue, EPSILON},
    Result,
};
use candle_core::{cuda_backend::CudaDevice, DType, Tensor};

/// Channels that a block of a sum takes.
const CHANNELS: usize = 32;
/// Blocks that share the pixels of a sum, about: enough to fill the largest GPUs a few times.
const BLOCKS: usize = 1024;
/// Pixels that one block takes at least.
const MIN_RUN: usize = 64;

/// How a sum over pixels is cut.
struct Cut {
    pixels: usize,
    channels: usize,
    run: usize,
    runs: usize,
}

impl Cut {
    fn of(x: &Tensor) -> Result<Self> {
        let channels = x.dim(candle_core::D::Minus1)?;
        let pixels = x.elem_count() / channels;
        let wanted = BLOCKS.div_ceil(channels.div_ceil(CHANNELS));
        let run = pixels.div_ceil(wanted).max(MIN_RUN);
        Ok(Self { pixels, channels, run, runs: pixels.div_ceil(run) })
    }

    fn grid(&self) -> (usize, usize) {
        (self.channels.div_ceil(CHANNELS), self.runs)
    }

    fn partials(&self, gpu: &CudaDevice) -> Result<Tensor> {
        empty(gpu, (2, self.runs, self.channels), DType::F32)
    }
}

/// Mean, inverse standard deviation and unbiased variance `(3, C)` of `x` `(…, C)`.
pub(crate) fn stats(x: &Tensor) -> Result<Tensor> {
    let (gpu, cut) = (device(x)?, Cut::of(x)?);
    let Cut { pixels, channels, run, runs } = cut;
    let (partials, stats) = (cut.partials(&gpu)?, empty(&gpu, (3, channels), DType::F32)?);
    timed(&gpu, "batch norm", || {
        let args = [arg(x)?, arg(&partials)?, Arg::long(pixels), Arg::int(channels), Arg::long(run)];
        Launch::grid("norm_moments", cut.grid()).of(x.dtype()).run(&gpu, &args)?;
        let sizes = [Arg::long(pixels), Arg::int(channels), Arg::int(runs), Arg::F64(EPSILON)];
        let args: Vec<Arg> = [arg(&partials)?, arg(x)?, arg(&stats)?].into_iter().chain(sizes).collect();
        Launch::each("norm_stats", channels).of(x.dtype()).run(&gpu, &args)
    })?;
    Ok(stats)
}

/// Moves running mean and variance towards those of `stats`.
pub(crate) fn move_running(stats: &Tensor, (mean, variance): (&Tensor, &Tensor), momentum: f32) -> Result<()> {
    let (gpu, channels) = (device(stats)?, mean.elem_count());
    let args = [arg(stats)?, arg(mean)?, arg(variance)?, Arg::int(channels), Arg::F32(momentum)];
    timed(&gpu, "batch norm", || Launch::each("norm_running", channels).run(&gpu, &args))
}

/// `stats` `(3, C)` of running statistics.
pub(crate) fn running_stats((mean, variance): (&Tensor, &Tensor)) -> Result<Tensor> {
    let (gpu, channels) = (device(mean)?, mean.elem_count());
    let stats = empty(&gpu, (3, channels), DType::F32)?;
    let args = [arg(mean)?, arg(variance)?, arg(&stats)?, Arg::int(channels), Arg::F64(EPSILON)];
    Launch::each("norm_from_running", channels).run(&gpu, &args)?;
    Ok(stats)
}

/// The normalised `x`, in a new tensor or in its own memory where `in_place`.
pub(crate) fn apply(x: &Tensor, stats: &Tensor, (weight, bias): (&Tensor, &Tensor), epilogue: Epilogue, in_place: bool) -> Result<Tensor> {
    let (gpu, n, channels) = (device(x)?, x.elem_count(), weight.elem_count());
    let out = if in_place { x.clone() } else { empty(&gpu, x.shape(), x.dtype())? };
    let operands = [arg(x)?, arg(&out)?, Arg::maybe(epilogue.residual)?, arg(stats)?, arg(weight)?, arg(bias)?];
    let args: Vec<Arg> = operands.into_iter().chain([Arg::long(n), Arg::int(channels), Arg::flag(epilogue.relu)]).collect();
    timed(&gpu, "batch norm", || Launch::over("norm_apply", n.div_ceil(4)).of(x.dtype()).run(&gpu, &args))?;
    Ok(out)
}

/// Every gradient of a batch norm; `grad` is overwritten.
pub(crate) fn backward(
    grad: Tensor,
    (x, y): (&Tensor, &Tensor),
    stats: &Tensor,
    weight: &Tensor,
    epilogue: Epilogue,
) -> Result<BatchNormGrads> {
    let (gpu, cut, n) = (device(x)?, Cut::of(x)?, x.elem_count());
    let Cut { pixels, channels, run, runs } = cut;
    let vector = || empty(&gpu, channels, DType::F32);
    let (partials, terms) = (cut.partials(&gpu)?, empty(&gpu, (3, channels), DType::F32)?);
    let (grad_weight, grad_bias) = (vector()?, vector()?);
    let keep = epilogue.residual.is_some();
    let input = if keep { empty(&gpu, x.shape(), x.dtype())? } else { grad.clone() };
    timed(&gpu, "batch norm", || {
        let operands = [arg(&grad)?, arg(x)?, arg(y)?, arg(stats)?, arg(&partials)?];
        let sizes = [Arg::long(pixels), Arg::int(channels), Arg::long(run), Arg::flag(epilogue.relu), Arg::flag(keep)];
        let args: Vec<Arg> = operands.into_iter().chain(sizes).collect();
        Launch::grid("norm_sums", cut.grid()).of(x.dtype()).run(&gpu, &args)?;
        let operands = [arg(&partials)?, arg(stats)?, arg(weight)?, arg(&grad_weight)?, arg(&grad_bias)?, arg(&terms)?];
        let args: Vec<Arg> = operands.into_iter().chain([Arg::long(pixels), Arg::int(channels), Arg::int(runs)]).collect();
        Launch::each("norm_terms", channels).run(&gpu, &args)?;
        let operands = [arg(&grad)?, arg(x)?, arg(y)?, arg(stats)?, arg(&terms)?, arg(&input)?];
        let gate = Arg::flag(epilogue.relu && !keep);
        let args: Vec<Arg> = operands.into_iter().chain([Arg::long(n), Arg::int(channels), gate]).collect();
        Launch::over("norm_input", n.div_ceil(4)).of(x.dtype()).run(&gpu, &args)
    })?;
    Ok(BatchNormGrads { input, residual: keep.then_some(grad), weight: grad_weight, bias: grad_bias })
}
