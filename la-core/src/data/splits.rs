//! What opening a source gives: training images, test images where there are any, and what could not be read.

use super::{Picture, Source, Unreadable};
use crate::{
    error::bail,
    rng::{Rng, Stream},
    Result,
};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// The parts of an opened data source.
#[derive(Clone)]
pub struct Splits {
    /// What was opened, for people to read.
    pub name: String,
    /// Images to learn from.
    pub train: Arc<dyn Source>,
    /// Images held out, where the source has such a part.
    pub test: Option<Arc<dyn Source>>,
    /// Files that were left out, training ones first.
    pub unreadable: Vec<Unreadable>,
    /// What was left aside or read in an unusual way, and why: a line each.
    pub notes: Vec<String>,
}

impl Splits {
    /// The same splits with the training images of `other` as test images, classes matched by their names.
    ///
    /// Fails where both have classes and share none.
    pub fn with_test(mut self, other: Splits) -> Result<Self> {
        let (ours, theirs) = (self.train.class_names(), other.train.class_names());
        let map: Vec<Option<u32>> = theirs.iter().map(|name| ours.iter().position(|n| n == name).map(|i| i as u32)).collect();
        if !ours.is_empty() && !theirs.is_empty() && map.iter().all(Option::is_none) {
            bail!("{}: expected classes of {} such as {:?}, got {:?}", other.name, self.name, ours[0], theirs[0]);
        }
        let class_names = ours.to_vec();
        self.test = Some(Arc::new(Relabeled { source: other.train, map, class_names }));
        self.unreadable.extend(other.unreadable);
        self.notes.extend(other.notes);
        Ok(self)
    }

    /// Keeps `limit` training images, drawn by `seed`; the test images stay as they are.
    pub fn limited(mut self, limit: Option<usize>, seed: u64) -> Self {
        if let Some(limit) = limit.filter(|&limit| limit < self.train.len()) {
            self.train = Arc::new(Subset::random(self.train, limit, seed));
        }
        self
    }
}

/// Some images of a source, in its order.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<u32>,
}

impl Subset {
    /// `count` images drawn without replacement by `seed`; all of them where there are fewer.
    pub fn random(source: Arc<dyn Source>, count: usize, seed: u64) -> Self {
        let mut indices = random_order(source.len(), seed);
        indices.truncate(count);
        indices.sort_unstable();
        Self { source, indices }
    }

    /// The images at `indices`; fails where one is out of range.
    pub fn new(source: Arc<dyn Source>, indices: Vec<u32>) -> Result<Self> {
        if let Some(index) = indices.iter().find(|&&i| i as usize >= source.len()) {
            bail!("subset index must be below {}, got {index}", source.len());
        }
        Ok(Self { source, indices })
    }
}

/// The numbers `0..n` in the order in which `seed` draws them.
#[doc(hidden)]
pub fn random_order(n: usize, seed: u64) -> Vec<u32> {
    Rng::new(Stream::Subset, &[seed]).permutation(n)
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        self.source.picture(self.indices[index] as usize)
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(self.indices[index] as usize)
    }
    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index] as usize)
    }
    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }
    fn path(&self, index: usize) -> Option<&Path> {
        self.source.path(self.indices[index] as usize)
    }
}

/// A source whose classes are numbered as another one's; an image of a class unknown there has no label.
struct Relabeled {
    source: Arc<dyn Source>,
    map: Vec<Option<u32>>,
    class_names: Vec<String>,
}

impl Source for Relabeled {
    fn len(&self) -> usize {
        self.source.len()
    }
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        self.source.picture(index)
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index).and_then(|label| self.map.get(label as usize).copied().flatten())
    }
    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }
    fn class_names(&self) -> &[String] {
        &self.class_names
    }
    fn path(&self, index: usize) -> Option<&Path> {
        self.source.path(index)
    }
}
