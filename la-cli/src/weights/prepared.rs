//! How images are prepared for weights, from what lies beside them.

use crate::run::RunConfig;
use la_core::preprocess::{Interpolation, Normalization, Preprocessing};
use la_core::resnet::{ResNet, Stem};
use serde_json::Value;

/// As a run did; `size` is what packed weights say instead of its own.
pub fn of_run(run: &RunConfig, size: Option<usize>) -> Preprocessing {
    let train = &run.train;
    Preprocessing::of(size.unwrap_or(run.size()), train.crop_fraction.unwrap_or(1.0), train.normalization.unwrap_or_default())
}

/// As timm's `pretrained_cfg` says, where `config.json` has one.
pub fn of_timm(config: &Value, net: &ResNet) -> Option<Preprocessing> {
    let timm = config.get("pretrained_cfg")?;
    let triple = |key: &str| -> Option<[f32; 3]> { serde_json::from_value(timm.get(key)?.clone()).ok() };
    let size = timm.get("input_size").and_then(|shape| shape.get(2)).and_then(Value::as_u64);
    let usual = usual(net);
    Some(Preprocessing {
        size: size.map_or(usual.size, |size| size as usize),
        crop_fraction: timm.get("crop_pct").and_then(Value::as_f64).unwrap_or(usual.crop_fraction),
        interpolation: match timm.get("interpolation").and_then(Value::as_str) {
            Some("bicubic") => Interpolation::Bicubic,
            _ => Interpolation::Bilinear,
        },
        // What `pack` writes is in timm's shape, and rounded as torchvision's users do.
        rounds_down: true,
        normalization: Normalization {
            mean: triple("mean").unwrap_or(usual.normalization.mean),
            std: triple("std").unwrap_or(usual.normalization.std),
        },
    })
}

/// As usual for such a network.
pub fn usual(net: &ResNet) -> Preprocessing {
    let (size, crop_fraction) = match net.config().stem {
        Stem::Small => (32, 1.0),
        Stem::Imagenet => (224, 0.875),
    };
    Preprocessing::of(size, crop_fraction, Normalization::default())
}
