//! A folder of images: every file below it, its sub-folders as classes, `train` and `test` or `val` as splits.

use super::{
    files::{foreign_format, has_image_extension, Files, Item, Origin},
    OpenConfig, Source, Splits, Unreadable,
};
use crate::{error::bail, Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TEST_DIRS: [&str; 4] = ["test", "val", "validation", "valid"];

/// Opens the folder.
///
/// With a `train` folder in it, that is what is learned from, and the first of `test`, `val`, `validation` and `valid`
/// that has classes (or else that exists) is the test split; without one, every image below it is for training. The
/// folders right below a split are its classes where there are at least two; an image beside them has no label.
/// Files are taken in the order of their paths. Links are followed, each folder once.
pub fn open(dir: &Path, config: &OpenConfig) -> Result<Splits> {
    let train_dir = dir.join("train");
    let (train_dir, test) = match train_dir.is_dir() {
        true => (train_dir, find_test(dir)?),
        false => (dir.to_path_buf(), None),
    };
    let train = Listing::of(&train_dir)?;
    let mut class_names = train.classes();
    if let Some(test) = &test {
        let extra: Vec<String> = test.classes().into_iter().filter(|name| !class_names.contains(name)).collect();
        class_names.extend(extra);
    }
    let (train, mut unreadable) = train.into_source(&class_names, config, config.limit)?;
    let test = match test {
        Some(test) => {
            let (source, left_out) = test.into_source(&class_names, config, None)?;
            unreadable.extend(left_out);
            Some(source)
        }
        None => None,
    };
    Ok(Splits { name: dir.display().to_string(), train, test, unreadable })
}

fn find_test(dir: &Path) -> Result<Option<Listing>> {
    let mut first = None;
    for name in TEST_DIRS.iter().map(|name| dir.join(name)).filter(|path| path.is_dir()) {
        let listing = Listing::of(&name)?;
        if !listing.classes().is_empty() {
            return Ok(Some(listing));
        }
        first = first.or(Some(listing).filter(|listing| !listing.paths.is_empty()));
    }
    Ok(first)
}

/// The images below one folder.
struct Listing {
    dir: PathBuf,
    /// Relative to `dir`, sorted.
    paths: Vec<PathBuf>,
    /// Folders that could not be listed, and pictures of formats that are not read.
    unreadable: Vec<Unreadable>,
}

impl Listing {
    fn of(dir: &Path) -> Result<Self> {
        let mut listing = Self { dir: dir.to_path_buf(), paths: vec![], unreadable: vec![] };
        std::fs::read_dir(dir).map_err(Error::io(dir))?;
        let mut seen = HashSet::from([dir.canonicalize().map_err(Error::io(dir))?]);
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            match listing.add_folder(&folder, &mut seen) {
                Ok(below) => waiting.extend(below),
                Err(err) => listing.unreadable.push(Unreadable { name: slashed(&folder), reason: err.to_string() }),
            }
        }
        listing.paths.sort();
        listing.unreadable.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    /// Adds the images right in `folder`; returns the folders in it that were not seen before, the last first.
    fn add_folder(&mut self, folder: &Path, seen: &mut HashSet<PathBuf>) -> std::io::Result<Vec<PathBuf>> {
        let mut entries: Vec<DirEntry> = std::fs::read_dir(self.dir.join(folder))?.collect::<std::io::Result<_>>()?;
        // Real folders before links, so that what a link leads to has its own name.
        entries.sort_by_key(|entry| (entry.file_type().is_ok_and(|kind| kind.is_symlink()), entry.file_name()));
        let mut below = vec![];
        for entry in entries {
            let path = folder.join(entry.file_name());
            if is_hidden(&path) {
                continue;
            }
            if is_folder(&entry) {
                match entry.path().canonicalize() {
                    Ok(real) => below.extend(seen.insert(real).then_some(path)),
                    Err(err) => self.unreadable.push(Unreadable { name: slashed(&path), reason: err.to_string() }),
                }
            } else if has_image_extension(&path) {
                self.paths.push(path);
            } else if let Some(reason) = foreign_format(&path) {
                self.unreadable.push(Unreadable { name: slashed(&path), reason });
            }
        }
        below.reverse();
        Ok(below)
    }

    /// Names of the folders right below that hold images, where there are at least two.
    fn classes(&self) -> Vec<String> {
        let names: BTreeSet<String> = self.paths.iter().filter_map(|path| class_of(path)).collect();
        match names.len() {
            0 | 1 => vec![],
            _ => names.into_iter().collect(),
        }
    }

    fn into_source(self, class_names: &[String], config: &OpenConfig, limit: Option<usize>) -> Result<(Arc<dyn Source>, Vec<Unreadable>)> {
        if self.paths.is_empty() {
            let others = match self.unreadable.first() {
                None => String::new(),
                Some(Unreadable { name, reason }) => {
                    format!(" but {} that cannot be read, such as {name}: {reason}", self.unreadable.len())
                }
            };
            bail!("{}: expected images (JPEG, PNG, WebP, GIF, BMP or TIFF) in it or below, found none{others}", self.dir.display());
        }
        let index: BTreeMap<&str, u32> = class_names.iter().enumerate().map(|(i, name)| (name.as_str(), i as u32)).collect();
        let item = |path: &PathBuf| Item {
            name: slashed(path),
            origin: Origin::File(self.dir.join(path)),
            label: class_of(path).and_then(|name| index.get(name.as_str()).copied()),
        };
        let items = self.paths.iter().map(item).collect();
        let opened = Files::open(items, class_names.to_vec(), config, limit);
        let (files, left_out) = opened.map_err(|err| Error::invalid(format!("{}: {err}", self.dir.display())))?;
        Ok((Arc::new(files), self.unreadable.into_iter().chain(left_out).collect()))
    }
}

/// Whether the entry is a folder or a link to one.
fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// The first folder of a relative path; none for a file that lies in no folder.
fn class_of(path: &Path) -> Option<String> {
    let mut parts = path.components();
    let first = parts.next()?;
    parts.next().map(|_| first.as_os_str().to_string_lossy().into_owned())
}

fn slashed(path: &Path) -> String {
    let parts: Vec<String> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts.join("/")
}
