//! What surrounds the steps: how a run begins, when it clusters, evaluates and saves.

use super::{
    begin::{batch_config, fresh_state, measure_normalization, note_new_head},
    cluster_quality,
    event::Event,
    health::{self, Spread},
    metrics::{self, rounded, EpochMetrics, Phase, StoppedAt, Summary, Totals},
    monitor::{self, Monitor},
    objective::Objective,
    observer::Observer,
    pending::{Pending, Step},
    replays::Replays,
    start::{Begun, Start},
};
#[cfg(feature = "cuda")]
use crate::data::resident::ResidentViews;
use crate::{
    checkpoint::{Position, TrainImages, TrainState},
    config::{BankInit, ClusterFeatures, Fit, TrainConfig},
    data::{epoch_batches, num_batches, Batch, BatchConfig, Splits, Unreadable},
    eval::readout,
    kmeans::{cluster, KmeansConfig},
    loss::Loss,
    ops::device::set_precision,
    Error, Result,
};
use candle_core::Tensor;
use std::time::{Duration, Instant};

/// The first k-means seed of the published code; run h takes this plus h.
const KMEANS_SEED: u64 = 1234;

/// A run under way.
pub(super) struct Trainer<'a> {
    pub(super) state: TrainState,
    fit: Fit,
    splits: &'a Splits,
    batches: BatchConfig,
    #[cfg(feature = "cuda")]
    resident: Option<std::sync::Arc<ResidentViews>>,
    monitor: Option<Monitor>,
    unreadable: Vec<Unreadable>,
    listener: Listener<'a>,
    stopped_at: Option<StoppedAt>,
    pending: Pending,
    pub(super) replays: Replays,
    epoch_started: Instant,
    saved: Instant,
}

/// The observer, who may have asked to stop.
struct Listener<'a> {
    observer: &'a mut dyn Observer,
    is_stop_wanted: bool,
}

impl Listener<'_> {
    fn tell(&mut self, event: Event) {
        self.is_stop_wanted |= self.observer.tell(event).is_break();
    }
}

impl<'a> Trainer<'a> {
    /// Resolves the settings and brings the run to where it begins or is resumed.
    pub(super) fn new(config: &TrainConfig, splits: &'a Splits, start: Start, observer: &'a mut dyn Observer) -> Result<Self> {
        set_precision(&config.device, config.precision)?;
        let mut fit = config.fit(splits.train.len())?;
        measure_normalization(&mut fit, splits)?;
        note_new_head(&mut fit, start);
        let mut listener = Listener { observer, is_stop_wanted: false };
        fit.notes.iter().for_each(|note| listener.tell(Event::Note(note.clone())));
        if !matches!(start, Start::Resume) {
            health::of_settings(&fit, splits.train.len()).into_iter().for_each(|warning| listener.tell(Event::Warning(warning)));
        }
        let batches = batch_config(&fit.config);
        let images = TrainImages::of(&*splits.train);
        let checkpoint = listener.observer.checkpoint_path();
        let (mut state, begun) = match start {
            Start::Resume if checkpoint.exists() => (TrainState::load(&checkpoint, &fit.config, &images)?, Begun::Resumed),
            Start::Branch(path) => {
                let state = TrainState::branch(path, &fit.config, &images)?;
                // Before the settings, so that a run that can be resumed never begins at its first step.
                state.save(&checkpoint)?;
                let begun = Begun::After(state.position.epoch);
                (state, begun)
            }
            Start::Resume => (fresh_state(&fit.config, splits, &images, None)?, Begun::Again),
            Start::New => (fresh_state(&fit.config, splits, &images, None)?, Begun::Anew),
            Start::From(weights) => (fresh_state(&fit.config, splits, &images, Some(weights))?, Begun::Again),
        };
        listener.observer.begun(&fit, begun)?;
        if fit.config.keep_statistics {
            state.net.keep_statistics();
        }
        let monitor = Monitor::new(&fit.config, splits, &batches);
        let now = Instant::now();
        let pending = Pending::default();
        let mut trainer = Self {
            #[cfg(feature = "cuda")]
            resident: if fit.config.device.is_cuda() { ResidentViews::new(&*splits.train, &batches, &fit.config.device)? } else { None },
            state,
            fit,
            splits,
            batches,
            monitor,
            unreadable: splits.unreadable.clone(),
            listener,
            stopped_at: None,
            pending,
            replays: Replays::default(),
            epoch_started: now,
            saved: now,
        };
        trainer.announce()?;
        Ok(trainer)
    }

