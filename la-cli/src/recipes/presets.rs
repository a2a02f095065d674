//! Named settings.

use anyhow::bail;
use la_core::augment::AugmentConfig;
use la_core::config::{BankInit, ClusterFeatures, ScheduleKind, TrainConfig};
use la_core::optim::SgdConfig;
use la_core::resnet::Stem;

/// A named configuration.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The settings.
    pub config: fn() -> TrainConfig,
    /// How many times larger than in training search shows pictures to the network: a read-out of larger maps tells more
    /// (weights/README.md).
    pub search_scale: usize,
}

impl Preset {
    /// The preset of this name, or an error that lists the names.
    pub fn of_name(name: &str) -> anyhow::Result<&'static Self> {
        let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) else {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            bail!("preset must be one of {}, got {name}", names.join(", "));
        };
        Ok(preset)
    }
}

/// The name of the first.
pub const QUICK: &str = "quick";

/// All presets; the first is what `la-cli train` without arguments runs.
pub const PRESETS: &[Preset] = &[
    Preset { name: QUICK, about: "the built-in sample in a few minutes on two cores", config: quick, search_scale: 2 },
    Preset {
        name: "fashion-mnist",
        about: "Fashion-MNIST's 60,000 images, two views of each, in an hour and a half on one core",
        config: fashion_mnist,
        search_scale: 2,
    },
    Preset {
        name: "imagenette",
        about: "a few thousand photographs at 64 px, two views of each, in two hours on one core",
        config: imagenette,
        search_scale: 2,
    },
    Preset {
        name: "cifar10",
        about: "small photographs, two views of each, 200 epochs of ResNet-18 with the small stem: for a GPU",
        config: cifar10,
        search_scale: 1,
    },
    Preset {
        name: "imagenet-paper",
        about: "the published recipe: ResNet-18, 224 px, 200 epochs",
        config: TrainConfig::default,
        search_scale: 1,
    },
];

/// Aligned 28 px pictures and few steps: gentle crops, a bank that starts from the network and moves slowly, the whole softmax,
/// half width; close is what most clusterings of the read-out agree on.
fn quick() -> TrainConfig {
    TrainConfig {
        data: "sample".into(),
        size: 28,
        normalization: None,
        augment: AugmentConfig { crop_min_area: 0.6, ..AugmentConfig::default() },
        width: 32,
        epochs: 30,
        ir_epochs: 5,
        lr: 0.06,
        schedule: ScheduleKind::Cosine,
        lr_warmup_epochs: 0.5,
        temperature: 0.1,
        num_clusterings: Some(10),
        min_agreement: 8,
        cluster_features: ClusterFeatures::Readout,
        bank_momentum: 0.9,
        bank_init: BankInit::Forward,
        ..TrainConfig::default()
    }
}

/// The same from two views, with harder crops, a late switch, clusters of the bank, and the published momentum: an epoch of all images
/// has many steps, and a slow bank falls behind.
fn fashion_mnist() -> TrainConfig {
    TrainConfig {
        data: "fashion-mnist".into(),
        augment: AugmentConfig { crop_min_area: 0.4, ..AugmentConfig::default() },
        views: 2,
        ir_epochs: 20,
        cluster_features: ClusterFeatures::Bank,
        bank_momentum: 0.5,
        ..quick()
    }
}

/// Photographs without alignment: two views, hard crops, a milder temperature, small steps; close is only what nearly all
/// clusterings agree on.
fn imagenette() -> TrainConfig {
    TrainConfig {
        data: "imagenette-160".into(),
        size: 64,
        width: 32,
        epochs: 60,
        ir_epochs: 30,
        batch_size: 64,
        views: 2,
        lr: 0.06,
        schedule: ScheduleKind::Cosine,
        lr_warmup_epochs: 0.5,
        temperature: 0.2,
        num_clusters: Some(100),
        num_clusterings: Some(10),
        min_agreement: 9,
        bank_init: BankInit::Forward,
        ..TrainConfig::default()
    }
}

/// Small photographs without alignment: the augmentation and weight decay of instance recognition on CIFAR (Wu et al. 2018)
/// for two views, a milder temperature; close is only what nearly all clusterings agree on.
fn cifar10() -> TrainConfig {
    TrainConfig {
        data: "cifar10".into(),
        size: 32,
        normalization: None,
        stem: Stem::Small,
        epochs: 200,
        ir_epochs: 150,
        batch_size: 256,
        views: 2,
        lr: 0.1,
        schedule: ScheduleKind::Cosine,
        lr_warmup_epochs: 1.0,
        // Those of Wu et al., for `--schedule step`.
        lr_milestones: vec![0.6, 0.8],
        sgd: SgdConfig { weight_decay: 5e-4, ..SgdConfig::default() },
        temperature: 0.2,
        num_clusters: Some(1000),
        num_clusterings: Some(10),
        min_agreement: 9,
        bank_init: BankInit::Forward,
        // Epochs take seconds, and a checkpoint is a tenth of a gigabyte.
        checkpoint_interval: 10,
        ..TrainConfig::default()
    }
}
