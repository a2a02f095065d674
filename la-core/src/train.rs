//! The training loop of the paper, from images to weights.

mod begin;
mod cluster_quality;
mod event;
#[doc(hidden)]
pub mod health;
pub(crate) mod metrics;
mod monitor;
mod objective;
mod observer;
mod pending;
mod replays;
mod start;
mod step;
mod trainer;

pub use begin::check_start;
pub use event::Event;
pub use metrics::{peak_rss_mb, unix_time, Baseline, ClusterQuality, EpochMetrics, Phase, StoppedAt, Summary, Totals};
pub use observer::Observer;
pub use start::{Begun, Start};
// What `la-cli bench` times.
#[doc(hidden)]
pub use {
    objective::Objective,
    replays::record,
    step::{step, StepPart},
};

use crate::{
    config::TrainConfig,
    data::{Batch, Splits},
    Result,
};
use std::time::Instant;
use trainer::Trainer;

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
            None => step(&objective, &mut self.state, &batch.images, &batch.indices, learning_rate, &mut |_| ())?,
        };
        self.note_refusal();
        if let Some(loss) = loss.not_finite() {
            return Err(self.diverged(loss, self.state.position.step));
        }
        self.count_step(batch, loss, started.elapsed())
    }
}
