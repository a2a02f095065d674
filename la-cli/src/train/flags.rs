//! The flags of `la-cli train` and the settings that they make with a preset.

use super::beginning::Weights;
use super::trunk::Trunk;
use crate::recipes::{Beginning, Preset, PRESETS, QUICK};
use crate::weights::PHOTOS;
use candle_core::Device;
use la_core::config::{BankInit, ClusterFeatures, Ir, Monitor, ScheduleKind, TrainConfig};
use la_core::ops::device::{bf16_instructions, Precision};
use la_core::resnet::{Arch, ResNetConfig, Stem};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  la-cli train                                      # on the sample, in a few minutes
  la-cli train --data ~/photos --out runs/mine      # on your own pictures; seldom finds more than photos
  la-cli train --resume runs/mine                   # resume after Ctrl-C
  la-cli train --branch runs/mine --epochs 500      # more epochs, as a new run";

/// Options of `la-cli train`. Each flag that is left out takes its value from the preset; config.json in the run folder
/// shows all of them.
#[derive(clap::Args)]
#[command(after_help = presets_and_examples())]
pub struct TrainArgs {
    /// Print one JSON object at the end instead of text; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    /// Preset that sets every flag not given [default: quick for the sample, the preset with the name of the data, else settings chosen by the number of images]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Images to learn from [default: the preset's; sample without a preset]
    #[arg(long, value_name = "SRC", help_heading = "Data")]
    pub data: Option<String>,
    /// Images to evaluate on [default: the data's own test split]
    #[arg(long, value_name = "SRC", help_heading = "Data")]
    test: Option<String>,
    /// Learn from this many images, drawn at random
    #[arg(long, value_name = "N", help_heading = "Data")]
    limit: Option<usize>,
    /// Side of the square images that the network sees
    #[arg(long, value_name = "PX", help_heading = "Data")]
    size: Option<usize>,
    /// Smallest share of a picture's area that a random crop keeps
    #[arg(long, value_name = "X", help_heading = "Data")]
    crop_min_area: Option<f32>,
    /// Largest random hue shift, as a share of the colour circle, at most 0.5 [default: 0.4]
    #[arg(long, value_name = "X", help_heading = "Data")]
    hue: Option<f32>,
    /// Share of the shorter side that evaluation's centre crop keeps [default: 1 below 96 px, else 0.875]
    #[arg(long, value_name = "X", help_heading = "Data")]
    crop_fraction: Option<f64>,
    /// Folder of the run [default: runs/NAME-1, -2, …]
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub out: Option<PathBuf>,
    /// Resume a stopped run bit-exactly; if its images have moved, say where with --data and --test
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub resume: Option<PathBuf>,
    /// Start a new run from the last checkpoint of RUN, or from RUN/checkpoint/FILE, with its settings; flags you give replace them
    #[arg(long, value_name = "RUN", help_heading = "Run", conflicts_with_all = ["preset", "resume", "init"])]
    pub branch: Option<PathBuf>,
    /// Begin a new run from these weights; the last layer is random if --embedding-dim differs
    /// [default: photos on your own images, if no --preset, --arch, --stem or --width is given]
    #[arg(long, value_name = "WEIGHTS", help_heading = "Run")]
    init: Option<String>,
    /// Begin a new run from random weights
    #[arg(long, help_heading = "Run", conflicts_with_all = ["resume", "branch", "init"])]
    from_scratch: bool,
    /// Whether to leave the running statistics of batch norm as they are; training normalises by each batch either way [default: true
    /// for your own images without --preset, if training starts from weights; else false]
    #[arg(long, value_name = "true|false", help_heading = "Run")]
    keep_statistics: Option<bool>,
    /// Seed of every random number
    #[arg(long, value_name = "S", help_heading = "Run")]
    seed: Option<u64>,
    /// Minutes between checkpoints inside an epoch
    #[arg(long, value_name = "MIN", help_heading = "Run")]
    checkpoint_minutes: Option<f64>,
    /// Save a checkpoint every E epochs, and after the last
    #[arg(long, value_name = "E", help_heading = "Run")]
    checkpoint_interval: Option<usize>,
    /// Network
    #[arg(long, value_name = "resnet18|resnet34|resnet50", help_heading = "Network")]
    arch: Option<Arch>,
    /// First layers: 7×7 stride 2 with max-pool, or 3×3 for small images
    #[arg(long, value_name = "imagenet|small", help_heading = "Network")]
    stem: Option<Stem>,
    /// Channels of the first stage; 64 is the standard
    #[arg(long, value_name = "C", help_heading = "Network")]
    width: Option<usize>,
    /// Dimension of the embedding
    #[arg(long, value_name = "D", help_heading = "Network")]
    embedding_dim: Option<usize>,
    /// f32; bf16: faster, on a GPU or a CPU with AVX512-BF16 or AMX; tf32: on a GPU only [default: f32; for `quick` bf16 where the
    /// CPU has it]
    #[arg(long, value_name = "f32|tf32|bf16", help_heading = "Network")]
    precision: Option<Precision>,
    /// Epochs in all
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    epochs: Option<usize>,
    /// Epochs of instance recognition before local aggregation
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    ir_epochs: Option<usize>,
    /// Images per step
    #[arg(long, value_name = "B", help_heading = "Optimisation")]
    batch_size: Option<usize>,
    /// Augmented views of each image per step. With 2, the loss makes an image's two views agree (NT-Xent) and --ir has no effect;
    /// local aggregation adds its own loss for each view
    #[arg(long, value_name = "V", help_heading = "Optimisation")]
    views: Option<usize>,
    /// Highest learning rate
    #[arg(long, value_name = "X", help_heading = "Optimisation")]
    lr: Option<f64>,
    /// How the learning rate falls
    #[arg(long, value_name = "step|cosine", help_heading = "Optimisation")]
    schedule: Option<ScheduleKind>,
    /// Epochs over which the learning rate rises from 0
    #[arg(long, value_name = "E", help_heading = "Optimisation")]
    lr_warmup_epochs: Option<f64>,
    /// Weight decay, not applied to batch norm and biases
    #[arg(long, value_name = "X", help_heading = "Optimisation")]
    weight_decay: Option<f64>,
    /// How instance recognition is computed from one view; auto: softmax below 200,000 images, else nce
    #[arg(long, value_name = "auto|softmax|nce", help_heading = "Objective")]
    ir: Option<Ir>,
    /// Temperature of the losses
    #[arg(long, value_name = "X", help_heading = "Objective")]
    temperature: Option<f64>,
    /// Background neighbours of an image [default: fitted to the number of images]
    #[arg(long, value_name = "K", help_heading = "Objective")]
    num_background: Option<usize>,
    /// Clusters of each k-means run [default: fitted to the number of images]
    #[arg(long, value_name = "M", help_heading = "Objective")]
    num_clusters: Option<usize>,
    /// k-means runs [default: fitted to the number of images]
    #[arg(long, value_name = "H", help_heading = "Objective")]
    num_clusterings: Option<usize>,
    /// Two images are close if at least Q k-means runs put them in one cluster; 1 in the paper
    #[arg(long, value_name = "Q", help_heading = "Objective")]
    min_agreement: Option<usize>,
    /// What k-means clusters: the memory bank, as in the paper, or the whitened read-out of the un-augmented images
    #[arg(long, value_name = "bank|readout", help_heading = "Objective")]
    cluster_features: Option<ClusterFeatures>,
    /// Epochs between clusterings
    #[arg(long, value_name = "E", help_heading = "Objective")]
    cluster_interval: Option<usize>,
    /// Share of the old row that a bank update keeps
    #[arg(long, value_name = "X", help_heading = "Objective")]
    bank_momentum: Option<f64>,
    /// Start of the bank: random rows, or the network's embeddings
    #[arg(long, value_name = "random|forward", help_heading = "Objective", conflicts_with = "branch")]
    bank_init: Option<BankInit>,
    /// Noise samples of an image in noise-contrastive estimation
    #[arg(long, value_name = "N", help_heading = "Objective")]
    num_noise: Option<usize>,
    /// How kNN accuracy is measured after each epoch: by embedding all images again, by the bank (faster), or not at all; auto: by the number of images
    #[arg(long, value_name = "auto|reembed|bank|none", help_heading = "Monitor")]
    monitor: Option<Monitor>,
    /// Epochs between evaluations of the kNN monitor; the last epoch is always evaluated
    #[arg(long, value_name = "E", help_heading = "Monitor")]
    monitor_interval: Option<usize>,
    /// Neighbours that vote in the kNN monitor
    #[arg(long, value_name = "K", help_heading = "Monitor")]
    knn_k: Option<usize>,
    /// Temperature of their votes
    #[arg(long, value_name = "X", help_heading = "Monitor")]
    knn_temperature: Option<f64>,
}

