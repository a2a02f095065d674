//! Training into a run's folder: what a run tells on its way is written down there.

use super::{RunConfig, RunFolder, RunLock, Versions};
use la_core::checkpoint::TrainState;
use la_core::config::{Fit, TrainConfig};
use la_core::data::{Splits, Unreadable};
use la_core::ops::device;
use la_core::train::{self, Baseline, Begun, EpochMetrics, Event, Observer, Start, Summary};
use la_core::Result;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Whom a run tells of its events; `Break` asks it to stop once the step under way is done and a checkpoint is written.
pub type Progress<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// Trains as [`la_core::train::train`] does, and leaves everything in the folder `run`, which no other process trains into meanwhile.
pub fn train(config: &TrainConfig, splits: &Splits, run: &RunFolder, start: Start, progress: &mut Progress) -> Result<Summary> {
    let _lock: RunLock = run.lock()?;
    let mut unreadable = splits.unreadable.clone();
    unreadable.extend(run.unreadable_beside(&splits.unreadable));
    train::train(config, splits, start, &mut Keeper { run, splits, unreadable, progress })
}

struct Keeper<'a, 'b> {
    run: &'a RunFolder,
    splits: &'a Splits,
    unreadable: Vec<Unreadable>,
    progress: &'a mut Progress<'b>,
}

impl Observer for Keeper<'_, '_> {
    fn checkpoint_path(&self) -> PathBuf {
        self.run.checkpoint_path()
    }

    fn ir_checkpoint_path(&self) -> PathBuf {
        self.run.ir_checkpoint_path()
    }

    fn begun(&mut self, fit: &Fit, begun: Begun) -> Result<()> {
        match begun {
            Begun::Anew => self.write_settings(fit, None),
            Begun::After(epochs) => self.write_settings(fit, Some(epochs)),
            Begun::Again if self.run.file("config.json").is_file() => self.renew_settings(&fit.config),
            Begun::Again => self.write_settings(fit, None),
            Begun::Resumed => self.note_places(&fit.config),
        }
    }

    fn epochs_before(&mut self, epochs: &[EpochMetrics]) -> Result<()> {
        self.run.start_metrics(epochs)
    }

    fn baseline(&mut self, baseline: &Baseline) -> Result<()> {
        self.run.write_baseline(baseline)
    }

    fn unreadable(&mut self, failed: &Unreadable) -> Result<()> {
        self.unreadable.push(failed.clone());
        self.run.write_unreadable(&self.unreadable)
    }

    fn weights(&mut self, state: &TrainState) -> Result<()> {
        self.run.write_weights(state)
    }

    fn epoch(&mut self, epochs: &[EpochMetrics]) -> Result<()> {
        self.run.add_metrics(epochs)
    }

    fn tell(&mut self, event: Event) -> ControlFlow<()> {
        (self.progress)(event)
    }
}

impl Keeper<'_, '_> {
    fn write_settings(&self, fit: &Fit, branched_after: Option<usize>) -> Result<()> {
        self.run.write_config(&RunConfig {
            train: fit.config.clone(),
            num_images: self.splits.train.len(),
            num_test_images: self.splits.test.as_ref().map(|test| test.len()),
            class_names: self.splits.train.class_names().to_vec(),
            device: device::name(&fit.config.device),
            notes: fit.notes.clone(),
            branched_after,
            versions: Versions::default(),
            git_commit: self.run.git_commit.clone(),
            command: self.run.command.clone(),
            machine: self.run.machine.clone(),
            size: self.run.size,
            simd: Some(device::instructions(fit.config.precision).into()),
        })?;
        self.run.write_unreadable(&self.splits.unreadable)
    }

    /// Writes down the images and settings of a run that was stopped before its first checkpoint; what else it noted as it began stays.
    fn renew_settings(&self, config: &TrainConfig) -> Result<()> {
        let recorded = self.run.read_config()?;
        self.run.write_config(&RunConfig {
            train: config.clone(),
            num_images: self.splits.train.len(),
            num_test_images: self.splits.test.as_ref().map(|test| test.len()),
            class_names: self.splits.train.class_names().to_vec(),
            ..recorded
        })?;
        self.run.write_unreadable(&self.splits.unreadable)
    }

    /// Writes down where the images of a run that is resumed are now.
    fn note_places(&self, config: &TrainConfig) -> Result<()> {
        let mut recorded = self.run.read_config()?;
        if (&recorded.train.data, &recorded.train.test) == (&config.data, &config.test) {
            return Ok(());
        }
        (recorded.train.data, recorded.train.test) = (config.data.clone(), config.test.clone());
        self.run.write_config(&recorded)
    }
}
