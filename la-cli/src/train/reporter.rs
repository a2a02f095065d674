//! A run as its user sees it: bars while an epoch lasts, one line when it is over.

use super::{outcome, warnings};
use crate::output::{self, percent, remark, warning, write_line};
use crate::progress::{duration, Progress};
use crate::run::RunFolder;
use la_core::config::TrainConfig;
use la_core::train::health::Warning;
use la_core::train::{Baseline, EpochMetrics, Event, Phase};
use std::fmt;
use std::time::{Duration, Instant};

/// Steps after which the time of the run is told, the first of them left out: it fills caches and prepares the first images.
const TIMED_STEPS: usize = 10;
/// Or the time after which it is told, where steps are slow.
const TIMED_FOR: Duration = Duration::from_secs(20);

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
            true => {
                remark!("{line}");
                Ok(())
            }
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
    config: TrainConfig,
    batch_size: usize,
    /// Whether instance recognition alone was asked for.
    is_ir_chosen: bool,
    run: RunFolder,
    baseline: Option<Baseline>,
    lines: Lines,
    bar: Option<Progress>,
    loss: f32,
    timer: Option<Timer>,
}

/// Tells how long the run will take, once.
struct Timer {
    /// Steps that are left of the run.
    steps: usize,
    done: usize,
    started: Instant,
}

impl Reporter {
    /// A reporter for a run.
    pub fn new(config: &TrainConfig, run: &RunFolder, is_ir_chosen: bool, lines: Lines) -> Self {
        Self {
            config: config.clone(),
            batch_size: config.batch_size,
            is_ir_chosen,
            run: run.clone(),
            lines,
            baseline: None,
            bar: None,
            loss: f32::NAN,
            timer: None,
        }
    }

    /// Shows one event.
    pub fn report(&mut self, event: Event) {
        match event {
            Event::Note(note) => self.line(&format!("chosen     {note}")),
            Event::Warning(Warning::NoLocalAggregation { .. }) if self.is_ir_chosen => (),
            Event::Warning(warning) => self.warn(&warnings::words(&warning, &self.config)),
            Event::Start { num_images, epoch, step, steps: steps_of_epoch } => {
                self.batch_size = self.batch_size.min(num_images);
                let steps = (self.config.epochs * steps_of_epoch).saturating_sub(epoch * steps_of_epoch + step);
                self.timer = Some(Timer { steps, done: 0, started: Instant::now() });
                if (epoch, step) != (0, 0) {
                    self.line(&format!("going on   after epoch {epoch}, step {step} of {steps_of_epoch}"));
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

    fn baseline(&mut self, baseline: &Baseline) {
        self.baseline = Some(*baseline);
        let levels: Vec<String> =
            outcome::levels(baseline, &self.config).iter().map(|level| format!("{} {}", level.name, percent(level.top1))).collect();
        let (k, temperature) = (baseline.knn_k, baseline.knn_temperature);
        self.line(&format!("to beat    kNN top-1 of {} (K = {k}, temperature {temperature})", levels.join(", ")));
    }

    fn step(&mut self, (epoch, step, steps): (usize, usize, usize), phase: Phase, loss: f32) {
        let is_new = step == 1 || self.bar.is_none();
        self.tell_time();
        // A smooth loss can be read while it runs; the mean of the epoch follows in its line.
        self.loss = if is_new || !self.loss.is_finite() { loss } else { 0.95 * self.loss + 0.05 * loss };
        let (done, total) = (step * self.batch_size, steps * self.batch_size);
        if is_new {
            let mut bar = Progress::new(&format!("epoch {epoch}/{} {phase}", self.config.epochs), total, "images");
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
        let width = self.config.epochs.to_string().len();
        let left = metrics.total_seconds / metrics.epoch as f64 * self.config.epochs.saturating_sub(metrics.epoch) as f64;
        let knn = metrics.knn_top1.map_or(String::new(), |top1| format!("   kNN {}{}", percent(top1), self.gains(top1)));
        let empty = metrics.empty_close.map_or(String::new(), |share| format!("   {:.1} % without close neighbours", 100.0 * share));
        self.line(&format!(
            "epoch {:>width$}/{} {}   loss {:.4}{knn}   lr {:.5}   {:.0} images/s   {}{empty}   {} left",
            metrics.epoch,
            self.config.epochs,
            metrics.phase,
            metrics.loss,
            metrics.lr,
            metrics.images_per_s,
            duration(metrics.seconds),
            duration(left)
        ));
    }

    /// What was gained so far, in points: over what the run began from, and over the better of raw and whitened pixels.
    fn gains(&self, top1: f32) -> String {
        let Some(baseline) = &self.baseline else { return String::new() };
        let pixels = baseline.raw_pixels.into_iter().chain(baseline.whitened_pixels).reduce(f32::max);
        let gain = |name: &str, level: Option<f32>| level.map(|level| format!("{name} {:+.1}", 100.0 * (top1 - level)));
        let gains: Vec<String> = [gain("start", baseline.random_init), gain("pixels", pixels)].into_iter().flatten().collect();
        if gains.is_empty() {
            String::new()
        } else {
            format!(" ({})", gains.join(", "))
        }
    }

    fn tell_time(&mut self) {
        let Some(timer) = &mut self.timer else { return };
        timer.done += 1;
        if timer.done == 1 {
            timer.started = Instant::now();
            return;
        }
        let elapsed = timer.started.elapsed();
        if timer.done > TIMED_STEPS || elapsed >= TIMED_FOR {
            let of_a_step = elapsed.as_secs_f64() / (timer.done - 1) as f64;
            let (whole, rate) = (duration(of_a_step * timer.steps as f64), self.batch_size as f64 / of_a_step);
            self.timer = None;
            self.line(&format!("time       about {whole} on this machine at {rate:.0} images/s, evaluation apart"));
        }
    }

    fn warn(&self, text: &str) {
        let write = || warning!("{text}");
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
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
