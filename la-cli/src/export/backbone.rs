//! A network without its last layer, under torchvision's names: what a detector starts from.

use crate::weights::Encoder;
use candle_core::Tensor;
use la_core::tensor_files::write_tensors;
use serde_json::json;
use std::path::Path;

/// Writes all but the last layer in f32, with mean and deviation of the channels as metadata; gives the bytes.
pub fn write(encoder: &Encoder, out: &Path) -> anyhow::Result<usize> {
    let mut tensors = encoder.net().tensors()?;
    tensors.retain(|(name, _)| !name.starts_with("fc."));
    let how = encoder.preprocessing().normalization;
    write_tensors(out, &tensors, Some(("input", json!({"mean": how.mean, "std": how.std, "order": "RGB"}).to_string())))?;
    Ok(tensors.iter().map(|(_, tensor): &(String, Tensor)| tensor.elem_count() * size_of::<f32>()).sum())
}
