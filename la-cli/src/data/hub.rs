//! Datasets of the Hugging Face Hub by name: its Parquet files, or its image files.

use super::{
    file_splits::{divide, Wanted},
    files::has_image_extension,
    folder, parquet, split_names, Folder, OpenConfig,
};
use crate::error::{bail, Error, Result};
use crate::hub::{client, download, is_offline, owner_and_name, stays_inside, HubResult, NOT_IN_CACHE};
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFError, HFRepositorySync, RepoTypeDataset};
use la_core::data::Splits;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The branch where the Hub keeps every dataset that it can convert, as Parquet.
const CONVERTED: &str = "refs/convert/parquet";
/// Image files that are downloaded at the same time.
const AT_ONCE: usize = 8;

type Repo = HFRepositorySync<RepoTypeDataset>;

/// What is asked for.
struct Asked<'a> {
    /// `hf:owner/name`.
    name: String,
    wanted: Wanted<'a>,
    config: &'a OpenConfig,
}

impl Asked<'_> {
    fn error(&self, said: impl std::fmt::Display) -> Error {
        Error::invalid(format!("{}: {said}", self.name))
    }

    fn way_out(&self, err: HFError) -> Error {
        self.error(format!("{err}; check the name and the network; a private dataset needs HF_TOKEN, another server HF_ENDPOINT"))
    }
}

/// Opens `owner/name`, `owner/name/config`, and either with `:split`.
///
/// Without a split, the training files are learned from and those for tests or validation are the test split; with one, that split
/// alone is learned from. Fails where the name is not of that shape, the Hub does not have it, it holds no images, or several
/// configurations of which none is named.
pub fn open(id: &str, config: &OpenConfig) -> Result<Splits> {
    let (path, split) = id.split_once(':').map_or((id, None), |(path, split)| (path, Some(split)));
    let mut parts = path.splitn(3, '/');
    let (owner, dataset, of_dataset) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    let name = format!("{owner}/{dataset}");
    if owner_and_name(&name).is_none() || [of_dataset, split].into_iter().flatten().any(|part| !stays_inside(part)) {
        bail!("expected hf:owner/name, hf:owner/name/configuration or either with :split, got hf:{id}");
    }
    let asked = Asked { name: format!("hf:{name}"), wanted: Wanted { config: of_dataset, split }, config };
    let repo = client().map_err(|err| asked.way_out(err))?.dataset(owner, dataset);
    let splits = open_repo(&repo, &asked)?;
    Ok(Splits { name: format!("hf:{id}"), ..splits })
}

fn open_repo(repo: &Repo, asked: &Asked) -> Result<Splits> {
    let files = match if is_offline() { None } else { Some(list(repo, None)) } {
        Some(Ok(files)) => checked(files, asked)?,
        failed => {
            let err = failed.and_then(|listed| listed.err());
            return match cached(repo) {
                Some(dir) => open_dir(&dir, asked),
                None => Err(err.map_or_else(|| asked.error(NOT_IN_CACHE), |err| asked.way_out(err))),
            };
        }
    };
    let pictures: Vec<&String> = files.iter().filter(|file| has_image_extension(Path::new(file))).collect();
    if let Some(splits) = open_parquet((repo, None), &files, asked, !pictures.is_empty())? {
        return Ok(splits);
    }
    if !pictures.is_empty() {
        return open_pictures(repo, &pictures, asked);
    }
    let converted = checked(list(repo, Some(CONVERTED)).unwrap_or_default(), asked)?;
    match open_parquet((repo, Some(CONVERTED)), &converted, asked, false)? {
        Some(splits) => Ok(splits),
        None => Err(asked.error(format!("expected Parquet or image files, got {:?}", files.iter().take(5).collect::<Vec<_>>()))),
    }
}

/// What an earlier download left, for when the Hub cannot be reached.
fn cached(repo: &Repo) -> Option<PathBuf> {
    let find = |revision: Option<&str>| repo.snapshot_download().maybe_revision(revision).local_files_only(true).send().ok();
    find(None).or_else(|| find(Some(CONVERTED)))
}

