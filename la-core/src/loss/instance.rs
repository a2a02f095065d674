//! Instance recognition: each image is a class of its own (Wu et al. 2018, <https://arxiv.org/abs/1805.01978>).

use super::{check_temperature, is_finite, not_a_number, values, LossOutput};
use crate::{
    error::bail,
    memory_bank::MemoryBank,
    ops::{
        host, parallel,
        products::Panels,
        row_sums::{add_chosen_rows, add_weighted_rows, dot, dots},
        softmax::Columns,
    },
    Result,
};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Bank rows whose scores are held at once.
const BLOCK_ROWS: usize = 192;

/// The bank is cut into at most this many parts, each with sums of its own.
const MAX_PARTS: usize = 64;

/// Keeps the denominators from 0, as published.
const EPSILON: f64 = 1e-7;

/// Instance recognition by the full softmax over the bank: `-ln(exp(V_i · v / τ) / Σ_j exp(V_j · v / τ))`, batch mean.
///
/// - `embeddings` `(B, D)`: unit rows; `indices` `(B,)`: their images.
///
/// Scores are streamed: memory beyond the gradient does not grow with the bank.
/// Fails where sizes do not fit or `temperature` is not above 0.
pub fn instance_recognition(embeddings: &Tensor, bank: &MemoryBank, indices: &[u32], temperature: f64) -> Result<LossOutput> {
    check_temperature(temperature)?;
    bank.check_batch(indices, embeddings)?;
    if !is_finite(embeddings)? {
        return not_a_number(embeddings);
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
        LossOutput { loss, grad_embeddings: host::tensor(grad, (batch, dim)), num_empty_close: 0 }
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
    let part = num_rows.div_ceil(MAX_PARTS).next_multiple_of(BLOCK_ROWS).max(8 * BLOCK_ROWS);
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

fn part_sums(rows: &[f32], panels: &Panels, dim: usize, scale: f32) -> SoftmaxSums {
    let width = panels.num_columns();
    let mut sums = SoftmaxSums { columns: Columns::new(width), weighted: vec![0.0; width * dim] };
    let mut scores = vec![0.0; BLOCK_ROWS * width];
    for rows in rows.chunks(BLOCK_ROWS * dim) {
        let scores = &mut scores[..rows.len() / dim * width];
        panels.products(rows, 0..panels.len(), scores);
        let factors = sums.columns.push(scores, scale);
        for (sum, &factor) in sums.weighted.chunks_exact_mut(dim).zip(&factors).filter(|(_, &factor)| factor != 1.0) {
            sum.iter_mut().for_each(|value| *value *= factor);
        }
        add_weighted_rows(scores, rows, dim, &mut sums.weighted);
    }
    sums
}

/// Settings of [`instance_recognition_nce`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NceConfig {
    /// `τ`.
    pub temperature: f64,
    /// The softmax denominator over the number of images, `Z / N`; see [`z_over_n`].
    pub z_over_n: f64,
}

impl Default for NceConfig {
    fn default() -> Self {
        Self { temperature: 0.07, z_over_n: 2876934.2 / 1281167.0 }
    }
}

/// `Z / N` of random unit rows: `exp(1 / (2 D τ²))`, the mean of `exp(s / τ)` for `s` of variance `1 / D`.
///
/// At `D = 128`, `τ = 0.07` this is 2.2, where 2876934.2 / 1281167 = 2.2455 was published.
pub fn z_over_n(dim: usize, temperature: f64) -> f64 {
    (1.0 / (2.0 * dim as f64 * temperature * temperature)).exp()
}

/// Instance recognition by noise-contrastive estimation, as published, averaged over the batch.
///
/// `-ln(P_i / (P_i + m P_n)) - Σ_noise ln(m P_n / (P_j + m P_n))`, `P_j = exp(V_j · v / τ) / Z`, `P_n = 1 / N`,
/// 1e-7 added to each denominator.
///
/// - `embeddings` `(B, D)`: unit rows; `indices` `(B,)`: their images.
/// - `noise_indices` `(B, m)`: rows drawn uniformly with replacement.
///
/// Fails where sizes do not fit, an index is beyond the bank, or a setting is not above 0.
pub fn instance_recognition_nce(
    embeddings: &Tensor,
    bank: &MemoryBank,
    indices: &[u32],
    noise_indices: &[u32],
    config: &NceConfig,
) -> Result<LossOutput> {
    check_temperature(config.temperature)?;
    bank.check_batch(indices, embeddings)?;
    check_noise(noise_indices, indices.len(), bank, config)?;
    if !is_finite(embeddings)? {
        return not_a_number(embeddings);
    }
    let (batch, dim) = (indices.len(), bank.dim());
    let (queries, num_noise) = (values(embeddings)?, noise_indices.len() / batch);
    let nce = Nce::new(bank.len(), num_noise, config);
    let found = host::read(bank.rows(), |rows| {
        parallel::map(batch, |b| {
            let noise = &noise_indices[b * num_noise..(b + 1) * num_noise];
            nce.row(&queries[b * dim..][..dim], rows, indices[b], noise, 1.0 / batch as f64)
        })
    })?;
    Ok(LossOutput {
        loss: (found.iter().map(|row| row.0).sum::<f64>() / batch as f64) as f32,
        grad_embeddings: host::tensor(found.into_iter().flat_map(|row| row.1).collect(), (batch, dim)),
        num_empty_close: 0,
    })
}

fn check_noise(noise_indices: &[u32], batch: usize, bank: &MemoryBank, config: &NceConfig) -> Result<()> {
    if noise_indices.is_empty() || !noise_indices.len().is_multiple_of(batch) {
        bail!("noise indices must be as many for each of {batch} images, at least one, got {} in all", noise_indices.len());
    }
    if let Some(index) = noise_indices.iter().find(|&&index| index as usize >= bank.len()) {
        bail!("noise index must be below the memory bank's length {}, got {index}", bank.len());
    }
    if !(config.z_over_n > 0.0 && config.z_over_n.is_finite()) {
        bail!("z_over_n must be above 0 and finite, got {}", config.z_over_n);
    }
    Ok(())
}

struct Nce {
    temperature: f64,
    /// `ln((Z / N) (m + 1e-7 N))`: the score over `τ` at which data and noise are as likely.
    log_odds: f64,
    /// `ln((m + 1e-7 N) / m)`: what the 1e-7 costs each noise sample.
    epsilon_cost: f64,
}

impl Nce {
    fn new(n: usize, num_noise: usize, config: &NceConfig) -> Self {
        let noise = num_noise as f64 + EPSILON * n as f64;
        let log_odds = config.z_over_n.ln() + noise.ln();
        Self { temperature: config.temperature, log_odds, epsilon_cost: (noise / num_noise as f64).ln() }
    }

    /// The odds that a row of this score is data and not noise.
    fn odds(&self, score: f32) -> f64 {
        (f64::from(score) / self.temperature - self.log_odds).exp()
    }

    /// One image's loss, and its gradient times `share`.
    fn row(&self, query: &[f32], rows: &[f32], index: u32, noise: &[u32], share: f64) -> (f64, Vec<f32>) {
        let (mut scores, mut grad) = (Vec::new(), vec![0.0; query.len()]);
        dots(query, rows, &[index], &mut scores);
        let odds = self.odds(scores[0]);
        let mut loss = (1.0 / odds).ln_1p();
        let weight = share / self.temperature;
        add_chosen_rows(&[(-weight / (1.0 + odds)) as f32], rows, &[index], &mut grad);
        dots(query, rows, noise, &mut scores);
        for score in &mut scores {
            let odds = self.odds(*score);
            loss += odds.ln_1p() + self.epsilon_cost;
            // Odds of 0 and of infinity both come out right this way.
            *score = (weight / (1.0 + 1.0 / odds)) as f32;
        }
        add_chosen_rows(&scores, rows, noise, &mut grad);
        (loss, grad)
    }
}