/// Settings with where they come from.
pub struct Recipe {
    /// The settings.
    pub config: TrainConfig,
    /// Their source in words.
    pub description: String,
    /// The checkpoint that a branch begins from.
    pub checkpoint: Option<PathBuf>,
    /// What training begins from, where the settings were chosen for pictures of one's own.
    pub own: Option<Beginning>,
    /// Side of the images that what it begins from is used with.
    pub size: Option<usize>,
}

/// A flag that was given.
struct Override {
    flag: &'static str,
    before: String,
    after: String,
}

/// Brings every given flag into the settings and tells which were given, with the values before and after.
macro_rules! overrides {
    ($args:ident, $config:ident: $($flag:ident => $($field:ident).+ $(, $wrap:ident)?;)*) => {{
        let mut given = Vec::new();
        $(if let Some(value) = &$args.$flag {
            let shown = |config: &TrainConfig| overrides!(@shown config.$($field).+ $(, $wrap)?);
            let before = shown($config);
            $config.$($field).+ = overrides!(@wrap value.clone() $(, $wrap)?);
            given.push(Override { flag: stringify!($flag), before, after: shown($config) });
        })*
        given
    }};
    // Not by how it prints: a monitor can be `None` too.
    (@shown $value:expr, some) => { $value.as_ref().map_or("unset".to_string(), |value| plain(&format!("{value:?}"))) };
    (@shown $value:expr) => { plain(&format!("{:?}", $value)) };
    (@wrap $value:expr, some) => { Some($value) };
    (@wrap $value:expr) => { $value };
}

