//! Data sources on the command line.

use crate::data::{self, OpenConfig};
use crate::output::{counted, one_line, remark, thousands, warning};
use crate::run::RunConfig;
use candle_core::Tensor;
use la_core::data::{Picture, Source, Splits, Subset, Unreadable};
use la_core::eval::embed::Rows;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Images with what a network makes of them.
#[derive(Clone)]
pub struct Embedded {
    /// The images: those of a source that could be read.
    pub images: Arc<dyn Source>,
    /// `(N, D)`, a row for each.
    pub rows: Tensor,
}

impl Embedded {
    /// The rows of `source` with their images; lists those that have none.
    pub fn new(source: &Arc<dyn Source>, rows: Rows) -> anyhow::Result<Self> {
        warn_of_files(&rows.unreadable, "could not be read any more and had to be left out");
        Self::of(source, rows.indices, rows.values)
    }

    /// The images at `indices` of `source` with their rows.
    pub fn of(source: &Arc<dyn Source>, indices: Vec<u32>, rows: Tensor) -> anyhow::Result<Self> {
        let images = match indices.len() == source.len() {
            true => source.clone(),
            false => Arc::new(Subset::new(source.clone(), indices)?),
        };
        Ok(Self { images, rows })
    }

    /// Those that have a label, with the labels.
    pub fn labelled(&self) -> anyhow::Result<(Tensor, Vec<u32>)> {
        let labels = (0..self.images.len()).map(|index| self.images.label(index));
        let (kept, labels): (Vec<u32>, Vec<u32>) = (0..).zip(labels).filter_map(|(index, label)| Some((index, label?))).unzip();
        if kept.len() == self.images.len() {
            return Ok((self.rows.clone(), labels));
        }
        let count = kept.len();
        Ok((self.rows.index_select(&Tensor::from_vec(kept, count, self.rows.device())?, 0)?, labels))
    }
}

/// Opens `data`, with `test` as its test images where given.
pub fn open(data: &str, test: Option<&str>, config: &OpenConfig) -> anyhow::Result<Splits> {
    let splits = data::open(data, config)?;
    let Some(test) = test else { return Ok(splits) };
    let whole = OpenConfig { limit: None, ..*config };
    Ok(splits.with_test(data::open(test, &whole)?)?)
}

/// The error of images that are no longer where the weights say, with the way out; any other error as it is.
pub fn not_where_recorded(error: anyhow::Error, weights: &str, recorded: &str) -> anyhow::Error {
    if Path::new(recorded).exists() {
        return error;
    }
    let from = if Path::new(recorded).is_relative() { ", looked for from this folder" } else { "" };
    error.context(format!("{weights}: the images that it was trained on{from}; --data says where they are now"))
}

/// Says so where the images at the recorded place are not as many as the weights learned from.
pub fn note_other_number(found: usize, weights: &str, run: Option<&RunConfig>) {
    if let Some(run) = run.filter(|run| run.num_images != found) {
        remark!(
            "note: {} holds {}, and {weights} learned from {}; if they are other pictures, --data says where its own are",
            run.train.data,
            images(found, "training "),
            thousands(run.num_images)
        );
    }
}

/// One line: how many images and classes there are.
pub fn describe(splits: &Splits) -> String {
    let mut text = format!("{}: {}", splits.name, images(splits.train.len(), "training "));
    if let Some(test) = &splits.test {
        text += &format!(", {}", images(test.len(), "test "));
    }
    match splits.train.class_names().len() {
        0 => text += ", no labels",
        n => text += &format!(", {}", counted(n, "class")),
    }
    text
}

/// `1 image`, `9,000 images`, with their kind between.
pub fn images(n: usize, kind: &str) -> String {
    counted(n, &format!("{kind}image"))
}

/// Says what was left aside, and lists the first few files that were left out.
pub fn warn_unreadable(splits: &Splits) {
    splits.notes.iter().for_each(|note| remark!("note: {}", one_line(note)));
    warn_of_files(&splits.unreadable, "could not be read and had to be left out");
}

/// Lists the first few of `files`, of which `note` is true.
pub fn warn_of_files(files: &[Unreadable], note: &str) {
    const SHOWN: usize = 5;
    if files.is_empty() {
        return;
    }
    let mut lines = vec![format!("{} {note}:", images(files.len(), ""))];
    lines.extend(files.iter().take(SHOWN).map(|file| format!("  {}: {}", one_line(&file.name), one_line(&file.reason))));
    if files.len() > SHOWN {
        lines.push(format!("  and {} more", thousands(files.len() - SHOWN)));
    }
    warning!("{}", lines.join("\n"));
}

/// The class of image `index` in words.
pub fn class_name(source: &dyn Source, index: usize) -> Option<&str> {
    source.label(index).and_then(|label| source.class_names().get(label as usize)).map(String::as_str)
}

/// The names of all images.
pub fn names(source: &Arc<dyn Source>) -> Vec<String> {
    (0..source.len()).map(|index| source.name(index)).collect()
}

/// Which images of a source a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// Those to learn from; all of a folder without splits.
    Train,
    /// Those held out.
    Test,
    /// Both, the training images first.
    All,
}

impl Split {
    /// The sources of this choice; fails where test images are asked for and there are none.
    pub fn parts(self, splits: &Splits) -> anyhow::Result<Vec<Arc<dyn Source>>> {
        let test = splits.test.clone();
        match (self, test) {
            (Split::Train, _) | (Split::All, None) => Ok(vec![splits.train.clone()]),
            (Split::Test, Some(test)) => Ok(vec![test]),
            (Split::All, Some(test)) => Ok(vec![splits.train.clone(), test]),
            (Split::Test, None) => anyhow::bail!("{} has no test images; leave --split out to use all of it", splits.name),
        }
    }
}

/// Several sources as one, in their order.
pub fn join(parts: Vec<Arc<dyn Source>>) -> Arc<dyn Source> {
    match parts.len() {
        1 => parts[0].clone(),
        _ => Arc::new(Joined(parts)),
    }
}

struct Joined(Vec<Arc<dyn Source>>);

impl Joined {
    /// The part that holds `index`, and the index in it; the last part where it is out of range.
    fn locate(&self, mut index: usize) -> (&dyn Source, usize) {
        for part in &self.0[..self.0.len() - 1] {
            if index < part.len() {
                return (part.as_ref(), index);
            }
            index -= part.len();
        }
        (self.0[self.0.len() - 1].as_ref(), index)
    }
}

impl Source for Joined {
    fn len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    fn picture(&self, index: usize) -> la_core::Result<Cow<'_, Picture>> {
        let (part, index) = self.locate(index);
        part.picture(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        let (part, index) = self.locate(index);
        part.label(index)
    }

    fn name(&self, index: usize) -> String {
        let (part, index) = self.locate(index);
        part.name(index)
    }

    fn class_names(&self) -> &[String] {
        self.0[0].class_names()
    }

    fn path(&self, index: usize) -> Option<&Path> {
        let (part, index) = self.locate(index);
        part.path(index)
    }
}
