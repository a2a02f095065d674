//! What every format is made of: images, their embeddings, names and classes.

use crate::index::{self, Indexed, OpenArgs};
use crate::pack::names::end_of;
use crate::source::{self, Split};
use crate::weights::Encoder;
use la_core::data::Source;
use std::path::{Component, Path};
use std::sync::Arc;

/// The largest thumbnail where none is asked for.
const THUMBNAIL: usize = 160;

/// An embedded data source.
pub struct Rows {
    /// The network.
    pub encoder: Encoder,
    /// The images.
    pub images: Arc<dyn Source>,
    /// Unit-length embeddings `(N, D)`, row after row.
    pub embeddings: Vec<f32>,
    /// D.
    pub dim: usize,
    /// Side of a thumbnail.
    pub thumb: usize,
    /// Which images, for visitors, to whom the folders of this machine say nothing.
    pub title: String,
}

impl Rows {
    /// Opens and embeds a data source.
    pub fn embed(mut encoder: Encoder, (open, split): (&OpenArgs, Split), thumb: Option<usize>) -> anyhow::Result<Self> {
        let indexed = index::open(open, split, &mut encoder)?;
        if split == Split::Train && (encoder.recorded_data().0, encoder.recorded_limit()) == (Some(open.data), open.limit) {
            source::note_other_number(indexed.images.len(), &encoder.name, encoder.run.as_ref());
        }
        Self::new(encoder, indexed, thumb)
    }

    /// Images that are embedded already.
    pub fn new(encoder: Encoder, Indexed { name, images, rows }: Indexed, thumb: Option<usize>) -> anyhow::Result<Self> {
        let dim = rows.dim(1)?;
        let first = images.picture(0)?;
        let thumb = thumb.unwrap_or(first.width.min(first.height).clamp(8, THUMBNAIL));
        let title = title(&name);
        Ok(Self { embeddings: rows.flatten_all()?.to_vec1()?, dim, thumb, title, images, encoder })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// The name of each image, on one line.
    pub fn names(&self) -> Vec<String> {
        source::names(&self.images).iter().map(|name| one_line(name)).collect()
    }

    /// The class of each image, or none where no image has one.
    pub fn labels(&self) -> Option<Vec<Option<u32>>> {
        let labels: Vec<_> = (0..self.len()).map(|i| self.images.label(i)).collect();
        labels.iter().any(Option::is_some).then_some(labels)
    }

    /// How the embeddings were made, in a sentence.
    pub fn made(&self) -> String {
        format!(
            "{} of {}, embedded by {} with la-cli {}",
            source::images(self.len(), ""),
            self.title,
            self.encoder.describe_to_others(),
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// The end of a path without `.` and `..` in it, which say something on this machine alone.
fn title(name: &str) -> String {
    let has_dots = Path::new(name).components().any(|part| matches!(part, Component::CurDir | Component::ParentDir));
    let real = has_dots.then(|| Path::new(name).canonicalize().ok()).flatten();
    end_of(&real.map_or_else(|| name.to_string(), |path| path.to_string_lossy().into_owned()))
}

/// The name without what begins a line or a column.
fn one_line(name: &str) -> String {
    name.replace(char::is_control, " ")
}
