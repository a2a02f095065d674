//! A run as its user sees it: bars while an epoch lasts, one line when it is over.

use crate::output::{self, percent, remark, write_line};
use crate::progress::{duration, Progress};
use la_core::config::TrainConfig;
use la_core::run_folder::RunFolder;
use la_core::train::{Baseline, EpochMetrics, Event, Phase};
use std::fmt;

/// Where a run is told of as it goes: on standard output, or on standard error where that is for JSON; with `--quiet` nowhere.
#[derive(Clone, Copy)]
pub struct Lines {
    /// Whether standard output is for JSON.
    pub is_json: bool,
}

impl Lines {
    /// Writes a line. A reader that has gone does not stop a run: hours of work are worth more than a closed pipe.
    pub fn tell(self, line: fmt::Arguments) -> anyhow::Result<()> {
        match self.is_json {
            _ if output::is_quiet() => Ok(()),
            true => Ok(remark!("{line}")),
            false => unless_closed(write_line(line)),
        }
    }
}

/// The result, but for a reader of standard output that has gone.
pub fn unless_closed(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.is::<output::StdoutClosed>() => Ok(()),
        other => other,
    }
}

/// Turns the events of a run into lines and bars.
pub struct Reporter {
    epochs: usize,
    batch_size: usize,
    run: RunFolder,
    lines: Lines,
    bar: Option<Progress>,
    loss: f32,
}

impl Reporter {
    /// A reporter for a run.
    pub fn new(config: &TrainConfig, run: &RunFolder, lines: Lines) -> Self {
        Self { epochs: config.epochs, batch_size: config.batch_size, run: run.clone(), lines, bar: None, loss: f32::NAN }
    }

    /// Shows one event.
    pub fn report(&mut self, event: Event) {
        match event {
            Event::Note(note) => self.line(&format!("chosen     {note}")),
            Event::Start { num_images, epoch, step, steps } => {
                self.batch_size = self.batch_size.min(num_images);
                if (epoch, step) != (0, 0) {
                    self.line(&format!("going on   after epoch {epoch}, step {step} of {steps}"));
                }
            }
            Event::Baseline(baseline) => self.baseline(&baseline),
            Event::Clustering { num_clusters, num_clusterings } => self.message(format!("clustering {num_clusterings} × {num_clusters}")),
            Event::Step { epoch, step, steps, phase, loss, .. } => self.step((epoch, step, steps), phase, loss),
            Event::Evaluating => self.message("measuring kNN accuracy".into()),
            Event::Epoch(metrics) => self.epoch(&metrics),
            // Best looked at while a run lasts; what fails here is told once, at the end.
            Event::Checkpoint(_) => drop(super::pictures::draw_learning(&self.run)),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.bar = None;
    }

    fn baseline(&self, baseline: &Baseline) {
        let levels = [("raw pixels", baseline.raw_pixels), ("network before training", baseline.random_init)];
        let levels: Vec<String> =
            levels.iter().filter_map(|(name, level)| level.map(|level| format!("{name} {}", percent(level)))).collect();
        let (k, temperature) = (baseline.knn_k, baseline.knn_temperature);
        self.line(&format!("to beat    kNN top-1 of {} (K = {k}, temperature {temperature})", levels.join(", ")));
    }

    fn step(&mut self, (epoch, step, steps): (usize, usize, usize), phase: Phase, loss: f32) {
        let is_new = step == 1 || self.bar.is_none();
        // A smooth loss can be read while it runs; the mean of the epoch follows in its line.
        self.loss = if is_new || !self.loss.is_finite() { loss } else { 0.95 * self.loss + 0.05 * loss };
        let (done, total) = (step * self.batch_size, steps * self.batch_size);
        if is_new {
            let mut bar = Progress::new(&format!("epoch {epoch}/{} {phase}", self.epochs), total, "images");
            bar.start_at(done);
            self.bar = Some(bar);
        }
        if let Some(bar) = &mut self.bar {
            bar.set(done);
            bar.message(format!("loss {:.3}", self.loss));
        }
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.bar = None;
        let width = self.epochs.to_string().len();
        let left = metrics.total_seconds / metrics.epoch as f64 * self.epochs.saturating_sub(metrics.epoch) as f64;
        let knn = metrics.knn_top1.map_or(String::new(), |top1| format!("   kNN {}", percent(top1)));
        let empty = metrics.empty_close.map_or(String::new(), |share| format!("   {:.1} % without close neighbours", 100.0 * share));
        self.line(&format!(
            "epoch {:>width$}/{} {}   loss {:.4}{knn}   lr {:.5}   {:.0} images/s   {}{empty}   {} left",
            metrics.epoch,
            self.epochs,
            metrics.phase,
            metrics.loss,
            metrics.lr,
            metrics.images_per_s,
            duration(metrics.seconds),
            duration(left)
        ));
    }

    fn message(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.message(text);
        }
    }

    fn line(&self, text: &str) {
        let write = || drop(self.lines.tell(format_args!("{text}")));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
