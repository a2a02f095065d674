//! `la-cli export`: a trained network with an embedded data source, as a page for the browser or for other viewers.

mod atlas;
mod backbone;
mod bundle;
pub mod folder;
mod made_site;
mod onnx;
mod page;
mod projector;
mod rows;
mod site;
mod thumbnails;

use crate::index::{CacheArgs, Data, OpenArgs};
use crate::output::{self, say};
use crate::source::{self, Split};
use crate::weights::{Encoder, EncoderArgs};
use anyhow::bail;
use candle_core::Device;
use clap::ValueEnum;
use folder::NewFolder;
use la_core::search::Precision;
pub use made_site::{are_weights, MadeSite, SiteMaker};
pub use page::write as write_page;
use rows::Rows;
use serde_json::json;
use site::{page_precision, write_site, Size, PRECISION};
use std::path::{Path, PathBuf};

/// Options of `la-cli export`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli export --data ~/photos --out site    # a page for any web server
  la-cli export runs/mine --format atlas --out mine.parquet
  la-cli export runs/mine --format onnx --out mine.onnx")]
pub struct ExportArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Images to search in; needed unless RUN has them
    #[arg(long, value_name = "SRC")]
    data: Option<String>,
    /// Which of them
    #[arg(long, value_name = "train|test|all", default_value = "train")]
    split: Split,
    /// Folder to write; for `atlas`, `onnx` and `backbone`, the file
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// The search page with its data, TensorFlow's Embedding Projector, Parquet for Embedding Atlas, the network alone as an
    /// ONNX graph, or its weights without the last layer, for detectors
    #[arg(long, value_name = "site|projector|atlas|onnx|backbone", default_value = "site")]
    format: Format,
    /// Precision of the page's weights: f16 halves the download and hardly changes results, i8 quarters it with slightly less
    /// accurate ones [default: i8 if they are stored as i8, else f16]
    #[arg(long = "weights", value_name = "f32|f16|i8")]
    weights_precision: Option<Precision>,
    /// Precision of the embeddings [default: f16]
    #[arg(long = "bank", value_name = "f32|f16|i8")]
    bank_precision: Option<Precision>,
    /// Side of the thumbnails [default: that of the images, at most 160]
    #[arg(long, value_name = "PX")]
    thumb: Option<usize>,
    /// Replace an earlier export
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Site,
    Projector,
    Atlas,
    Onnx,
    Backbone,
}

impl Format {
    fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
    }
}

/// Runs `la-cli export`.
pub fn run(args: &ExportArgs, device: &Device) -> anyhow::Result<()> {
    check(args)?;
    let mut encoder = args.encoder.load(device)?;
    if matches!(args.format, Format::Onnx | Format::Backbone) {
        return write_network(args, &encoder);
    }
    let (name, recorded) = (encoder.name.clone(), encoder.recorded_data().0.map(str::to_string));
    let Some(data) = args.data.clone().or(recorded) else {
        bail!("{}: nothing says which images these weights belong to; name them with --data", encoder.name);
    };
    if folder::is_below(&args.out, Path::new(&data)) {
        bail!(
            "--out {}: lies among the pictures of {data}, and what is written would be searched with them; name another place",
            args.out.display()
        );
    }
    let limit = args.encoder.limit.or(if args.data.is_none() { encoder.recorded_limit() } else { None });
    let open = OpenArgs { data: &data, limit, use_cache: args.cache.use_cache() };
    // Made before the work, so that it is not in vain.
    let folder = if args.format == Format::Atlas { None } else { Some(NewFolder::create(&args.out, args.force)?) };
    let rows = Rows::embed(&mut encoder, (&open, args.split), args).map_err(|error| match args.data {
        Some(_) => error,
        None => source::not_where_recorded(error, &name, &data),
    })?;
    let mut sizes = Vec::new();
    match (args.format, folder) {
        (Format::Site, Some(folder)) => {
            let weights = args.weights_precision.unwrap_or_else(|| page_precision(&rows));
            sizes = write_site(&rows, (weights, args.bank_precision.unwrap_or(PRECISION)), folder, |_| Ok(()))?;
        }
        (_, Some(folder)) => {
            projector::write(&rows, folder.path())?;
            folder.finish()?;
        }
        (_, None) => atlas::write(&rows, &args.out)?,
    }
    match args.json {
        true => say_json(args, &rows, &sizes),
        false => say_written(args, &sizes),
    }
}

