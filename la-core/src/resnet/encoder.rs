//! A ResNet for inference alone: batch norm folded into its convolutions, weights packed once and kept as small as they came.

use super::{layers::BlockShape, ResNetConfig, BANDED_STAGE};
use crate::{
    error::bail,
    ops::{
        batch_norm::EPSILON,
        conv2d::{Conv2d, Finish, PackedConv2d, Values},
        normalize::scale_row,
        pool::{max_pool_values, mean_pixels, split},
        row_sums::dot,
    },
    Error, Result,
};
use half::f16;
use safetensors::{tensor::TensorView, Dtype, SafeTensors};

/// Ends the name of the scales of an 8-bit tensor.
pub(super) const SCALE: &str = ".scale";

/// Gives unit-length embeddings of images, one or many: by the read-out where the file has one, else as
/// [`super::ResNet::embed`] does.
pub struct Encoder {
    config: ResNetConfig,
    stem: PackedConv2d,
    stages: Vec<Vec<Block>>,
    head: PackedConv2d,
    /// Bands of rows whose means of layer3 the head sees: 0 without a read-out.
    bands: usize,
    dim: usize,
}

struct Block {
    convolutions: Vec<PackedConv2d>,
    projection: Option<PackedConv2d>,
}

/// Values of a batch, `(B, H, W, C)`.
struct Images {
    values: Vec<f32>,
    batch: usize,
    size: (usize, usize),
}

impl Encoder {
    /// Reads weights with torchvision's names: f32, f16, or the 8-bit codes that [`super::encode`] writes.
    ///
    /// Fails with the first tensor that is missing, misshapen or not finite.
    pub fn read(config: &ResNetConfig, file: &[u8]) -> Result<Self> {
        config.validate()?;
        let tensors =
            SafeTensors::deserialize(file).map_err(|error| Error::invalid(format!("weights: not a safetensors file: {error}")))?;
        let weights = Weights { tensors };
        let stem = weights.unit("conv1", "bn1", config.stem.conv(), (3, config.width))?;
        let stage = |(s, shapes): (usize, &Vec<BlockShape>)| -> Result<Vec<Block>> {
            shapes.iter().enumerate().map(|(b, shape)| weights.block(&format!("layer{}.{b}", s + 1), shape)).collect()
        };
        let stages = BlockShape::stages(config).iter().enumerate().map(stage).collect::<Result<_>>()?;
        let (name, bands, inputs, dim) = match weights.readout_dims() {
            Some((dim, features)) => ("readout", config.readout_bands(features)?, features, dim),
            None => ("fc", 0, config.num_features(), config.embedding_dim),
        };
        let head = weights.linear(name, (inputs, dim))?;
        Ok(Self { config: config.clone(), stem, stages, head, bands, dim })
    }

    /// Length of the embeddings `D`.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What was read.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Unit-length embeddings `(B, D)` of `images` `(B, H, W, 3)`, row after row.
    pub fn embed(&self, images: &[f32], batch: usize, height: usize, width: usize) -> Result<Vec<f32>> {
        if batch * height * width == 0 || images.len() != batch * height * width * 3 {
            bail!("encoder: expected {batch} images of {height}x{width}x3 values, got {}", images.len());
        }
        let mut x = Images { values: self.stem.forward(images, (batch, height, width), None, true)?, batch, size: (height, width) };
        x.size = self.stem.output_size(x.size).unwrap_or(x.size);
        if let Some(window) = self.config.stem.pool() {
            let size = window.output_size(x.size).unwrap_or(x.size);
            x = Images { values: max_pool_values(&x.values, (batch, x.size.0, x.size.1, self.config.width), &window), batch, size };
        }
        let mut means = Vec::new();
        for (s, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = block.forward(x)?;
            }
            if s == BANDED_STAGE && self.bands > 0 {
                means.push(x.means(self.bands));
            }
        }
        means.push(x.means(1));
        let mut pooled = Vec::with_capacity(batch * means.iter().map(Vec::len).sum::<usize>());
        for b in 0..batch {
            for of in &means {
                let len = of.len() / batch;
                pooled.extend_from_slice(&of[b * len..][..len]);
            }
        }
        let mut rows = self.head.forward(&pooled, (batch, 1, 1), None, false)?;
        rows.chunks_exact_mut(self.dim).for_each(|row| scale_row(row, dot(row, row).sqrt()));
        Ok(rows)
    }
}

impl Images {
    /// The means over each band of rows `(B, bands · C)`.
    fn means(&self, bands: usize) -> Vec<f32> {
        let (height, width) = self.size;
        let channels = self.values.len() / (self.batch * height * width);
        let mut means = vec![0.0; self.batch * bands * channels];
        for (image, means) in self.values.chunks_exact(height * width * channels).zip(means.chunks_exact_mut(bands * channels)) {
            for (rows, mean) in split(height, bands).zip(means.chunks_exact_mut(channels)) {
                let band = &image[rows.start * width * channels..rows.end * width * channels];
                mean_pixels(band, rows.len() * width, channels, mean);
            }
        }
        means
    }
}

