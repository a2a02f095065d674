//! Everything that resumes a run bit-exactly, in one file that is replaced in one step.

use crate::{
    config::TrainConfig,
    data::Source,
    error::bail,
    files::sha256_of,
    kmeans::ClusterLabels,
    memory_bank::MemoryBank,
    ops::host,
    optim::Sgd,
    resnet::ResNet,
    tensor_files::{not_finite, read_tensors, write_tensors},
    train::metrics::{Baseline, EpochMetrics, Totals},
    Error, Result,
};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::HashMap, path::Path};

/// The metadata key that tells a checkpoint from other safetensors files.
const KEY: &str = "local_aggregation_checkpoint";

/// Settings that may differ when a run is resumed: they name places, or decide on nothing once there is a checkpoint.
const FREE_SETTINGS: [&str; 6] = ["data", "test", "init", "threads", "checkpoint_minutes", "checkpoint_interval"];

type Tensors = HashMap<String, Tensor>;

/// How far a run has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Position {
    /// The run's settings, resolved.
    pub config: TrainConfig,
    /// Training images.
    pub num_images: usize,
    /// [`TrainImages::names`], which older checkpoints do not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_names: Option<String>,
    /// Epochs done.
    pub epoch: usize,
    /// Steps done in the epoch under way.
    pub step: usize,
    /// What these steps summed up to.
    pub totals: Totals,
    /// Accuracy before training.
    pub baseline: Option<Baseline>,
    /// Metrics of the epochs done.
    pub epochs: Vec<EpochMetrics>,
}

impl Position {
    /// Whether every epoch is done that `config` asks for, under these very settings.
    pub fn completes(&self, config: &TrainConfig) -> bool {
        self.epoch >= config.epochs && self.differences(config).is_empty()
    }

    /// The settings that make `config` another run's, with both values.
    fn differences(&self, config: &TrainConfig) -> Vec<String> {
        let (there, here) = (settings(&self.config), settings(config));
        here.iter()
            .filter(|(name, value)| there.get(*name) != Some(value) && !FREE_SETTINGS.contains(&name.as_str()))
            .map(|(name, value)| format!("{name} {} there, {value} here", there.get(name).unwrap_or(&Value::Null)))
            .collect()
    }
}

/// Which training images a state belongs to: the rows of its bank and of its clusters stand in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainImages {
    /// How many there are.
    pub count: usize,
    /// SHA-256 of their names, in their order.
    pub names: String,
}

impl TrainImages {
    /// Those of a source.
    pub fn of(source: &dyn Source) -> Self {
        let count = source.len();
        Self { count, names: sha256_of((0..count).map(|index| source.name(index) + "\0")) }
    }

    /// What is not as `position` has it, in words.
    pub fn difference(&self, position: &Position) -> Option<String> {
        if position.num_images != self.count {
            return Some(format!("{} training images there, {} here", position.num_images, self.count));
        }
        let is_other = position.image_names.as_ref().is_some_and(|names| *names != self.names);
        is_other.then(|| format!("the names or the order of the {} training images have changed since", self.count))
    }
}

/// All that changes during a run.
pub struct TrainState {
    /// The network: weights and running statistics.
    pub net: ResNet,
    /// The optimiser's velocities.
    pub sgd: Sgd,
    /// The memory bank.
    pub bank: MemoryBank,
    /// Cluster labels, once local aggregation has begun.
    pub clusters: Option<ClusterLabels>,
    /// How far the run has come.
    pub position: Position,
}

impl TrainState {
    /// Writes the state to `path`, atomically.
    ///
    /// Fails, leaving the former file, where a weight is not finite or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check_finite()?;
        let mut tensors = prefixed("net.", self.net.tensors()?);
        tensors.extend(prefixed("sgd.", self.sgd.state()));
        tensors.push(("bank".into(), self.bank.rows().clone()));
        if let Some(clusters) = &self.clusters {
            tensors.push(("clusters".into(), clusters.to_tensor()?));
        }
        let position = serde_json::to_string(&self.position).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
        write_tensors(path, &tensors, Some((KEY, position)))
    }

    /// Fails where a weight is NaN or infinite.
    pub fn check_finite(&self) -> Result<()> {
        let tensors = self.net.tensors()?;
        let Some(name) = not_finite(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))? else { return Ok(()) };
        Err(Error::Diverged(format!("{name} holds NaN or infinite values in epoch {}", self.position.epoch + 1)))
    }

    /// The state in `path`, to be resumed with `config` on `images`.
    ///
    /// Fails with the file's name where it is missing, damaged or no checkpoint, or was written with other settings (each is named).
    pub fn load(path: &Path, config: &TrainConfig, images: &TrainImages) -> Result<Self> {
        let (mut tensors, position) = read(path)?;
        check_settings(path, &position, config, images)?;
        let agreeing = |labels| ClusterLabels::from_tensor(&labels)?.agreeing(config.min_agreement);
        let clusters = tensors.remove("clusters").map(agreeing).transpose()?;
        Ok(Self { clusters, ..Self::restore(path, tensors, position, config, images)? })
    }

    /// The state in `path`, which another run left after an epoch, for a branch under settings of its own: `config`.
    ///
    /// Clusters are left behind: how to cluster is among the settings; so is the accuracy before training, where it would be measured
    /// otherwise now. Fails with the file's name where it is missing, damaged
    /// or no checkpoint, was written inside an epoch, leaves no epoch to do, or is of another network or other images.
    pub fn branch(path: &Path, config: &TrainConfig, images: &TrainImages) -> Result<Self> {
        let (mut tensors, mut position) = read(path)?;
        check_branch(path, &position, config, images)?;
        tensors.remove("clusters");
        if protocol(&position.config) != protocol(config) {
            position.baseline = None;
        }
        Self::restore(path, tensors, position, config, images)
    }

    fn restore(path: &Path, mut tensors: Tensors, mut position: Position, config: &TrainConfig, images: &TrainImages) -> Result<Self> {
        position.config = config.clone();
        position.image_names = Some(images.names.clone());
        let named = |error| Error::invalid(format!("{}: {error}", path.display()));
        let bank = restore_bank(&take(path, &mut tensors, "bank")?, config).map_err(named)?;
        let mut net = ResNet::new(&config.network(), config.seed, &config.device)?;
        net.load_tensors(&take_prefixed("net.", &mut tensors)).map_err(named)?;
        let mut sgd = Sgd::new(config.sgd, &net)?;
        sgd.load_state(&take_prefixed("sgd.", &mut tensors)).map_err(named)?;
        Ok(Self { net, sgd, bank, clusters: None, position })
    }
}

