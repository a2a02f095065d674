//! `la-cli search`: the images of a data source that lie nearest to a picture.

mod found;

use crate::index::{CacheArgs, Data, OpenArgs};
use crate::output;
use crate::query::Queries;
use crate::source::Split;
use crate::weights::EncoderArgs;
use anyhow::bail;
use candle_core::Device;
use found::Found;
use la_core::data::Source;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `la-cli search`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli search --data ~/photos --query x.jpg
  la-cli search runs/mine --data ~/photos --query x.jpg y.jpg --k 5 --panel found.png")]
pub struct SearchArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Images to search in, or a file that `la-cli embed` has written
    #[arg(long, value_name = "SRC")]
    data: String,
    /// Which of them, if they come as training and test images
    #[arg(long, value_name = "train|test|all", default_value = "all")]
    split: Split,
    /// Pictures to search for; one that lies in the data is left out of its own list
    #[arg(long, value_name = "IMAGE", num_args = 1.., required = true)]
    query: Vec<PathBuf>,
    /// Neighbours of each picture, at most the number of images [default: 10, or all images if there are fewer]
    #[arg(long, value_name = "K")]
    k: Option<usize>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Print nothing but the neighbours' paths, each ended by a zero byte, for `xargs -0`
    #[arg(short = '0', long = "print0", conflicts_with = "json")]
    print0: bool,
    /// Also draw the pictures with their neighbours
    #[arg(long, value_name = "FILE.png")]
    panel: Option<PathBuf>,
    /// Replace the file of --panel
    #[arg(long, requires = "panel")]
    force: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Runs `la-cli search`.
pub fn run(args: &SearchArgs, device: &Device) -> anyhow::Result<()> {
    args.panel.iter().try_for_each(|path| check_panel(path, args.force))?;
    let mut encoder = args.encoder.load(device)?;
    let queries = Arc::new(Queries::open(&args.query, encoder.size())?);
    let open = OpenArgs { data: &args.data, limit: args.encoder.limit, use_cache: args.cache.use_cache() };
    let mut data = Data::open(&open, &encoder)?;
    let k = check(args, &data)?;
    let bank = data.embed(args.split, &mut encoder)?;
    let rows = encoder.embed(&(queries.clone() as Arc<dyn Source>), "embedding queries")?.rows;
    let found = Found::search(bank.images, queries, (&bank.rows, &rows), k)?;
    match () {
        _ if args.json => found.print_json(k)?,
        _ if args.print0 => found.print_paths()?,
        _ => found.print()?,
    }
    args.panel.iter().try_for_each(|path| found.draw(path))
}

/// Fails, before anything is embedded, where what is asked for cannot be given; gives the number of neighbours.
fn check(args: &SearchArgs, data: &Data) -> anyhow::Result<usize> {
    let parts = args.split.parts(&data.splits)?;
    let num_images = parts.iter().map(|part| part.len()).sum();
    let k = args.k.unwrap_or(10.min(num_images));
    if !(1..=num_images).contains(&k) {
        bail!("--k must be in 1 to {num_images}, the number of images searched, got {k}");
    }
    if args.panel.is_some() && data.is_embeddings() {
        bail!("--panel: {} holds embeddings and no pictures to draw; name their folder with --data", args.data);
    }
    if args.print0 && parts.iter().any(|part| part.path(0).is_none()) {
        bail!("--print0: the images of {} are not files of their own; --json prints their names", args.data);
    }
    Ok(k)
}

/// Fails where no picture can be written to `path`, or it says that it is to be anything but a PNG.
fn check_panel(path: &Path, force: bool) -> anyhow::Result<()> {
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        bail!("--panel {}: expected a name that ends in .png, the format that is written", path.display());
    }
    output::check_replaceable("--panel", path, force)
}
