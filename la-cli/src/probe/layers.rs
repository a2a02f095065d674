//! What each layer of a network holds, as rows that a linear probe can read.
//!
//! A layer's maps are averaged to the largest grid of at most 9,216 values: 12² for 64 channels, 6² for 256, 4² for 512, 3² for 1,024,
//! 2² for 2,048 (Goyal et al. 2019, <https://arxiv.org/abs/1905.01235>), or as they are where they have fewer.

use super::half_rows::HalfRows;
use crate::error::{bail, Result};
use candle_core::{DType, Device, Tensor};
use la_core::eval::embed::for_each_part;
use la_core::{
    data::{none_readable, BatchConfig, Source, Unreadable},
    ops::{host, normalize::normalize, parallel},
    resnet::ResNet,
};
use std::{fmt, ops::ControlFlow, ops::Range, sync::Arc};

/// The most values of a layer that a probe sees.
const MOST_VALUES: usize = 9216;
/// The same of the image itself, 32² pixels: what a network is to be better than.
const MOST_PIXELS: usize = 3 * 32 * 32;

/// A place of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The image that the network sees.
    Pixels,
    /// The stem, after its max-pool where it has one.
    Stem,
    /// The first stage, after its last ReLU.
    Layer1,
    /// The second stage.
    Layer2,
    /// The third stage.
    Layer3,
    /// The fourth stage.
    Layer4,
    /// Spatial means of the fourth stage.
    Pooled,
    /// The last layer's output at unit length, which the loss sees.
    Embedding,
}

impl Layer {
    /// From the image to the embedding.
    pub const ALL: [Self; 8] =
        [Self::Pixels, Self::Stem, Self::Layer1, Self::Layer2, Self::Layer3, Self::Layer4, Self::Pooled, Self::Embedding];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::Stem => "stem",
            Self::Layer1 => "layer1",
            Self::Layer2 => "layer2",
            Self::Layer3 => "layer3",
            Self::Layer4 => "layer4",
            Self::Pooled => "pooled",
            Self::Embedding => "embedding",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a probe sees of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows and columns of the grid.
    pub grid: (usize, usize),
    /// Values at each of its places.
    pub channels: usize,
}

impl Shape {
    /// Values of an image.
    pub fn width(&self) -> usize {
        self.grid.0 * self.grid.1 * self.channels
    }
}

/// Layers of the images of a source that can be read.
#[derive(Debug, Clone)]
pub struct LayerRows {
    /// For each layer that was asked for `(N, F)`.
    pub rows: Vec<HalfRows>,
    /// Which images these are, by increasing index.
    pub indices: Vec<u32>,
    /// The images that could not be read and have no row.
    pub unreadable: Vec<Unreadable>,
}

/// What a probe sees of each of `layers` where images are `size` pixels wide.
pub fn shapes(net: &ResNet, layers: &[Layer], size: usize) -> Result<Vec<Shape>> {
    let device = net.parameters()[0].value.device();
    let maps = Maps::of(net, &Tensor::zeros((1, 3, size, size), DType::F32, device)?)?;
    layers.iter().map(|&layer| maps.shape(layer)).collect()
}

/// The rows of `layers` of every image of `source` that can be read, un-augmented, in eval mode.
///
/// `progress` is told how many images are done. Fails where there is no image, none can be read, or a value is not finite.
pub fn layer_rows(
    net: &ResNet,
    layers: &[Layer],
    source: &Arc<dyn Source>,
    config: &BatchConfig,
    progress: &mut dyn FnMut(usize),
) -> Result<LayerRows> {
    let shapes = shapes(net, layers, config.input.size)?;
    let mut found = LayerRows {
        rows: shapes.iter().map(|shape| HalfRows::new(shape.width(), source.len())).collect(),
        indices: vec![],
        unreadable: vec![],
    };
    let f = |images: &Tensor| {
        let maps = Maps::of(net, images)?;
        let parts: Vec<Tensor> = layers.iter().map(|&layer| maps.averaged(layer)).collect::<Result<_>>()?;
        Ok(Tensor::cat(&parts, 1)?)
    };
    for_each_part(source, config, f, &mut |part| {
        for row in part.values.chunks_exact(shapes.iter().map(Shape::width).sum()) {
            let mut first = 0;
            for (rows, shape) in found.rows.iter_mut().zip(&shapes) {
                rows.push(&row[first..first + shape.width()]);
                first += shape.width();
            }
        }
        found.indices.extend(part.indices);
        found.unreadable.extend(part.unreadable.into_iter().map(|(_, file)| file));
        progress(found.indices.len() + found.unreadable.len());
        ControlFlow::Continue(())
    })?;
    if found.indices.is_empty() {
        return Err(none_readable(source.len(), &found.unreadable));
    }
    for (layer, rows) in layers.iter().zip(&found.rows) {
        if let Some(row) = rows.first_not_finite() {
            let name = source.name(found.indices[row] as usize);
            bail!("{layer} gives NaN, infinity or a value above 65,504 for image {name}; use other weights or other images");
        }
    }
    Ok(found)
}

