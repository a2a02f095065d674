//! The kNN accuracy that a run reports: labels are looked at here and nowhere else in training.

use super::{health::Spread, metrics::Baseline};
use crate::{
    config::{Monitor as Kind, TrainConfig},
    data::{labels, BatchConfig, Source, Splits, Subset},
    eval::{
        embed::{collect, embed_source},
        knn::{knn_accuracy, KnnConfig},
    },
    memory_bank::MemoryBank,
    ops::normalize::normalize,
    pca,
    preprocess::Preprocessing,
    resnet::ResNet,
    tensor_files::not_finite,
    Error, Result,
};
use candle_core::Tensor;
use std::sync::Arc;

/// Raw pixels are compared at this size at most: a larger one costs memory and adds little.
const RAW_SIZE: usize = 32;
/// Values of the raw pixels of a split, above which they are left out (1 GiB).
const MAX_RAW_VALUES: usize = 1 << 28;
/// Side, components at most and images for each component of whitened pixels.
const WHITENED_SIZE: usize = 16;
const WHITENED_DIM: usize = 128;
const IMAGES_PER_COMPONENT: usize = 4;
/// Images above which they are left out.
const MAX_WHITENED_IMAGES: usize = 60_000;
/// Images whose embeddings tell a collapse where no accuracy is measured.
const SPREAD_SAMPLE: usize = 256;
/// Images that are looked at to tell gray sets from coloured ones.
const GRAY_SAMPLE: usize = 64;

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

    /// Accuracy on the test split with the training split re-embedded, or with the running bank in its place, and how far the
    /// embeddings of the test split lie apart.
    pub(super) fn accuracy(&self, net: &ResNet, bank: &MemoryBank) -> Result<(f32, Option<Spread>)> {
        let queries = embeddings(net, &self.test, &self.batches)?;
        // Weights that are numbers still may be too large to compute with.
        if not_finite([("embeddings", &queries)])?.is_some() {
            return Err(Error::Diverged("the embeddings of the test images hold NaN or infinite values".into()));
        }
        let top1 = match self.is_bank_reused {
            true => self.vote(bank.rows(), &queries)?,
            false => self.vote(&embeddings(net, &self.train, &self.batches)?, &queries)?,
        };
        // One image is spread nowhere.
        Ok((top1, Spread::of(&queries).ok()))
    }

    /// Accuracy before training; `embedded` is the training split as `net` embeds it, where that is known already.
    pub(super) fn baseline(&self, net: &ResNet, embedded: Option<&Tensor>) -> Result<Baseline> {
        let train = embedded.map_or_else(|| embeddings(net, &self.train, &self.batches), |rows| Ok(rows.clone()))?;
        let test = embeddings(net, &self.test, &self.batches)?;
        Ok(Baseline {
            raw_pixels: self.raw_pixels()?,
            whitened_pixels: self.whitened_pixels()?,
            random_init: Some(self.vote(&train, &test)?),
            knn_k: self.knn.k,
            knn_temperature: self.knn.temperature,
        })
    }

    fn raw_pixels(&self) -> Result<Option<f32>> {
        let unit = |rows: Tensor| Ok(normalize(&rows)?.0);
        let Some((train, test)) = self.pixels(RAW_SIZE, unit)? else { return Ok(None) };
        Ok(Some(self.vote(&train, &test)?))
    }

    /// Small pixels, whitened by the principal components of the training images: a stronger baseline than raw ones.
    fn whitened_pixels(&self) -> Result<Option<f32>> {
        let dim = WHITENED_DIM.min(self.train.len() / IMAGES_PER_COMPONENT);
        if dim == 0 || self.train.len() > MAX_WHITENED_IMAGES {
            return Ok(None);
        }
        let Some((train, test)) = self.pixels(WHITENED_SIZE, Ok)? else { return Ok(None) };
        // Only images that are all equal cannot be whitened.
        let Ok(whitening) = pca::whitening(&train, dim) else { return Ok(None) };
        Ok(Some(self.vote(&whitening.apply(&train)?, &whitening.apply(&test)?)?))
    }

    /// The pixels `(N, F)` of both splits at this side at most, each batch through `f`; nothing where they would need too much memory.
    fn pixels(&self, size: usize, f: impl Fn(Tensor) -> Result<Tensor>) -> Result<Option<(Tensor, Tensor)>> {
        let input = Preprocessing { size: self.batches.input.size.min(size), ..self.batches.input };
        let batches = BatchConfig { input, ..self.batches.clone() };
        let channels = if is_gray(&*self.train)? && is_gray(&*self.test)? { 1 } else { 3 };
        if self.train.len() * channels * input.size * input.size > MAX_RAW_VALUES {
            return Ok(None);
        }
        let rows = |images: &Tensor| f(images.narrow(1, 0, channels)?.contiguous()?.flatten_from(1)?);
        let pixels = |source| collect(source, &batches, &mut |_| (), rows)?.with_stand_ins(source.len());
        Ok(Some((pixels(&self.train)?, pixels(&self.test)?)))
    }

    fn vote(&self, bank: &Tensor, queries: &Tensor) -> Result<f32> {
        knn_accuracy(bank, &self.train_labels, queries, &self.test_labels, &self.knn)
    }
}

/// Unit-length embeddings `(N, D)` of every image of a source, un-augmented and in order, on the CPU; the next image that
/// can be read stands in for one that cannot.
pub(super) fn embeddings(net: &ResNet, source: &Arc<dyn Source>, batches: &BatchConfig) -> Result<Tensor> {
    embed_source(net, source, batches, &mut |_| ())?.with_stand_ins(source.len())
}

/// How far the embeddings of a few images of `source`, evenly taken, lie apart.
pub(super) fn spread(net: &ResNet, source: &Arc<dyn Source>, batches: &BatchConfig) -> Result<Option<Spread>> {
    let (count, total) = (source.len().min(SPREAD_SAMPLE), source.len());
    let chosen = (0..count).map(|i| (i * total / count) as u32).collect();
    let chosen: Arc<dyn Source> = Arc::new(Subset::new(source.clone(), chosen)?);
    Ok(Spread::of(&embeddings(net, &chosen, batches)?).ok())
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
