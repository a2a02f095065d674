//! The read-out of a network: the file that is kept next to the weights.

use crate::digests::sha256;
use crate::output::remark;
use anyhow::Context;
use candle_core::Device;
use la_core::pca::Whitening;
use la_core::tensor_files::{read_tensors, write_tensors};
use std::path::Path;

/// The file beside `model.safetensors`.
pub const FILE: &str = "readout.safetensors";
/// What the names of its tensors begin with.
pub const PREFIX: &str = "readout.";
/// Its metadata: the digest of the weights that it was learned for.
const WEIGHTS_KEY: &str = "weights_sha256";

/// Writes the read-out into the folder of the weights that it was learned for.
pub fn write(folder: &Path, readout: &Whitening) -> anyhow::Result<()> {
    let digest = sha256(&folder.join("model.safetensors"))?;
    Ok(write_tensors(&folder.join(FILE), &readout.tensors(), Some((WEIGHTS_KEY, digest)))?)
}

/// The read-out at `path`, where it belongs to weights of this digest: a run that has trained on since has outgrown it.
pub fn read(path: &Path, digest: &str) -> anyhow::Result<Option<Whitening>> {
    if !path.is_file() {
        return Ok(None);
    }
    let (tensors, metadata) = read_tensors(path, &Device::Cpu)?;
    if metadata.get(WEIGHTS_KEY).map(String::as_str) != Some(digest) {
        remark!("note: {} was learned for other weights and is not used", path.display());
        return Ok(None);
    }
    Whitening::from_tensors(&tensors).map(Some).with_context(|| path.display().to_string())
}
