//! The read-out: the embedding that search and evaluation compare, learned without labels when training is over.
//!
//! The loss shapes the last layer's output for the images that it saw; on pictures of another kind the features below it tell
//! more. The spatial means of the last two stages, whitened, are 5 to 10 points better there, and level or better on the
//! images learned from (weights/README.md has the figures).

use super::embed::readout_features;
use crate::{
    data::{BatchConfig, Source, Subset},
    pca::{whitening, Whitening},
    resnet::ResNet,
    Result,
};
use std::sync::Arc;

/// Dimensions of the read-out: nearly all of the gain for twice the bytes of the output's 128.
pub const DIM: usize = 256;
/// Images from which on a read-out of one's own is level with that of weights which learned theirs from thousands of others.
pub const ENOUGH_IMAGES: usize = 1500;
/// The most images that it is learned from.
const MOST_IMAGES: usize = 10_000;
/// Images for each dimension: a component that is seen in fewer is mostly chance.
const IMAGES_PER_DIM: usize = 4;

/// How many images [`learn`] looks at.
pub fn num_images(source: &dyn Source) -> usize {
    source.len().min(MOST_IMAGES)
}

/// Learns the read-out of `net` from up to 10,000 images spread evenly over `source`; none where there are fewer than eight.
///
/// `progress` is told how many images are done.
pub fn learn(net: &ResNet, source: &Arc<dyn Source>, config: &BatchConfig, progress: &mut dyn FnMut(usize)) -> Result<Option<Whitening>> {
    let (count, total) = (num_images(source.as_ref()), source.len());
    let dim = DIM.min(count / IMAGES_PER_DIM);
    if dim < 2 {
        return Ok(None);
    }
    // Spread, because folders come sorted by class.
    let spread = (0..count).map(|i| (i * total / count) as u32).collect();
    let chosen: Arc<dyn Source> = Arc::new(Subset::new(source.clone(), spread)?);
    let features = readout_features(net, &chosen, config, progress)?;
    whitening(&features.values, dim).map(Some)
}
