//! A ResNet as named tensors in torchvision's order and layout, and back.

use super::{
    config::{Arch, ResNetConfig, Stem},
    layers::{Kind, Parameter, Unit},
    ResNet,
};
use crate::{error::bail, ops::host, Result};
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
        let mut values = Vec::with_capacity(entries.len());
        for entry in &entries {
            let Some(tensor) = tensors.get(entry.name) else { bail!("weights: tensor {} is missing", entry.name) };
            values.push(from_file(tensor, entry)?);
        }
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
        Kind::Conv => value.permute((3, 2, 0, 1))?.contiguous()?,
        Kind::Linear => value.squeeze(0)?.squeeze(0)?.t()?.contiguous()?,
        _ => value.copy()?,
    })
}

/// From the file's layout to this crate's values, shape checked.
fn from_file(tensor: &Tensor, entry: &Entry) -> Result<Vec<f32>> {
    let expected = to_file(entry.value, entry.kind)?;
    if tensor.dims() != expected.dims() {
        bail!("weights: tensor {} has shape {:?}, expected {:?}", entry.name, tensor.dims(), expected.dims());
    }
    let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let tensor = match entry.kind {
        Kind::Conv => tensor.permute((2, 3, 1, 0))?,
        Kind::Linear => tensor.t()?,
        _ => tensor,
    };
    Ok(tensor.contiguous()?.flatten_all()?.to_vec1()?)
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
    let has = |name: &str| tensors.contains_key(name);
    let arch = match (has("layer1.0.conv3.weight"), has("layer3.5.conv1.weight")) {
        (false, false) => Arch::Resnet18,
        (false, true) => Arch::Resnet34,
        (true, true) if !has("layer3.6.conv1.weight") => Arch::Resnet50,
        _ => bail!("weights: the stages are not those of resnet18, resnet34 or resnet50"),
    };
    let config = ResNetConfig { arch, stem, width: conv1[0], embedding_dim: fc[0] };
    config.validate()?;
    Ok(config)
}
