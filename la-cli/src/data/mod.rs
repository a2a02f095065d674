//! Where images come from: folders, idx and CIFAR files, Parquet, the Hugging Face Hub and the sample inside the library.
//!
//! Small sets are decoded once into memory; large ones are decoded as batches ask for them.

pub mod cifar;
mod classes;
pub mod decode;
pub mod file_splits;
pub mod files;
pub mod folder;
pub mod folder_splits;
pub mod hub;
pub mod idx;
mod named;
pub mod parquet;
pub mod probe;
pub mod split_names;
mod tags;
pub mod walk;

use crate::error::{bail, Error, Result};
use crate::output::counted;
use file_splits::Wanted;
use folder::Listing;
use la_core::data::{sample, Splits};
use std::path::{Path, PathBuf};

/// How a source is opened.
#[derive(Debug, Clone, Copy)]
pub struct OpenConfig {
    /// Side of the images that the network will see, in pixels: larger files are reduced as they are decoded.
    pub size: usize,
    /// Keep a random subset of this many training images.
    pub limit: Option<usize>,
    /// Seed of that subset.
    pub seed: u64,
    /// A split whose decoded pixels fit in this many bytes is decoded once and kept; a larger one streams.
    pub cache_bytes: usize,
}

impl Default for OpenConfig {
    fn default() -> Self {
        Self { size: 224, limit: None, seed: 0, cache_bytes: 512 << 20 }
    }
}

impl OpenConfig {
    fn check(&self) -> Result<()> {
        if self.size == 0 {
            bail!("image size must be at least 1, got 0");
        }
        if self.limit == Some(0) {
            bail!("limit must be at least 1 image, got 0");
        }
        Ok(())
    }
}

/// Opens `sample`, `fashion-mnist`, `cifar10`, `cifar100`, `hf:owner/name[/config][:split]` or a path.
///
/// A path is a folder of images, of idx, CIFAR or Parquet files, or one such file. Fails, with a way out, where the
/// source does not exist, holds no image, or holds none that can be read.
pub fn open(src: &str, config: &OpenConfig) -> Result<Splits> {
    config.check()?;
    let splits = match src {
        "sample" => sample()?,
        "fashion-mnist" => named::fashion_mnist()?,
        "cifar10" | "cifar100" => named::cifar(src, config)?,
        "" => bail!("expected a data source (sample, fashion-mnist, cifar10, cifar100, a path or hf:owner/name), got an empty name"),
        _ => match src.strip_prefix("hf:") {
            Some(id) => hub::open(id, config)?,
            None => open_path(Path::new(src), config)?,
        },
    };
    Ok(splits.limited(config.limit, config.seed))
}

/// Whether `src` is the name of a data set and not a path.
pub fn is_named(src: &str) -> bool {
    matches!(src, "sample" | "fashion-mnist" | "cifar10" | "cifar100") || src.starts_with("hf:")
}

/// The images of `src` by their names, without a look at any, where `src` is a folder of pictures; none for every other source.
pub fn list(src: &str, config: &OpenConfig) -> Result<Option<Listing>> {
    let dir = Path::new(src);
    if is_named(src) || !dir.is_dir() {
        return Ok(None);
    }
    config.check()?;
    match Folder::look(dir)? {
        Folder::Pictures(listing) => Ok(Some(*listing)),
        _ => Ok(None),
    }
}

fn open_path(path: &Path, config: &OpenConfig) -> Result<Splits> {
    let shown = path.display();
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(err) => {
            bail!("{shown}: {err}; expected sample, fashion-mnist, cifar10, cifar100, hf:owner/name, or the path of a folder or file that exists")
        }
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    match () {
        _ if meta.is_dir() => open_dir(path, Wanted::default(), config),
        _ if !meta.is_file() => bail!("{shown}: expected a folder or a file, got a pipe, a socket or a device"),
        _ if name.ends_with(".parquet") => parquet::open_files(&shown.to_string(), &[path.to_path_buf()], &[], config),
        _ if name.ends_with(".bin") => cifar::open_file(path),
        _ if idx::is_idx(path) => idx::open_file(path),
        _ if files::has_image_extension(path) => bail!("{shown}: is one image, expected a folder of images"),
        _ => bail!("{shown}: expected a folder, or an idx, CIFAR .bin or .parquet file, got something else"),
    }
}

fn open_dir(dir: &Path, wanted: Wanted, config: &OpenConfig) -> Result<Splits> {
    match Folder::look(dir)? {
        Folder::Idx(set) => idx::open_set(dir, &set),
        Folder::Cifar(dir) => cifar::open_dir(&dir),
        Folder::Parquet(paths, note) => {
            let mut splits = parquet::open(&dir.display().to_string(), (dir, &paths), wanted, config)?;
            splits.notes.extend(note);
            Ok(splits)
        }
        Folder::Pictures(listing) => listing.open(config),
    }
}

/// What a folder is read as.
enum Folder {
    Idx(idx::Set),
    Cifar(PathBuf),
    /// Files of many images by their paths below the folder, with a note.
    Parquet(Vec<PathBuf>, Option<String>),
    Pictures(Box<Listing>),
}

impl Folder {
    /// Files of many images decide only where they are that; otherwise the pictures of the folder are taken, with a note.
    fn look(dir: &Path) -> Result<Self> {
        if let Some(set) = idx::find(dir)? {
            return Ok(Self::Idx(set));
        }
        let cifar = cifar::find_dir(dir).map(|dir| cifar::check(&dir).map(|()| dir));
        if let Some(Ok(dir)) = cifar {
            return Ok(Self::Cifar(dir));
        }
        let walk = walk::Walk::of(dir).map_err(Error::io(dir))?;
        let tables: Vec<PathBuf> = walk.files.iter().filter(|path| parquet::is_parquet(path)).cloned().collect();
        let no_images = parquet::lack_of_images(dir, &tables);
        if !tables.is_empty() && no_images.is_none() {
            let num_pictures = walk.files.iter().filter(|path| files::has_image_extension(path)).count();
            let note =
                || format!("{}: the images are those in Parquet files; {num_pictures} files of pictures are left aside", dir.display());
            return Ok(Self::Parquet(tables, (num_pictures > 0).then(note)));
        }
        let stray = cifar.and_then(Result::err).or(no_images);
        match (Listing::of_walk(dir, walk), stray) {
            (Ok(listing), stray) => {
                let note =
                    stray.map(|stray| format!("its {} are taken, as this is no set of images: {stray}", counted(listing.len(), "picture")));
                Ok(Self::Pictures(Box::new(listing.noting(note))))
            }
            (Err(_), Some(stray)) => Err(stray),
            (Err(_), None) if cifar::is_python(dir) => bail!(
                "{}: holds CIFAR's Python version; expected the binary version, of which cifar-10-binary.tar.gz has the files",
                dir.display()
            ),
            (Err(error), None) => Err(error),
        }
    }
}