fn open_dir(dir: &Path, asked: &Asked) -> Result<Splits> {
    let shown = dir.display().to_string();
    let mut splits = match Folder::look(dir)? {
        Folder::Parquet(paths, _) => parquet::open(&asked.name, (dir, &paths), asked.wanted, asked.config)?,
        _ => folder::open(&folder_of(dir, asked)?, asked.config)?,
    };
    splits.notes.iter_mut().for_each(|note| *note = note.replace(&shown, &asked.name));
    Ok(splits)
}

/// The folder of the configuration and the split that are asked for.
fn folder_of(dir: &Path, asked: &Asked) -> Result<PathBuf> {
    let dir = asked.wanted.config.map_or(dir.to_path_buf(), |config| dir.join(config));
    let Some(split) = asked.wanted.split.filter(|_| dir.is_dir()) else { return Ok(dir) };
    let folders = std::fs::read_dir(&dir).map_err(Error::io(&dir))?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let kind = |name: &str| split_names::parse(name).map(|named| named.kind);
    let alike = folders.filter(|name| kind(name).is_some() && kind(name) == kind(split)).min();
    match (dir.join(split).is_dir(), alike) {
        (true, _) => Ok(dir.join(split)),
        (false, Some(alike)) => Ok(dir.join(alike)),
        (false, None) => Err(asked.error(format!("expected the name of a split, got {split:?}; there is no such folder"))),
    }
}

fn list(repo: &Repo, revision: Option<&str>) -> HubResult<Vec<String>> {
    let entries = repo.list_tree().maybe_revision(revision).recursive(true).send()?;
    let path = |entry| match entry {
        RepoTreeEntry::File { path, .. } => Some(path),
        RepoTreeEntry::Directory { .. } => None,
    };
    Ok(entries.into_iter().filter_map(path).collect())
}

/// The files, none of which lies outside the data set.
fn checked(files: Vec<String>, asked: &Asked) -> Result<Vec<String>> {
    match files.iter().find(|file| !stays_inside(file)) {
        Some(file) => Err(asked.error(format!("expected paths of files, the server tells {file:?}"))),
        None => Ok(files),
    }
}

/// The Parquet files among `files`; none where there is no such file, or no images in it while there are pictures.
fn open_parquet((repo, revision): (&Repo, Option<&str>), files: &[String], asked: &Asked, has_pictures: bool) -> Result<Option<Splits>> {
    let files: Vec<String> = files.iter().filter(|file| parquet::is_parquet(Path::new(file))).cloned().collect();
    if files.is_empty() {
        return Ok(None);
    }
    let divided = divide(&asked.name, &files, asked.wanted);
    let fetch = |name: &String| download(repo, name, revision).map_err(|err| asked.error(err));
    if has_pictures {
        let first = divided.as_ref().ok().and_then(|divided| divided.train.first()).unwrap_or(&files[0]);
        if parquet::lack_of_images(Path::new(""), &[fetch(first)?]).is_some() {
            return Ok(None);
        }
    }
    let divided = divided?;
    let fetch_all = |names: &[String]| names.iter().map(fetch).collect::<Result<Vec<PathBuf>>>();
    let mut splits = parquet::open_files(&asked.name, &fetch_all(&divided.train)?, &fetch_all(&divided.test)?, asked.config)?;
    splits.notes.extend(divided.note.map(|note| format!("{}: {note}", asked.name)));
    Ok(Some(splits))
}

fn open_pictures(repo: &Repo, pictures: &[&String], asked: &Asked) -> Result<Splits> {
    let (next, failed) = (AtomicUsize::new(0), std::sync::Mutex::new(None));
    let first = download(repo, pictures[0], None).map_err(|err| asked.way_out(err))?;
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(pictures.len()) {
            scope.spawn(|| loop {
                let Some(name) = pictures.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(err) = download(repo, name, None) {
                    next.store(pictures.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(err);
                }
            });
        }
    });
    if let Some(err) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(asked.way_out(err));
    }
    let depth = Path::new(pictures[0]).components().count();
    open_dir(first.ancestors().nth(depth).unwrap_or(&first), asked)
}
