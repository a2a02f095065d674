//! Instance recognition by noise-contrastive estimation (Wu et al. 2018, <https://arxiv.org/abs/1805.01978>).

use super::{
    check_temperature,
    instance::{part_rows, BLOCK_ROWS},
    is_finite, not_a_number, values, Loss, LossOutput,
};
use crate::{
    error::bail,
    memory_bank::MemoryBank,
    ops::{
        device::on_gpu,
        gradients::refuse_tracked,
        host, parallel,
        products::Panels,
        row_sums::{add_chosen_rows, add_weighted_rows, dots},
    },
    Result,
};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Keeps the denominators from 0, as published.
const EPSILON: f64 = 1e-7;

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
/// Fails where sizes do not fit, an index is beyond the bank, a setting is not above 0, or the embeddings track gradients
/// ([`crate::autograd::instance_recognition_nce`] carries them).
pub fn instance_recognition_nce(
    embeddings: &Tensor,
    bank: &MemoryBank,
    indices: &[u32],
    noise_indices: &[u32],
    config: &NceConfig,
) -> Result<Loss> {
    refuse_tracked(embeddings, "loss::instance_recognition_nce")?;
    check_temperature(config.temperature)?;
    bank.check_batch(indices, embeddings)?;
    check_noise(noise_indices, indices.len(), bank, config)?;
    on_gpu!(embeddings, {
        let inputs = crate::ops::cuda::loss::Inputs { embeddings, rows: bank.rows(), indices, temperature: config.temperature };
        let nce = Nce::new(bank.len(), noise_indices.len() / indices.len(), config, indices.len());
        let found = crate::ops::cuda::loss::nce(&inputs, noise_indices, (nce.log_odds, nce.epsilon_cost))?;
        Ok(found.into())
    });
    if !is_finite(embeddings)? {
        return Ok(not_a_number(embeddings));
    }
    let (batch, dim) = (indices.len(), bank.dim());
    let (queries, num_noise) = (values(embeddings)?, noise_indices.len() / batch);
    let nce = Nce::new(bank.len(), num_noise, config, batch);
    // With no more rows than draws, one product takes half the time of gathering; with four times as many, a third more.
    let rows = host::read(bank.rows(), |rows| match bank.len() <= num_noise {
        true => nce.by_product(&queries, rows, noise_indices, dim),
        false => nce.by_gathering(&queries, rows, noise_indices, dim),
    })?;
    let own = host::read(bank.rows(), |rows| parallel::map(batch, |b| nce.own(&queries[b * dim..][..dim], rows, indices[b])))?;
    let loss: f64 = rows.losses.iter().zip(&own).map(|(noise, own)| noise + own.0).sum();
    let own_grads = own.iter().flat_map(|own| &own.1);
    let grad = rows.grads.iter().zip(own_grads).map(|(noise, own)| noise + own).collect();
    let grad_embeddings = host::tensor(grad, (batch, dim));
    Ok(Loss::Known(LossOutput { loss: (loss / batch as f64) as f32, grad_embeddings, num_empty_close: 0 }))
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
    batch: usize,
    temperature: f64,
    /// `ln((Z / N) (m + 1e-7 N))`: the score over `τ` at which data and noise are as likely.
    log_odds: f64,
    /// `ln((m + 1e-7 N) / m)`: what the 1e-7 costs each noise sample.
    epsilon_cost: f64,
}

impl Nce {
    fn new(n: usize, num_noise: usize, config: &NceConfig, batch: usize) -> Self {
        let noise = num_noise as f64 + EPSILON * n as f64;
        let log_odds = config.z_over_n.ln() + noise.ln();
        Self { batch, temperature: config.temperature, log_odds, epsilon_cost: (noise / num_noise as f64).ln() }
    }

    /// The odds that a row of this score is data and not noise.
    fn odds(&self, score: f32) -> f64 {
        (f64::from(score) / self.temperature - self.log_odds).exp()
    }

    /// One image's loss against its own row, and that part of the gradient.
    fn own(&self, query: &[f32], rows: &[f32], index: u32) -> (f64, Vec<f32>) {
        let (mut scores, mut grad) = (Vec::new(), vec![0.0; query.len()]);
        dots(query, rows, &[index], &mut scores);
        let odds = self.odds(scores[0]);
        add_chosen_rows(&[(-self.weight() / (1.0 + odds)) as f32], rows, &[index], &mut grad);
        ((1.0 / odds).ln_1p(), grad)
    }

