//! Every setting of a training run: its published value, its limits, and how it fits itself to the data.

mod choices;
mod fit;

pub use choices::{BankInit, ClusterFeatures, Ir, Monitor, ScheduleKind};
pub use fit::{Fit, PUBLISHED_NUM_IMAGES};

use crate::{
    augment::AugmentConfig,
    error::bail,
    loss::z_over_n,
    ops::device::{check, Precision},
    optim::{Decay, Schedule, SgdConfig},
    preprocess::Normalization,
    resnet::{Arch, ResNetConfig, Stem},
    Result,
};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The settings of a run; `Default` is the published recipe for ResNet-18 on ImageNet.
///
/// Settings that are `None` or `auto` fit themselves to the number of training images: see [`TrainConfig::fit`].
/// Values: the authors' code, <https://github.com/neuroailab/LocalAggregation>.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Where the training images come from, as `data::open` understands it.
    pub data: String,
    /// Where the test images come from, if not from a split of `data`.
    pub test: Option<String>,
    /// Train on this many images, drawn with `seed`; all if `None`.
    pub limit: Option<usize>,
    /// Side of the square images that the network sees, in pixels.
    pub size: usize,
    /// Share of the shorter side that evaluation's centre crop keeps; all of small images, 0.875 of others, if `None`.
    pub crop_fraction: Option<f64>,
    /// Mean and deviation of the channels; measured on the training images if `None`.
    pub normalization: Option<Normalization>,
    /// Random changes of each training image.
    pub augment: AugmentConfig,
    /// The network.
    pub arch: Arch,
    /// Its first layers.
    pub stem: Stem,
    /// Channels of its first stage; 64 is the standard.
    pub width: usize,
    /// Dimension `D` of the embedding.
    pub embedding_dim: usize,
    /// The weights that training begins from, for the record: [`crate::train::Start::From`] gives them. Random ones if `None`.
    pub init: Option<PathBuf>,
    /// Keep the running statistics of batch norm as those weights have them: those of a small folder serve it worse.
    pub keep_statistics: bool,
    /// Epochs in all.
    pub epochs: usize,
    /// Epochs of instance recognition before local aggregation.
    pub ir_epochs: usize,
    /// Images in a step.
    pub batch_size: usize,
    /// Augmented views of an image in a step: 1 as published, judged by the bank, or 2 that must agree among the step's own.
    pub views: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// How the learning rate falls.
    pub schedule: ScheduleKind,
    /// Epochs over which the learning rate rises linearly to its highest value.
    pub lr_warmup_epochs: f64,
    /// Shares of the run after which the `step` schedule lowers the rate.
    pub lr_milestones: Vec<f64>,
    /// What the `step` schedule multiplies the rate with.
    pub lr_factor: f64,
    /// Momentum and weight decay.
    pub sgd: SgdConfig,
    /// Temperature of the losses.
    pub temperature: f64,
    /// How instance recognition is computed.
    pub ir: Ir,
    /// Noise samples of an image in noise-contrastive estimation.
    pub num_noise: usize,
    /// Background neighbours of an image.
    pub num_background: Option<usize>,
    /// Clusters of each k-means run.
    pub num_clusters: Option<usize>,
    /// k-means runs.
    pub num_clusterings: Option<usize>,
    /// k-means runs that must put two images together for them to be close; 1 as published.
    pub min_agreement: usize,
    /// Iterations of k-means.
    pub kmeans_iters: usize,
    /// What k-means clusters.
    pub cluster_features: ClusterFeatures,
    /// Epochs between clusterings.
    pub cluster_interval: usize,
    /// Share of the old row that a bank update keeps.
    pub bank_momentum: f64,
    /// What the bank holds at first.
    pub bank_init: BankInit,
    /// What the kNN monitor embeds at the end of each epoch.
    pub monitor: Monitor,
    /// Epochs between evaluations of the monitor; the last epoch is always evaluated.
    pub monitor_interval: usize,
    /// Neighbours that vote in the monitor.
    pub knn_k: usize,
    /// Temperature of the monitor's vote.
    pub knn_temperature: f64,
    /// Seed of every random number of the run.
    pub seed: u64,
    /// Threads that prepare images; 0 for as many as compute. No result depends on it.
    pub threads: usize,
    /// Minutes between checkpoints inside an epoch; 0 after every step, `None` at the end of epochs only.
    pub checkpoint_minutes: Option<f64>,
    /// Epochs between checkpoints and weights at the end of an epoch; the last epoch always leaves them.
    pub checkpoint_interval: usize,
    /// What the network computes in; the CPU knows f32 alone.
    pub precision: Precision,
    /// Where the network computes.
    #[serde(skip, default = "cpu")]
    pub device: Device,
}

fn cpu() -> Device {
    Device::Cpu
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            data: "sample".into(),
            test: None,
            limit: None,
            size: 224,
            crop_fraction: None,
            normalization: Some(Normalization::default()),
            augment: AugmentConfig::default(),
            arch: Arch::Resnet18,
            stem: Stem::Imagenet,
            width: 64,
            embedding_dim: 128,
            init: None,
            keep_statistics: false,
            epochs: 200,
            ir_epochs: 10,
            batch_size: 128,
            views: 1,
            lr: 0.03,
            schedule: ScheduleKind::Step,
            lr_warmup_epochs: 0.0,
            // After 150 and 177 of the 190 epochs that follow 10 of instance recognition.
            lr_milestones: vec![0.8, 0.935],
            lr_factor: 0.1,
            sgd: SgdConfig::default(),
            temperature: 0.07,
            ir: Ir::Auto,
            num_noise: 4096,
            num_background: None,
            num_clusters: None,
            num_clusterings: None,
            min_agreement: 1,
            kmeans_iters: 20,
            cluster_features: ClusterFeatures::Bank,
            cluster_interval: 1,
            bank_momentum: 0.5,
            bank_init: BankInit::Random,
            monitor: Monitor::Auto,
            monitor_interval: 1,
            knn_k: 200,
            knn_temperature: 0.07,
            seed: 0,
            threads: 0,
            checkpoint_minutes: Some(10.0),
            checkpoint_interval: 1,
            precision: Precision::F32,
            device: Device::Cpu,
        }
    }
}

