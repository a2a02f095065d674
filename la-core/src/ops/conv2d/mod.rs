//! 2-D convolution over `(B, H, W, C)` tensors: forward, and backward to the input and to the weights.
//!
//! candle's backward pass fails on strided non-square inputs and costs several forwards; these are explicit functions.

mod cpu;
#[cfg(target_arch = "x86_64")]
mod cpu_bf16;
mod kernel;
mod operands;
mod packed;
mod panels;
mod plan;
mod winograd;

pub use super::shape::Conv2d;
use super::shape::Shape;
use crate::{
    error::bail,
    ops::{
        batch_norm::{batch_norm_eval, batch_stats, BatchStats, Epilogue},
        device::{in_bf16, on_gpu},
        gradients::refuse_tracked,
        host::{read, scratch, tensor, write},
    },
    Result,
};
use candle_core::{Device, Tensor};
use cpu::{gather_all, outer_all};
use kernel::lanes;
use operands::Images;
pub use operands::{Finish, Values};
pub use packed::PackedConv2d;
use panels::Panels;
use plan::Plan;
use winograd::Tiling;

/// Convolution of `x` `(B, H, W, C)` with `weight` `(KH, KW, C, O)`, to `(B, H', W', O)`.
///
/// Fails where the channels differ, the kernel is larger than the padded image, or a tensor tracks gradients.
pub fn conv2d(x: &Tensor, weight: &Tensor, conv: &Conv2d) -> Result<Tensor> {
    [x, weight].into_iter().try_for_each(|tensor| refuse_tracked(tensor, "conv2d"))?;
    let shape = Shape::new(x.dims4()?, weight, conv)?;
    on_gpu!(x, super::cuda::conv::forward(x, weight, &shape));
    on_cpu(x)?;
    in_bf16!(x, cpu_bf16::forward(x, weight, &shape).map(|(out, _)| out));
    let mut out = scratch(shape.batch * shape.output.0 * shape.output.1 * shape.out_channels);
    read(x, |x| {
        read(weight, |w| {
            if let Some(tiling) =
                shape.winograd(shape.output, shape.input, shape.channels).filter(|t| t.tiles() * shape.channels >= EXACT_BELOW)
            {
                let points = winograd::transform_weights(Panels::forward(w, 9, shape.channels, shape.out_channels));
                return winograd::convolve(&tiling, Images { values: x, image: x.len() / shape.batch }, &points, &mut out, false, None);
            }
            let (rows, padded) = shape.merged(x);
            let panels = Panels::forward(w, rows.taps(), rows.channels, shape.out_channels);
            let input = Images { values: padded.as_deref().unwrap_or(x), image: rows.image };
            gather_all(&rows.plan, input, &panels, &mut out, false, None);
        })
    })??;
    Ok(tensor(out, (shape.batch, shape.output.0, shape.output.1, shape.out_channels)))
}

/// [`conv2d`] with the statistics of its output, as batch norm takes them.
///
/// Fails as [`conv2d`] and [`batch_stats`] do.
pub fn conv2d_stats(x: &Tensor, weight: &Tensor, conv: &Conv2d) -> Result<(Tensor, BatchStats)> {
    in_bf16!(x, cpu_bf16::forward_stats(x, weight, conv));
    let out = conv2d(x, weight, conv)?;
    let stats = batch_stats(&out)?;
    Ok((out, stats))
}

/// [`conv2d`], then batch norm with running statistics (eval mode) and its epilogue.
///
/// Fails as [`conv2d`] and [`batch_norm_eval`] do.
pub fn conv2d_eval(
    x: &Tensor,
    weight: &Tensor,
    conv: &Conv2d,
    running: (&Tensor, &Tensor),
    norm: (&Tensor, &Tensor),
    epilogue: Epilogue,
) -> Result<Tensor> {
    [x, weight].into_iter().try_for_each(|tensor| refuse_tracked(tensor, "conv2d"))?;
    in_bf16!(x, cpu_bf16::forward_eval(x, weight, &Shape::new(x.dims4()?, weight, conv)?, running, norm, epilogue));
    let y = conv2d(x, weight, conv)?;
    batch_norm_eval(&y, running, norm, epilogue)?;
    Ok(y)
}