    /// What one noise sample of this score adds to the loss, and the weight of its row in the gradient.
    fn noise(&self, score: f32) -> (f64, f32) {
        let odds = self.odds(score);
        // Odds of 0 and of infinity both come out right this way.
        (odds.ln_1p() + self.epsilon_cost, (self.weight() / (1.0 + 1.0 / odds)) as f32)
    }

    fn weight(&self) -> f64 {
        1.0 / (self.batch as f64 * self.temperature)
    }

    /// Only the rows that were drawn are read, image after image.
    fn by_gathering(&self, queries: &[f32], rows: &[f32], noise_indices: &[u32], dim: usize) -> NoiseSums {
        let num_noise = noise_indices.len() / self.batch;
        let found = parallel::map(self.batch, |b| {
            let noise = &noise_indices[b * num_noise..][..num_noise];
            let (mut scores, mut grad, mut loss) = (Vec::new(), vec![0.0; dim], 0.0);
            dots(&queries[b * dim..][..dim], rows, noise, &mut scores);
            for score in &mut scores {
                let (cost, weight) = self.noise(*score);
                loss += cost;
                *score = weight;
            }
            add_chosen_rows(&scores, rows, noise, &mut grad);
            (loss, grad)
        });
        let (losses, grads): (Vec<f64>, Vec<Vec<f32>>) = found.into_iter().unzip();
        NoiseSums { losses, grads: grads.concat() }
    }

    /// Every row is read once for the whole batch; a row counts as often as an image drew it.
    fn by_product(&self, queries: &[f32], rows: &[f32], noise_indices: &[u32], dim: usize) -> NoiseSums {
        let panels = Panels::pack_padded(queries, dim);
        let draws = self.draws(noise_indices, panels.num_columns(), rows.len() / dim);
        let part = part_rows(rows.len() / dim);
        let parts = parallel::map((rows.len() / dim).div_ceil(part), |p| {
            let end = |width: usize| ((p + 1) * part * width).min(rows.len() / dim * width);
            let (rows, draws) = (&rows[p * part * dim..end(dim)], &draws[p * part * panels.num_columns()..end(panels.num_columns())]);
            self.part_sums(rows, draws, &panels, dim)
        });
        let mut all = NoiseSums { losses: vec![0.0; panels.num_columns()], grads: vec![0.0; panels.num_columns() * dim] };
        for part in parts {
            all.losses.iter_mut().zip(part.losses).for_each(|(sum, loss)| *sum += loss);
            all.grads.iter_mut().zip(part.grads).for_each(|(sum, grad)| *sum += grad);
        }
        all.losses.truncate(self.batch);
        all.grads.truncate(self.batch * dim);
        all
    }

    /// `(N, width)`: how often each image drew each row.
    fn draws(&self, noise_indices: &[u32], width: usize, num_rows: usize) -> Vec<u32> {
        let mut draws = vec![0; num_rows * width];
        for (b, noise) in noise_indices.chunks_exact(noise_indices.len() / self.batch).enumerate() {
            for &row in noise {
                draws[row as usize * width + b] += 1;
            }
        }
        draws
    }

    fn part_sums(&self, rows: &[f32], draws: &[u32], panels: &Panels, dim: usize) -> NoiseSums {
        let width = panels.num_columns();
        let mut sums = NoiseSums { losses: vec![0.0; width], grads: vec![0.0; width * dim] };
        let mut scores = vec![0.0; BLOCK_ROWS * width];
        for (rows, draws) in rows.chunks(BLOCK_ROWS * dim).zip(draws.chunks(BLOCK_ROWS * width)) {
            let scores = &mut scores[..draws.len()];
            panels.products(rows, 0..panels.num_panels(), scores);
            for (scores, draws) in scores.chunks_exact_mut(width).zip(draws.chunks_exact(width)) {
                self.count(scores, draws, &mut sums.losses);
            }
            add_weighted_rows(scores, rows, dim, &mut sums.grads);
        }
        sums
    }

    /// Turns one bank row's scores into its weights in the gradients, and adds what it costs each image.
    fn count(&self, scores: &mut [f32], draws: &[u32], losses: &mut [f64]) {
        for ((score, &draws), loss) in scores.iter_mut().zip(draws).zip(losses) {
            if draws == 0 {
                *score = 0.0;
                continue;
            }
            let (cost, weight) = self.noise(*score);
            *loss += f64::from(draws) * cost;
            *score = draws as f32 * weight;
        }
    }
}

/// The noise's part of each image's loss and gradient.
struct NoiseSums {
    losses: Vec<f64>,
    /// `(B, D)`.
    grads: Vec<f32>,
}
