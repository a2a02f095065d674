//! Who is told of a run and keeps what comes of it.

use super::event::Event;
use super::metrics::{Baseline, EpochMetrics};
use super::start::Begun;
use crate::{checkpoint::TrainState, config::Fit, data::Unreadable, Result};
use std::{ops::ControlFlow, path::PathBuf};

/// Who is told of a run on its way, and keeps its results; an error ends the run.
pub trait Observer {
    /// The file of the last checkpoint; a run is resumed from it.
    fn checkpoint_path(&self) -> PathBuf;
    /// The file of the checkpoint at the end of instance recognition.
    fn ir_checkpoint_path(&self) -> PathBuf;
    /// Every setting is resolved, and the state before the first step is there.
    fn begun(&mut self, fit: &Fit, begun: Begun) -> Result<()>;
    /// The epochs that were done before, perhaps none.
    fn epochs_before(&mut self, epochs: &[EpochMetrics]) -> Result<()>;
    /// Accuracy before training.
    fn baseline(&mut self, baseline: &Baseline) -> Result<()>;
    /// An image cannot be read any more; each is told once.
    fn unreadable(&mut self, failed: &Unreadable) -> Result<()>;
    /// Weights to be kept: a checkpoint follows.
    fn weights(&mut self, state: &TrainState) -> Result<()>;
    /// One more epoch is done; all are given.
    fn epoch(&mut self, epochs: &[EpochMetrics]) -> Result<()>;
    /// Something to show; `Break` asks the run to stop once the step under way is done and a checkpoint is written.
    fn tell(&mut self, event: Event) -> ControlFlow<()>;
}
