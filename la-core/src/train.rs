//! The training loop of the paper, from images to weights.

mod begin;
pub mod health;
mod metrics;
mod monitor;
mod objective;
mod observer;
mod pending;
mod replays;
mod trainer;

pub use begin::check_start;
pub use metrics::{peak_rss_mb, unix_time, Baseline, EpochMetrics, Event, Phase, StoppedAt, Summary, Totals};
pub use observer::{Begun, Observer};

use crate::{
    checkpoint::TrainState,
    config::TrainConfig,
    data::{Batch, Splits},
    loss::Loss,
    ops::normalize::{normalize, normalize_backward},
    resnet::ResNet,
    Result,
};
use candle_core::Tensor;
use objective::Objective;
use std::{path::Path, time::Instant};
use trainer::Trainer;

/// How a run begins.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// From the first step, with random weights.
    New,
    /// From the first step, with these weights, which the configuration names; a run that was stopped before its first checkpoint
    /// begins again so.
    From(&'a ResNet),
    /// From the run's last checkpoint; from the first step where it has none yet.
    Resume,
    /// From the checkpoint in this file, which another run left, under settings of this run's own.
    Branch(&'a Path),
}

/// Trains a network on `splits.train`, as `config` says, and hands everything to `observer`.
///
/// Zhuang, Zhai, Yamins 2019, <https://arxiv.org/abs/1903.12355>: some epochs of instance recognition, then local
/// aggregation. Labels are used by the kNN monitor only. Weights depend on the seed and the data, not on threads; a
/// run resumes bit-exactly. The caller chooses the threads that compute by the
/// rayon pool it calls from.
///
/// Fails where a setting is wrong, an image or a file fails, or the loss is NaN or infinite; on a GPU, whose losses are read
/// every 32 steps, that shows up to 32 steps late, and never in a checkpoint.
pub fn train(config: &TrainConfig, splits: &Splits, start: Start, observer: &mut dyn Observer) -> Result<Summary> {
    let mut trainer = Trainer::new(config, splits, start, observer)?;
    while !trainer.is_done() {
        trainer.cluster_if_due()?;
        for batch in trainer.batches() {
            let batch = batch?;
            trainer.step(&batch)?;
            trainer.note_failed(&batch)?;
            trainer.checkpoint_if_due()?;
            if trainer.is_stopped() {
                return Ok(trainer.summary());
            }
        }
        trainer.finish_epoch()?;
    }
    Ok(trainer.summary())
}

impl Trainer<'_> {
    /// One step: embed, loss, backward, update the weights, update the bank.
    fn step(&mut self, batch: &Batch) -> Result<()> {
        let started = Instant::now();
        let objective = self.objective();
        let learning_rate = self.learning_rate();
        let loss = match self.replays.run(&objective, &mut self.state, batch, learning_rate)? {
            Some(loss) => loss,
            None => step(&objective, &mut self.state, &batch.images, &batch.indices, learning_rate)?,
        };
        self.note_refusal();
        if let Some(loss) = loss.not_finite() {
            return Err(self.diverged(loss, self.state.position.step));
        }
        self.count_step(batch, loss, started.elapsed())
    }
}

/// Embeds the images, and moves the weights and the bank; a loss that is NaN or infinite moves nothing.
fn step(objective: &Objective, state: &mut TrainState, images: &Tensor, indices: &[u32], learning_rate: f64) -> Result<Loss> {
    let (outputs, cache) = state.net.forward_train(images)?;
    let (embeddings, norms) = normalize(&outputs)?;
    let loss = objective.loss(&embeddings, state, indices)?;
    if loss.not_finite().is_some() {
        return Ok(loss);
    }
    state.net.backward(cache, &normalize_backward(&embeddings, &norms, loss.grad_embeddings())?)?;
    state.sgd.step(&mut state.net, learning_rate)?;
    objective.update_bank(&embeddings, state, indices)?;
    Ok(loss)
}
