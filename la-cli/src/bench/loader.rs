//! `la-cli bench loader`: an epoch of augmented batches, with nothing done to them.

use super::count;
use super::figures::{Figures, Times};
use crate::data::OpenConfig;
use crate::source;
use crate::weights::check_size;
use la_core::config::TrainConfig;
use la_core::data::{epoch_batches, BatchConfig, Source};
use la_core::preprocess::Preprocessing;
use std::sync::Arc;
use std::time::Instant;

/// Options of `la-cli bench loader`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench loader --data ~/photos --size 96")]
pub struct LoaderArgs {
    /// Images to read
    #[arg(long, value_name = "SRC", default_value = "sample")]
    data: String,
    /// Read this many of them, drawn at random
    #[arg(long, value_name = "N", value_parser = count)]
    limit: Option<usize>,
    /// Side of the square images that come out
    #[arg(long, value_name = "PX", default_value_t = TrainConfig::default().size, value_parser = count)]
    size: usize,
    /// Images a batch
    #[arg(long, value_name = "B", default_value_t = TrainConfig::default().batch_size, value_parser = count)]
    batch_size: usize,
    /// Decode an image each time it is read, also where all of them fit into memory
    #[arg(long)]
    stream: bool,
    /// Epochs that are measured
    #[arg(long, value_name = "R", default_value_t = 2, value_parser = count)]
    rounds: usize,
}

/// Runs `la-cli bench loader`.
pub fn run(args: &LoaderArgs) -> anyhow::Result<Figures> {
    check_size(args.size)?;
    let cache_bytes = if args.stream { 0 } else { OpenConfig::default().cache_bytes };
    let open = OpenConfig { size: args.size, limit: args.limit, cache_bytes, ..OpenConfig::default() };
    let splits = source::open(&args.data, None, &open)?;
    source::warn_unreadable(&splits);
    let input = Preprocessing { size: args.size, ..BatchConfig::default().input };
    let config = BatchConfig { input, batch_size: args.batch_size, threads: rayon::current_num_threads(), ..BatchConfig::default() };
    let mut num_images = 0;
    let mut seconds = Vec::new();
    for epoch in 0..args.rounds {
        let started = Instant::now();
        num_images = read(&splits.train, &config, epoch)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let times = Times::of(seconds);
    let figures = Figures::of("loader")
        .with("data", splits.name.as_str())
        .with("size", args.size)
        .with("batch_size", args.batch_size)
        .with("num_images", num_images)
        .with("images_per_s", num_images as f64 / times.median());
    Ok(times.add_to(figures).with_peak())
}

/// Reads an epoch; gives the number of images in it.
fn read(train: &Arc<dyn Source>, config: &BatchConfig, epoch: usize) -> anyhow::Result<usize> {
    let mut num_images = 0;
    for batch in epoch_batches(train.clone(), config, epoch, 0) {
        num_images += batch?.indices.len();
    }
    Ok(num_images)
}
