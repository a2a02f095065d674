//! The bias of a fully connected layer, and its gradient.

use super::{
    device::on_gpu,
    host::{read, tensor, write},
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

/// The gradient `(columns,)` to the bias: the sum over rows of `grad` `(…, columns)`.
pub(crate) fn sum_rows(grad: &Tensor, columns: usize) -> Result<Tensor> {
    on_gpu!(grad, super::cuda::rows::sum_rows(grad, columns));
    let sums = read(grad, |g| {
        let mut sums = vec![0f64; columns];
        g.chunks_exact(columns).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, g)| *s += *g as f64));
        sums
    })?;
    Ok(tensor(sums.iter().map(|&s| s as f32).collect(), columns))
}
