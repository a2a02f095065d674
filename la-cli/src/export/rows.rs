//! What every format is made of: images, their embeddings, names and classes.

use super::{ExportArgs, Format};
use crate::index::{Data, Indexed, OpenArgs};
use crate::output::{counted, file_size};
use crate::pack::names::end_of;
use crate::source::{self, Split};
use crate::weights::Encoder;
use anyhow::bail;
use la_core::data::Source;
use la_core::search::MAX_BYTES;
use std::path::{Component, Path};
use std::sync::Arc;

/// The largest thumbnail where none is asked for.
const THUMBNAIL: usize = 160;

/// An embedded data source.
pub struct Rows<'a> {
    /// The network.
    pub encoder: &'a Encoder,
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

impl<'a> Rows<'a> {
    /// Opens and embeds a data source.
    pub fn embed(encoder: &'a mut Encoder, (open, split): (&OpenArgs, Split), args: &ExportArgs) -> anyhow::Result<Self> {
        let mut data = Data::open(open, encoder)?;
        if args.format == Format::Site {
            check_classes(data.splits.train.class_names())?;
        }
        let indexed = data.embed(split, encoder)?;
        if split == Split::Train && (encoder.recorded_data().0, encoder.recorded_limit()) == (Some(open.data), open.limit) {
            source::note_other_number(indexed.images.len(), &encoder.name, encoder.run.as_ref());
        }
        Self::new(encoder, indexed, args.thumb)
    }

    /// Images that are embedded already.
    pub fn new(encoder: &'a Encoder, Indexed { name, images, rows }: Indexed, thumb: Option<usize>) -> anyhow::Result<Self> {
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

    /// The page's file of names, each ended by a line feed.
    pub fn names_file(images: &Arc<dyn Source>) -> String {
        source::names(images).iter().flat_map(|name| [one_line(name), "\n".into()]).collect()
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

/// Fails where a page would not read the list of its classes.
pub fn check_classes(names: &[String]) -> anyhow::Result<()> {
    // In quotes, on a line of its own; half is left for the rest.
    let num_bytes: usize = names.iter().map(|name| name.len() + 16).sum();
    match num_bytes <= MAX_BYTES / 2 {
        true => Ok(()),
        false => bail!(
            "a page lists up to {} of names of classes, got {} with {}; export a part of them, or with --format atlas",
            file_size(MAX_BYTES as u64 / 2),
            counted(names.len(), "class"),
            file_size(num_bytes as u64)
        ),
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
