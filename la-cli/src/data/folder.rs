//! A folder of images: every file below it, its sub-folders as classes, `train` and `test` or `val` as splits.

use super::{
    files::{foreign_format, has_image_extension, Files, Item, Origin},
    OpenConfig,
};
use crate::error::{bail, Error, Result};
use la_core::data::{Source, Splits, Unreadable};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TEST_DIRS: [&str; 4] = ["test", "val", "validation", "valid"];

/// The images of a folder by their names: no file has been opened.
///
/// With a `train` folder in it, that is what is learned from, and the first of `test`, `val`, `validation` and `valid`
/// that has classes (or else that exists) is the test split; without one, every image below it is for training. The
/// folders right below a split are its classes where there are at least two; an image beside them has no label.
/// Files are taken in the order of their paths. Links are followed, each folder once.
pub struct Listing {
    name: String,
    class_names: Vec<String>,
    train: Below,
    test: Option<Below>,
}

/// How the images of a split are opened: [`Files::open`] or [`Files::lazy`].
type Open = fn(Vec<Item>, Vec<String>, &OpenConfig, Option<usize>) -> Result<(Files, Vec<Unreadable>)>;

impl Listing {
    /// Lists the folder; fails where a split of it cannot be listed or holds no image.
    pub fn of(dir: &Path) -> Result<Self> {
        let train_dir = dir.join("train");
        let (train_dir, test) = match train_dir.is_dir() {
            true => (train_dir, find_test(dir)?),
            false => (dir.to_path_buf(), None),
        };
        let train = Below::of(&train_dir)?;
        let mut class_names = train.classes();
        if let Some(test) = &test {
            let extra: Vec<String> = test.classes().into_iter().filter(|name| !class_names.contains(name)).collect();
            class_names.extend(extra);
        }
        let listing = Self { name: dir.display().to_string(), class_names, train, test };
        listing.splits().try_for_each(Below::check)?;
        Ok(listing)
    }

    /// Where each image is, those of the training split first.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.splits().flat_map(|split| split.paths.iter().map(|path| split.dir.join(path)))
    }

    /// Looks at every file and keeps those that can be read, as [`Files::open`] does.
    pub fn open(self, config: &OpenConfig) -> Result<Splits> {
        self.into_splits(config, Files::open)
    }

    /// Splits whose images are read when they are asked for, as [`Files::lazy`] gives them: some may turn out to be unreadable.
    pub fn lazy(self, config: &OpenConfig) -> Result<Splits> {
        self.into_splits(config, Files::lazy)
    }

    fn splits(&self) -> impl Iterator<Item = &Below> {
        std::iter::once(&self.train).chain(&self.test)
    }

    fn into_splits(self, config: &OpenConfig, open: Open) -> Result<Splits> {
        let (train, mut unreadable) = self.train.into_source(&self.class_names, config, (config.limit, open))?;
        let test = self.test.map(|test| test.into_source(&self.class_names, config, (None, open))).transpose()?;
        let test = test.map(|(source, left_out)| {
            unreadable.extend(left_out);
            source
        });
        Ok(Splits { name: self.name, train, test, unreadable })
    }
}

/// Opens the folder that [`Listing`] describes.
pub fn open(dir: &Path, config: &OpenConfig) -> Result<Splits> {
    Listing::of(dir)?.open(config)
}

fn find_test(dir: &Path) -> Result<Option<Below>> {
    let mut first = None;
    for name in TEST_DIRS.iter().map(|name| dir.join(name)).filter(|path| path.is_dir()) {
        let below = Below::of(&name)?;
        if !below.classes().is_empty() {
            return Ok(Some(below));
        }
        first = first.or(Some(below).filter(|below| !below.paths.is_empty()));
    }
    Ok(first)
}

/// The images below one folder.
struct Below {
    dir: PathBuf,
    /// Relative to `dir`, sorted.
    paths: Vec<PathBuf>,
    /// Folders that could not be listed, and pictures of formats that are not read.
    unreadable: Vec<Unreadable>,
}

impl Below {
    fn of(dir: &Path) -> Result<Self> {
        let mut below = Self { dir: dir.to_path_buf(), paths: vec![], unreadable: vec![] };
        std::fs::read_dir(dir).map_err(Error::io(dir))?;
        let mut seen = HashSet::from([dir.canonicalize().map_err(Error::io(dir))?]);
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            match below.add_folder(&folder, &mut seen) {
                Ok(inside) => waiting.extend(inside),
                Err(err) => below.unreadable.push(Unreadable { name: slashed(&folder), reason: err.to_string() }),
            }
        }
        below.paths.sort();
        below.unreadable.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(below)
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

    fn check(&self) -> Result<()> {
        if !self.paths.is_empty() {
            return Ok(());
        }
        let others = match self.unreadable.first() {
            None => String::new(),
            Some(Unreadable { name, reason }) => format!(" but {} that cannot be read, such as {name}: {reason}", self.unreadable.len()),
        };
        bail!("{}: expected images (JPEG, PNG, WebP, GIF, BMP or TIFF) in it or below, found none{others}", self.dir.display());
    }

    fn into_source(
        self,
        class_names: &[String],
        config: &OpenConfig,
        (limit, open): (Option<usize>, Open),
    ) -> Result<(Arc<dyn Source>, Vec<Unreadable>)> {
        let index: BTreeMap<&str, u32> = class_names.iter().enumerate().map(|(i, name)| (name.as_str(), i as u32)).collect();
        let item = |path: &PathBuf| Item {
            name: slashed(path),
            origin: Origin::File(self.dir.join(path)),
            label: class_of(path).and_then(|name| index.get(name.as_str()).copied()),
        };
        let items = self.paths.iter().map(item).collect();
        let opened = open(items, class_names.to_vec(), config, limit);
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
