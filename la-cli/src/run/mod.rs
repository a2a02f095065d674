//! Layout of a run's folder.

mod keeper;
mod tensorboard;

pub use keeper::{train, Progress};

use crate::digests::{check_beside, SUMS};
use crate::error::{bail, Error, Result};
use crate::output::tsv_field;
use candle_core::{DType, Tensor};
use la_core::{
    checkpoint::TrainState,
    config::TrainConfig,
    data::Unreadable,
    files::{is_temporary, write_atomically},
    tensor_files::write_tensors,
    train::{unix_time, Baseline, EpochMetrics},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    /// The commit that the program was built from, for `config.json`.
    pub git_commit: Option<String>,
    /// The command line that began the run, word by word, for `config.json`.
    pub command: Option<Vec<String>>,
    /// The processor and how many threads compute, for `config.json`.
    pub machine: Option<String>,
    /// Side of the images that the network is used with, where that is not the side of training, for `config.json`.
    pub size: Option<usize>,
}

/// A run's folder that this process alone trains into.
#[derive(Debug)]
pub struct RunLock {
    _folder: Option<File>,
}

/// The content of `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunConfig {
    /// Every setting, resolved.
    pub train: TrainConfig,
    /// Training images.
    pub num_images: usize,
    /// Test images, if there are any.
    pub num_test_images: Option<usize>,
    /// Class names, where labels exist.
    pub class_names: Vec<String>,
    /// Where the network computed.
    pub device: String,
    /// What was chosen by itself, and why.
    pub notes: Vec<String>,
    /// Epochs that another run computed under settings of its own, and this one took over with its checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branched_after: Option<usize>,
    /// Versions of the crates that decide on results.
    pub versions: Versions,
    /// The commit that the program was built from.
    pub git_commit: Option<String>,
    /// The command line that began the run, word by word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The processor and how many threads compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Side of the images that the network is used with, where that is not the side of training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The vector instructions that computed: the last bits of results depend on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simd: Option<String>,
}

impl RunConfig {
    /// Side of the images that the network is used with.
    pub fn size(&self) -> usize {
        self.size.unwrap_or(self.train.size)
    }
}

/// Versions of the crates that decide on results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// The library.
    pub la_core: String,
    /// candle-core.
    pub candle_core: String,
}

impl Default for Versions {
    fn default() -> Self {
        // Cargo tells a crate its own version only; a test holds the other against Cargo.lock.
        Self { la_core: la_core::VERSION.into(), candle_core: "0.11.1".into() }
    }
}