/// The most clusterings: each keeps a number for every image.
const MAX_CLUSTERINGS: usize = 1000;
/// The most noise of an image: 16 times what is published.
const MAX_NOISE: usize = 1 << 16;

impl TrainConfig {
    /// The network's part of the settings.
    pub fn network(&self) -> ResNetConfig {
        ResNetConfig { arch: self.arch, stem: self.stem, width: self.width, embedding_dim: self.embedding_dim }
    }

    /// The learning rate at `step` of the run, with `steps` in an epoch.
    pub fn learning_rate(&self, step: usize, steps: usize) -> f64 {
        let decay = match self.schedule {
            ScheduleKind::Step => Decay::Step { milestones: self.lr_milestones.clone(), factor: self.lr_factor },
            ScheduleKind::Cosine => Decay::Cosine,
        };
        let warmup_steps = (self.lr_warmup_epochs * steps as f64).round() as usize;
        Schedule { peak: self.lr, decay, warmup_steps }.learning_rate(step, self.epochs * steps)
    }

    /// Checks everything that does not depend on the data; fails with the setting's name, its limits and its value.
    pub fn validate(&self) -> Result<()> {
        self.validate_counts()?;
        self.validate_rates()?;
        self.validate_sgd()?;
        check(self.precision, &self.device)?;
        self.augment.check()?;
        self.network().validate()?;
        if self.keep_statistics && self.init.is_none() {
            bail!("keep-statistics must be false where training begins from random weights, got true");
        }
        self.validate_nce()
    }

    fn validate_counts(&self) -> Result<()> {
        let counts = [
            ("size", self.size, 1..=4096),
            ("epochs", self.epochs, 1..=usize::MAX),
            ("batch-size", self.batch_size, 2..=usize::MAX),
            ("views", self.views, 1..=2),
            ("num-noise", self.num_noise, 1..=MAX_NOISE),
            ("num-clusterings", self.num_clusterings.unwrap_or(1), 1..=MAX_CLUSTERINGS),
            ("kmeans-iters", self.kmeans_iters, 1..=usize::MAX),
            ("cluster-interval", self.cluster_interval, 1..=usize::MAX),
            ("monitor-interval", self.monitor_interval, 1..=usize::MAX),
            ("checkpoint-interval", self.checkpoint_interval, 1..=usize::MAX),
            ("knn-k", self.knn_k, 1..=usize::MAX),
            ("limit", self.limit.unwrap_or(2), 2..=usize::MAX),
        ];
        for (name, value, range) in counts {
            if !range.contains(&value) {
                let most = if *range.end() == usize::MAX { String::new() } else { format!(" and at most {}", range.end()) };
                bail!("{name} must be at least {}{most}, got {value}", range.start());
            }
        }
        Ok(())
    }

    fn validate_rates(&self) -> Result<()> {
        let positive =
            [("lr", self.lr), ("temperature", self.temperature), ("knn-temperature", self.knn_temperature), ("lr-factor", self.lr_factor)];
        for (name, value) in positive {
            if !(value > 0.0 && (value as f32).is_normal()) {
                bail!("{name} must be a positive number between f32's limits, got {value}");
            }
        }
        if !(0.0..1.0).contains(&self.bank_momentum) {
            bail!("bank-momentum must be in [0, 1), got {}", self.bank_momentum);
        }
        if let Some(fraction) = self.crop_fraction.filter(|&fraction| !(fraction > 0.0 && fraction <= 1.0)) {
            bail!("crop-fraction must be in (0, 1], got {fraction}");
        }
        if !(self.lr_warmup_epochs >= 0.0 && self.lr_warmup_epochs.is_finite()) {
            bail!("lr-warmup-epochs must be at least 0, got {}", self.lr_warmup_epochs);
        }
        if self.checkpoint_minutes.is_some_and(|minutes| minutes.is_nan() || minutes < 0.0) {
            bail!("checkpoint-minutes must be at least 0, got {}", self.checkpoint_minutes.unwrap_or_default());
        }
        if let Some(share) = self.lr_milestones.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            bail!("lr-milestones must be shares of the run in [0, 1], got {share}");
        }
        Ok(())
    }

    fn validate_nce(&self) -> Result<()> {
        let (dim, temperature) = (self.embedding_dim, self.temperature);
        let odds = z_over_n(dim, temperature);
        if self.ir == Ir::Nce && self.views == 1 && !odds.is_finite() {
            bail!("temperature {temperature} is too low for ir nce and embedding-dim {dim}: the constant Z / N comes to {odds}");
        }
        Ok(())
    }

    fn validate_sgd(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.sgd.momentum) {
            bail!("momentum must be in [0, 1), got {}", self.sgd.momentum);
        }
        if !(self.sgd.weight_decay >= 0.0 && self.sgd.weight_decay.is_finite()) {
            bail!("weight-decay must be at least 0, got {}", self.sgd.weight_decay);
        }
        Ok(())
    }
}
