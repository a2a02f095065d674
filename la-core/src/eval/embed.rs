//! A whole data source through a network in eval mode, un-augmented: the embeddings that kNN and search see, the pooled
//! features that a linear probe sees.

use crate::data::{eval_batches, none_readable, BatchConfig, Source, Unreadable};
use crate::error::bail;
use crate::ops::host;
use crate::resnet::ResNet;
use crate::Result;
use candle_core::{Device, Tensor};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Pixels of a batch: enough to keep the processor busy, little enough for its caches.
const BATCH_PIXELS: usize = 128 * 32 * 32;

/// Images of a batch where they are `size` pixels wide.
#[doc(hidden)]
pub fn batch_size(size: usize) -> usize {
    (BATCH_PIXELS / (size * size).max(1)).clamp(16, 256)
}

/// What a source was turned into.
#[derive(Debug, Clone)]
pub struct Rows {
    /// `(N, …)`, a row for each image that could be read, in the order of the source, on the CPU.
    pub values: Tensor,
    /// Which images these are, by increasing index.
    pub indices: Vec<u32>,
    /// The images that could not be read and have no row.
    pub unreadable: Vec<Unreadable>,
}

/// What one batch of a source was turned into.
#[derive(Debug)]
#[doc(hidden)]
pub struct Part {
    /// A row for each image that could be read, one after the other.
    pub values: Vec<f32>,
    /// Which images of the source these are.
    pub indices: Vec<u32>,
    /// The images that could not be read, each with its index.
    pub unreadable: Vec<(u32, Unreadable)>,
}

impl Rows {
    /// `(num_images, …)`, where the row of the next image that could be read stands in for one that could not.
    pub(crate) fn with_stand_ins(self, num_images: usize) -> Result<Tensor> {
        if self.indices.len() == num_images {
            return Ok(self.values);
        }
        let next = |index| self.indices.partition_point(|&readable| readable < index) % self.indices.len();
        let rows: Vec<u32> = (0..num_images as u32).map(|index| next(index) as u32).collect();
        Ok(self.values.index_select(&Tensor::from_vec(rows, num_images, &Device::Cpu)?, 0)?)
    }
}

/// Unit-length embeddings `(N, D)` of the images of `source` that can be read.
///
/// `progress` is told how many images are done. Fails where there is no image, or none can be read.
pub fn embed_source(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig, progress: &mut dyn FnMut(usize)) -> Result<Rows> {
    collect(source, config, progress, |images| net.embed(images))
}

/// Pooled features `(N, F)` of the images of `source` that can be read.
///
/// `progress` is told how many images are done. Fails where there is no image, or none can be read.
pub fn pooled_features(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig, progress: &mut dyn FnMut(usize)) -> Result<Rows> {
    collect(source, config, progress, |images| Ok(net.features(images)?.pooled))
}

/// What a read-out maps, `(N, F)`, of every image of `source`: see [`ResNet::readout_features`].
///
/// `progress` is told how many images are done. Fails where there is no image, or many in a row cannot be read.
pub fn readout_features(
    (net, bands): (&ResNet, usize),
    source: &Arc<dyn Source>,
    config: &BatchConfig,
    progress: &mut dyn FnMut(usize),
) -> Result<Rows> {
    collect(source, config, progress, |images| net.readout_features(images, bands))
}

/// The rows that `f` makes of each batch of images, one below the other.
///
/// `progress` is told how many images are done. Fails where there is no image, or none can be read.
pub fn collect(
    source: &Arc<dyn Source>,
    config: &BatchConfig,
    progress: &mut dyn FnMut(usize),
    f: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Rows> {
    let (mut values, mut indices, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    for_each_part(source, config, f, &mut |part| {
        if indices.is_empty() && !part.indices.is_empty() {
            values.reserve_exact(source.len() * (part.values.len() / part.indices.len()));
        }
        values.extend_from_slice(&part.values);
        indices.extend(part.indices);
        unreadable.extend(part.unreadable.into_iter().map(|(_, file)| file));
        progress(indices.len() + unreadable.len());
        ControlFlow::Continue(())
    })?;
    if indices.is_empty() {
        return Err(none_readable(source.len(), &unreadable));
    }
    let shape = (indices.len(), values.len() / indices.len());
    Ok(Rows { values: host::tensor(values, shape), indices, unreadable })
}

/// Calls `take` with the rows that `f` makes of each batch of images, in order, until it breaks.
///
/// Fails where there is no image.
#[doc(hidden)]
pub fn for_each_part(
    source: &Arc<dyn Source>,
    config: &BatchConfig,
    f: impl Fn(&Tensor) -> Result<Tensor>,
    take: &mut dyn FnMut(Part) -> ControlFlow<()>,
) -> Result<()> {
    if source.is_empty() {
        bail!("expected at least one image to embed, got none");
    }
    for batch in eval_batches(source.clone(), config, batch_size(config.input.size)) {
        let batch = batch?;
        let is_missing = |at: &usize| batch.missing.contains(at);
        let mut values = match batch.missing.len() == batch.indices.len() {
            true => vec![],
            false => f(&batch.images)?.flatten_from(1)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?,
        };
        if !batch.missing.is_empty() {
            let width = values.len() / batch.indices.len();
            let kept = (0..batch.indices.len()).filter(|at| width > 0 && !is_missing(at));
            values = kept.flat_map(|at| &values[at * width..(at + 1) * width]).copied().collect();
        }
        let indices = batch.indices.iter().enumerate().filter(|(at, _)| !is_missing(at)).map(|(_, &index)| index).collect();
        let failed = batch.missing.iter().map(|&at| batch.indices[at]).zip(batch.failed).collect();
        if take(Part { values, indices, unreadable: failed }).is_break() {
            break;
        }
    }
    Ok(())
}
