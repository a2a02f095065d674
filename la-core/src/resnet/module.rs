//! The network as candle's programs take it: a [`Module`] in eval mode, built from a `VarBuilder` or a file.

use super::ResNet;
#[cfg(feature = "train")]
use super::{decode, ResNetConfig};
#[cfg(feature = "train")]
use crate::{ops::gradients::refuse_tracked, tensor_files::read_bytes, Error, Result};
use candle_core::{Module, Tensor};
#[cfg(feature = "train")]
use {
    candle_core::{DType, Device},
    candle_nn::VarBuilder,
    std::path::Path,
};

impl Module for ResNet {
    /// Eval mode: the unit-length embeddings `(B, D)` of `images` `(B, 3, H, W)` f32, as [`ResNet::embed`] gives them.
    ///
    /// Fails on other shapes and types, and on images that track gradients, which the network does not carry.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.embed(images)?)
    }
}

#[cfg(feature = "train")]
impl ResNet {
    /// A network on the device of `weights`, with copies of its tensors under torchvision's names, as f32.
    ///
    /// Fails with the first tensor that is missing or misshapen, or that is a variable: training it would not train the network.
    pub fn from_var_builder(config: &ResNetConfig, weights: VarBuilder) -> Result<Self> {
        config.validate()?;
        let mut net = Self::build(config, &mut |shape, _| Ok(Tensor::zeros(shape, DType::F32, weights.device())?))?;
        let get = |(name, zeros): (String, Tensor)| {
            let tensor = weights.get(zeros.dims(), &name)?;
            refuse_tracked(&tensor, "ResNet::from_var_builder")?;
            Ok((name, tensor))
        };
        net.load_tensors(&net.tensors()?.into_iter().map(get).collect::<Result<_>>()?)?;
        Ok(net)
    }

    /// A network from a safetensors file with torchvision's names, of any float type; its shape is read off the tensors.
    ///
    /// Fails, with the path, where the file is none or holds another network.
    pub fn from_file(path: &Path, device: &Device) -> Result<Self> {
        let tensors = decode(&read_bytes(path)?, device);
        tensors
            .and_then(|tensors| Self::from_tensors(&tensors, device))
            .map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
    }
}
