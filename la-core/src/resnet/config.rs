//! Which ResNet: depth, stem, width and embedding size.

use crate::{choices::choices, error::bail, Result};
use serde::{Deserialize, Serialize};

/// The longest embedding.
const MAX_EMBEDDING_DIM: usize = 1 << 16;

choices! {
    /// Depth of the network.
    Arch, "arch" {
        /// Basic blocks, 2-2-2-2.
        Resnet18 = "resnet18",
        /// Bottlenecks, 2-2-2-2.
        Resnet26 = "resnet26",
        /// Basic blocks, 3-4-6-3.
        Resnet34 = "resnet34",
        /// Bottlenecks, 3-4-6-3.
        Resnet50 = "resnet50",
        /// Bottlenecks, 3-4-23-3.
        Resnet101 = "resnet101",
        /// Bottlenecks, 3-8-36-3.
        Resnet152 = "resnet152",
    }
}

choices! {
    /// The first layers.
    Stem, "stem" {
        /// 7×7 stride 2, then max-pool 3/2/1: an eighth of the work at a quarter of the resolution.
        Imagenet = "imagenet",
        /// 3×3 stride 1 without pooling, for small images.
        Small = "small",
    }
}

/// The shape of a [`super::ResNet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// Depth.
    pub arch: Arch,
    /// First layers.
    pub stem: Stem,
    /// Channels of the first stage; 64 is standard.
    pub width: usize,
    /// Length of the embedding.
    pub embedding_dim: usize,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { arch: Arch::Resnet18, stem: Stem::Imagenet, width: 64, embedding_dim: 128 }
    }
}

impl ResNetConfig {
    /// What differs from the network that is wanted, with the settings that ask for this one instead.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        let parts = [
            ("arch", self.arch.to_string(), wanted.arch.to_string()),
            ("stem", self.stem.to_string(), wanted.stem.to_string()),
            ("width", self.width.to_string(), wanted.width.to_string()),
            ("embedding-dim", self.embedding_dim.to_string(), wanted.embedding_dim.to_string()),
        ];
        let other: Vec<_> = parts.iter().filter(|(_, this, wanted)| this != wanted).collect();
        let words: Vec<String> = other.iter().map(|(name, this, wanted)| format!("{name} {this}, expected {wanted}")).collect();
        let settings: Vec<String> = other.iter().map(|(name, this, _)| format!("{name} {this}")).collect();
        (!other.is_empty()).then(|| format!("{}; {} asks for that one", words.join(", "), settings.join(" and ")))
    }

    /// Refuses an empty network, and one that nothing fits.
    pub fn validate(&self) -> Result<()> {
        if self.width == 0 || self.width > 1024 {
            bail!("width must be between 1 and 1024, got {}", self.width);
        }
        if !(1..=MAX_EMBEDDING_DIM).contains(&self.embedding_dim) {
            bail!("embedding dim must be between 1 and {MAX_EMBEDDING_DIM}, got {}", self.embedding_dim);
        }
        Ok(())
    }

    /// Channels of the pooled features: 512 for the standard ResNet-18.
    pub fn num_features(&self) -> usize {
        self.width * 8 * self.arch.expansion()
    }

    /// Length of what a read-out maps ([`super::ResNet::readout_features`]): 1,024 for two bands of the standard ResNet-18.
    pub fn num_readout_features(&self, bands: usize) -> usize {
        self.width * (4 * bands + 8) * self.arch.expansion()
    }

    /// The bands of a read-out that maps so many features; fails where no read-out of this network does.
    pub fn readout_bands(&self, num_features: usize) -> Result<usize> {
        let (fewest, of_band) = (self.num_readout_features(1), self.num_readout_features(1) - self.num_readout_features(0));
        match num_features.checked_sub(fewest) {
            Some(more) if more.is_multiple_of(of_band) => Ok(1 + more / of_band),
            _ => {
                bail!("read-out: expected {fewest} features and {of_band} more for each further band for this network, got {num_features}")
            }
        }
    }
}

impl Arch {
    /// Blocks of each stage.
    pub(super) fn blocks(self) -> [usize; 4] {
        match self {
            Arch::Resnet18 | Arch::Resnet26 => [2, 2, 2, 2],
            Arch::Resnet34 | Arch::Resnet50 => [3, 4, 6, 3],
            Arch::Resnet101 => [3, 4, 23, 3],
            Arch::Resnet152 => [3, 8, 36, 3],
        }
    }

    /// Output channels of a block over its inner width: 4 for bottlenecks.
    pub(super) fn expansion(self) -> usize {
        match self {
            Arch::Resnet18 | Arch::Resnet34 => 1,
            Arch::Resnet26 | Arch::Resnet50 | Arch::Resnet101 | Arch::Resnet152 => 4,
        }
    }

    /// The depth with these blocks.
    pub(super) fn of(blocks: [usize; 4], is_bottleneck: bool) -> Option<Self> {
        let expansion = if is_bottleneck { 4 } else { 1 };
        Self::WORDS.iter().filter_map(|word| word.parse().ok()).find(|arch: &Self| arch.blocks() == blocks && arch.expansion() == expansion)
    }
}