    fn announce(&mut self) -> Result<()> {
        self.listener.observer.epochs_before(&self.state.position.epochs)?;
        self.measure_baseline()?;
        let Position { num_images, epoch, step, .. } = self.state.position;
        let steps = self.steps();
        self.listener.tell(Event::Start { num_images, epoch, step, steps });
        self.epoch_started = Instant::now();
        Ok(())
    }

    fn measure_baseline(&mut self) -> Result<()> {
        let Some(monitor) = &self.monitor else { return Ok(()) };
        if self.state.position.baseline.is_none() && self.state.position.epoch == 0 && self.state.position.step == 0 {
            self.listener.tell(Event::Evaluating);
            let is_embedded = self.fit.config.bank_init == BankInit::Forward;
            let baseline = monitor.baseline(&self.state.net, is_embedded.then_some(self.state.bank.rows()))?;
            self.state.position.baseline = Some(baseline);
        }
        let Some(baseline) = self.state.position.baseline else { return Ok(()) };
        self.listener.observer.baseline(&baseline)?;
        self.listener.tell(Event::Baseline(baseline));
        Ok(())
    }

    /// Whether every epoch is done, or the run has stopped.
    pub(super) fn is_done(&self) -> bool {
        self.has_every_epoch() || self.is_stopped()
    }

    /// Whether the run has stopped because the caller asked to, with a checkpoint of where it stands.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }

    fn has_every_epoch(&self) -> bool {
        self.state.position.epoch >= self.fit.config.epochs
    }

    /// Clusters the images before the first epoch of local aggregation, every `cluster_interval` epochs, and where a branch begins.
    pub(super) fn cluster_if_due(&mut self) -> Result<()> {
        let Position { epoch, step, .. } = self.state.position;
        if self.phase() != Phase::La || step != 0 {
            return Ok(());
        }
        let is_due = (epoch - self.fit.config.ir_epochs).is_multiple_of(self.fit.config.cluster_interval);
        if !is_due && self.state.clusters.is_some() {
            return Ok(());
        }
        let started = Instant::now();
        let (num_clusters, num_clusterings) = (self.fit.num_clusters(), self.fit.num_clusterings());
        self.listener.tell(Event::Clustering { num_clusters, num_clusterings });
        let seed = KMEANS_SEED.wrapping_add(self.fit.config.seed);
        let config = KmeansConfig { num_clusters, max_iters: self.fit.config.kmeans_iters, seed };
        self.replays.forget();
        let clusters = cluster(&self.points()?, num_clusterings, &config)?.agreeing(self.fit.config.min_agreement)?;
        self.state.position.totals.cluster = started.elapsed().as_secs_f64();
        let (network, images) = ((&self.state.net, &self.state.bank), (&self.splits.train, &self.batches));
        self.state.position.totals.clusters = Some(cluster_quality::measure(network, &clusters, images, &self.fit)?);
        self.state.clusters = Some(clusters);
        Ok(())
    }

    /// What k-means clusters, a row for each image.
    fn points(&self) -> Result<Tensor> {
        let rows = self.state.bank.rows();
        match self.fit.config.cluster_features {
            ClusterFeatures::Bank => Ok(rows.clone()),
            ClusterFeatures::Readout => {
                Ok(readout::of_images(&self.state.net, &self.splits.train, &self.batches)?.to_device(rows.device())?)
            }
        }
    }

    /// The batches that are left of the epoch.
    pub(super) fn batches(&self) -> Box<dyn Iterator<Item = Result<Batch>>> {
        let Position { epoch, step, .. } = self.state.position;
        #[cfg(feature = "cuda")]
        if let Some(resident) = &self.resident {
            return Box::new(resident.clone().epoch(epoch, step));
        }
        Box::new(epoch_batches(self.splits.train.clone(), &self.batches, epoch, step))
    }

    pub(super) fn objective(&self) -> Objective {
        Objective::new(&self.fit, self.phase(), self.state.position.epoch)
    }

