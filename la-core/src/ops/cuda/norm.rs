//! Batch norm on the GPU, fused with the residual sum and the ReLU.

use super::{
    arg::{arg, Arg},
    context::timed,
    launch::Launch,
    tensors::{device, empty},
};
use crate::{
    ops::batch_norm::epilogue::{Epilogue, EPSILON},
    Result,
};
use candle_core::{cuda_backend::CudaDevice, DType, Tensor};

/// Threads of a block, and values that one of them moves at once, where these divide the channels.
const THREADS: usize = 256;
const PACK: usize = 8;
/// Blocks that share the pixels: enough to fill the largest GPUs a few times.
const BLOCKS: usize = 512;
/// Pixels that a thread takes at least.
const PIXELS: usize = 4;
/// Channels that a block takes of what the runs hold, with this many threads.
const CHANNELS: usize = 32;
const FINISHERS: usize = 1024;

/// How `(pixels, channels)` are cut into blocks.
struct Cut {
    pixels: usize,
    channels: usize,
    /// Windows of channels.
    windows: usize,
    /// Pixels that a block has under way with one value or pack each thread.
    lanes: usize,
    /// Pixels that a block of a sum takes.
    run: usize,
    runs: usize,
}

impl Cut {
    fn of(x: &Tensor) -> Result<Self> {
        let channels = x.dim(candle_core::D::Minus1)?;
        let pixels = x.elem_count() / channels;
        let packs = channels / if channels.is_multiple_of(PACK) { PACK } else { 1 };
        let (windows, lanes) = (packs.div_ceil(THREADS), THREADS / packs.min(THREADS));
        let run = pixels.div_ceil(BLOCKS.div_ceil(windows)).max(PIXELS * lanes);
        Ok(Self { pixels, channels, windows, lanes, run, runs: pixels.div_ceil(run) })
    }

    /// A kernel that sums runs of pixels.
    fn sum(&self, name: &'static str, x: &Tensor) -> Launch {
        Launch::rows(name, (self.runs, self.windows), THREADS).of(x.dtype())
    }

    /// A kernel that adds the runs.
    fn finish(&self, name: &'static str) -> Launch {
        Launch::blocks(name, self.channels.div_ceil(CHANNELS), FINISHERS)
    }

    /// A kernel that takes each value by itself.
    fn each(&self, name: &'static str, x: &Tensor) -> Launch {
        let blocks = self.pixels.div_ceil(PIXELS * self.lanes).clamp(1, 4 * BLOCKS);
        Launch::rows(name, (blocks, self.windows), THREADS).of(x.dtype())
    }

    fn partials(&self, gpu: &CudaDevice) -> Result<Tensor> {
        empty(gpu, (2, self.runs, self.channels), DType::F32)
    }
}

/// Mean, inverse standard deviation and unbiased variance `(3, C)` of `x` `(…, C)`.
pub(crate) fn stats(x: &Tensor) -> Result<Tensor> {
    let (gpu, cut) = (device(x)?, Cut::of(x)?);
    let Cut { pixels, channels, run, runs, .. } = cut;
    let (partials, stats) = (cut.partials(&gpu)?, empty(&gpu, (3, channels), DType::F32)?);
    timed(&gpu, "batch norm", || {
        let args = [arg(x)?, arg(&partials)?, Arg::long(pixels), Arg::int(channels), Arg::long(run)];
        cut.sum("norm_moments", x).run(&gpu, &args)?;
        let sizes = [Arg::long(pixels), Arg::int(channels), Arg::int(runs), Arg::F64(EPSILON)];
        let args: Vec<Arg> = [arg(&partials)?, arg(x)?, arg(&stats)?].into_iter().chain(sizes).collect();
        cut.finish("norm_stats").of(x.dtype()).run(&gpu, &args)
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
    let (gpu, cut) = (device(x)?, Cut::of(x)?);
    let out = if in_place { x.clone() } else { empty(&gpu, x.shape(), x.dtype())? };
    let operands = [arg(x)?, arg(&out)?, Arg::maybe(epilogue.residual)?, arg(stats)?, arg(weight)?, arg(bias)?];
    let args: Vec<Arg> = operands.into_iter().chain([Arg::long(cut.pixels), Arg::int(cut.channels), Arg::flag(epilogue.relu)]).collect();
    timed(&gpu, "batch norm", || cut.each("norm_apply", x).run(&gpu, &args))?;
    Ok(out)
}

/// The gradients of a batch norm to its input and to the residual, and over `grad_weight` and `grad_bias`; `grad` is overwritten.
pub(crate) fn backward(
    grad: Tensor,
    (x, y): (&Tensor, &Tensor),
    stats: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    epilogue: Epilogue,
    (grad_weight, grad_bias): (&Tensor, &Tensor),
) -> Result<(Tensor, Option<Tensor>)> {
    let (gpu, cut) = (device(x)?, Cut::of(x)?);
    let Cut { pixels, channels, run, runs, .. } = cut;
    let (partials, terms) = (cut.partials(&gpu)?, empty(&gpu, (2, channels), DType::F32)?);
    let keep = epilogue.residual.is_some();
    let input = if keep { empty(&gpu, x.shape(), x.dtype())? } else { grad.clone() };
    let affine = || Ok::<_, crate::Error>([arg(stats)?, arg(weight)?, arg(bias)?]);
    timed(&gpu, "batch norm", || {
        // Without a residual x says where the ReLU let through, and y need not be read.
        let operands = [arg(&grad)?, arg(x)?, Arg::maybe((keep && epilogue.relu).then_some(y))?];
        let sizes = [arg(&partials)?, Arg::long(pixels), Arg::int(channels), Arg::long(run), Arg::flag(epilogue.relu)];
        let args: Vec<Arg> = operands.into_iter().chain(affine()?).chain(sizes).collect();
        cut.sum("norm_sums", x).run(&gpu, &args)?;
        let operands = [arg(&partials)?, arg(stats)?, arg(weight)?, arg(grad_weight)?, arg(grad_bias)?, arg(&terms)?];
        let args: Vec<Arg> = operands.into_iter().chain([Arg::long(pixels), Arg::int(channels), Arg::int(runs)]).collect();
        cut.finish("norm_terms").run(&gpu, &args)?;
        let operands = [arg(&grad)?, arg(x)?].into_iter().chain(affine()?);
        let sizes = [arg(&terms)?, arg(&input)?, Arg::long(pixels), Arg::int(channels), Arg::flag(epilogue.relu && !keep)];
        let args: Vec<Arg> = operands.chain(sizes).collect();
        cut.each("norm_input", x).run(&gpu, &args)
    })?;
    Ok((input, keep.then_some(grad)))
}
