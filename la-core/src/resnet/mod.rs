//! ResNets with torchvision's names and semantics, and explicit forward and backward passes.
//!
//! He et al. 2016, <https://arxiv.org/abs/1512.03385>; bottlenecks stride on their 3×3 convolution, as torchvision's do.
//! Inside, activations are `(B, H, W, C)` and convolution weights `(KH, KW, C, O)`; names and files are torchvision's.

mod config;
mod decode;
mod encode;
mod encoder;
mod layers;
mod module;
mod weights;

use crate::{
    error::bail,
    ops::{
        activations::activations,
        conv2d::Conv2d,
        gradients::refuse_tracked,
        normalize::normalize,
        pool::{global_average_pool, global_average_pool_backward, max_pool, max_pool_backward, split, MaxIndices},
    },
    rng::{Rng, Stream},
    Result,
};
use candle_core::{DType, Device, Tensor};
pub use config::{Arch, ResNetConfig, Stem};
pub use decode::decode;
pub use encode::encode;
pub use encoder::Encoder;
pub use layers::Parameter;
use layers::{Block, BlockCache, BlockShape, Linear, Unit, UnitCache};

/// The stage whose means a read-out takes over bands of rows, from 0: the last one but one.
const BANDED_STAGE: usize = 2;

/// A ResNet whose last layer, `fc`, gives the embedding before it is normalised.
pub struct ResNet {
    config: ResNetConfig,
    stem: Unit,
    stages: Vec<Vec<Block>>,
    fc: Linear,
}

/// What an eval-mode forward pass gives at each depth.
pub struct Features {
    /// After the stem, its max-pool included, `(B, C, H, W)`.
    pub stem: Tensor,
    /// After each of the four stages, `(B, C, H, W)`.
    pub stages: Vec<Tensor>,
    /// Spatial means of the last stage, `(B, C)`: what a linear probe sees.
    pub pooled: Tensor,
    /// The last layer's outputs `(B, D)`, not normalised.
    pub outputs: Tensor,
}

/// What the backward pass needs of a training-mode forward pass; consumed layer by layer.
pub struct Cache {
    stem: UnitCache,
    pool: Option<MaxIndices>,
    blocks: Vec<BlockCache>,
    pooled: Tensor,
    size: (usize, usize),
}

impl ResNet {
    /// Random weights: Kaiming normal convolutions (fan out), as torchvision starts.
    pub fn new(config: &ResNetConfig, seed: u64, device: &Device) -> Result<Self> {
        config.validate()?;
        let mut layer = 0;
        Self::build(config, &mut |shape, kind| {
            layer += 1;
            kind.initial(shape, &mut Rng::new(Stream::Weights, &[seed, layer]), device)
        })
    }

    /// What was built.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Leaves the running statistics of batch norm, which eval mode normalises by, as they are; batch statistics still normalise
    /// in training mode.
    pub fn keep_statistics(&mut self) {
        let blocks = self.stages.iter_mut().flatten().flat_map(Block::units_mut);
        std::iter::once(&mut self.stem).chain(blocks).for_each(|unit| unit.is_moving = false);
    }

