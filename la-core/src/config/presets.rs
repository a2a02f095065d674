//! Named settings.

use super::{BankInit, Ir, Monitor, ScheduleKind, TrainConfig};
use crate::augment::AugmentConfig;

/// A named configuration.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The settings.
    pub config: fn() -> TrainConfig,
}

/// All presets; the first is what `la-cli train` without arguments runs.
pub const PRESETS: &[Preset] = &[
    Preset { name: "quick", about: "the embedded sample in a few minutes on two cores", config: quick },
    Preset { name: "imagenet-paper", about: "the published recipe: ResNet-18, 224 px, 200 epochs", config: imagenet_paper },
];

/// Aligned 28 px pictures and few steps: gentle crops, a bank that starts from the network, the whole softmax, half width.
fn quick() -> TrainConfig {
    TrainConfig {
        data: "sample".into(),
        size: 28,
        normalization: None,
        augment: AugmentConfig { crop_min_area: 0.4, ..AugmentConfig::default() },
        width: 32,
        epochs: 30,
        ir_epochs: 15,
        lr: 0.06,
        schedule: ScheduleKind::Cosine,
        lr_warmup_epochs: 0.5,
        temperature: 0.1,
        bank_init: BankInit::Forward,
        ..TrainConfig::default()
    }
}

fn imagenet_paper() -> TrainConfig {
    TrainConfig {
        ir: Ir::Nce,
        num_background: Some(4096),
        num_clusters: Some(30_000),
        num_clusterings: Some(10),
        monitor: Monitor::Bank,
        ..TrainConfig::default()
    }
}