impl TrainArgs {
    /// The weights to begin from, where that is neither random ones nor a checkpoint.
    pub fn weights(&self, device: &Device) -> anyhow::Result<Option<Weights>> {
        if let Some(name) = &self.init {
            return Weights::open(name, device).map(Some);
        }
        if self.branch.is_some() || self.from_scratch || self.fitting_preset()?.is_some() {
            return Ok(None);
        }
        let photos = Weights::open(PHOTOS, device)?;
        let ResNetConfig { arch, stem, width, .. } = *photos.net().config();
        let is_of_them = self.arch.unwrap_or(arch) == arch && self.stem.unwrap_or(stem) == stem && self.width.unwrap_or(width) == width;
        Ok(is_of_them.then_some(photos))
    }

    /// The preset's settings, or the branch's, or those for `num_images` pictures of one's own, with the given flags in them.
    pub fn recipe(&self, num_images: usize, weights: Option<&Weights>, device: &Device) -> anyhow::Result<Recipe> {
        let mut recipe = self.named_recipe(num_images, weights, device)?;
        let given = self.override_settings(&mut recipe.config);
        if let (None, None, Some(preset)) = (recipe.size, &recipe.checkpoint, self.fitting_preset()?) {
            recipe.size = Some(preset.search_scale * recipe.config.size);
        }
        // What the data is stands in a line of its own.
        let changed: Vec<String> = given
            .iter()
            .filter(|given| given.before != given.after && given.flag != "data")
            .map(|given| format!("{} {} (not {})", dashed(given.flag), given.after, given.before))
            .collect();
        if !changed.is_empty() {
            recipe.description += &format!(" with {}", changed.join(", "));
        }
        if let Some(weights) = weights {
            recipe.config.init = Some(weights.place.clone());
        }
        Ok(recipe)
    }

    /// Whether the precision was given, and not chosen for the processor.
    pub fn is_precision_chosen(&self) -> bool {
        self.precision.is_some()
    }

    /// Whether the epochs of instance recognition were given: that they fill the run is then no surprise.
    pub fn is_ir_chosen(&self) -> bool {
        self.ir_epochs.is_some()
    }

