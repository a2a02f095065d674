//! The tensors of a weights file of any float type, or of the 8-bit codes that [`super::encode`] writes.

use super::encoder::SCALE;
use crate::{error::bail, Error, Result};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{tensor::TensorView, Dtype, SafeTensors};
use std::collections::HashMap;

/// Every tensor of the safetensors `file` as f32 on `device`, by name; an 8-bit tensor is its codes times its scales.
///
/// Integers of other sizes, such as `num_batches_tracked`, are left out. Fails where the file is none, or a scale is missing.
pub fn decode(file: &[u8], device: &Device) -> Result<HashMap<String, Tensor>> {
    let tensors = SafeTensors::deserialize(file).map_err(|error| Error::invalid(format!("weights: not a safetensors file: {error}")))?;
    let mut out = HashMap::new();
    for (name, view) in tensors.iter().filter(|(name, _)| !name.ends_with(SCALE)) {
        if let Some(values) = values(&tensors, name, &view)? {
            out.insert(name.to_string(), Tensor::from_vec(values, view.shape(), device)?);
        }
    }
    Ok(out)
}

fn values(tensors: &SafeTensors, name: &str, view: &TensorView) -> Result<Option<Vec<f32>>> {
    let bytes = view.data();
    Ok(Some(match view.dtype() {
        Dtype::F32 => floats(bytes),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F64 => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(std::array::from_fn(|i| b[i])) as f32).collect(),
        Dtype::I8 => {
            let channels = view.shape().first().copied().unwrap_or(0);
            let scales = tensors.tensor(&format!("{name}{SCALE}")).ok().filter(|s| s.dtype() == Dtype::F32 && s.shape() == [channels]);
            let Some(scales) = scales.map(|scales| floats(scales.data())) else {
                bail!("weights: tensor {name} holds 8-bit codes, expected {channels} f32 scales in {name}{SCALE}");
            };
            let per_channel = (bytes.len() / channels.max(1)).max(1);
            bytes
                .chunks_exact(per_channel)
                .zip(scales)
                .flat_map(|(codes, scale)| codes.iter().map(move |&c| f32::from(c as i8) * scale))
                .collect()
        }
        _ => return Ok(None),
    }))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