/// Gradient to the input `(B, H, W, C)` of [`conv2d`], from the output's `grad` `(B, H', W', O)`.
///
/// With `add_to`, the gradient is added to that tensor in place: how a residual branch joins.
pub fn conv2d_backward_input(
    grad: &Tensor,
    weight: &Tensor,
    conv: &Conv2d,
    (height, width): (usize, usize),
    add_to: Option<Tensor>,
) -> Result<Tensor> {
    [grad, weight].into_iter().try_for_each(|tensor| refuse_tracked(tensor, "conv2d_backward_input"))?;
    let (_, _, channels, _) = weight.dims4()?;
    let (batch, ..) = grad.dims4()?;
    let shape = Shape::new((batch, height, width, channels), weight, conv)?;
    shape.check_grad(grad)?;
    let accumulate = add_to.is_some();
    let dims = (batch, height, width, channels);
    if let Some(out) = add_to.as_ref().filter(|out| out.dims() != [batch, height, width, channels]) {
        bail!("convolution backward: expected a tensor of shape {dims:?} to add to, got {:?}", out.dims());
    }
    on_gpu!(grad, super::cuda::conv::backward_input(grad, weight, &shape, add_to));
    on_cpu(grad)?;
    in_bf16!(grad, cpu_bf16::backward_input(grad, weight, &shape, add_to));
    let out = add_to.unwrap_or_else(|| tensor(scratch(batch * height * width * channels), dims));
    write(&out, |out| read(grad, |g| read(weight, |w| shape.gather_back(g, w, out, accumulate))))???;
    Ok(out)
}

/// Gradient to the weights `(KH, KW, C, O)` of [`conv2d`], written over `out`.
pub fn conv2d_backward_weight(x: &Tensor, grad: &Tensor, conv: &Conv2d, out: &Tensor) -> Result<()> {
    [x, grad].into_iter().try_for_each(|tensor| refuse_tracked(tensor, "conv2d_backward_weight"))?;
    let shape = Shape::new(x.dims4()?, out, conv)?;
    shape.check_grad(grad)?;
    on_gpu!(x, super::cuda::conv::backward_weight(x, grad, &shape, out));
    on_cpu(x)?;
    in_bf16!(x, cpu_bf16::backward_weight(x, grad, &shape, out));
    write(out, |out| {
        read(x, |x| {
            read(grad, |g| {
                let grads = Images { values: g, image: g.len() / shape.batch };
                if let Some(tiling) = shape.winograd_weight() {
                    let input = Images { values: x, image: x.len() / shape.batch };
                    return winograd::weight_gradient(&tiling, input, grads, shape.channels, out);
                }
                let (rows, padded) = shape.merged(x);
                let input = Images { values: padded.as_deref().unwrap_or(x), image: rows.image };
                outer_all(&rows.plan, input, grads, rows.channels, out);
            })
        })
    })???;
    Ok(())
}

fn on_cpu(x: &Tensor) -> Result<()> {
    match x.device() {
        Device::Cpu => Ok(()),
        other => bail!("convolution: no implementation for device {:?}", other.location()),
    }
}

/// Forward passes with fewer tiles times channels stay exact: Winograd's rounding (1e-5) may carry a value across a
/// ReLU's kink, and a small batch gains little.
const EXACT_BELOW: usize = 32 * 1024;

/// Fewer tiles than this do not repay the transformed weights.
const WINOGRAD_TILES: usize = 64;

/// A plan in which the taps of one kernel row may be merged into one run of values.
struct MergedRows {
    plan: Plan,
    channels: usize,
    image: usize,
}

impl MergedRows {
    fn taps(&self) -> usize {
        self.plan.taps.len()
    }
}

impl Shape {
    fn new(images: (usize, usize, usize, usize), weight: &Tensor, conv: &Conv2d) -> Result<Self> {
        let (kh, kw, c, out_channels) = weight.dims4()?;
        if (kh, kw) != conv.kernel || c != images.3 {
            bail!("convolution: expected weights ({}, {}, {}, O), got {:?}", conv.kernel.0, conv.kernel.1, images.3, weight.dims());
        }
        Self::of(images, out_channels, conv)
    }

    fn of((batch, height, width, channels): (usize, usize, usize, usize), out_channels: usize, conv: &Conv2d) -> Result<Self> {
        let (kh, kw) = conv.kernel;
        let Some(output) = conv.output_size((height, width)) else {
            bail!("convolution: a {kh}x{kw} kernel does not fit a {height}x{width} image with padding {}", conv.padding);
        };
        if batch == 0 {
            bail!("convolution: expected at least one image, got an empty batch");
        }
        // Offsets within an image are kept in 32 bits.
        let is_small = |(height, width): (usize, usize), channels: usize| height * width * channels <= i32::MAX as usize;
        if !is_small((height, width), channels) || !is_small(output, out_channels) {
            bail!("convolution: an image of {height}x{width} has more values in a layer than the 2^31 that are computed with; smaller images need fewer");
        }
        Ok(Self { conv: *conv, batch, input: (height, width), output, channels, out_channels })
    }

