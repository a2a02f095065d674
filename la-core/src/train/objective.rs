//! The loss of a step: instance recognition or local aggregation, over one view of each image or two.

use super::metrics::Phase;
use crate::{
    checkpoint::TrainState,
    config::{Fit, Ir},
    error::bail,
    loss::{instance_recognition, instance_recognition_nce, local_aggregation, view_agreement, z_over_n, LaConfig, Loss, NceConfig},
    ops::mean::half_sum,
    rng::{Rng, Stream},
    Result,
};
use candle_core::Tensor;

/// What the steps of an epoch minimise.
pub struct Objective {
    phase: Phase,
    ir: Ir,
    views: usize,
    temperature: f64,
    num_background: usize,
    num_noise: usize,
    bank_momentum: f64,
    noise_key: [u64; 2],
}

impl Objective {
    /// The objective of `epoch`.
    pub fn new(fit: &Fit, phase: Phase, epoch: usize) -> Self {
        let config = &fit.config;
        Self {
            phase,
            ir: config.ir,
            views: config.views,
            temperature: config.temperature,
            num_background: fit.num_background(),
            num_noise: config.num_noise,
            bank_momentum: config.bank_momentum,
            noise_key: [config.seed, epoch as u64],
        }
    }

    /// What is minimised.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Views of each image.
    pub(super) fn views(&self) -> usize {
        self.views
    }

    /// Whether the host draws nothing for a step but which images it sees.
    pub(super) fn depends_on_indices_alone(&self) -> bool {
        self.views > 1 || self.phase == Phase::La || self.ir != Ir::Nce
    }

    /// Mean loss of the batch and its gradient with respect to `embeddings` `(views * B, D)`.
    ///
    /// Two views must agree, judged among the step's own embeddings: with the bank for judge, which lags behind, all that is
    /// fresh could be told from all that is old, and nothing else would be learned. Local aggregation adds the bank's
    /// neighbours, which are all as old, for each of the views.
    pub(super) fn loss(&self, embeddings: &Tensor, state: &TrainState, indices: &[u32]) -> Result<Loss> {
        if self.views == 1 {
            return self.view_loss(embeddings, state, indices);
        }
        let agreement = view_agreement(embeddings, self.temperature)?;
        match self.phase {
            Phase::Ir => Ok(agreement),
            Phase::La => agreement.plus(self.view_loss(embeddings, state, &indices.repeat(2))?),
        }
    }

    /// `V_i <- normalise(m V_i + (1 - m) v_i)`, with the mean of the views for `v_i`.
    pub(super) fn update_bank(&self, embeddings: &Tensor, state: &mut TrainState, indices: &[u32]) -> Result<()> {
        let momentum = self.bank_momentum as f32;
        if self.views == 1 {
            return state.bank.update(indices, embeddings, momentum);
        }
        let (first, second) = halves(embeddings)?;
        state.bank.update(indices, &half_sum(&first, &second)?, momentum)
    }

    fn view_loss(&self, embeddings: &Tensor, state: &TrainState, indices: &[u32]) -> Result<Loss> {
        let bank = &state.bank;
        match (self.phase, &state.clusters) {
            (Phase::La, Some(clusters)) => {
                let config = LaConfig { num_background: self.num_background, temperature: self.temperature };
                local_aggregation(embeddings, bank, indices, clusters, &config)
            }
            (Phase::La, None) => bail!("local aggregation needs cluster labels, got none"),
            (Phase::Ir, _) if self.ir == Ir::Nce => {
                let config = self.nce_config(bank.dim());
                instance_recognition_nce(embeddings, bank, indices, &self.noise_indices(bank.len(), indices), &config)
            }
            (Phase::Ir, _) => instance_recognition(embeddings, bank, indices, self.temperature),
        }
    }

    /// The published constant where it holds, else what it approximates.
    fn nce_config(&self, dim: usize) -> NceConfig {
        let published = NceConfig::default();
        if dim == 128 && self.temperature == published.temperature {
            return published;
        }
        NceConfig { temperature: self.temperature, z_over_n: z_over_n(dim, self.temperature) }
    }

    /// Uniform with replacement, `num_noise` for each image; drawn by image, so that batches do not matter.
    fn noise_indices(&self, num_images: usize, indices: &[u32]) -> Vec<u32> {
        let [seed, epoch] = self.noise_key;
        let draw = |&index: &u32| {
            let mut rng = Rng::new(Stream::Noise, &[seed, epoch, u64::from(index)]);
            (0..self.num_noise).map(move |_| rng.below(num_images) as u32)
        };
        indices.iter().flat_map(draw).collect()
    }
}

fn halves(embeddings: &Tensor) -> Result<(Tensor, Tensor)> {
    let batch = embeddings.dim(0)? / 2;
    Ok((embeddings.narrow(0, 0, batch)?.contiguous()?, embeddings.narrow(0, batch, batch)?.contiguous()?))
}
