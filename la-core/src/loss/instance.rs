//! Instance recognition: each image is a class of its own (Wu et al. 2018, <https://arxiv.org/abs/1805.01978>).

use super::{check_temperature, is_finite, not_a_number, values, Loss, LossOutput};
use crate::{
    memory_bank::MemoryBank,
    ops::{
        device::on_gpu,
        gradients::refuse_tracked,
        host, parallel,
        products::Panels,
        row_sums::{add_weighted_rows, dot},
        softmax::Columns,
    },
    Result,
};
use candle_core::Tensor;

/// Bank rows whose scores are held at once.
pub(super) const BLOCK_ROWS: usize = 192;

/// The bank is cut into at most this many parts, each with sums of its own.
const MAX_PARTS: usize = 64;

/// Instance recognition by the full softmax over the bank: `-ln(exp(V_i · v / τ) / Σ_j exp(V_j · v / τ))`, batch mean.
///
/// - `embeddings` `(B, D)`: unit rows; `indices` `(B,)`: their images.
///
/// Scores are streamed: memory beyond the gradient does not grow with the bank.
/// Fails where sizes do not fit, `temperature` is not above 0, or the embeddings track gradients
/// ([`crate::autograd::instance_recognition`] carries them).
pub fn instance_recognition(embeddings: &Tensor, bank: &MemoryBank, indices: &[u32], temperature: f64) -> Result<Loss> {
    refuse_tracked(embeddings, "loss::instance_recognition")?;
    check_temperature(temperature)?;
    bank.check_batch(indices, embeddings)?;
    on_gpu!(embeddings, {
        let inputs = crate::ops::cuda::loss::Inputs { embeddings, rows: bank.rows(), indices, temperature };
        let found = crate::ops::cuda::loss::softmax(&inputs)?;
        Ok(found.into())
    });
    if !is_finite(embeddings)? {
        return Ok(not_a_number(embeddings));
    }
    let (batch, dim) = (indices.len(), bank.dim());
    let queries = values(embeddings)?;
    host::read(bank.rows(), |rows| {
        let sums = softmax_sums(rows, &queries, dim, 1.0 / temperature as f32);
        let mut grad = vec![0.0; batch * dim];
        let mut loss = 0.0;
        for (b, grad) in grad.chunks_exact_mut(dim).enumerate() {
            let own = &rows[indices[b] as usize * dim..][..dim];
            let score = f64::from(dot(&queries[b * dim..][..dim], own)) / temperature;
            let sum = f64::from(sums.columns.sums[b]);
            loss += f64::from(sums.columns.largest[b]) + sum.ln() - score;
            let weight = 1.0 / (temperature * batch as f64);
            let weighted = &sums.weighted[b * dim..][..dim];
            for ((grad, mean), own) in grad.iter_mut().zip(weighted).zip(own) {
                *grad = (weight * (f64::from(*mean) / sum - f64::from(*own))) as f32;
            }
        }
        let loss = (loss / batch as f64) as f32;
        Loss::Known(LossOutput { loss, grad_embeddings: host::tensor(grad, (batch, dim)), num_empty_close: 0 })
    })
}

/// Sums over bank rows for each query, padded to whole panels.
struct SoftmaxSums {
    columns: Columns,
    /// `Σ_j exp(score_j - largest) V_j`, `(width, D)`.
    weighted: Vec<f32>,
}

fn softmax_sums(rows: &[f32], queries: &[f32], dim: usize, scale: f32) -> SoftmaxSums {
    // Missing columns score 0 · scale and are never read.
    let panels = Panels::pack_padded(queries, dim);
    let num_rows = rows.len() / dim;
    let part = part_rows(num_rows);
    let parts = parallel::map(num_rows.div_ceil(part), |p| {
        let rows = &rows[p * part * dim..((p + 1) * part * dim).min(rows.len())];
        part_sums(rows, &panels, dim, scale)
    });
    let mut parts = parts.into_iter();
    let mut all = parts.next().expect("a bank has at least one row");
    for part in parts {
        let (ours, theirs) = all.columns.merge(&part.columns);
        for (b, (sum, other)) in all.weighted.chunks_exact_mut(dim).zip(part.weighted.chunks_exact(dim)).enumerate() {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum = *sum * ours[b] + other * theirs[b]);
        }
    }
    all
}

/// Rows of a part of the bank, by the bank's length alone.
pub(super) fn part_rows(num_rows: usize) -> usize {
    num_rows.div_ceil(MAX_PARTS).next_multiple_of(BLOCK_ROWS).max(8 * BLOCK_ROWS)
}

fn part_sums(rows: &[f32], panels: &Panels, dim: usize, scale: f32) -> SoftmaxSums {
    let width = panels.num_columns();
    let mut sums = SoftmaxSums { columns: Columns::new(width), weighted: vec![0.0; width * dim] };
    let mut scores = vec![0.0; BLOCK_ROWS * width];
    for rows in rows.chunks(BLOCK_ROWS * dim) {
        let scores = &mut scores[..rows.len() / dim * width];
        panels.products(rows, 0..panels.num_panels(), scores);
        let factors = sums.columns.push(scores, scale);
        for (sum, &factor) in sums.weighted.chunks_exact_mut(dim).zip(&factors).filter(|(_, &factor)| factor != 1.0) {
            sum.iter_mut().for_each(|value| *value *= factor);
        }
        add_weighted_rows(scores, rows, dim, &mut sums.weighted);
    }
    sums
}
