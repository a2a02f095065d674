//! The Hugging Face Hub through hf-hub, and the weights of its models.
//!
//! The variables of the Hub's own library apply: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`. What was downloaded once is
//! not again.

use crate::digests::SUMS;
use crate::error::{bail, Error, Result};
use hf_hub::repository::{RepoType, RepoTypeModel};
use hf_hub::{HFClientSync, HFError, HFRepositorySync};
use std::path::{Component, Path, PathBuf};

/// What fails on the way to the Hub and back.
pub type HubResult<T> = std::result::Result<T, HFError>;

/// A client with the user's token, which sends nothing about this machine.
pub fn client() -> HubResult<HFClientSync> {
    std::env::set_var("HF_HUB_DISABLE_TELEMETRY", "1");
    let builder = hf_hub::HFClient::builder();
    let is_set = |name| std::env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
    match is_set("HF_TOKEN").filter(|_| is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_none()) {
        Some(token) => builder.token(token).build_sync(),
        None => builder.build_sync(),
    }
}

/// Whether the user wants nothing to be asked of the Hub.
pub fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_lowercase().as_str()))
}

/// Owner and name, where `id` is both and nothing else.
pub fn owner_and_name(id: &str) -> Option<(&str, &str)> {
    let is_name =
        |name: &str| !name.starts_with('.') && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    id.split_once('/').filter(|(owner, name)| is_name(owner) && is_name(name))
}

/// Whether a path that a server tells stays in the folder that it is put into.
pub fn stays_inside(path: &str) -> bool {
    let is_plain = |part: Component| matches!(part, Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(is_plain) && !path.contains(|c: char| c == '\\' || c.is_control())
}

/// The file's path in the cache, downloaded where it is not there yet.
pub fn download<T: RepoType>(repo: &HFRepositorySync<T>, name: &str, revision: Option<&str>) -> HubResult<PathBuf> {
    let file = repo.download_file().filename(name).maybe_revision(revision);
    match file.clone().local_files_only(true).send() {
        Err(HFError::LocalEntryNotFound { .. }) if !is_offline() => {
            // hf-hub names folders and files of the cache as the server does.
            let told = repo.get_file_metadata().filepath(name).maybe_revision(revision).send()?;
            let names = [told.commit_hash, told.etag];
            match names.iter().find(|name| !stays_inside(name) || name.contains('/')) {
                Some(name) => Err(HFError::Io(std::io::Error::other(format!("the server tells {name:?} for a name in the cache")))),
                None => file.send(),
            }
        }
        cached => cached,
    }
}

/// Downloads `model.safetensors` and, where there are such, `config.json`, `readout.safetensors` and `SHA256SUMS` of the model
/// `owner/name`; gives their folder.
///
/// Fails where the name is not of that shape, the Hub does not have it, or the model has no such weights.
pub fn download_weights(id: &str) -> Result<PathBuf> {
    let Some((owner, name)) = owner_and_name(id) else {
        bail!("expected hf:owner/name, got hf:{id}");
    };
    let failed = |err: HFError| match err {
        HFError::EntryNotFound { .. } => {
            Error::invalid(format!("hf:{id}: expected a model that has model.safetensors, got no such file; check the name"))
        }
        HFError::LocalEntryNotFound { .. } => Error::invalid(format!("hf:{id}: {}", NOT_IN_CACHE)),
        err => Error::invalid(format!(
            "hf:{id}: {err}; check the name and the network; a private model needs HF_TOKEN, another server HF_ENDPOINT"
        )),
    };
    let repo = client().map_err(failed)?.model(owner, name);
    // Asked for before weights that are new, and never again: weights from the cache need no network.
    if cached(&repo, "model.safetensors").is_none() {
        [SUMS, "readout.safetensors"].into_iter().try_for_each(|name| download_if_there(&repo, name)).map_err(failed)?;
    }
    let weights = download(&repo, "model.safetensors", None).map_err(failed)?;
    download_if_there(&repo, "config.json").map_err(failed)?;
    Ok(weights.with_file_name(""))
}

/// Why there is no file, where the user wants nothing to be asked of the Hub.
pub const NOT_IN_CACHE: &str = "not downloaded yet, and HF_HUB_OFFLINE is set; unset it to download this";

fn download_if_there(repo: &HFRepositorySync<RepoTypeModel>, name: &str) -> HubResult<()> {
    match download(repo, name, None) {
        Ok(_) | Err(HFError::EntryNotFound { .. }) => Ok(()),
        Err(HFError::LocalEntryNotFound { .. }) if is_offline() => Ok(()),
        Err(err) => Err(err),
    }
}

fn cached(repo: &HFRepositorySync<RepoTypeModel>, name: &str) -> Option<PathBuf> {
    repo.download_file().filename(name).local_files_only(true).send().ok()
}