    pub(super) fn learning_rate(&self) -> f64 {
        let steps = self.steps();
        let Position { epoch, step, .. } = self.state.position;
        self.fit.config.learning_rate(epoch * steps + step, steps)
    }

    /// Says, once, that the GPU does not record the steps under way.
    pub(super) fn note_refusal(&mut self) {
        if let Some(why) = self.replays.take_refusal() {
            self.listener.tell(Event::Note(format!("the GPU does not record these steps ({why}), so they run slower")));
        }
    }

    /// Lists the images that could not be read any more.
    pub(super) fn note_failed(&mut self, batch: &Batch) -> Result<()> {
        for failed in &batch.failed {
            if !self.unreadable.contains(failed) {
                self.listener.tell(Event::Note(format!("{} cannot be read and is left out: {}", failed.name, failed.reason)));
                self.unreadable.push(failed.clone());
                self.listener.observer.unreadable(failed)?;
            }
        }
        Ok(())
    }

    /// Adds a step to the sums of its epoch and reports it.
    pub(super) fn count_step(&mut self, batch: &Batch, loss: Loss, busy: Duration) -> Result<()> {
        let position = &mut self.state.position;
        let images = batch.indices.len();
        self.pending.push(Step { loss, images, before: position.step });
        position.step += 1;
        position.totals.images += images;
        position.totals.busy += busy.as_secs_f64();
        position.totals.wait += batch.waited.as_secs_f64();
        if self.pending.is_due() {
            self.settle()?;
        }
        let (epoch, step) = (self.state.position.epoch + 1, self.state.position.step);
        let event = Event::Step { epoch, step, steps: self.steps(), phase: self.phase(), loss: self.pending.known() };
        self.listener.tell(event);
        Ok(())
    }

    /// Takes in the losses of the steps done; waits for the device where one has them.
    fn settle(&mut self) -> Result<()> {
        let started = Instant::now();
        for Step { loss, images, before } in self.pending.settle()? {
            if !loss.loss.is_finite() {
                return Err(self.diverged(loss.loss, before));
            }
            let totals = &mut self.state.position.totals;
            totals.loss += f64::from(loss.loss) * images as f64;
            totals.empty_close += loss.num_empty_close;
        }
        self.state.position.totals.busy += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Saves inside an epoch, once enough time has passed or to stop; the epoch's last step is left to its end.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<()> {
        let is_last = self.state.position.step >= self.steps();
        if is_last || !self.is_time_to_save() {
            return Ok(());
        }
        self.settle()?;
        self.state.position.totals.elapsed += restart(&mut self.epoch_started);
        self.save()
    }

    fn is_time_to_save(&self) -> bool {
        let minutes = self.saved.elapsed().as_secs_f64() / 60.0;
        self.listener.is_stop_wanted || self.fit.config.checkpoint_minutes.is_some_and(|most| minutes >= most)
    }

    /// Evaluates, reports and saves, what of these is due.
    pub(super) fn finish_epoch(&mut self) -> Result<()> {
        self.settle()?;
        // Before anything is written: the weights of a run that has diverged replace no good ones.
        self.state.check_finite().map_err(|error| self.with_checkpoint(error))?;
        let done = self.state.position.epoch + 1;
        let is_due = |interval| done.is_multiple_of(interval) || done == self.fit.config.epochs;
        let is_evaluated = is_due(self.fit.config.monitor_interval);
        let is_save_due = is_due(self.fit.config.checkpoint_interval);
        let (knn_top1, spread) = if is_evaluated { self.evaluate().map_err(|error| self.with_checkpoint(error))? } else { (None, None) };
        let metrics = self.epoch_metrics(knn_top1, spread);
        let position = &mut self.state.position;
        position.epochs.push(metrics.clone());
        position.epoch += 1;
        position.step = 0;
        position.totals = Totals::default();
        let is_saved = is_save_due || self.is_time_to_save();
        if is_saved {
            self.listener.observer.weights(&self.state)?;
        }
        self.listener.observer.epoch(&self.state.position.epochs)?;
        self.listener.tell(Event::Epoch(metrics));
        let warnings = health::of_epochs(&self.state.position.epochs, self.state.bank.dim());
        warnings.into_iter().for_each(|warning| self.listener.tell(Event::Warning(warning)));
        if done == self.fit.config.ir_epochs && done < self.fit.config.epochs {
            self.state.save(&self.listener.observer.ir_checkpoint_path())?;
        }
        // Last, so that a checkpoint means that what stands beside it is complete.
        if is_saved {
            self.save()?;
        }
        Ok(())
    }

