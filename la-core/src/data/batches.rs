//! Batches prepared ahead by data threads, in an order and with draws that depend on seed and epoch alone.

use super::{Picture, Source, Unreadable};
use crate::{
    augment::{augment, center, AugmentConfig},
    error::bail,
    ops::{host, parallel},
    preprocess::{Normalization, Preprocessing},
    rng::{Rng, Stream},
    Error, Result,
};
use candle_core::Tensor;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches that wait ready while the network works on one.
const AHEAD: usize = 2;
/// Images after an unreadable one that are tried in its place.
const STAND_INS: usize = 16;

/// How batches are made.
#[derive(Debug, Clone)]
pub struct BatchConfig {
    /// What the network sees of an image: the evaluation view; of a random one, its size and normalisation.
    pub input: Preprocessing,
    /// Images a batch, `B`.
    pub batch_size: usize,
    /// Random views of each image.
    pub views: usize,
    /// What a view changes.
    pub augment: AugmentConfig,
    /// Seed of the order and of the views.
    pub seed: u64,
    /// Data threads.
    pub threads: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            input: Preprocessing::of(224, 0.875, Normalization::default()),
            batch_size: 128,
            views: 1,
            augment: AugmentConfig::default(),
            seed: 0,
            threads: 2,
        }
    }
}

impl BatchConfig {
    /// Fails where a setting is out of range, or `source` holds too few images to learn from.
    pub(crate) fn check(&self, source: &dyn Source) -> Result<()> {
        self.check_values()?;
        match source.len() {
            n if n < 2 => bail!("training needs at least 2 images, got {n}"),
            _ => Ok(()),
        }
    }

    fn check_values(&self) -> Result<()> {
        for (name, value) in [("batch size", self.batch_size), ("views", self.views)] {
            if value == 0 {
                bail!("{name} must be at least 1, got 0");
            }
        }
        self.augment.check()?;
        self.input.check()
    }
}

/// Some images, ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// (views * B, 3, H, W), the first view of all images first; channels are innermost in memory.
    pub images: Tensor,
    /// (B,) which images of the source.
    pub indices: Vec<u32>,
    /// How long the consumer waited for this batch.
    pub waited: Duration,
    /// Images that could not be read any more. In an epoch the next readable ones of the source stand in for them; among
    /// un-augmented images nothing does, and their values are 0.
    pub failed: Vec<Unreadable>,
    /// Un-augmented: the place in the batch of each of [`Batch::failed`].
    pub missing: Vec<usize>,
}

/// Batches an epoch of `num_images` has: a last short one is left out, unless it is the only one.
pub fn num_batches(num_images: usize, batch_size: usize) -> usize {
    match num_images / batch_size.max(1) {
        0 => num_images.min(1),
        n => n,
    }
}

/// The batches of an epoch from `first_batch` on, augmented, in random order.
///
/// Order and views depend on seed, epoch and image alone: neither on threads nor on `first_batch`. Two images are the
/// least to learn from; a source with fewer, or a setting out of range, is the error of the first item.
pub fn epoch_batches(source: Arc<dyn Source>, config: &BatchConfig, epoch: usize, first_batch: usize) -> Batches {
    let parts = epoch_parts(source.len(), config, epoch, first_batch);
    Batches::start(config.check(&*source).map(|()| Job { source, config: config.clone(), parts, epoch: Some(epoch as u64) }))
}

/// The images of each batch of an epoch, from `first_batch` on.
pub(crate) fn epoch_parts(num_images: usize, config: &BatchConfig, epoch: usize, first_batch: usize) -> Vec<Vec<u32>> {
    let order = Rng::new(Stream::Order, &[config.seed, epoch as u64]).permutation(num_images);
    (first_batch..num_batches(num_images, config.batch_size)).map(|i| part(&order, i, config.batch_size)).collect()
}

/// All images once, un-augmented and in order, `batch_size` at a time; the last batch may be short.
pub fn eval_batches(source: Arc<dyn Source>, config: &BatchConfig, batch_size: usize) -> Batches {
    let config = BatchConfig { batch_size, views: 1, ..config.clone() };
    let order: Vec<u32> = (0..source.len() as u32).collect();
    let parts = (0..order.len().div_ceil(batch_size.max(1))).map(|i| part(&order, i, batch_size)).collect();
    Batches::start(config.check_values().map(|()| Job { source, config, parts, epoch: None }))
}

fn part(order: &[u32], index: usize, batch_size: usize) -> Vec<u32> {
    let start = index * batch_size.max(1);
    order[start..(start + batch_size.max(1)).min(order.len())].to_vec()
}

/// Batches in order, prepared ahead; dropping it stops the threads.
pub struct Batches {
    ready: Option<Receiver<Result<Batch>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    left: usize,
}

impl Batches {
    fn start(job: Result<Job>) -> Self {
        let (sender, ready) = sync_channel(AHEAD - 1);
        let stop = Arc::new(AtomicBool::new(false));
        let left = job.as_ref().map_or(1, |job| job.parts.len());
        let flag = stop.clone();
        let spawned = std::thread::Builder::new().name("batches".into()).spawn(move || match job {
            Ok(job) => job.run(&sender, &flag),
            Err(err) => drop(sender.send(Err(err))),
        });
        // Without the thread the channel is closed, which the first `next` reports.
        Self { ready: Some(ready), stop, thread: spawned.ok(), left }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let start = Instant::now();
        let received = self.ready.as_ref()?.recv();
        let batch = received.unwrap_or_else(|_| {
            Err(Error::invalid("the threads that load images ended early: they could not be started, or a decoder failed"))
        });
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch.map(|batch| Batch { waited: start.elapsed(), ..batch }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.ready.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported as an error by `next`.
            let _ = thread.join();
        }
    }
}