    /// The tiles of a 3×3 stride-1 convolution where Winograd pays: enough tiles, few wasted outputs, panels that fit caches.
    fn winograd(&self, output: (usize, usize), input: (usize, usize), channels: usize) -> Option<Tiling> {
        let tiling = Tiling { input, output, ..self.tiling() };
        let fits = self.conv.kernel == (3, 3) && self.conv.stride == 1 && self.conv.padding <= 2;
        let pays = (16..=winograd::MAX_CHANNELS).contains(&channels) && tiling.tiles() >= WINOGRAD_TILES && tiling.used() > 0.5;
        (fits && pays).then_some(tiling)
    }

    fn tiling(&self) -> Tiling {
        Tiling { batch: self.batch, input: self.input, output: self.output, padding: self.conv.padding }
    }

    /// The same for the weight gradient, whose tiles must fill whole vectors.
    fn winograd_weight(&self) -> Option<Tiling> {
        let whole = self.out_channels.is_multiple_of(lanes()) && self.out_channels <= winograd::MAX_CHANNELS;
        self.winograd(self.output, self.input, self.channels).filter(|_| whole)
    }

    fn check_grad(&self, grad: &Tensor) -> Result<()> {
        let expected = (self.batch, self.output.0, self.output.1, self.out_channels);
        match grad.dims4()? == expected {
            true => Ok(()),
            false => bail!("convolution backward: expected a gradient of shape {expected:?}, got {:?}", grad.dims()),
        }
    }

    /// The forward plan. With few input channels (the stem) a padded copy makes each kernel row one run of values.
    fn merged(&self, x: &[f32]) -> (MergedRows, Option<Vec<f32>>) {
        let (kh, kw) = self.conv.kernel;
        if !self.conv.merges_rows(self.channels) {
            let plan = Plan::forward(&self.conv, self.input, self.channels, self.out_channels);
            return (MergedRows { plan, channels: self.channels, image: self.input.0 * self.input.1 * self.channels }, None);
        }
        let (height, width) = (self.input.0 + 2 * self.conv.padding, self.input.1 + 2 * self.conv.padding);
        let mut plan =
            Plan::forward(&Conv2d { padding: 0, kernel: (kh, kw), ..self.conv }, (height, width), self.channels, self.out_channels);
        plan.inputs = plan.inputs.iter().step_by(kw).copied().collect();
        plan.taps = (0..kh).collect();
        (MergedRows { plan, channels: kw * self.channels, image: height * width * self.channels }, Some(self.pad(x, width, height)))
    }

    fn pad(&self, x: &[f32], width: usize, height: usize) -> Vec<f32> {
        let (row, padded_row) = (self.input.1 * self.channels, width * self.channels);
        let mut out = vec![0f32; self.batch * height * padded_row];
        for (i, from) in x.chunks_exact(row).enumerate() {
            let y = (i / self.input.0) * height + i % self.input.0 + self.conv.padding;
            let start = y * padded_row + self.conv.padding * self.channels;
            out[start..start + row].copy_from_slice(from);
        }
        out
    }

    /// Backward to the input, one residue class of pixels modulo the stride after another.
    fn gather_back(&self, grad: &[f32], weight: &[f32], out: &mut [f32], accumulate: bool) {
        let input = Images { values: grad, image: grad.len() / self.batch };
        if let Some(tiling) = self.winograd(self.input, self.output, self.out_channels) {
            let reversed: Vec<usize> = (0..9).rev().collect();
            let points = winograd::transform_weights(Panels::backward(weight, &reversed, self.out_channels, self.channels));
            let tiling = Tiling { padding: 2 - self.conv.padding, ..tiling };
            return winograd::convolve(&tiling, input, &points, out, accumulate, None);
        }
        for phase in (0..self.conv.stride).flat_map(|y| (0..self.conv.stride).map(move |x| (y, x))) {
            let plan = Plan::backward(&self.conv, self.input, self.channels, self.out_channels, phase);
            if plan.taps.is_empty() {
                if !accumulate {
                    self.zero(&plan, out);
                }
                continue;
            }
            let panels = Panels::backward(weight, &plan.taps, self.out_channels, self.channels);
            gather_all(&plan, input, &panels, out, accumulate, None);
        }
    }

    fn zero(&self, plan: &Plan, out: &mut [f32]) {
        let image = out.len() / self.batch;
        for image in out.chunks_exact_mut(image) {
            for &offset in &plan.outputs {
                image[offset as usize..][..self.channels].fill(0.0);
            }
        }
    }
}