impl Block {
    fn forward(&self, x: Images) -> Result<Images> {
        let (Some((last, first)), shape) = (self.convolutions.split_last(), (x.batch, x.size.0, x.size.1)) else {
            bail!("encoder: a block without convolutions");
        };
        let shortcut = self.projection.as_ref().map(|projection| projection.forward(&x.values, shape, None, false)).transpose()?;
        let mut h = Images { values: Vec::new(), ..x };
        for (i, unit) in first.iter().enumerate() {
            let from = if i == 0 { &x.values } else { &h.values };
            let values = unit.forward(from, (h.batch, h.size.0, h.size.1), None, true)?;
            h = Images { values, batch: h.batch, size: unit.output_size(h.size).unwrap_or(h.size) };
        }
        let residual = shortcut.as_ref().unwrap_or(&x.values);
        h.values = last.forward(&h.values, (h.batch, h.size.0, h.size.1), Some(residual), true)?;
        Ok(h)
    }
}

/// The tensors of a weights file.
struct Weights<'a> {
    tensors: SafeTensors<'a>,
}

impl Weights<'_> {
    /// Dimensions and features of the read-out, where the file has one.
    fn readout_dims(&self) -> Option<(usize, usize)> {
        match self.tensors.tensor("readout.weight").ok()?.shape() {
            &[dim, features] => Some((dim, features)),
            _ => Some((0, 0)),
        }
    }

    fn block(&self, name: &str, shape: &BlockShape) -> Result<Block> {
        let convolutions = shape.convolutions().into_iter().enumerate();
        let unit = |(i, (conv, channels))| self.unit(&format!("{name}.conv{}", i + 1), &format!("{name}.bn{}", i + 1), conv, channels);
        let names = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        let project = |conv| self.unit(&names.0, &names.1, conv, (shape.channels, shape.out_channels()));
        Ok(Block { convolutions: convolutions.map(unit).collect::<Result<_>>()?, projection: shape.projection().map(project).transpose()? })
    }

    /// A convolution and the batch norm after it: `(y - mean) / sqrt(var + eps) * weight + bias` is a factor and a summand.
    fn unit(&self, name: &str, norm: &str, conv: Conv2d, (channels, out): (usize, usize)) -> Result<PackedConv2d> {
        let (values, scales) = self.values(&format!("{name}.weight"), &[out, channels, conv.kernel.0, conv.kernel.1])?;
        let of = |part: &str| self.floats(&format!("{norm}.{part}"), &[out]);
        let (weight, bias, mean, var) = (of("weight")?, of("bias")?, of("running_mean")?, of("running_var")?);
        let factor = |o: usize| weight[o] / (f64::from(var[o]) + EPSILON).sqrt() as f32;
        let finish = Finish {
            scale: (0..out).map(|o| factor(o) * scales[o]).collect(),
            shift: (0..out).map(|o| bias[o] - mean[o] * factor(o)).collect(),
        };
        PackedConv2d::new(conv, (channels, out), &values, finish)
    }

    fn linear(&self, name: &str, (inputs, outputs): (usize, usize)) -> Result<PackedConv2d> {
        let (values, scale) = self.values(&format!("{name}.weight"), &[outputs, inputs])?;
        let shift = self.floats(&format!("{name}.bias"), &[outputs])?;
        PackedConv2d::new(Conv2d::square(1, 1, 0), (inputs, outputs), &values, Finish { scale, shift })
    }

    /// Weights as stored, from `(O, C, KH, KW)` to `(KH, KW, C, O)`, and the scale of each output channel.
    fn values(&self, name: &str, shape: &[usize]) -> Result<(Values, Vec<f32>)> {
        let view = self.view(name, shape)?;
        let (out, inputs) = (shape[0], shape[1]);
        let ones = vec![1.0; out];
        Ok(match view.dtype() {
            Dtype::F16 => (Values::F16(last_to_first(&halves(name, view.data())?, out, inputs)), ones),
            Dtype::I8 => {
                let codes: Vec<i8> = view.data().iter().map(|&code| code as i8).collect();
                (Values::I8(last_to_first(&codes, out, inputs)), self.floats(&format!("{name}{SCALE}"), &[out])?)
            }
            _ => (Values::F32(last_to_first(&self.floats(name, shape)?, out, inputs)), ones),
        })
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.view(name, shape)?;
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => halves(name, view.data())?.into_iter().map(f16::to_f32).collect(),
            other => bail!("weights: tensor {name} is {other:?}, expected F32 or F16"),
        };
        match values.iter().find(|x| !x.is_finite()) {
            Some(x) => bail!("weights: tensor {name} holds {x}"),
            None => Ok(values),
        }
    }

    fn view(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>> {
        let Ok(view) = self.tensors.tensor(name) else { bail!("weights: tensor {name} is missing") };
        match view.shape() == shape {
            true => Ok(view),
            false => bail!("weights: tensor {name} has shape {:?}, expected {shape:?}", view.shape()),
        }
    }
}

fn halves(name: &str, bytes: &[u8]) -> Result<Vec<f16>> {
    let values: Vec<f16> = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
    match values.iter().find(|x| !x.is_finite()) {
        Some(x) => bail!("weights: tensor {name} holds {x}"),
        None => Ok(values),
    }
}

/// `(O, C, taps)` to `(taps, C, O)`.
fn last_to_first<T: Copy>(values: &[T], out: usize, inputs: usize) -> Vec<T> {
    let taps = values.len() / (out * inputs);
    let at = |i: usize| (i % out * inputs + i / out % inputs) * taps + i / (out * inputs);
    (0..values.len()).map(|i| values[at(i)]).collect()
}
