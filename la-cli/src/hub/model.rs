//! `hf:owner/name[@revision][:file]`: the weights of a model on the Hub.

use super::{client, download, is_offline, owner_and_name, stays_inside, HubResult, NOT_IN_CACHE};
use crate::digests::SUMS;
use crate::error::{bail, Error, Result};
use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFError, HFRepositorySync};
use std::path::PathBuf;

/// The weights of a model where nothing else is named.
const WEIGHTS: &str = "model.safetensors";

/// A model's files at one revision.
struct Model<'a> {
    repo: HFRepositorySync<RepoTypeModel>,
    revision: Option<&'a str>,
}

/// Downloads the weights that `owner/name`, `owner/name@revision`, or either with `:file` names, with `config.json`,
/// `readout.safetensors` and `SHA256SUMS` where there are such; gives the path of the weights.
///
/// Fails where the name is not of that shape, the Hub does not have it, or the model has no such weights.
pub fn download_weights(id: &str) -> Result<PathBuf> {
    let (before, file) = id.split_once(':').map_or((id, WEIGHTS), |(before, file)| (before, file));
    let (model, revision) = before.split_once('@').map_or((before, None), |(model, revision)| (model, Some(revision)));
    let is_plain = stays_inside(file) && revision.is_none_or(stays_inside);
    let Some((owner, name)) = owner_and_name(model).filter(|_| is_plain) else {
        bail!("expected hf:owner/name, hf:owner/name@revision, or either with :file.safetensors, got hf:{id}");
    };
    let failed = |err: HFError| {
        match err {
        HFError::EntryNotFound { .. } => Error::invalid(format!(
            "hf:{id}: expected a model that has {file}, but there is none; check owner, name and branch; a private model needs HF_TOKEN, and hf:{before}:FILE names another file"
        )),
        HFError::LocalEntryNotFound { .. } => Error::invalid(format!("hf:{id}: {}", NOT_IN_CACHE)),
        err => Error::invalid(format!(
            "hf:{id}: {err}; check the name and the network; a private model needs HF_TOKEN, another server HF_ENDPOINT"
        )),
    }
    };
    let model = Model { repo: client().map_err(failed)?.model(owner, name), revision };
    // Asked for before weights that are new, and never again: weights from the cache need no network.
    if model.cached(file).is_none() {
        [SUMS, "readout.safetensors"].into_iter().try_for_each(|name| model.download_if_there(name)).map_err(failed)?;
    }
    let weights = download(&model.repo, file, revision).map_err(failed)?;
    model.download_if_there("config.json").map_err(failed)?;
    Ok(weights)
}

impl Model<'_> {
    fn download_if_there(&self, name: &str) -> HubResult<()> {
        match download(&self.repo, name, self.revision) {
            Ok(_) | Err(HFError::EntryNotFound { .. }) => Ok(()),
            Err(HFError::LocalEntryNotFound { .. }) if is_offline() => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn cached(&self, name: &str) -> Option<PathBuf> {
        self.repo.download_file().filename(name).maybe_revision(self.revision).local_files_only(true).send().ok()
    }
}
