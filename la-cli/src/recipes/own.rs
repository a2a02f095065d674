//! Settings for pictures of one's own, from their number and what training begins from.
//!
//! The figures behind each rule stand in weights/README.md, with their commands.

use la_core::config::{BankInit, ScheduleKind, TrainConfig};

/// What training on one's own pictures begins from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Weights that know photographs already.
    Weights,
    /// Random weights.
    Scratch,
}

/// Image presentations (epochs × images) that random weights need on a small folder.
const SCRATCH_PRESENTATIONS: usize = 40_000;
/// The same for weights that only adapt: more of them cost the read-out more than they give the output.
const ADAPT_PRESENTATIONS: usize = 2_000;
/// Clusters hold this many images on average, where that leaves enough of them.
const IMAGES_PER_CLUSTER: usize = 50;
/// Background neighbours, where there are that many images twice.
const FEWEST_BACKGROUND: usize = 100;

impl Beginning {
    /// Images below which training has not improved search: over the weights it begins from, or over pixels.
    pub fn fewest_images(self) -> usize {
        match self {
            Self::Weights => 1000,
            Self::Scratch => 800,
        }
    }

    /// Epochs that so many images ask for.
    pub fn epochs(self, num_images: usize) -> usize {
        let (presentations, least, most) = match self {
            Self::Weights => (ADAPT_PRESENTATIONS, 2, 5),
            Self::Scratch => (SCRATCH_PRESENTATIONS, 20, 60),
        };
        (presentations / num_images.max(1)).clamp(least, most)
    }

    /// Settings for `num_images` pictures of one's own, in `epochs` epochs where that is given.
    ///
    /// Two views of each image must agree; local aggregation takes the last quarter of the epochs, over neighbours on which 9 of 10
    /// clusterings agree. Weights that know photographs see the size that they were trained at, adapt at a low rate, and keep their
    /// running statistics; random ones are of half the width and see small images.
    pub fn settings(self, num_images: usize, epochs: Option<usize>) -> TrainConfig {
        let epochs = epochs.unwrap_or(self.epochs(num_images));
        let (size, width, lr) = match self {
            Self::Weights => (128, 64, 0.003),
            Self::Scratch => (64, 32, 0.06),
        };
        TrainConfig {
            size,
            width,
            keep_statistics: self == Self::Weights,
            epochs,
            ir_epochs: epochs - (epochs / 4).max(1),
            batch_size: 64,
            views: 2,
            lr,
            schedule: ScheduleKind::Cosine,
            lr_warmup_epochs: 0.5,
            temperature: 0.2,
            num_background: Some((num_images / 15).max(FEWEST_BACKGROUND).min(num_images / 2).clamp(1, 4096)),
            num_clusters: Some((num_images / IMAGES_PER_CLUSTER).clamp(4.min(num_images), 1000)),
            num_clusterings: Some(10),
            min_agreement: 9,
            bank_init: BankInit::Forward,
            ..TrainConfig::default()
        }
    }
}