impl RunFolder {
    /// A new run's folder; one that exists must be empty, so that no run is overwritten.
    ///
    /// What a run leaves that was stopped before it wrote its settings counts as empty.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.exists() && !is_empty_folder(&path) {
            bail!("{}: expected a new run folder, got one that exists; resume it or name another", path.display());
        }
        let run = Self::at(path)?;
        let _lock = run.lock()?;
        // A checkpoint without settings: a branch left it that was stopped as it began.
        match fs::remove_file(run.checkpoint_path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(run.checkpoint_path())(error)),
            _ => Ok(run),
        }
    }

    /// The folder of a run that exists.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if !path.join("config.json").is_file() {
            bail!("{}: expected a run folder, got no config.json there", path.display());
        }
        if path.join(SUMS).is_file() {
            bail!("{0}: expected a run folder, got packed weights; `la-cli train --init {0}` begins a new run from them", path.display());
        }
        Self::at(path)
    }

    /// A folder that holds what a run came to, packed weights too: to read, nothing is made in it.
    pub fn of_results(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), git_commit: None, command: None, machine: None, size: None }
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(path.join("checkpoint")).map_err(Error::io(&path))?;
        Ok(Self { path, git_commit: None, command: None, machine: None, size: None })
    }

    /// Keeps other processes from training into the folder while the lock lives; where there are no locks, nothing does.
    pub fn lock(&self) -> Result<RunLock> {
        let folder = File::open(self.path.join("checkpoint")).ok();
        if folder.as_ref().is_some_and(|folder| matches!(folder.try_lock(), Err(TryLockError::WouldBlock))) {
            bail!("{}: another process trains into this run folder; wait until it is done, or stop it first", self.path.display());
        }
        Ok(RunLock { _folder: folder })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The weights, torchvision names and nothing else.
    pub fn model_path(&self) -> PathBuf {
        self.file("model.safetensors")
    }

    /// The memory bank, tensor `bank` (N, D).
    pub fn bank_path(&self) -> PathBuf {
        self.file("bank.safetensors")
    }

    /// The last checkpoint.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint").join("latest.safetensors")
    }

    /// The checkpoint from the end of instance recognition, for branches with other settings.
    pub fn ir_checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint").join("ir.safetensors")
    }

    /// Writes `config.json`.
    pub fn write_config(&self, config: &RunConfig) -> Result<()> {
        self.write_json("config.json", config)
    }

    /// Reads `config.json`.
    pub fn read_config(&self) -> Result<RunConfig> {
        let path = self.file("config.json");
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
    }

    /// Writes `unreadable.tsv`: a name and a reason a line, under a heading.
    pub fn write_unreadable(&self, unreadable: &[Unreadable]) -> Result<()> {
        let rows = unreadable.iter().map(|file| format!("{}\t{}\n", tsv_field(&file.name), tsv_field(&file.reason)));
        let text: String = std::iter::once("name\treason\n".to_string()).chain(rows).collect();
        write_atomically(&self.file("unreadable.tsv"), |file| file.write_all(text.as_bytes()))
    }

    /// What `unreadable.tsv` lists beside the files that are `known`: an earlier sitting met it on its way.
    pub fn unreadable_beside(&self, known: &[Unreadable]) -> Vec<Unreadable> {
        let text = fs::read_to_string(self.file("unreadable.tsv")).unwrap_or_default();
        let listed = text.lines().skip(1).filter_map(|line| line.split_once('\t'));
        let others = listed.filter(|(name, _)| !known.iter().any(|file| tsv_field(&file.name) == *name));
        others.map(|(name, reason)| Unreadable { name: name.into(), reason: reason.into() }).collect()
    }

    /// Writes `baseline.json`.
    pub fn write_baseline(&self, baseline: &Baseline) -> Result<()> {
        self.write_json("baseline.json", baseline)
    }

    /// Reads `baseline.json`, which runs without labels do not have.
    pub fn read_baseline(&self) -> Option<Baseline> {
        serde_json::from_str(&fs::read_to_string(self.file("baseline.json")).ok()?).ok()
    }

    /// Begins `metrics.jsonl` and the TensorBoard events anew with the epochs done so far.
    pub fn start_metrics(&self, epochs: &[EpochMetrics]) -> Result<()> {
        self.write_metrics(epochs)?;
        write_atomically(&self.events_path(), |file| {
            file.write_all(&tensorboard::file_version(epochs.first().map_or_else(unix_time, |epoch| epoch.unix_time)))?;
            epochs.iter().try_for_each(|epoch| file.write_all(&event(epoch)))
        })
    }

    /// Adds the last of `epochs` to `metrics.jsonl`, which is replaced in one step, and to the TensorBoard events.
    pub fn add_metrics(&self, epochs: &[EpochMetrics]) -> Result<()> {
        self.write_metrics(epochs)?;
        // Appended, because TensorBoard keeps the file open while it watches a run.
        let path = self.events_path();
        let last = epochs.last().map(event).unwrap_or_default();
        OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| file.write_all(&last)).map_err(Error::io(&path))
    }

    /// Reads `metrics.jsonl`.
    pub fn read_metrics(&self) -> Result<Vec<EpochMetrics>> {
        let path = self.file("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let parse = |line| serde_json::from_str(line).map_err(|error| Error::invalid(format!("{}: {error}", path.display())));
        text.lines().map(parse).collect()
    }

    /// Writes `model.safetensors` and `bank.safetensors`.
    pub fn write_weights(&self, state: &TrainState) -> Result<()> {
        write_weights(&self.model_path(), &state.net.tensors()?)?;
        write_tensors(&self.bank_path(), &[("bank".into(), state.bank.rows().clone())], None)
    }

    fn write_metrics(&self, epochs: &[EpochMetrics]) -> Result<()> {
        write_atomically(&self.file("metrics.jsonl"), |file| {
            epochs.iter().try_for_each(|epoch| {
                serde_json::to_writer(&mut *file, epoch)?;
                file.write_all(b"\n")
            })
        })
    }

    fn write_json(&self, name: &str, content: &impl Serialize) -> Result<()> {
        write_atomically(&self.file(name), |file| {
            serde_json::to_writer_pretty(&mut *file, content)?;
            file.write_all(b"\n")
        })
    }

    fn events_path(&self) -> PathBuf {
        self.file("events.out.tfevents.0000000000.la")
    }
}

/// Writes weights alone, so that they load elsewhere; equal weights give equal bytes.
pub fn write_weights(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    // transformers refuses files that do not say this.
    write_tensors(path, tensors, Some(("format", "pt".into())))
}

/// The network's tensors as they are published: convolutions and the last layer as f16, batch norm and biases as f32.
///
/// Fails where a weight is not finite as f16.
pub fn halved(tensors: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
    let halve = |(name, tensor): (String, Tensor)| {
        if tensor.rank() < 2 {
            return Ok((name, tensor));
        }
        let half = tensor.to_dtype(DType::F16)?;
        if let Some(value) = half.flatten_all()?.to_vec1::<half::f16>()?.iter().find(|value| !value.is_finite()) {
            bail!("weights: tensor {name} holds a value that is {value} as f16, expected finite ones");
        }
        Ok((name, half))
    };
    tensors.into_iter().map(halve).collect()
}

/// The weights file that `RUN|WEIGHTS` means: the file itself, or `model.safetensors` in a run's folder.
///
/// Fails where there is none, and where it differs from what `SHA256SUMS` beside it says.
pub fn weights_path(path: &Path) -> Result<PathBuf> {
    let inside = path.join("model.safetensors");
    let file = match path.is_dir() {
        false => path.to_path_buf(),
        true if inside.is_file() => inside,
        true => bail!("{}: expected weights or a run folder, got a folder without model.safetensors", path.display()),
    };
    check_beside(&file)?;
    Ok(file)
}

fn is_empty_folder(path: &Path) -> bool {
    let holds_only = |path: &Path, is_remnant: &dyn Fn(&fs::DirEntry) -> bool| {
        fs::read_dir(path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| is_remnant(&entry))))
    };
    let is_file = |entry: &fs::DirEntry, name: &str| entry.file_name() == *name || is_temporary(&entry.file_name(), Path::new(name));
    holds_only(path, &|entry| match entry.file_name() == *"checkpoint" {
        true => holds_only(&entry.path(), &|file| is_file(file, "latest.safetensors")),
        false => is_temporary(&entry.file_name(), Path::new("config.json")),
    })
}

fn event(epoch: &EpochMetrics) -> Vec<u8> {
    tensorboard::of_epoch(epoch)
}