    fn named_recipe(&self, num_images: usize, weights: Option<&Weights>, device: &Device) -> anyhow::Result<Recipe> {
        if let Some(path) = &self.branch {
            let Trunk { config, checkpoint, size } = Trunk::open(path)?;
            let description = format!("as {} began", path.display());
            return Ok(Recipe { config, description, checkpoint: Some(checkpoint), own: None, size });
        }
        let size = weights.map(Weights::size);
        if let Some(preset) = self.fitting_preset()? {
            let description = format!("preset {}", preset.name);
            let mut config = (preset.config)();
            // The first command should be short, and its accuracy is level (weights/README.md).
            if preset.name == QUICK && device.is_cpu() && bf16_instructions().is_some() {
                config.precision = Precision::Bf16;
            }
            return Ok(Recipe { config, description, checkpoint: None, own: None, size });
        }
        let beginning = if weights.is_some() { Beginning::Weights } else { Beginning::Scratch };
        let mut config = beginning.settings(num_images, self.epochs);
        let from = weights.map_or("random weights".into(), |weights| weights.place.display().to_string());
        if let Some(weights) = weights {
            weights.shape(&mut config);
        }
        let asked = match beginning.epochs(num_images) {
            epochs if config.epochs == epochs => String::new(),
            epochs => format!(", which ask for {epochs} epochs"),
        };
        let description = format!("chosen for {}{asked}, from {from}", crate::source::images(num_images, ""));
        Ok(Recipe { config, description, checkpoint: None, own: Some(beginning), size })
    }

    /// The preset that is named, or the one of the data.
    fn fitting_preset(&self) -> anyhow::Result<Option<&'static Preset>> {
        if let Some(name) = &self.preset {
            return Preset::of_name(name).map(Some);
        }
        let data = self.data.as_deref().unwrap_or("sample");
        Ok(PRESETS.iter().find(|preset| preset.name == data || (preset.config)().data == data))
    }

    fn override_settings(&self, config: &mut TrainConfig) -> Vec<Override> {
        overrides!(self, config:
            data => data;
            crop_min_area => augment.crop_min_area;
            hue => augment.hue;
            crop_fraction => crop_fraction, some;
            test => test, some;
            limit => limit, some;
            size => size;
            seed => seed;
            checkpoint_minutes => checkpoint_minutes, some;
            checkpoint_interval => checkpoint_interval;
            arch => arch;
            stem => stem;
            width => width;
            embedding_dim => embedding_dim;
            keep_statistics => keep_statistics;
            precision => precision;
            epochs => epochs;
            ir_epochs => ir_epochs;
            batch_size => batch_size;
            views => views;
            lr => lr;
            schedule => schedule;
            lr_warmup_epochs => lr_warmup_epochs;
            weight_decay => sgd.weight_decay;
            ir => ir;
            temperature => temperature;
            num_background => num_background, some;
            num_clusters => num_clusters, some;
            num_clusterings => num_clusterings, some;
            min_agreement => min_agreement;
            cluster_features => cluster_features;
            cluster_interval => cluster_interval;
            bank_momentum => bank_momentum;
            bank_init => bank_init;
            num_noise => num_noise;
            monitor => monitor;
            monitor_interval => monitor_interval;
            knn_k => knn_k;
            knn_temperature => knn_temperature;
        )
    }

    /// Puts the places of the images that are given in place of the recorded ones.
    pub fn move_data(&self, config: &mut TrainConfig) {
        config.data = self.data.clone().unwrap_or_else(|| config.data.clone());
        config.test = self.test.clone().or_else(|| config.test.clone());
    }

    /// Whether it is said where the images are.
    pub fn moves_data(&self) -> bool {
        self.data.is_some() || self.test.is_some()
    }

    /// The given flags that settings come from, for `--resume`, which takes none but those of [`Self::move_data`].
    pub fn given(&self) -> Vec<String> {
        let named = [("--preset", self.preset.is_some()), ("--out", self.out.is_some()), ("--init", self.init.is_some())];
        let named = named.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name.to_string());
        let settings = self.override_settings(&mut TrainConfig::default());
        let settings = settings.iter().filter(|given| !["data", "test"].contains(&given.flag));
        named.chain(settings.map(|given| format!("--{}", dashed(given.flag)))).collect()
    }
}

/// The flag of a field.
fn dashed(field: &str) -> String {
    field.replace('_', "-")
}

/// A value as a flag has it: `Small` as `small`, text without quotes.
fn plain(debug: &str) -> String {
    debug.trim_matches('"').to_lowercase()
}

fn presets_and_examples() -> String {
    let presets: String = PRESETS.iter().map(|preset| format!("  {:<16} {}\n", preset.name, preset.about)).collect();
    format!("Presets:\n{presets}\n{EXAMPLES}")
}
