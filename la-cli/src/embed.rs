//! `la-cli embed`: the embeddings of a data source as a safetensors file.

use crate::index::{self, CacheArgs, Data, OpenArgs};
use crate::output::{self, counted, say};
use crate::source::Split;
use crate::weights::EncoderArgs;
use anyhow::Context;
use candle_core::Device;
use serde_json::json;
use std::path::PathBuf;

/// Options of `la-cli embed`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli embed --data ~/photos --out mine.safetensors
  la-cli embed runs/mine --data ~/photos --out mine.safetensors --force")]
pub struct EmbedArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Images to embed
    #[arg(long, value_name = "SRC")]
    data: String,
    /// Which split
    #[arg(long, value_name = "train|test|all", default_value = "train")]
    split: Split,
    /// File to write: `embeddings` (N, D) f32, `labels` (N,) i64 where known (-1 where one is missing), and in the
    /// metadata `images`, JSON with the N `names`, the `class_names` and the identity of the `encoder`
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Replace the file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs `la-cli embed`.
pub fn run(args: &EmbedArgs, device: &Device) -> anyhow::Result<()> {
    output::check_replaceable("--out", &args.out, args.force)?;
    let mut encoder = args.encoder.load(device)?;
    let open = OpenArgs { data: &args.data, limit: args.encoder.limit, use_cache: args.cache.use_cache() };
    let images = Data::open(&open, &encoder)?.without_fitting().embed(args.split, &mut encoder)?;
    let (num_images, dim) = images.rows.dims2()?;
    index::write(&args.out, &images, &encoder).context("the embeddings could not be written")?;
    match args.json {
        true => say!("{}", json!({"out": args.out, "data": images.name, "num_images": num_images, "dim": dim})),
        false => say!("{}: {} of dimension {dim}", args.out.display(), counted(num_images, "embedding")),
    }
}
