//! Where images come from: folders, idx and CIFAR files, Parquet, the Hugging Face Hub and the sample inside the library.
//!
//! Small sets are decoded once into memory; large ones are decoded as batches ask for them.

pub mod cifar;
mod classes;
pub mod decode;
pub mod files;
pub mod folder;
pub mod hub;
pub mod idx;
mod named;
pub mod parquet;
pub mod probe;

use crate::error::{bail, Result};
use la_core::data::{sample, Splits};
use std::path::Path;

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

/// Opens `sample`, `fashion-mnist`, `cifar10`, `cifar100`, `hf:owner/name[:split]` or a path.
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

/// The images of `src` by their names, without a look at any, where `src` is a folder of pictures; none for every other source.
pub fn list(src: &str, config: &OpenConfig) -> Result<Option<folder::Listing>> {
    let dir = Path::new(src);
    let is_named = matches!(src, "sample" | "fashion-mnist" | "cifar10" | "cifar100") || src.starts_with("hf:");
    if is_named || !dir.is_dir() || idx::is_idx_dir(dir) || cifar::find_dir(dir).is_some() || parquet::holds_parquet(dir) {
        return Ok(None);
    }
    config.check()?;
    folder::Listing::of(dir).map(Some)
}

fn open_path(path: &Path, config: &OpenConfig) -> Result<Splits> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(err) => bail!(
            "{}: {err}; expected sample, fashion-mnist, cifar10, cifar100, hf:owner/name, or the path of a folder or file that exists",
            path.display()
        ),
    };
    if meta.is_dir() {
        return open_dir(path, config);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    match () {
        _ if name.ends_with(".parquet") => parquet::open(path, None, config),
        _ if name.ends_with(".bin") => cifar::open_file(path),
        _ if idx::is_idx(path) => idx::open_file(path),
        _ if files::has_image_extension(path) => bail!("{}: is one image, expected a folder of images", path.display()),
        _ => bail!("{}: expected a folder, or an idx, CIFAR .bin or .parquet file, got something else", path.display()),
    }
}

fn open_dir(path: &Path, config: &OpenConfig) -> Result<Splits> {
    if idx::is_idx_dir(path) {
        return idx::open_dir(path);
    }
    if let Some(dir) = cifar::find_dir(path) {
        return cifar::open_dir(&dir);
    }
    if parquet::holds_parquet(path) {
        return parquet::open(path, None, config);
    }
    folder::open(path, config)
}
