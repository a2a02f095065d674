//! The read-out: the embedding that search and evaluation compare, learned without labels when training is over.
//!
//! The loss shapes the last layer's output for the images that it saw; on pictures of another kind the features below it tell
//! more. The spatial means of the last two stages, whitened, are 5 to 10 points better there, and level or better on the
//! images learned from; layer3's means over two halves gain another 2 to 3 points. Whitening them by the pictures that
//! are searched, as far as these are enough to tell, gains another 3 to 10 points (weights/README.md has the figures).

use super::embed::readout_features;
use crate::{
    data::{BatchConfig, Source, Subset},
    error::bail,
    pca::{whitening, Whitening},
    resnet::ResNet,
    Result,
};
use candle_core::Tensor;
use std::sync::Arc;

/// Bands of rows whose means of layer3 a new read-out sees: two are 2 to 3 points better than one, three hardly more (weights/README.md).
#[doc(hidden)]
pub const BANDS: usize = 2;
/// Dimensions of a read-out that is kept with weights.
const DIM: usize = 256;
/// Dimensions of one that is fitted to the pictures it is used on: 1 to 3 points better than 256, and 512 is hardly better.
const FITTED_DIM: usize = 384;
/// The most images that it is learned from.
const MOST_IMAGES: usize = 10_000;
/// Images for each dimension: a component that is seen in fewer is mostly chance.
const IMAGES_PER_DIM: usize = 4;

/// How many images [`learn`] looks at.
#[doc(hidden)]
pub fn num_images(source: &dyn Source) -> usize {
    source.len().min(MOST_IMAGES)
}

/// Learns the read-out of `net` from up to 10,000 images spread evenly over `source`; none where there are fewer than eight.
///
/// An `earlier` read-out of such features is fitted to them instead. `progress` is told how many images are done.
pub fn learn(
    (net, earlier): (&ResNet, Option<&Whitening>),
    source: &Arc<dyn Source>,
    config: &BatchConfig,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Whitening>> {
    let chosen: Arc<dyn Source> = Arc::new(Subset::new(source.clone(), spread(source.len()))?);
    if let Some((earlier, bands)) = earlier.and_then(|map| Some((map, net.config().readout_bands(map.num_features()).ok()?))) {
        let features = readout_features((net, bands), &chosen, config, progress)?;
        return earlier.fitted_to(&features.values, DIM.min(earlier.num_features())).map(Some);
    }
    let dim = DIM.min(chosen.len() / IMAGES_PER_DIM);
    if dim < 2 {
        return Ok(None);
    }
    let features = readout_features((net, BANDS), &chosen, config, progress)?;
    whitening(&features.values, dim).map(Some)
}

/// The read-out `(N, D)` of every image of `source`, unit length, its map learned from the same images.
///
/// The next image that can be read stands in for one that cannot. Fails as [`learn`] does, and where there are fewer than eight images.
pub(crate) fn of_images(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig) -> Result<Tensor> {
    let features = readout_features((net, BANDS), source, config, &mut |_| ())?.with_stand_ins(source.len())?;
    let chosen = spread(source.len());
    let (count, dim) = (chosen.len(), DIM.min(chosen.len() / IMAGES_PER_DIM));
    if dim < 2 {
        bail!("cluster-features must be bank for fewer than {} images, got readout for {count}", 2 * IMAGES_PER_DIM);
    }
    whitening(&features.index_select(&Tensor::from_vec(chosen, count, features.device())?, 0)?, dim)?.apply(&features)
}

/// The read-out `map` fitted to the pictures with these `features` `(N, F)`.
pub fn fit(map: &Whitening, features: &Tensor) -> Result<Whitening> {
    let (total, num_features) = features.dims2()?;
    let chosen = spread(total);
    let dim = FITTED_DIM.max(map.dim()).min(map.dim() + chosen.len() / IMAGES_PER_DIM).min(num_features);
    if chosen.len() == total {
        return map.fitted_to(features, dim);
    }
    let count = chosen.len();
    map.fitted_to(&features.index_select(&Tensor::from_vec(chosen, count, features.device())?, 0)?, dim)
}

/// At most 10,000 of so many images, spread evenly, because folders come sorted by class.
fn spread(total: usize) -> Vec<u32> {
    let count = total.min(MOST_IMAGES);
    (0..count).map(|i| (i * total / count) as u32).collect()
}
