//! Agreement of two views of each image, judged among the fresh embeddings of one step.

use super::{check_temperature, is_finite, log_share, not_a_number, values, LogShare, Loss, LossOutput};
use crate::{
    error::bail,
    ops::{device::on_gpu, gradients::refuse_tracked, host, parallel, row_sums::dot},
    Result,
};
use candle_core::Tensor;

/// Instance recognition with the step's own embeddings in the bank's place: what attracts is as fresh as what repels.
///
/// NT-Xent (Chen et al. 2020, <https://arxiv.org/abs/2002.05709>): `-ln(exp(v' · v / τ) / Σ_{u ≠ v} exp(u · v / τ) + 1e-7)`
/// with `v'` the other view of the same image, averaged over the embeddings `v` of the step. Gradients flow through `u` too.
///
/// - `embeddings` `(2 B, D)`: unit rows, the first view of all images first.
///
/// Fails where the number of rows is odd or 0, `temperature` is not above 0, or the embeddings track gradients
/// ([`crate::autograd::view_agreement`] carries them).
pub fn view_agreement(embeddings: &Tensor, temperature: f64) -> Result<Loss> {
    refuse_tracked(embeddings, "loss::view_agreement")?;
    check_temperature(temperature)?;
    let (n, dim) = embeddings.dims2()?;
    if n == 0 || n % 2 != 0 {
        bail!("embeddings must be two for each image, got {n}");
    }
    on_gpu!(embeddings, {
        let found = crate::ops::cuda::loss::agreement(embeddings, temperature)?;
        Ok(found.into())
    });
    if !is_finite(embeddings)? {
        return Ok(not_a_number(embeddings));
    }
    let rows = values(embeddings)?;
    let row = |i: usize| &rows[i * dim..][..dim];
    let shares: Vec<LogShare> = parallel::map(n, |i| {
        let similarities: Vec<f32> = others(n, i).map(|j| dot(row(i), row(j))).collect();
        let is_close: Vec<bool> = others(n, i).map(|j| j == (i + n / 2) % n).collect();
        log_share(&similarities, &is_close, temperature)
    });
    let slope = |i: usize, j: usize| shares[i].grad[if j < i { j } else { j - 1 }];
    let grads = parallel::map(n, |i| {
        let mut grad = vec![0.0; dim];
        for j in others(n, i) {
            // Each similarity stands in two losses: that of the one embedding and that of the other.
            let weight = ((slope(i, j) + slope(j, i)) / n as f64) as f32;
            grad.iter_mut().zip(row(j)).for_each(|(sum, value)| *sum += weight * value);
        }
        grad
    });
    let loss = shares.iter().map(|share| share.loss).sum::<f64>() / n as f64;
    let grad_embeddings = host::tensor(grads.concat(), (n, dim));
    Ok(Loss::Known(LossOutput { loss: loss as f32, grad_embeddings, num_empty_close: 0 }))
}

fn others(n: usize, i: usize) -> impl Iterator<Item = usize> {
    (0..n).filter(move |&j| j != i)
}