/// What the accuracy that a run reports depends on beside its network and images.
fn protocol(config: &TrainConfig) -> impl PartialEq + '_ {
    (&config.test, config.size, config.crop_fraction, config.normalization, config.knn_k, config.knn_temperature.to_bits())
}

fn prefixed(prefix: &str, tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// How far the checkpoint in `path` has come; fails where that is no whole one.
pub fn position(path: &Path) -> Result<Position> {
    Ok(read(path)?.1)
}

/// Fails where [`TrainState::branch`] would.
pub(crate) fn check_trunk(path: &Path, config: &TrainConfig, images: &TrainImages) -> Result<()> {
    check_branch(path, &read(path)?.1, config, images)
}

fn read(path: &Path) -> Result<(Tensors, Position)> {
    let (tensors, metadata) = read_tensors(path, &Device::Cpu)?;
    let Some(text) = metadata.get(KEY) else {
        bail!("{}: expected a checkpoint, got a safetensors file without training state", path.display());
    };
    let position = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("{}: not a checkpoint of this version ({error})", path.display())))?;
    Ok((tensors, position))
}

fn take_prefixed(prefix: &str, tensors: &mut Tensors) -> HashMap<String, Tensor> {
    let names: Vec<String> = tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    names.into_iter().filter_map(|name| Some((name[prefix.len()..].to_string(), tensors.remove(&name)?))).collect()
}

fn take(path: &Path, tensors: &mut Tensors, name: &str) -> Result<Tensor> {
    tensors.remove(name).ok_or_else(|| Error::invalid(format!("{}: tensor {name} is missing", path.display())))
}

/// The bank with the very bits that were saved: normalising unit rows once more would change some.
fn restore_bank(rows: &Tensor, config: &TrainConfig) -> Result<MemoryBank> {
    let bank = MemoryBank::from_tensor(rows.to_device(&config.device)?)?;
    let rows = host::read(rows, <[f32]>::to_vec)?;
    host::overwrite(bank.rows(), &rows)?;
    Ok(bank)
}

/// Refuses settings that would make another run of it.
fn check_settings(path: &Path, position: &Position, config: &TrainConfig, images: &TrainImages) -> Result<()> {
    let mut differences = position.differences(config);
    differences.extend(images.difference(position));
    if !differences.is_empty() {
        bail!("{}: the checkpoint is of another run: {}", path.display(), differences.join("; "));
    }
    Ok(())
}

/// Refuses settings that the state does not fit, or where nothing is left to do.
fn check_branch(path: &Path, position: &Position, config: &TrainConfig, images: &TrainImages) -> Result<()> {
    let (path, epoch) = (path.display(), position.epoch);
    if let Some(difference) = position.config.network().difference(&config.network()) {
        bail!("{path}: the checkpoint is of another network: {difference}");
    }
    if let Some(difference) = images.difference(position) {
        bail!("{path}: the checkpoint is of a run on other images: {difference}");
    }
    if position.step != 0 {
        bail!("{path}: the checkpoint was written inside epoch {}; expected one from the end of an epoch", epoch + 1);
    }
    if epoch >= config.epochs {
        let done = if epoch == 1 { "1 epoch is".to_string() } else { format!("{epoch} epochs are") };
        bail!("{path}: {done} done; epochs must be more, got {}", config.epochs);
    }
    Ok(())
}

/// The settings as they look after a trip through JSON, which is what a checkpoint holds.
fn settings(config: &TrainConfig) -> serde_json::Map<String, Value> {
    let text = serde_json::to_string(config).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
