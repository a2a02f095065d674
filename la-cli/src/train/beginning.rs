//! The weights that a run begins from: those of --init, and `photos` where one's own pictures are all that is said.

use crate::weights::Encoder;
use candle_core::Device;
use la_core::config::TrainConfig;
use la_core::resnet::ResNet;
use std::path::PathBuf;

/// Weights to begin from.
pub struct Weights {
    encoder: Encoder,
    /// What config.json names them by.
    pub place: PathBuf,
}

impl Weights {
    /// The weights of this name, as every command takes them.
    pub fn open(name: &str, device: &Device) -> anyhow::Result<Self> {
        Ok(Self { encoder: Encoder::open(name, device)?, place: PathBuf::from(name) })
    }

    /// Their network.
    pub fn net(&self) -> &ResNet {
        self.encoder.net()
    }

    /// Side of the images that they are used with.
    pub fn size(&self) -> usize {
        self.encoder.size()
    }

    /// Makes the network and the preparation of images theirs; the last layer only where it is known to embed.
    pub fn shape(&self, config: &mut TrainConfig) {
        let network = self.net().config();
        (config.arch, config.stem, config.width) = (network.arch, network.stem, network.width);
        if self.encoder.run.is_some() {
            config.embedding_dim = network.embedding_dim;
        }
        config.normalization = Some(self.encoder.preprocessing().normalization);
    }
}
