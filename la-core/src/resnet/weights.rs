//! A ResNet as named tensors in torchvision's order and layout, and back.

use super::{
    config::{Arch, ResNetConfig, Stem},
    layers::{Kind, Parameter, Unit},
    ResNet,
};
use crate::{
    error::bail,
    ops::{host, parallel},
    Result,
};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// A tensor of the state dict with its layout.
struct Entry<'a> {
    name: &'a str,
    value: &'a Tensor,
    kind: Kind,
}

impl ResNet {
    /// A network from tensors with torchvision's names; depth, stem, width and embedding size are read off their shapes.
    ///
    /// Fails with the first tensor that is missing, misshapen or unknown.
    pub fn from_tensors(tensors: &HashMap<String, Tensor>, device: &Device) -> Result<Self> {
        let config = infer_config(tensors)?;
        check_shapes(&config, tensors)?;
        let mut net = ResNet::build(&config, &mut |shape, _| Ok(Tensor::zeros(shape, DType::F32, device)?))?;
        net.load_tensors(tensors)?;
        Ok(net)
    }

    /// Every parameter and running statistic under torchvision's name, shape and order.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        self.entries().into_iter().map(|e| Ok((e.name.to_string(), to_file(e.value, e.kind)?))).collect()
    }

    /// Overwrites every parameter and running statistic.
    ///
    /// Fails with the first tensor that is missing, misshapen or unknown, before any is overwritten.
    pub fn load_tensors(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let entries = self.entries();
        let values = parallel::map(entries.len(), |i| match tensors.get(entries[i].name) {
            Some(tensor) => from_file(tensor, &entries[i]),
            None => bail!("weights: tensor {} is missing", entries[i].name),
        });
        let values = values.into_iter().collect::<Result<Vec<_>>>()?;
        if let Some(name) = tensors.keys().filter(|n| !n.ends_with("num_batches_tracked")).find(|n| entries.iter().all(|e| e.name != *n)) {
            bail!("weights: unexpected tensor {name} for a {} of width {}", self.config.arch, self.config.width);
        }
        for (entry, values) in entries.iter().zip(&values) {
            host::overwrite(entry.value, values)?;
        }
        Ok(())
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let blocks = self.stages.iter().flatten().flat_map(|b| b.units());
        let mut entries: Vec<Entry> = std::iter::once(&self.stem).chain(blocks).flat_map(unit_entries).collect();
        entries.extend(self.fc.parameters().map(parameter_entry));
        entries
    }
}

/// Fails with the first tensor that is missing or misshapen, before memory is taken for a network of that size.
fn check_shapes(config: &ResNetConfig, tensors: &HashMap<String, Tensor>) -> Result<()> {
    let mut shapes = vec![];
    // One value stands for a whole tensor.
    let outline = ResNet::build(config, &mut |shape, kind| {
        shapes.push(file_shape(shape, kind));
        Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?)
    })?;
    for (entry, expected) in outline.entries().iter().zip(shapes) {
        match tensors.get(entry.name) {
            None => bail!("weights: tensor {} is missing", entry.name),
            Some(tensor) if tensor.dims() != expected => {
                bail!("weights: tensor {} has shape {:?}, expected {expected:?}", entry.name, tensor.dims())
            }
            Some(_) => (),
        }
    }
    Ok(())
}

/// A shape of this crate's layout as the file has it.
fn file_shape(shape: &[usize], kind: Kind) -> Vec<usize> {
    match (kind, shape) {
        (Kind::Conv, &[height, width, channels, out]) => vec![out, channels, height, width],
        (Kind::Linear, &[_, _, channels, out]) => vec![out, channels],
        _ => shape.to_vec(),
    }
}

fn unit_entries(unit: &Unit) -> [Entry<'_>; 5] {
    [
        parameter_entry(&unit.weight),
        parameter_entry(&unit.norm_weight),
        parameter_entry(&unit.norm_bias),
        Entry { name: &unit.running_mean.name, value: &unit.running_mean.value, kind: Kind::Zero },
        Entry { name: &unit.running_var.name, value: &unit.running_var.value, kind: Kind::One },
    ]
}

fn parameter_entry(parameter: &Parameter) -> Entry<'_> {
    Entry { name: &parameter.name, value: &parameter.value, kind: parameter.kind }
}

/// From this crate's layout to the file's, on the CPU.
fn to_file(value: &Tensor, kind: Kind) -> Result<Tensor> {
    let value = value.to_device(&Device::Cpu)?;
    Ok(match kind {
        Kind::Conv | Kind::Linear => in_file_order(&value, kind)?.contiguous()?,
        _ => value.copy()?,
    })
}

/// A tensor of this crate's layout with its dimensions in the file's order.
fn in_file_order(value: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(match kind {
        Kind::Conv => value.permute((3, 2, 0, 1))?,
        Kind::Linear => value.squeeze(0)?.squeeze(0)?.t()?,
        _ => value.clone(),
    })
}

/// From the file's layout to this crate's values, shape checked.
fn from_file(tensor: &Tensor, entry: &Entry) -> Result<Vec<f32>> {
    let expected = in_file_order(entry.value, entry.kind)?;
    if tensor.dims() != expected.dims() {
        bail!("weights: tensor {} has shape {:?}, expected {:?}", entry.name, tensor.dims(), expected.dims());
    }
    let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    host::read(&tensor, |values| match entry.kind {
        Kind::Conv | Kind::Linear => outputs_last(values, tensor.dims()[0], tensor.dims()[1]),
        _ => values.to_vec(),
    })
}

/// `(O, C, taps)` to `(taps, C, O)`, some outputs at a time: each value is fetched from memory once.
fn outputs_last(values: &[f32], outputs: usize, channels: usize) -> Vec<f32> {
    const OUTPUTS: usize = 16;
    let row = values.len() / outputs;
    let taps = row / channels;
    let mut out = vec![0f32; values.len()];
    for first in (0..outputs).step_by(OUTPUTS) {
        let count = OUTPUTS.min(outputs - first);
        for i in 0..row {
            let to = (i % taps * channels + i / taps) * outputs + first;
            for (o, value) in out[to..to + count].iter_mut().enumerate() {
                *value = values[(first + o) * row + i];
            }
        }
    }
    out
}

/// Depth, stem, width and embedding size from names and shapes.
fn infer_config(tensors: &HashMap<String, Tensor>) -> Result<ResNetConfig> {
    let dims = |name: &str| match tensors.get(name) {
        Some(tensor) => Ok(tensor.dims().to_vec()),
        None => bail!("weights: tensor {name} is missing; expected a ResNet with torchvision's names"),
    };
    let (conv1, fc) = (dims("conv1.weight")?, dims("fc.weight")?);
    let stem = match conv1[..] {
        [_, 3, 7, 7] => Stem::Imagenet,
        [_, 3, 3, 3] => Stem::Small,
        _ => bail!("weights: conv1.weight has shape {conv1:?}, expected (width, 3, 7, 7) or (width, 3, 3, 3)"),
    };
    let has = |name: String| tensors.contains_key(&name);
    let blocks = [1, 2, 3, 4].map(|stage| (0..).take_while(|block| has(format!("layer{stage}.{block}.conv1.weight"))).count());
    let Some(arch) = Arch::of(blocks, has("layer1.0.conv3.weight".into())) else {
        bail!("weights: the stages have {blocks:?} blocks, expected those of {}", Arch::WORDS.join(", "));
    };
    let config = ResNetConfig { arch, stem, width: conv1[0], embedding_dim: fc[0] };
    config.validate()?;
    Ok(config)
}