    /// The accuracy, where it is measured, and the spread of embeddings in eval mode: the rows of the bank are a mean of many epochs.
    fn evaluate(&mut self) -> Result<(Option<f32>, Option<Spread>)> {
        let (net, bank) = (&self.state.net, &self.state.bank);
        let Some(monitor) = &self.monitor else {
            return Ok((None, monitor::spread(net, &self.splits.train, &self.batches)?));
        };
        self.listener.tell(Event::Evaluating);
        let (top1, spread) = monitor.accuracy(net, bank)?;
        Ok((Some(top1), spread))
    }

    fn epoch_metrics(&mut self, knn_top1: Option<f32>, spread: Option<Spread>) -> EpochMetrics {
        let seconds = self.state.position.totals.elapsed + restart(&mut self.epoch_started);
        let (phase, lr) = (self.phase(), self.last_learning_rate());
        let Position { epoch, totals, epochs, .. } = &self.state.position;
        let images = totals.images.max(1) as f64;
        EpochMetrics {
            epoch: epoch + 1,
            phase,
            loss: rounded(totals.loss / images, 6),
            lr,
            images_per_s: rounded(totals.images_per_s(), 1),
            knn_top1,
            seconds: rounded(seconds, 3),
            total_seconds: rounded(epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() + seconds, 3),
            cluster_seconds: rounded(totals.cluster, 3),
            wait_seconds: rounded(totals.wait, 3),
            empty_close: (phase == Phase::La).then_some(totals.empty_close as f64 / (images * self.fit.config.views as f64)),
            clusters: totals.clusters,
            mean_cosine: spread.map(|spread| rounded(spread.mean_cosine, 4)),
            effective_rank: spread.map(|spread| rounded(spread.effective_rank, 2)),
            peak_rss_mb: metrics::peak_rss_mb(),
            unix_time: metrics::unix_time(),
        }
    }

    fn last_learning_rate(&self) -> f64 {
        let steps = self.steps();
        self.fit.config.learning_rate(self.state.position.epoch * steps + steps - 1, steps)
    }

    /// The error of a loss that is NaN or infinite.
    pub(super) fn diverged(&self, loss: f32, step: usize) -> Error {
        let epoch = self.state.position.epoch;
        let (epoch, step, steps, lr) = (epoch + 1, step + 1, self.steps(), self.learning_rate());
        self.with_checkpoint(Error::Diverged(format!("loss is {loss} at epoch {epoch}, step {step} of {steps}, learning rate {lr}")))
    }

    fn with_checkpoint(&self, error: Error) -> Error {
        let path = self.listener.observer.checkpoint_path();
        let checkpoint =
            if path.exists() { format!("the last good checkpoint is {}", path.display()) } else { "there is no checkpoint yet".into() };
        match error {
            Error::Diverged(what) => Error::Diverged(format!("{what}; {checkpoint}")),
            other => other,
        }
    }

    pub(super) fn summary(self) -> Summary {
        Summary { baseline: self.state.position.baseline, epochs: self.state.position.epochs, stopped_at: self.stopped_at }
    }

    fn save(&mut self) -> Result<()> {
        let path = self.listener.observer.checkpoint_path();
        self.state.save(&path).map_err(|error| self.with_checkpoint(error))?;
        self.saved = Instant::now();
        let Position { epoch, step, .. } = self.state.position;
        if self.listener.is_stop_wanted && !self.has_every_epoch() {
            self.stopped_at = Some(StoppedAt { epoch, step, steps: self.steps() });
        }
        self.listener.tell(Event::Checkpoint(path));
        Ok(())
    }

    fn phase(&self) -> Phase {
        if self.state.position.epoch < self.fit.config.ir_epochs {
            Phase::Ir
        } else {
            Phase::La
        }
    }

    /// Steps of an epoch: whole batches only.
    fn steps(&self) -> usize {
        num_batches(self.splits.train.len(), self.fit.config.batch_size)
    }
}

fn restart(clock: &mut Instant) -> f64 {
    let seconds = clock.elapsed().as_secs_f64();
    *clock = Instant::now();
    seconds
}
