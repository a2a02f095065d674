//! Pictures named on the command line, as a data source.

use crate::data::{decode, files};
use anyhow::{bail, Context};
use la_core::data::{Picture, Source};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Decoded query pictures.
pub struct Queries {
    /// Where each is.
    pub paths: Vec<PathBuf>,
    pictures: Vec<Picture>,
}

impl Queries {
    /// Reads and decodes every picture; fails with the path of the first that is none.
    pub fn open(paths: &[PathBuf], size: usize) -> anyhow::Result<Self> {
        let pictures = paths.iter().map(|path| read(path, size)).collect::<anyhow::Result<_>>()?;
        Ok(Self { paths: paths.to_vec(), pictures })
    }
}

fn read(path: &Path, size: usize) -> anyhow::Result<Picture> {
    if path.is_dir() {
        bail!("--query {}: expected a picture, got a folder; to search in a folder, name it with --data", path.display());
    }
    let bytes = files::read_regular(path).with_context(|| format!("--query {}", path.display()))?;
    decode::decode(&bytes, size)
        .map_err(|error| files::foreign_format(path).map_or(anyhow::Error::new(error), anyhow::Error::msg))
        .with_context(|| format!("--query {}", path.display()))
}

impl Source for Queries {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn picture(&self, index: usize) -> la_core::Result<Cow<'_, Picture>> {
        Ok(Cow::Borrowed(&self.pictures[index]))
    }

    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }

    fn class_names(&self) -> &[String] {
        &[]
    }
}
