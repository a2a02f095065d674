//! Outputs of candle-transformers' ResNet for a batch of images.
//!
//! candle-peer ARCHITECTURE OUTPUTS model.safetensors images.safetensors out.safetensors

use candle_core::{bail, safetensors, DType, Device, Module, Result};
use candle_nn::VarBuilder;
use candle_transformers::models::resnet;
use std::collections::HashMap;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [architecture, outputs, model, images, out] = words.as_slice() else {
        bail!("expected ARCHITECTURE OUTPUTS model.safetensors images.safetensors out.safetensors, got {} words", words.len());
    };
    let outputs = outputs.parse().map_err(candle_core::Error::wrap)?;
    let tensors = safetensors::load(model, &Device::Cpu)?;
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let net = match architecture.as_str() {
        "resnet18" => resnet::resnet18(outputs, vb)?,
        "resnet34" => resnet::resnet34(outputs, vb)?,
        "resnet50" => resnet::resnet50(outputs, vb)?,
        other => bail!("expected resnet18, resnet34 or resnet50, got {other}"),
    };
    let images = &safetensors::load(images, &Device::Cpu)?["images"];
    safetensors::save(&HashMap::from([("outputs", net.forward(images)?)]), out)
}
