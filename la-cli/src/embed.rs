//! `la-cli embed`: the embeddings of a data source as a safetensors file.

use crate::output::{counted, say};
use crate::weights::EncoderArgs;
use crate::{output, source};
use anyhow::Context;
use candle_core::{Device, Tensor};
use la_core::data::Source;
use la_core::files::write_tensors;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of `la-cli embed`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli embed --data ~/photos --out photos.safetensors
  la-cli embed runs/photos --data ~/photos --out photos.safetensors --force")]
pub struct EmbedArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Images to embed
    #[arg(long, value_name = "SRC")]
    data: String,
    /// Which of them
    #[arg(long, value_name = "train|test|all", default_value = "train")]
    split: source::Split,
    /// File to write: `embeddings` (N, D) f32, `labels` (N,) i64 where known (-1 where one is missing), and in the
    /// metadata `names`, a JSON array of the N paths
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Replace the file
    #[arg(long)]
    force: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs `la-cli embed`.
pub fn run(args: &EmbedArgs, device: &Device) -> anyhow::Result<()> {
    output::check_replaceable("--out", &args.out, args.force)?;
    let encoder = args.encoder.load(device)?;
    let splits = source::open(&args.data, None, &encoder.open_config(args.encoder.limit))?;
    source::warn_unreadable(&splits);
    let parts = args.split.parts(&splits)?;
    let mut embeddings = Vec::new();
    for part in &parts {
        embeddings.push(encoder.embed(part, "embedding")?);
    }
    let embeddings = Tensor::cat(&embeddings, 0)?;
    let (num_images, dim) = embeddings.dims2()?;
    let mut tensors = vec![("embeddings".to_string(), embeddings)];
    tensors.extend(labels(&parts)?.map(|labels| ("labels".to_string(), labels)));
    let names: Vec<String> = parts.iter().flat_map(source::names).collect();
    write_tensors(&args.out, &tensors, Some(("names", serde_json::to_string(&names)?))).context("the embeddings are lost")?;
    match args.json {
        true => say!("{}", json!({"out": args.out, "data": splits.name, "num_images": num_images, "dim": dim})),
        false => say!("{}: {} of dimension {dim}", args.out.display(), counted(num_images, "embedding")),
    }
}

/// `(N,)` classes, or nothing where no image has one.
fn labels(parts: &[Arc<dyn Source>]) -> anyhow::Result<Option<Tensor>> {
    let all = parts.iter().flat_map(|part| (0..part.len()).map(|index| part.label(index)));
    let labels: Vec<i64> = all.map(|label| label.map_or(-1, i64::from)).collect();
    if labels.iter().all(|&label| label < 0) {
        return Ok(None);
    }
    let count = labels.len();
    Ok(Some(Tensor::from_vec(labels, count, &Device::Cpu)?))
}
