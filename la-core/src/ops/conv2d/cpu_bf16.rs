//! Convolution of bf16 on the CPU: tensors to values.

use super::{Conv2d, Shape};
use crate::{
    error::bail,
    ops::{
        batch_norm::{eval_affine, BatchStats, Epilogue},
        bf16::{self, Norm},
        gradients::refuse_tracked,
        host::{read, read_as, scratch_of, tensor, write, write_as},
    },
    Result,
};
use candle_core::Tensor;

/// Sums and sums of squares of each channel.
type Moments = (Vec<f64>, Vec<f64>);

/// The output, and its moments.
pub(super) fn forward(x: &Tensor, weight: &Tensor, shape: &Shape) -> Result<(Tensor, Moments)> {
    let mut out = scratch_of(shape.batch * shape.output.0 * shape.output.1 * shape.out_channels);
    let moments = read_as(x, |x| read(weight, |w| bf16::forward(x, w, shape, &mut out)))??;
    Ok((tensor(out, (shape.batch, shape.output.0, shape.output.1, shape.out_channels)), moments))
}

/// The output with the statistics of its values, as they were rounded.
pub(super) fn forward_stats(x: &Tensor, weight: &Tensor, conv: &Conv2d) -> Result<(Tensor, BatchStats)> {
    [x, weight].into_iter().try_for_each(|tensor| refuse_tracked(tensor, "conv2d"))?;
    let shape = Shape::new(x.dims4()?, weight, conv)?;
    let (out, (sums, squares)) = forward(x, weight, &shape)?;
    let stats = BatchStats::of_sums(&sums, &squares, shape.batch * shape.output.0 * shape.output.1)?;
    Ok((out, stats))
}

/// The output, normalised by running statistics `(mean, variance)` and batch norm's `(weight, bias)`, then the epilogue.
pub(super) fn forward_eval(
    x: &Tensor,
    weight: &Tensor,
    shape: &Shape,
    running: (&Tensor, &Tensor),
    norm: (&Tensor, &Tensor),
    epilogue: Epilogue,
) -> Result<Tensor> {
    let dims = (shape.batch, shape.output.0, shape.output.1, shape.out_channels);
    let (scale, shift) = eval_affine(running, norm)?;
    if scale.len() != dims.3 || epilogue.residual.is_some_and(|residual| residual.dims() != [dims.0, dims.1, dims.2, dims.3]) {
        bail!("batch norm: expected {} channels and a residual of shape {dims:?}", dims.3);
    }
    let mut out = scratch_of(dims.0 * dims.1 * dims.2 * dims.3);
    let mut run = |residual: Option<&[half::bf16]>| {
        let norm = Norm { scale: &scale, shift: &shift, residual, relu: epilogue.relu };
        read_as(x, |x| read(weight, |w| bf16::forward_eval(x, w, shape, &norm, &mut out)))?
    };
    match epilogue.residual {
        Some(residual) => read_as(residual, |residual| run(Some(residual)))??,
        None => run(None)?,
    }
    Ok(tensor(out, dims))
}

/// The gradient to the input, written over a new tensor or added to `add_to`.
pub(super) fn backward_input(grad: &Tensor, weight: &Tensor, shape: &Shape, add_to: Option<Tensor>) -> Result<Tensor> {
    let dims = (shape.batch, shape.input.0, shape.input.1, shape.channels);
    let is_added = add_to.is_some();
    let out = add_to.unwrap_or_else(|| tensor(scratch_of::<half::bf16>(dims.0 * dims.1 * dims.2 * dims.3), dims));
    write_as(&out, |out| read_as(grad, |g| read(weight, |w| bf16::backward_input(g, w, shape, out, is_added))))???;
    Ok(out)
}

/// The gradient to the weights, written over `out`.
pub(super) fn backward_weight(x: &Tensor, grad: &Tensor, shape: &Shape, out: &Tensor) -> Result<()> {
    write(out, |out| read_as(x, |x| read_as(grad, |g| bf16::backward_weight(x, g, shape, out))))???;
    Ok(())
}
