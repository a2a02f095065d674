//! The bias of a fully connected layer, and its gradient.

use super::{
    device::on_gpu,
    host::{read, write},
};
use crate::Result;
use candle_core::Tensor;

/// Adds `bias` `(O,)` to each row of `y` `(…, O)`, in place.
pub(crate) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
    on_gpu!(y, super::cuda::rows::add_bias(y, bias));
    let bias = bias.to_vec1::<f32>()?;
    write(y, |y| {
        y.chunks_exact_mut(bias.len()).for_each(|row| row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b));
    })
}

/// The gradient to the bias, written over `out` `(columns,)`: the sum over rows of `grad` `(…, columns)`.
pub(crate) fn sum_rows(grad: &Tensor, out: &Tensor) -> Result<()> {
    on_gpu!(grad, super::cuda::rows::sum_rows(grad, out));
    let columns = out.elem_count();
    let sums = read(grad, |g| {
        let mut sums = vec![0f64; columns];
        g.chunks_exact(columns).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, g)| *s += *g as f64));
        sums
    })?;
    write(out, |out| out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = sum as f32))
}
