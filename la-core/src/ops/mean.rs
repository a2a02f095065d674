//! Sum and mean of two tensors of one shape.

use super::device::on_gpu;
use crate::Result;
use candle_core::Tensor;

/// `a + b`, of one shape.
pub(crate) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    on_gpu!(a, super::cuda::rows::scaled_sum(a, b, 1.0));
    Ok((a + b)?)
}

/// `(a + b) / 2`, of one shape.
#[cfg(feature = "train")]
pub(crate) fn half_sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    on_gpu!(a, super::cuda::rows::scaled_sum(a, b, 0.5));
    Ok(((a + b)? * 0.5)?)
}
