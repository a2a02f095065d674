//! Images behind one trait, [`Source`], and batches of them. Labels serve evaluation only.

pub mod array;
pub mod batches;
mod normalization;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod resident;
mod sample;
mod splits;

pub use batches::{epoch_batches, eval_batches, num_batches, Batch, BatchConfig, Batches};
pub use sample::{garments, sample};
pub use splits::{random_order, Splits, Subset};

use crate::{error::bail, Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// One decoded image: rows of 8-bit RGB, top to bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` values.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A picture of `pixels`; fails where their number is not `width * height * 3` or a side is 0.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 || pixels.len() != width * height * 3 {
            bail!("expected {width}x{height} RGB pixels, got {} values", pixels.len());
        }
        Ok(Self { width, height, pixels })
    }
}

/// A set of images with labels where they are known.
pub trait Source: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The image at `index`, borrowed where it lives in memory; fails where its file cannot be read any more.
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>>;
    /// Its class, an index into [`Source::class_names`].
    fn label(&self, index: usize) -> Option<u32>;
    /// Its path below the source, or its number.
    fn name(&self, index: usize) -> String;
    /// The classes in order of their index; empty where there are no labels.
    fn class_names(&self) -> &[String];
    /// Where its file is; none where the image has no file of its own.
    fn path(&self, _index: usize) -> Option<&Path> {
        None
    }
}

/// The labels of all images, or none where any is unknown.
pub fn labels(source: &dyn Source) -> Option<Vec<u32>> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

/// An image that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its path below the source.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The error of `num_items` images of which not one can be read.
#[doc(hidden)]
pub fn none_readable(num_items: usize, unreadable: &[Unreadable]) -> Error {
    let (name, reason) = unreadable.first().map_or(("", "no images"), |u| (&u.name, &u.reason));
    Error::invalid(match num_items {
        1 => format!("the only image cannot be read: {name}: {reason}"),
        _ => format!("none of the {num_items} images could be read; the first, {name}: {reason}"),
    })
}
