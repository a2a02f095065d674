//! `config.json` of packed weights: timm's keys, and all that is known of the run under a key of its own.

use crate::run::RunConfig;
use la_core::eval::knn::KnnConfig;
use la_core::preprocess::Normalization;
use la_core::resnet::{ResNetConfig, Stem};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The key that our own part stands under; timm ignores it.
pub const OUR_KEY: &str = "local_aggregation";

/// The whole file.
#[derive(Serialize)]
pub struct Config {
    architecture: String,
    num_classes: usize,
    num_features: usize,
    pretrained_cfg: PretrainedCfg,
    local_aggregation: Packed,
}

/// What timm builds and feeds a network by.
#[derive(Serialize)]
struct PretrainedCfg {
    tag: &'static str,
    custom_load: bool,
    input_size: [usize; 3],
    fixed_input_size: bool,
    interpolation: &'static str,
    crop_pct: f64,
    crop_mode: &'static str,
    mean: [f32; 3],
    std: [f32; 3],
    num_classes: usize,
    pool_size: [usize; 2],
    first_conv: &'static str,
    classifier: &'static str,
    license: String,
}

/// Our own part: settings, origin and figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Packed {
    /// Everything that the run's own `config.json` holds.
    pub run: RunConfig,
    /// Side of the images that the network is to see, where it learned from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Epochs that the weights were trained for.
    pub epochs: usize,
    /// Seconds that they took, evaluation and all.
    pub seconds: f64,
    /// The command that makes them.
    pub command: Vec<String>,
    /// What they are compared with, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// Figures on the images of the run, where these have labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// A figure on the embedded sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleCheck>,
}

/// What one network reaches, as fractions in 0–1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Figure {
    /// kNN accuracy of the embeddings.
    pub knn_top1: f32,
    /// Accuracy of a softmax layer on the pooled features, where measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_top1: Option<f32>,
}

/// The figures of all that is compared, on the same images, at the side that the weights were trained at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Images whose embeddings vote.
    pub num_train: usize,
    /// Images that are classified.
    pub num_test: usize,
    /// How they vote.
    pub knn: KnnConfig,
    /// The weights in the folder.
    pub weights: Figure,
    /// The run beside, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Figure>,
    /// The network at random initialisation.
    pub random_init: Figure,
    /// kNN accuracy of the pixels themselves, as the run measured it when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_pixels: Option<f32>,
    /// The same of pixels whitened by PCA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whitened_pixels: Option<f32>,
    /// The same at the side that the weights are packed for, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized: Option<Resized>,
}

/// Figures where the network sees larger or smaller images than it was trained on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Resized {
    /// Their side in pixels.
    pub size: usize,
    /// The weights in the folder.
    pub weights: Figure,
    /// The run beside, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Figure>,
}

/// One figure that anybody can repeat, on images that are inside the program.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SampleCheck {
    /// Images of the sample whose embeddings vote, drawn with the run's seed; all of its test images are classified.
    pub limit: usize,
    /// How they vote.
    pub knn: KnnConfig,
    /// kNN accuracy, 0–1.
    pub knn_top1: f32,
}

/// A run that stands beside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beside {
    /// What it is called.
    pub name: String,
    /// The command that makes it.
    pub command: Vec<String>,
    /// Its epochs.
    pub epochs: usize,
    /// Seconds that they took.
    pub seconds: f64,
    /// How many of them are another run's, whose checkpoint it went on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branched_after: Option<usize>,
    /// The weights that it began from, if not random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

impl Packed {
    /// Side of the images that the network is to see.
    pub fn size(&self) -> usize {
        self.size.unwrap_or(self.run.train.size)
    }
}

impl Config {
    /// The file for a network and what is known of it.
    pub fn new(net: &ResNetConfig, packed: Packed, license: &str) -> Self {
        let (train, size) = (&packed.run.train, packed.size());
        let Normalization { mean, std } = train.normalization.unwrap_or_default();
        let pretrained_cfg = PretrainedCfg {
            tag: OUR_KEY,
            custom_load: false,
            input_size: [3, size, size],
            fixed_input_size: false,
            interpolation: "bilinear",
            crop_pct: train.crop_fraction.unwrap_or(1.0),
            crop_mode: "center",
            mean,
            std,
            num_classes: net.embedding_dim,
            pool_size: [last_side(net.stem, size); 2],
            first_conv: "conv1",
            classifier: "fc",
            license: license.to_string(),
        };
        let (num_classes, num_features) = (net.embedding_dim, net.num_features());
        Self { architecture: net.arch.to_string(), num_classes, num_features, pretrained_cfg, local_aggregation: packed }
    }
}

/// Side of the last stage's output: the stem halves twice or not at all, three of the stages halve.
fn last_side(stem: Stem, size: usize) -> usize {
    let num_halvings = match stem {
        Stem::Imagenet => 5,
        Stem::Small => 3,
    };
    (0..num_halvings).fold(size, |side, _| side.div_ceil(2))
}

/// Whether torchvision and timm build this network: they know one width and one stem.
pub fn is_standard(net: &ResNetConfig) -> bool {
    net.width == 64 && net.stem == Stem::Imagenet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_has_the_side_that_convolutions_leave() {
        assert_eq!([224, 96, 28].map(|size| last_side(Stem::Imagenet, size)), [7, 3, 1]);
        assert_eq!(last_side(Stem::Small, 32), 4);
    }
}