/// What the data threads do.
struct Job {
    source: Arc<dyn Source>,
    config: BatchConfig,
    parts: Vec<Vec<u32>>,
    /// The epoch whose views are drawn; none for un-augmented images.
    epoch: Option<u64>,
}

impl Job {
    fn run(&self, sender: &SyncSender<Result<Batch>>, stop: &AtomicBool) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.config.threads.max(1)).thread_name(|i| format!("data-{i}")).build();
        let pool = match pool {
            Ok(pool) => pool,
            Err(err) => return drop(sender.send(Err(Error::invalid(format!("data threads could not be started: {err}"))))),
        };
        for indices in &self.parts {
            let batch = pool.install(|| self.batch(indices, stop));
            let failed = batch.is_err();
            if stop.load(Ordering::Relaxed) || sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn batch(&self, indices: &[u32], stop: &AtomicBool) -> Result<Batch> {
        let BatchConfig { input: Preprocessing { size, .. }, views, .. } = self.config;
        let (n, image_len) = (indices.len(), size * size * 3);
        let mut images = host::scratch(views * n * image_len);
        let problems = Mutex::new(Problems::default());
        // One view at a time is work enough for a thread, unless the images are tiny.
        let per_piece = ((1 << 15) / image_len).clamp(1, n);
        parallel::for_each_chunk(&mut images, per_piece * image_len, |piece, chunk| {
            for (i, out) in chunk.chunks_exact_mut(image_len).enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let at = piece * per_piece + i;
                let written = self.view(indices[at % n], (at / n) as u64, out);
                problems.lock().unwrap_or_else(PoisonError::into_inner).add(at, written);
            }
        });
        let failed = problems.into_inner().unwrap_or_else(PoisonError::into_inner).into_failed()?;
        let images = host::tensor(images, (views * n, size, size, 3)).permute((0, 3, 1, 2))?;
        let (missing, failed) = match self.epoch {
            Some(_) => (vec![], each_once(failed)),
            None => failed.into_iter().unzip(),
        };
        Ok(Batch { images, indices: indices.to_vec(), waited: Duration::ZERO, failed, missing })
    }

    /// Writes view `view` of the image at `index`; says so where it cannot be read.
    fn view(&self, index: u32, view: u64, out: &mut [f32]) -> Result<Option<Unreadable>> {
        let Some(epoch) = self.epoch else { return self.middle(index as usize, out) };
        let (picture, failed) = readable(&*self.source, index as usize)?;
        let mut rng = Rng::new(Stream::Augment, &[self.config.seed, epoch, u64::from(index), view]);
        augment(&picture, &self.config.augment, &self.config.input, &mut rng, out)?;
        Ok(failed)
    }

    /// Writes the image at `index` un-augmented, or nothing but 0 where it cannot be read.
    fn middle(&self, index: usize, out: &mut [f32]) -> Result<Option<Unreadable>> {
        match self.source.picture(index) {
            Ok(picture) => center(&picture, &self.config.input, out).map(|()| None),
            Err(err) => {
                out.fill(0.0);
                Ok(Some(unreadable(&*self.source, index, &err.to_string())))
            }
        }
    }
}

/// The image at `index`, or the next one of the source that can be read.
pub(crate) fn readable(source: &dyn Source, index: usize) -> Result<(Cow<'_, Picture>, Option<Unreadable>)> {
    let reason = match source.picture(index) {
        Ok(picture) => return Ok((picture, None)),
        Err(err) => err.to_string(),
    };
    let n = source.len();
    let stand_in = (1..=STAND_INS.min(n - 1)).find_map(|i| source.picture((index + i) % n).ok());
    match stand_in {
        Some(picture) => Ok((picture, Some(unreadable(source, index, &reason)))),
        None => bail!("{reason}; nor could any of the {STAND_INS} images after it be read"),
    }
}

/// The image at `index` with what its source says of it, where the name need not stand twice.
fn unreadable(source: &dyn Source, index: usize, said: &str) -> Unreadable {
    let name = source.name(index);
    let reason = said.strip_prefix(&name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(said).to_string();
    Unreadable { name, reason }
}

/// What went wrong while a batch was made, each at its place in the batch.
#[derive(Default)]
struct Problems {
    error: Option<(usize, Error)>,
    failed: Vec<(usize, Unreadable)>,
}

impl Problems {
    fn add(&mut self, at: usize, written: Result<Option<Unreadable>>) {
        match written {
            Ok(None) => (),
            Ok(Some(unreadable)) => self.failed.push((at, unreadable)),
            Err(err) if self.error.as_ref().is_none_or(|(first, _)| at < *first) => self.error = Some((at, err)),
            Err(_) => (),
        }
    }

    /// What could not be read, in the order of the batch; or the first error.
    fn into_failed(mut self) -> Result<Vec<(usize, Unreadable)>> {
        if let Some((_, err)) = self.error {
            return Err(err);
        }
        self.failed.sort_by_key(|(at, _)| *at);
        Ok(self.failed)
    }
}

/// The images that failed in one view or several.
fn each_once(failed: Vec<(usize, Unreadable)>) -> Vec<Unreadable> {
    let mut once: Vec<Unreadable> = vec![];
    for (_, unreadable) in failed {
        if !once.contains(&unreadable) {
            once.push(unreadable);
        }
    }
    once
}
