//! The files of weights, wherever they lie: inside this program, in a folder, or in the Hub's cache.

use super::{readout, torch};
use crate::run::weights_path;
use anyhow::{bail, Context};
use la_core::search::Precision;
use la_core::tensor_files::read_bytes;
use serde_json::Value;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The name of the weights inside this program, which are used where none are named.
pub const PHOTOS: &str = "photos";

static PHOTOS_MODEL: &[u8] = include_bytes!("../../../weights/photos/model.safetensors");
static PHOTOS_CONFIG: &str = include_str!("../../../weights/photos/config.json");

/// Weights as they are stored.
pub struct WeightFiles {
    /// Where they are, for errors.
    pub shown: String,
    /// The safetensors file of the network.
    pub model: Cow<'static, [u8]>,
    /// `config.json`, where there is one.
    pub config: Option<Value>,
    /// Where `readout.safetensors` would be.
    pub readout_path: Option<PathBuf>,
}

impl WeightFiles {
    /// Reads what `RUN|WEIGHTS` means.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        if name == PHOTOS {
            let config = serde_json::from_str(PHOTOS_CONFIG).context("the embedded config.json")?;
            return Ok(Self { shown: name.into(), model: Cow::Borrowed(PHOTOS_MODEL), config: Some(config), readout_path: None });
        }
        let path = weights_path(&local_path(name)?)?;
        let model = if torch::is_one(&path) { torch::read(&path)? } else { read_bytes(&path)? };
        let config = read_config(&path.with_file_name("config.json"))?;
        let readout_path = Some(path.with_file_name(readout::FILE));
        Ok(Self { shown: path.display().to_string(), model: Cow::Owned(model), config, readout_path })
    }

    /// How convolutions are stored.
    pub fn precision(&self) -> Precision {
        let Ok(tensors) = safetensors::SafeTensors::deserialize(&self.model) else { return Precision::F32 };
        match tensors.tensor("conv1.weight").map(|tensor| tensor.dtype()) {
            Ok(safetensors::Dtype::I8) => Precision::I8,
            Ok(safetensors::Dtype::F16 | safetensors::Dtype::BF16) => Precision::F16,
            _ => Precision::F32,
        }
    }
}

/// The path itself, or where the files of `hf:owner/name` were downloaded to.
fn local_path(name: &str) -> anyhow::Result<PathBuf> {
    match name.strip_prefix("hf:") {
        Some(id) => Ok(crate::hub::download_weights(id)?),
        None if Path::new(name).exists() => Ok(PathBuf::from(name)),
        None => bail!(
            "{name}: there is no such file or folder; expected {PHOTOS}, a run, a .safetensors file, a folder with model.safetensors, or \
             hf:owner/name"
        ),
    }
}

/// The JSON in `path`, where there is such a file.
pub fn read_config(path: &Path) -> anyhow::Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).map(Some).with_context(|| format!("{}: expected JSON", path.display()))
}
