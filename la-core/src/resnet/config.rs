//! Which ResNet: depth, stem, width and embedding size.

use crate::{error::bail, Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Depth of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Basic blocks, 2-2-2-2.
    Resnet18,
    /// Basic blocks, 3-4-6-3.
    Resnet34,
    /// Bottlenecks, 3-4-6-3.
    Resnet50,
}

/// The first layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7×7 stride 2, then max-pool 3/2/1: an eighth of the work at a quarter of the resolution.
    Imagenet,
    /// 3×3 stride 1 without pooling, for small images.
    Small,
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
    /// What differs from the network that is wanted, with the flags that ask for this one instead.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        let parts = [
            ("--arch", self.arch.to_string(), wanted.arch.to_string()),
            ("--stem", self.stem.to_string(), wanted.stem.to_string()),
            ("--width", self.width.to_string(), wanted.width.to_string()),
            ("--embedding-dim", self.embedding_dim.to_string(), wanted.embedding_dim.to_string()),
        ];
        let other: Vec<_> = parts.iter().filter(|(_, this, wanted)| this != wanted).collect();
        let words: Vec<String> = other.iter().map(|(flag, this, wanted)| format!("{} {this}, expected {wanted}", &flag[2..])).collect();
        let flags: Vec<String> = other.iter().map(|(flag, this, _)| format!("{flag} {this}")).collect();
        (!other.is_empty()).then(|| format!("{}; `{}` asks for that one", words.join(", "), flags.join(" ")))
    }

    /// Refuses an empty network.
    pub fn validate(&self) -> Result<()> {
        if self.width == 0 || self.width > 1024 {
            bail!("width must be between 1 and 1024, got {}", self.width);
        }
        if self.embedding_dim == 0 {
            bail!("embedding dim must be at least 1, got 0");
        }
        Ok(())
    }

    /// Channels of the pooled features: 512 for the standard ResNet-18.
    pub fn num_features(&self) -> usize {
        self.width * 8 * self.arch.expansion()
    }
}

impl Arch {
    /// Blocks of each stage.
    pub(super) fn blocks(self) -> [usize; 4] {
        match self {
            Arch::Resnet18 => [2, 2, 2, 2],
            Arch::Resnet34 | Arch::Resnet50 => [3, 4, 6, 3],
        }
    }

    /// Output channels of a block over its inner width.
    pub(super) fn expansion(self) -> usize {
        if self == Arch::Resnet50 {
            4
        } else {
            1
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Arch::Resnet18 => "resnet18",
            Arch::Resnet34 => "resnet34",
            Arch::Resnet50 => "resnet50",
        })
    }
}

impl FromStr for Arch {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "resnet18" => Ok(Arch::Resnet18),
            "resnet34" => Ok(Arch::Resnet34),
            "resnet50" => Ok(Arch::Resnet50),
            _ => bail!("arch: expected resnet18, resnet34 or resnet50, got {s}"),
        }
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Stem::Imagenet => "imagenet",
            Stem::Small => "small",
        })
    }
}

impl FromStr for Stem {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "imagenet" => Ok(Stem::Imagenet),
            "small" => Ok(Stem::Small),
            _ => bail!("stem: expected imagenet or small, got {s}"),
        }
    }
}
