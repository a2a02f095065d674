//! Datasets of the Hugging Face Hub by name, through hf-hub: its Parquet files, or its image files.
//!
//! hf-hub's environment variables apply: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`. What was downloaded once is not again.

use super::{
    files::{has_image_extension, EXTENSIONS},
    folder, parquet, OpenConfig,
};
use crate::error::{bail, Error, Result};
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClientSync, HFError, HFRepositorySync, RepoTypeDataset};
use la_core::data::Splits;
use std::path::{Path, PathBuf};

/// The branch where the Hub keeps every dataset that it can convert, as Parquet.
const CONVERTED: &str = "refs/convert/parquet";

/// Opens `owner/name` or `owner/name:split`.
///
/// Without a split, `train` is learned from and `test` or `validation` is the test split; with one, that split alone is
/// learned from. Fails where the name is not of that shape, the Hub does not have it, or it holds no images.
pub fn open(id: &str, config: &OpenConfig) -> Result<Splits> {
    let (name, split) = id.split_once(':').map_or((id, None), |(name, split)| (name, Some(split)));
    let Some((owner, dataset)) = name.split_once('/').filter(|(owner, dataset)| !owner.is_empty() && !dataset.is_empty()) else {
        bail!("expected hf:owner/name or hf:owner/name:split, got hf:{id}");
    };
    let failed = |err: HFError| {
        let way_out = "check the name and the network; a private dataset needs HF_TOKEN, another server HF_ENDPOINT";
        Error::invalid(format!("hf:{id}: {err}; {way_out}"))
    };
    let repo = HFClientSync::new().map_err(failed)?.dataset(owner, dataset);
    let files = match list(&repo, None) {
        Ok(files) => files,
        Err(err) => match cached(&repo) {
            Some(dir) => return open_dir(&dir, (id, split), config),
            None => return Err(failed(err)),
        },
    };
    if let Some(splits) = open_parquet(&repo, &files, None, (id, split), config)? {
        return Ok(splits);
    }
    if files.iter().any(|file| has_image_extension(Path::new(file))) {
        return open_images(&repo, (id, split), config);
    }
    let converted = list(&repo, Some(CONVERTED)).unwrap_or_default();
    match open_parquet(&repo, &converted, Some(CONVERTED), (id, split), config)? {
        Some(splits) => Ok(splits),
        None => bail!("hf:{id}: expected Parquet or image files, got {:?}", files.iter().take(5).collect::<Vec<_>>()),
    }
}

/// What an earlier download left, for when the Hub cannot be reached.
fn cached(repo: &HFRepositorySync<RepoTypeDataset>) -> Option<PathBuf> {
    let find = |revision: Option<&str>| repo.snapshot_download().maybe_revision(revision).local_files_only(true).send().ok();
    find(None).or_else(|| find(Some(CONVERTED)))
}

fn open_dir(dir: &Path, (id, split): (&str, Option<&str>), config: &OpenConfig) -> Result<Splits> {
    let splits = match parquet::holds_parquet(dir) {
        true => parquet::open(dir, split, config)?,
        false => folder::open(&split.map_or(dir.to_path_buf(), |split| dir.join(split)), config)?,
    };
    Ok(Splits { name: format!("hf:{id}"), ..splits })
}

fn list(repo: &HFRepositorySync<RepoTypeDataset>, revision: Option<&str>) -> std::result::Result<Vec<String>, HFError> {
    let entries = repo.list_tree().maybe_revision(revision).recursive(true).send()?;
    let path = |entry| match entry {
        RepoTreeEntry::File { path, .. } => Some(path),
        RepoTreeEntry::Directory { .. } => None,
    };
    Ok(entries.into_iter().filter_map(path).collect())
}

/// The Parquet files among `files`; none where there is no such file.
fn open_parquet(
    repo: &HFRepositorySync<RepoTypeDataset>,
    files: &[String],
    revision: Option<&str>,
    (id, split): (&str, Option<&str>),
    config: &OpenConfig,
) -> Result<Option<Splits>> {
    let files: Vec<String> = files.iter().filter(|file| file.ends_with(".parquet")).cloned().collect();
    if files.is_empty() {
        return Ok(None);
    }
    let (train, test) = parquet::by_split(&files, split);
    if train.is_empty() {
        bail!("hf:{id}: expected the name of a split, got {:?}; files are {:?}", split.unwrap_or_default(), &files[..files.len().min(8)]);
    }
    let fetch = |names: Vec<String>| {
        let fetched: std::result::Result<Vec<PathBuf>, HFError> = names.iter().map(|name| download(repo, name, revision)).collect();
        fetched.map_err(|err| Error::invalid(format!("hf:{id}: {err}")))
    };
    parquet::open_files(&format!("hf:{id}"), &fetch(train)?, &fetch(test)?, config).map(Some)
}

/// The file's path in the cache, downloaded where it is not there yet.
fn download(repo: &HFRepositorySync<RepoTypeDataset>, name: &str, revision: Option<&str>) -> std::result::Result<PathBuf, HFError> {
    let file = repo.download_file().filename(name).maybe_revision(revision);
    match file.clone().local_files_only(true).send() {
        Err(HFError::LocalEntryNotFound { .. }) => file.send(),
        cached => cached,
    }
}

fn open_images(repo: &HFRepositorySync<RepoTypeDataset>, (id, split): (&str, Option<&str>), config: &OpenConfig) -> Result<Splits> {
    let patterns = EXTENSIONS.iter().flat_map(|extension| [format!("*.{extension}"), format!("*.{}", extension.to_uppercase())]);
    let dir = repo.snapshot_download().allow_patterns(patterns.collect()).send();
    let dir = dir.map_err(|err| Error::invalid(format!("hf:{id}: {err}")))?;
    open_dir(&dir, (id, split), config)
}
