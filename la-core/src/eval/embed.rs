//! A whole data source through a network in eval mode, un-augmented: the embeddings that kNN and search see, the pooled
//! features that a linear probe sees.

use crate::data::{eval_batches, BatchConfig, Source, Unreadable};
use crate::error::bail;
use crate::ops::host;
use crate::resnet::ResNet;
use crate::Result;
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Pixels of a batch: enough to keep the processor busy, little enough for its caches.
const BATCH_PIXELS: usize = 128 * 32 * 32;

/// What a source was turned into.
#[derive(Debug, Clone)]
pub struct Rows {
    /// `(N, …)`, a row for each image in the order of the source, on the CPU.
    pub values: Tensor,
    /// Images that could not be read any more: their rows are those of the next ones that could.
    pub failed: Vec<Unreadable>,
}

/// Unit-length embeddings `(N, D)` of every image of `source`.
///
/// `progress` is told how many images are done. Fails where there is no image, or many in a row cannot be read.
pub fn embed_source(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig, progress: &mut dyn FnMut(usize)) -> Result<Rows> {
    collect(source, config, progress, |images| net.embed(images))
}

/// Pooled features `(N, F)` of every image of `source`.
///
/// `progress` is told how many images are done. Fails where there is no image, or many in a row cannot be read.
pub fn pooled_features(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig, progress: &mut dyn FnMut(usize)) -> Result<Rows> {
    collect(source, config, progress, |images| Ok(net.forward(images)?.pooled))
}

/// What a read-out maps, `(N, F)`, of every image of `source`: see [`ResNet::readout_features`].
///
/// `progress` is told how many images are done. Fails where there is no image, or many in a row cannot be read.
pub fn readout_features(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig, progress: &mut dyn FnMut(usize)) -> Result<Rows> {
    collect(source, config, progress, |images| net.readout_features(images))
}

/// The rows that `f` makes of each batch of images, one below the other.
pub(crate) fn collect(
    source: &Arc<dyn Source>,
    config: &BatchConfig,
    progress: &mut dyn FnMut(usize),
    f: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Rows> {
    let batch_size = (BATCH_PIXELS / (config.size * config.size).max(1)).clamp(16, 256);
    let mut rows: Vec<f32> = Vec::new();
    let mut failed = Vec::new();
    let mut num_done = 0;
    for batch in eval_batches(source.clone(), config, batch_size) {
        let batch = batch?;
        failed.extend(batch.failed);
        let out = f(&batch.images)?.to_device(&Device::Cpu)?.contiguous()?;
        let (batch_rows, width) = out.dims2()?;
        if rows.is_empty() {
            rows.reserve_exact(source.len() * width);
        }
        num_done += batch_rows;
        host::read(&out, |values| rows.extend_from_slice(values))?;
        progress(num_done);
    }
    if num_done == 0 {
        bail!("expected at least one image to embed, got none");
    }
    let width = rows.len() / num_done;
    Ok(Rows { values: host::tensor(rows, (num_done, width)), failed })
}
