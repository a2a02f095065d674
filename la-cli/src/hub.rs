//! Weights of the Hugging Face Hub by the name of their model, through hf-hub.
//!
//! hf-hub's environment variables apply: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`. What was downloaded once is not again.

use crate::digests::SUMS;
use crate::error::{bail, Error, Result};
use hf_hub::{HFClientSync, HFError, HFRepositorySync, RepoTypeModel};
use std::path::PathBuf;

/// Downloads `model.safetensors` and, where there are such, `config.json`, `readout.safetensors` and `SHA256SUMS` of the model
/// `owner/name`; gives their folder.
///
/// Fails where the name is not of that shape, the Hub does not have it, or the model has no such weights.
pub fn download_weights(id: &str) -> Result<PathBuf> {
    let Some((owner, name)) = id.split_once('/').filter(|(owner, name)| !owner.is_empty() && !name.is_empty()) else {
        bail!("expected hf:owner/name, got hf:{id}");
    };
    let failed = |err: HFError| match err {
        HFError::EntryNotFound { .. } => {
            Error::invalid(format!("hf:{id}: expected a model that has model.safetensors, got no such file; check the name"))
        }
        err => Error::invalid(format!(
            "hf:{id}: {err}; check the name and the network; a private model needs HF_TOKEN, another server HF_ENDPOINT"
        )),
    };
    let repo = HFClientSync::new().map_err(failed)?.model(owner, name);
    // Asked for before weights that are new, and never again: weights from the cache need no network.
    if cached(&repo, "model.safetensors").is_none() {
        [SUMS, "readout.safetensors"].into_iter().try_for_each(|name| download_if_there(&repo, name)).map_err(failed)?;
    }
    let weights = download(&repo, "model.safetensors").map_err(failed)?;
    download_if_there(&repo, "config.json").map_err(failed)?;
    Ok(weights.with_file_name(""))
}

fn download_if_there(repo: &HFRepositorySync<RepoTypeModel>, name: &str) -> std::result::Result<(), HFError> {
    match download(repo, name) {
        Ok(_) | Err(HFError::EntryNotFound { .. }) => Ok(()),
        Err(err) => Err(err),
    }
}

fn cached(repo: &HFRepositorySync<RepoTypeModel>, name: &str) -> Option<PathBuf> {
    repo.download_file().filename(name).local_files_only(true).send().ok()
}

/// The file's path in the cache, downloaded where it is not there yet.
fn download(repo: &HFRepositorySync<RepoTypeModel>, name: &str) -> std::result::Result<PathBuf, HFError> {
    let file = repo.download_file().filename(name);
    match file.clone().local_files_only(true).send() {
        Err(HFError::LocalEntryNotFound { .. }) => file.send(),
        cached => cached,
    }
}