    /// Eval mode: what every stage gives for `images` `(B, 3, H, W)`.
    pub fn features(&self, images: &Tensor) -> Result<Features> {
        let mut x = self.stem_eval(images)?;
        let stem = x.permute((0, 3, 1, 2))?;
        let mut stages = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x)?;
            }
            stages.push(x.permute((0, 3, 1, 2))?);
        }
        let pooled = global_average_pool(&x)?;
        let outputs = self.fc.forward(&pooled)?;
        Ok(Features { stem, stages, pooled, outputs })
    }

    /// Eval mode: unit-length embeddings `(B, D)` of `images` `(B, 3, H, W)`.
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = self.stem_eval(images)?;
        for block in self.stages.iter().flatten() {
            x = block.forward(&x)?;
        }
        let outputs = self.fc.forward(&global_average_pool(&x)?)?;
        Ok(normalize(&outputs)?.0)
    }

    /// Eval mode: the unit-length embeddings `(B, D)` that [`ResNet::embed`] gives, from the pooled features `(B, C)` of
    /// [`ResNet::features`].
    pub fn embed_pooled(&self, pooled: &Tensor) -> Result<Tensor> {
        refuse_tracked(pooled, "ResNet::embed_pooled")?;
        let outputs = self.fc.forward(&pooled.to_device(self.fc.bias.value.device())?)?;
        Ok(normalize(&outputs)?.0)
    }

    /// Eval mode: what a read-out maps, `(B, F)`: layer3's means over each of `bands` bands of rows from the top, then layer4's
    /// means over the whole picture.
    ///
    /// Bands tell sky above sea from sea above sky; a picture and its mirror image stay similar.
    pub fn readout_features(&self, images: &Tensor, bands: usize) -> Result<Tensor> {
        let mut x = self.stem_eval(images)?;
        let mut means = Vec::new();
        for (s, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = block.forward(&x)?;
            }
            if s == BANDED_STAGE {
                for rows in split(x.dim(1)?, bands) {
                    means.push(global_average_pool(&x.narrow(1, rows.start, rows.len())?.contiguous()?)?);
                }
            }
        }
        means.push(global_average_pool(&x)?);
        Ok(Tensor::cat(&means, 1)?)
    }

    /// Training mode: batch statistics normalise, and move the running ones. Gives raw outputs `(B, D)`.
    pub fn forward_train(&mut self, images: &Tensor) -> Result<(Tensor, Cache)> {
        let (mut x, stem) = self.stem.forward_train(&self.channels_last(images)?, None, true)?;
        let mut pool = None;
        if let Some(window) = self.config.stem.pool() {
            let (pooled, indices) = max_pool(&x, &window)?;
            (x, pool) = (pooled, Some(indices));
        }
        let mut blocks = Vec::new();
        for block in self.stages.iter_mut().flatten() {
            let (y, cache) = block.forward_train(x)?;
            blocks.push(cache);
            x = y;
        }
        let (_, height, width, _) = x.dims4()?;
        let pooled = global_average_pool(&x)?;
        let outputs = self.fc.forward(&pooled)?;
        Ok((outputs, Cache { stem, pool, blocks, pooled, size: (height, width) }))
    }

    /// Fills every [`Parameter::grad`] from the gradient `(B, D)` of the raw outputs.
    pub fn backward(&mut self, mut cache: Cache, grad_outputs: &Tensor) -> Result<()> {
        let grad = self.fc.backward(&cache.pooled, grad_outputs)?;
        let mut grad = global_average_pool_backward(&grad, cache.size)?;
        for block in self.stages.iter_mut().flatten().rev() {
            let Some(cache) = cache.blocks.pop() else { bail!("resnet: the cache is not of this network") };
            grad = block.backward(grad, cache)?;
        }
        if let Some(indices) = cache.pool {
            grad = max_pool_backward(&grad, &indices)?;
        }
        self.stem.backward_weights(grad, cache.stem)
    }

    /// Trainable tensors, in torchvision's order.
    pub fn parameters(&self) -> Vec<&Parameter> {
        let blocks = self.stages.iter().flatten().flat_map(Block::units);
        let units = std::iter::once(&self.stem).chain(blocks);
        units.flat_map(Unit::parameters).chain(self.fc.parameters()).collect()
    }

    /// Trainable tensors, in torchvision's order.
    pub fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let blocks = self.stages.iter_mut().flatten().flat_map(Block::units_mut);
        let units = std::iter::once(&mut self.stem).chain(blocks);
        units.flat_map(Unit::parameters_mut).chain(self.fc.parameters_mut()).collect()
    }

    fn stem_eval(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(&self.channels_last(images)?, None, true)?;
        match self.config.stem.pool() {
            Some(window) => Ok(max_pool(&x, &window)?.0),
            None => Ok(x),
        }
    }

    /// `(B, 3, H, W)` images as contiguous `(B, H, W, 3)` on the network's device: free where they already lie so in memory.
    fn channels_last(&self, images: &Tensor) -> Result<Tensor> {
        refuse_tracked(images, "ResNet")?;
        let (batch, channels, height, width) = images.dims4()?;
        let is_given = images.dtype() == DType::F32 || (images.device().is_cuda() && images.dtype() == DType::BF16);
        if channels != 3 || batch == 0 || !is_given {
            bail!("resnet: expected f32 images (B, 3, H, W), got {:?} {:?}", images.dtype(), images.dims());
        }
        if height == 0 || width == 0 {
            bail!("resnet: expected images of at least 1x1, got {height}x{width}");
        }
        activations(images.permute((0, 2, 3, 1))?.contiguous()?, self.stem.weight.value.device())
    }

    /// Builds every layer from tensors that `make` gives in torchvision's order.
    fn build(config: &ResNetConfig, make: &mut dyn FnMut(&[usize], layers::Kind) -> Result<Tensor>) -> Result<Self> {
        let stem = Unit::new(("conv1", "bn1"), config.stem.conv(), (3, config.width), make)?;
        let mut stages = Vec::new();
        for (s, shapes) in BlockShape::stages(config).iter().enumerate() {
            let blocks = shapes.iter().enumerate().map(|(b, shape)| Block::new(&format!("layer{}.{b}", s + 1), shape, make));
            stages.push(blocks.collect::<Result<_>>()?);
        }
        let fc = Linear::new("fc", (config.num_features(), config.embedding_dim), make)?;
        Ok(Self { config: config.clone(), stem, stages, fc })
    }
}

impl Stem {
    fn conv(self) -> Conv2d {
        match self {
            Stem::Imagenet => Conv2d::square(7, 2, 3),
            Stem::Small => Conv2d::square(3, 1, 1),
        }
    }

    fn pool(self) -> Option<Conv2d> {
        matches!(self, Stem::Imagenet).then(|| Conv2d::square(3, 2, 1))
    }
}
