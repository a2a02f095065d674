//! Rows brought to unit length, and the gradient through that.

use super::{device::on_gpu, gradients::refuse_tracked, host, parallel, row_sums::dot};
use crate::{error::bail, Result};
use candle_core::Tensor;

/// Rows that one piece of work normalises.
const BLOCK: usize = 256;

/// The shortest length that a row is divided by.
const MIN_NORM: f32 = 1e-12;

/// Rows of unit length: `x / max(|x|, 1e-12)`.
///
/// - `x` `(B, D)` f32.
///
/// Gives the unit rows `(B, D)` and the norms `(B,)`, which [`normalize_backward`] needs. Fails where a row is empty, or `x` tracks gradients
/// ([`crate::autograd::normalize`] carries them).
pub fn normalize(x: &Tensor) -> Result<(Tensor, Tensor)> {
    refuse_tracked(x, "normalize")?;
    let (n, dim) = x.dims2()?;
    if dim == 0 {
        bail!("rows to normalise must have at least one value, got shape ({n}, {dim})");
    }
    let x = x.contiguous()?;
    on_gpu!(x, super::cuda::rows::normalize(&x));
    let mut unit = host::read(&x, <[f32]>::to_vec)?;
    let mut norms = vec![0.0; n];
    host::read(&x, |x| {
        parallel::for_each_chunk(&mut norms, BLOCK, |block, norms| {
            let rows = x[block * BLOCK * dim..].chunks_exact(dim);
            norms.iter_mut().zip(rows).for_each(|(norm, row)| *norm = dot(row, row).sqrt());
        })
    })?;
    parallel::for_each_chunk(&mut unit, BLOCK * dim, |block, unit| {
        for (row, &norm) in unit.chunks_exact_mut(dim).zip(&norms[block * BLOCK..]) {
            scale_row(row, norm);
        }
    });
    Ok((host::tensor(unit, (n, dim)), host::tensor(norms, n)))
}

/// Divides `row` by its `norm`, or by the least allowed one.
pub(crate) fn scale_row(row: &mut [f32], norm: f32) {
    // `max` would turn NaN into a number and hide it.
    let divisor = if norm < MIN_NORM { MIN_NORM } else { norm };
    row.iter_mut().for_each(|value| *value /= divisor);
}

/// The gradient by `x` of a function of `x / |x|`: `(g - (g · u) u) / |x|`.
///
/// - `unit` `(B, D)` and `norms` `(B,)`: what [`normalize`] gave.
/// - `grad` `(B, D)`: the gradient by the unit rows.
pub fn normalize_backward(unit: &Tensor, norms: &Tensor, grad: &Tensor) -> Result<Tensor> {
    refuse_tracked(grad, "normalize_backward")?;
    let (n, dim) = unit.dims2()?;
    if grad.dims() != [n, dim] || norms.dims() != [n] {
        bail!("gradient and norms must have shapes ({n}, {dim}) and ({n}), got {:?} and {:?}", grad.dims(), norms.dims());
    }
    on_gpu!(grad, super::cuda::rows::normalize_backward(unit, norms, &grad.contiguous()?));
    let norms = norms.to_vec1::<f32>()?;
    let mut out = host::read(&grad.contiguous()?, <[f32]>::to_vec)?;
    host::read(&unit.contiguous()?, |unit| {
        for ((grad, unit), &norm) in out.chunks_exact_mut(dim).zip(unit.chunks_exact(dim)).zip(&norms) {
            let along = dot(grad, unit);
            grad.iter_mut().zip(unit).for_each(|(g, u)| *g -= along * u);
            scale_row(grad, norm);
        }
    })?;
    Ok(host::tensor(out, (n, dim)))
}
