//! A network's tensors as the bytes of the safetensors file that a bundle holds.

use super::encoder::SCALE;
use crate::{error::bail, search::Precision, Error, Result};
use candle_core::{DType, Device, Tensor};
use half::f16;
use safetensors::{tensor::TensorView, Dtype};

/// A tensor of the file.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The safetensors file of `tensors`, named as torchvision does.
///
/// Convolutions and the last layer are stored in `precision`, everything else as f32. With [`Precision::I8`], `value =
/// code * scale` with one scale for each output channel, in `NAME.scale` `(O,)`; a read-out, which magnifies what is lost,
/// has 16 bits then. Fails where a value is not finite.
pub fn encode(tensors: &[(String, Tensor)], precision: Precision) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    for (name, tensor) in tensors.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
        let precision = if name.starts_with("readout.") && precision == Precision::I8 { Precision::F16 } else { precision };
        entries.extend(encode_tensor(name, tensor, precision)?);
    }
    let views: Result<Vec<_>> = entries.iter().map(view).collect();
    safetensors::serialize(views?, None).map_err(|error| Error::invalid(format!("weights: {error}")))
}

fn view(entry: &Entry) -> Result<(&str, TensorView<'_>)> {
    let view = TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes);
    Ok((entry.name.as_str(), view.map_err(|error| Error::invalid(format!("weights: tensor {}: {error}", entry.name)))?))
}

fn encode_tensor(name: &str, tensor: &Tensor, precision: Precision) -> Result<Vec<Entry>> {
    let values: Vec<f32> = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?.flatten_all()?.to_vec1()?;
    if let Some(x) = values.iter().find(|x| !x.is_finite()) {
        bail!("weights: tensor {name} holds {x}");
    }
    let entry = |name: String, dtype, shape: &[usize], bytes| Entry { name, dtype, shape: shape.to_vec(), bytes };
    let shape = tensor.dims();
    let full = |name, values: &[f32], shape| entry(name, Dtype::F32, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect());
    Ok(match precision {
        Precision::F16 if shape.len() >= 2 => {
            vec![entry(name.into(), Dtype::F16, shape, values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect())]
        }
        Precision::I8 if shape.len() >= 2 => {
            let (codes, scales) = codes(&values, shape[0]);
            vec![entry(name.into(), Dtype::I8, shape, codes), full(format!("{name}{SCALE}"), &scales, &shape[..1])]
        }
        _ => vec![full(name.into(), &values, shape)],
    })
}

/// Codes in -127 to 127 and the scale of each output channel.
fn codes(values: &[f32], channels: usize) -> (Vec<u8>, Vec<f32>) {
    let rows = values.chunks_exact((values.len() / channels.max(1)).max(1));
    let scales: Vec<f32> = rows.clone().map(|row| row.iter().fold(0.0f32, |largest, x| largest.max(x.abs())) / 127.0).collect();
    let code = |x: f32, scale: f32| if scale > 0.0 { (x / scale).round().clamp(-127.0, 127.0) as i8 as u8 } else { 0 };
    (rows.zip(&scales).flat_map(|(row, &scale)| row.iter().map(move |&x| code(x, scale))).collect(), scales)
}
