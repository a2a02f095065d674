//! Where a branch begins: at a run's last checkpoint, or at the one that is named.

use crate::run::RunFolder;
use anyhow::{bail, Context};
use la_core::config::TrainConfig;
use std::path::{Path, PathBuf};

/// A run that another one branches off.
pub struct Trunk {
    /// Its settings.
    pub config: TrainConfig,
    /// The state to branch from.
    pub checkpoint: PathBuf,
    /// Side of the images that its network is used with, where that is not the side of training.
    pub size: Option<usize>,
}

impl Trunk {
    /// The trunk that `RUN`, or `RUN/checkpoint/FILE`, means.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let folder = if path.is_file() { path.parent().and_then(Path::parent).unwrap_or(path) } else { path };
        // The parent of `checkpoint/FILE` has no name.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let run = RunFolder::open(folder).context("--branch")?;
        let checkpoint = if path.is_file() { path.to_path_buf() } else { run.checkpoint_path() };
        if !checkpoint.is_file() {
            bail!("--branch: {} has no checkpoint yet, {} is missing; wait for its first", path.display(), checkpoint.display());
        }
        let recorded = run.read_config()?;
        Ok(Self { config: recorded.train, checkpoint, size: recorded.size })
    }
}
