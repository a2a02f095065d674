//! `la-cli inspect`: what a person wants to know of a folder of pictures before training on it, or before throwing some away.

mod args;
mod find;
mod json;
mod same;
mod sheets;
mod text;

pub use args::InspectArgs;

use crate::export::folder::{self, NewFolder};
use crate::index::{Data, Indexed, OpenArgs};
use crate::output::{counted, say};
use crate::source::{self, Split};
use crate::weights::Encoder;
use anyhow::bail;
use candle_core::Device;
use find::{Findings, Options};
use la_core::data::{Source, Splits};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Embedded images and what was found in them.
struct Inspected<'a> {
    args: &'a InspectArgs,
    weights: String,
    /// The data in a line.
    data: String,
    images: Arc<dyn Source>,
    /// How many of the images, the first ones, are to train on; none where there is no split.
    num_train: Option<usize>,
    findings: Findings,
    seconds: f64,
}

/// Runs `la-cli inspect`.
pub fn run(args: &InspectArgs, device: &Device) -> anyhow::Result<()> {
    let started = Instant::now();
    args.check()?;
    let mut encoder = args.encoder.load(device)?;
    let mut data = open(args, &encoder)?;
    let splits = data.splits.clone();
    let folder = args.out.as_ref().map(|out| NewFolder::create_for(&sheets::KIND, out, args.force)).transpose()?;
    let Indexed { images, rows, .. } = data.embed(Split::All, &mut encoder)?;
    check_number(images.len())?;
    let num_train = splits.test.as_ref().map(|_| num_shared(splits.train.as_ref(), images.as_ref()));
    let options = Options { threshold: args.threshold, num_clusters: args.clusters, num_train };
    let findings = find::find(images.as_ref(), &rows, &options)?;
    let (weights, data) = (encoder.describe(), describe(&splits, images.len(), num_train));
    let inspected = Inspected { args, weights, data, images, num_train, findings, seconds: started.elapsed().as_secs_f64() };
    if let Some(folder) = folder {
        sheets::write(&inspected, folder.path())?;
        folder.finish()?;
    }
    match args.json {
        true => say!("{}", json::of(&inspected)?),
        false => text::print(&inspected),
    }
}

fn open(args: &InspectArgs, encoder: &Encoder) -> anyhow::Result<Data> {
    if args.out.as_ref().is_some_and(|out| folder::is_below(out, Path::new(&args.data))) {
        bail!("--out lies among the pictures of {}, and would be inspected with them; name another place", args.data);
    }
    let open = OpenArgs { data: &args.data, limit: args.encoder.limit, use_cache: args.cache.use_cache() };
    let data = Data::open(&open, encoder)?;
    if data.is_embeddings() {
        bail!("--data: {} holds embeddings, and this needs the pictures; name their folder", args.data);
    }
    check_number(data.splits.train.len() + data.splits.test.as_ref().map_or(0, |test| test.len()))?;
    Ok(data)
}

/// One line: how many images and classes there are.
fn describe(splits: &Splits, num_images: usize, num_train: Option<usize>) -> String {
    let images = match num_train {
        Some(num_train) => format!("{}, {}", source::images(num_train, "training "), source::images(num_images - num_train, "test ")),
        None => source::images(num_images, ""),
    };
    let classes = match splits.train.class_names().len() {
        0 => "no labels".into(),
        count => counted(count, "class"),
    };
    format!("{}: {images}, {classes}", splits.name)
}

fn check_number(num_images: usize) -> anyhow::Result<()> {
    match num_images {
        0 | 1 => bail!("inspect compares images with each other, so it needs at least 2, got {num_images}; name more with --data"),
        _ => Ok(()),
    }
}

/// How many of `found`, the first ones, are images of `train`, some of which may have been left out.
fn num_shared(train: &dyn Source, found: &dyn Source) -> usize {
    let is_same = |index, at| train.path(index) == found.path(at) && train.name(index) == found.name(at);
    (0..train.len()).fold(0, |at, index| at + usize::from(at < found.len() && is_same(index, at)))
}

impl Inspected<'_> {
    /// Where an image is: its path, or its name where it has no file.
    fn place(&self, index: u32) -> String {
        let index = index as usize;
        self.images.path(index).map_or_else(|| self.images.name(index), |path| path.display().to_string())
    }

    fn class(&self, index: u32) -> Option<&str> {
        source::class_name(self.images.as_ref(), index as usize)
    }

    /// `train` or `test`, where the images come in both.
    fn side(&self, index: u32) -> Option<&'static str> {
        self.num_train.map(|num_train| if (index as usize) < num_train { "train" } else { "test" })
    }
}