/// What a batch gives at each layer.
pub(super) struct Maps {
    /// `(B, H, W, C)` by layer.
    layers: Vec<(Layer, Tensor)>,
}

impl Maps {
    pub fn of(net: &ResNet, images: &Tensor) -> Result<Self> {
        let features = net.features(images)?;
        let row = |rows: &Tensor| Ok::<_, crate::error::Error>(rows.unsqueeze(1)?.unsqueeze(1)?); // (B, 1, 1, C)
        let mut layers = vec![(Layer::Pixels, images.permute((0, 2, 3, 1))?), (Layer::Stem, features.stem.permute((0, 2, 3, 1))?)];
        for (layer, stage) in [Layer::Layer1, Layer::Layer2, Layer::Layer3, Layer::Layer4].into_iter().zip(&features.stages) {
            layers.push((layer, stage.permute((0, 2, 3, 1))?));
        }
        layers.push((Layer::Pooled, row(&features.pooled)?));
        layers.push((Layer::Embedding, row(&normalize(&features.outputs)?.0)?));
        Ok(Self { layers })
    }

    pub fn map(&self, layer: Layer) -> Result<&Tensor> {
        match self.layers.iter().find(|(of, _)| *of == layer) {
            Some((_, map)) => Ok(map),
            None => bail!("the network has no {layer}"),
        }
    }

    fn shape(&self, layer: Layer) -> Result<Shape> {
        let (_, height, width, channels) = self.map(layer)?.dims4()?;
        let most = if layer == Layer::Pixels { MOST_PIXELS } else { MOST_VALUES };
        let side = (most / channels).isqrt().max(1);
        Ok(Shape { grid: (side.min(height), side.min(width)), channels })
    }

    /// `(B, F)` on the CPU.
    fn averaged(&self, layer: Layer) -> Result<Tensor> {
        let (map, shape) = (self.map(layer)?, self.shape(layer)?);
        let (batch, height, width, _) = map.dims4()?;
        let map = host::local(&map.to_dtype(DType::F32)?)?;
        let mut out = vec![0.0; batch * shape.width()];
        host::read(&map, |x| {
            let image = height * width * shape.channels;
            parallel::for_each_chunk(&mut out, shape.width(), |i, out| average(&x[i * image..][..image], (height, width), shape, out));
        })?;
        Ok(Tensor::from_vec(out, (batch, shape.width()), &Device::Cpu)?)
    }
}

/// Means of an image `(H, W, C)` over the places of a grid, which overlap where sides do not divide, as PyTorch's adaptive pooling.
fn average(x: &[f32], (height, width): (usize, usize), Shape { grid, channels }: Shape, out: &mut [f32]) {
    for (at, out) in out.chunks_exact_mut(channels).enumerate() {
        let (rows, columns) = (place(at / grid.1, grid.0, height), place(at % grid.1, grid.1, width));
        let share = 1.0 / (rows.len() * columns.len()) as f32;
        for row in rows {
            for pixel in x[(row * width + columns.start) * channels..(row * width + columns.end) * channels].chunks_exact(channels) {
                out.iter_mut().zip(pixel).for_each(|(mean, x)| *mean += share * x);
            }
        }
    }
}

/// What place `i` of so many covers of a side.
fn place(i: usize, places: usize, side: usize) -> Range<usize> {
    i * side / places..((i + 1) * side).div_ceil(places)
}
