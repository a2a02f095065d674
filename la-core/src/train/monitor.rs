//! The kNN accuracy that a run reports: labels are looked at here and nowhere else in training.

use super::Baseline;
use crate::{
    config::{Monitor as Kind, TrainConfig},
    data::{eval_batches, labels, BatchConfig, Source, Splits},
    error::bail,
    eval::knn::{knn_accuracy, KnnConfig},
    memory_bank::MemoryBank,
    ops::{host, normalize::normalize},
    resnet::ResNet,
    Result,
};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Raw pixels are compared at this size at most: a larger one costs memory and adds little.
const RAW_SIZE: usize = 32;
/// Values of the raw pixels of a split, above which they are left out (1 GiB).
const MAX_RAW_VALUES: usize = 1 << 28;
/// Images that are looked at to tell gray sets from coloured ones.
const GRAY_SAMPLE: usize = 64;
/// Pixels of an evaluation batch.
const EVAL_PIXELS: usize = 128 * 32 * 32;

/// Both splits with their labels.
pub(super) struct Monitor {
    train: Arc<dyn Source>,
    test: Arc<dyn Source>,
    train_labels: Vec<u32>,
    test_labels: Vec<u32>,
    batches: BatchConfig,
    knn: KnnConfig,
    is_bank_reused: bool,
}

impl Monitor {
    /// The monitor of a run, if it is wanted, there is a test split, and every image has a label.
    pub(super) fn new(config: &TrainConfig, splits: &Splits, batches: &BatchConfig) -> Option<Self> {
        let test = splits.test.clone().filter(|_| config.monitor != Kind::None)?;
        Some(Self {
            train_labels: labels(&*splits.train)?,
            test_labels: labels(&*test)?,
            train: splits.train.clone(),
            test,
            batches: batches.clone(),
            knn: KnnConfig { k: config.knn_k.min(splits.train.len()), temperature: config.knn_temperature },
            is_bank_reused: config.monitor == Kind::Bank,
        })
    }

    /// Accuracy on the test split with the training split re-embedded, or with the running bank in its place.
    pub(super) fn accuracy(&self, net: &ResNet, bank: &MemoryBank) -> Result<f32> {
        let queries = embed_source(net, &self.test, &self.batches)?;
        if self.is_bank_reused {
            return self.vote(bank.rows(), &queries);
        }
        self.vote(&embed_source(net, &self.train, &self.batches)?, &queries)
    }

    /// Accuracy before training; `embedded` is the training split as `net` embeds it, where that is known already.
    pub(super) fn baseline(&self, net: &ResNet, embedded: Option<&Tensor>) -> Result<Baseline> {
        let train = embedded.map_or_else(|| embed_source(net, &self.train, &self.batches), |rows| Ok(rows.clone()))?;
        let test = embed_source(net, &self.test, &self.batches)?;
        Ok(Baseline {
            raw_pixels: self.raw_pixels()?,
            random_init: Some(self.vote(&train, &test)?),
            knn_k: self.knn.k,
            knn_temperature: self.knn.temperature,
        })
    }

    fn raw_pixels(&self) -> Result<Option<f32>> {
        let batches = BatchConfig { size: self.batches.size.min(RAW_SIZE), ..self.batches.clone() };
        let channels = if is_gray(&*self.train)? && is_gray(&*self.test)? { 1 } else { 3 };
        if self.train.len() * channels * batches.size * batches.size > MAX_RAW_VALUES {
            return Ok(None);
        }
        let rows = |images: &Tensor| Ok(normalize(&images.narrow(1, 0, channels)?.contiguous()?.flatten_from(1)?)?.0);
        let (train, test) = (collect(&self.train, &batches, rows)?, collect(&self.test, &batches, rows)?);
        Ok(Some(self.vote(&train, &test)?))
    }

    fn vote(&self, bank: &Tensor, queries: &Tensor) -> Result<f32> {
        knn_accuracy(bank, &self.train_labels, queries, &self.test_labels, &self.knn)
    }
}

/// Embeddings `(N, D)` of every image of a source, un-augmented and in order, on the CPU.
///
/// Batch norm is in eval mode. Fails where an image cannot be read.
pub fn embed_source(net: &ResNet, source: &Arc<dyn Source>, batches: &BatchConfig) -> Result<Tensor> {
    collect(source, batches, |images| net.embed(images))
}

/// Rows that `rows_of` makes of each batch, one below the other.
fn collect(source: &Arc<dyn Source>, batches: &BatchConfig, rows_of: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let batch_size = (EVAL_PIXELS / (batches.size * batches.size)).clamp(16, 256);
    let mut values: Vec<f32> = Vec::new();
    for batch in eval_batches(source.clone(), batches, batch_size) {
        let rows = rows_of(&batch?.images)?.to_device(&Device::Cpu)?.contiguous()?;
        if values.capacity() == 0 {
            values.reserve_exact(source.len() * rows.dim(1)?);
        }
        host::read(&rows, |rows| values.extend_from_slice(rows))?;
    }
    if values.is_empty() {
        bail!("expected at least one image to embed, got none");
    }
    let width = values.len() / source.len();
    Ok(host::tensor(values, (source.len(), width)))
}

/// Whether the first images have three equal channels: one then says it all, in a third of the memory.
fn is_gray(source: &dyn Source) -> Result<bool> {
    for index in 0..source.len().min(GRAY_SAMPLE) {
        if !source.picture(index)?.pixels.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]) {
            return Ok(false);
        }
    }
    Ok(true)
}
