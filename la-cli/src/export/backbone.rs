//! A network without its last layer, under torchvision's names: what a detector starts from.

use crate::weights::Encoder;
use candle_core::Tensor;
use la_core::resnet::Stem;
use la_core::tensor_files::write_tensors;
use serde_json::json;
use std::path::Path;

/// What its file holds, in words.
pub fn describe(encoder: &Encoder) -> String {
    let config = encoder.net().config();
    let fits = match (config.stem, config.width) {
        (Stem::Imagenet, 64) => "as torchvision's detectors take it",
        _ => "not of torchvision's width and stem, so its detectors refuse it",
    };
    format!("{} without its last layer, {} stem, width {}; {fits}", config.arch, config.stem, config.width)
}

/// Writes all but the last layer in f32, with mean and deviation of the channels as metadata; gives the bytes.
pub fn write(encoder: &Encoder, out: &Path) -> anyhow::Result<usize> {
    let mut tensors = encoder.net().tensors()?;
    tensors.retain(|(name, _)| !name.starts_with("fc."));
    let how = encoder.preprocessing().normalization;
    write_tensors(out, &tensors, Some(("input", json!({"mean": how.mean, "std": how.std, "order": "RGB"}).to_string())))?;
    Ok(tensors.iter().map(|(_, tensor): &(String, Tensor)| tensor.elem_count() * size_of::<f32>()).sum())
}
