//! The mean of two views.

use super::device::on_gpu;
use crate::Result;
use candle_core::Tensor;

/// `(a + b) / 2`, of one shape.
pub(crate) fn half_sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    on_gpu!(a, super::cuda::rows::scaled_sum(a, b, 0.5));
    Ok(((a + b)? * 0.5)?)
}