/// Writes the bundle of a page into the new folder `out`, with images and weights, which it calls `name`; gives the number of images.
pub fn write_bundle((weights, name): (&Path, String), data: &OpenArgs, out: &Path, device: &Device) -> anyhow::Result<usize> {
    let mut encoder = Encoder::open(&weights.to_string_lossy(), device)?;
    encoder.name = name;
    let mut images = Data::open(data, &encoder)?;
    rows::check_classes(images.splits.train.class_names())?;
    let indexed = images.embed(Split::Train, &mut encoder)?;
    let rows = Rows::new(&encoder, indexed, None)?;
    bundle::write(&rows, (page_precision(&rows), PRECISION), out)?;
    Ok(rows.len())
}

fn write_network(args: &ExportArgs, encoder: &Encoder) -> anyhow::Result<()> {
    let (part, bytes, described) = match args.format {
        Format::Backbone => ("weights", backbone::write(encoder, &args.out)?, backbone::describe(encoder)),
        _ => ("graph", onnx::write(encoder, &args.out)?, encoder.describe_to_others()),
    };
    let dim = match args.format {
        Format::Backbone => encoder.net().config().num_features(),
        _ => encoder.dim(),
    };
    match args.json {
        true => say!("{}", json!({"out": args.out, "format": args.format.name(), "dim": dim, "bytes": {part: bytes}})),
        false => say!("{}: {described}, {}", args.out.display(), output::file_size(bytes as u64)),
    }
}

fn say_json(args: &ExportArgs, rows: &Rows, sizes: &[Size]) -> anyhow::Result<()> {
    let format = args.format.name();
    let bytes: serde_json::Map<_, _> = sizes.iter().map(|&(part, bytes)| (part.replace(' ', "_"), bytes.into())).collect();
    say!("{}", json!({"out": args.out, "format": format, "data": rows.title, "num_images": rows.len(), "dim": rows.dim, "bytes": bytes}))
}

fn say_written(args: &ExportArgs, sizes: &[Size]) -> anyhow::Result<()> {
    let out = args.out.display();
    match args.format {
        Format::Site => say_site(&args.out, sizes),
        Format::Projector => say!("{out}: load it at https://projector.tensorflow.org or with TensorBoard"),
        Format::Onnx | Format::Backbone => Ok(()),
        Format::Atlas => say!("{out}: open it with `{}`", output::shell_line(&["embedding-atlas", &args.out.to_string_lossy()])),
    }
}

fn check(args: &ExportArgs) -> anyhow::Result<()> {
    if let Some(px) = args.thumb.filter(|px| !(8..=256).contains(px)) {
        bail!("--thumb must be in 8 to 256, got {px}");
    }
    let of_page = [("--weights", args.weights_precision), ("--bank", args.bank_precision)];
    if let Some((flag, Some(precision))) = of_page.into_iter().find(|(_, precision)| precision.is_some() && args.format != Format::Site) {
        bail!("{flag} {precision}: only a page (--format site) has weights and a bank of a precision; leave it out");
    }
    match args.format {
        Format::Onnx | Format::Backbone if args.data.is_some() => {
            bail!("--data: --format {} writes the network alone; leave it out", args.format.name())
        }
        Format::Atlas | Format::Onnx | Format::Backbone => output::check_replaceable("--out", &args.out, args.force),
        _ => folder::check(&args.out, args.force),
    }
}

fn say_site(out: &Path, sizes: &[Size]) -> anyhow::Result<()> {
    for &(what, bytes) in sizes {
        say!("{what:<11} {:>9.2} MB", bytes as f64 / 1e6)?;
    }
    let next = output::command(&["serve", &out.to_string_lossy(), "--open"]);
    say!("{}: a static site for any web server; next: {next}", out.display())
}
