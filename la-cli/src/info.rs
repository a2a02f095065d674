//! `la-cli info`: what a run, a weights file or a data source holds.

use crate::output::{command, percent, say, shell_line, thousands};
use crate::pack::{figure_lines, Packed};
use crate::progress::duration;
use crate::source;
use crate::weights::{self, Encoder};
use anyhow::Context;
use candle_core::Device;
use la_core::config::TrainConfig;
use la_core::data::{self, OpenConfig, Source};
use la_core::digests::SUMS;
use la_core::run_folder::RunFolder;
use std::path::Path;

/// Options of `la-cli info`.
#[derive(clap::Args)]
pub struct InfoArgs {
    /// A run folder, weights, or a data source
    #[arg(value_name = "RUN|WEIGHTS|SRC")]
    what: String,
}

/// Runs `la-cli info`.
pub fn run(args: &InfoArgs) -> anyhow::Result<()> {
    let path = Path::new(&args.what);
    if path.join(SUMS).is_file() {
        return about_weights(&args.what);
    }
    if path.join("metrics.jsonl").is_file() {
        return about_run(path);
    }
    if path.join("model.safetensors").is_file() || path.extension().is_some_and(|extension| extension == "safetensors") {
        return about_weights(&args.what);
    }
    if weights::is_run(path) {
        return about_run(path);
    }
    let about = data::open(&args.what, &OpenConfig::default());
    match about {
        Ok(splits) => about_source(&splits),
        // A name of the Hub may be a model's as well as a data set's.
        Err(not_data) if args.what.starts_with("hf:") => {
            about_weights(&args.what).with_context(|| format!("neither a data set ({not_data}) nor a model"))
        }
        Err(error) => Err(error.into()),
    }
}

fn about_run(path: &Path) -> anyhow::Result<()> {
    let run = RunFolder::open(path)?;
    let config = weights::run_config(path)?;
    let train = &config.train;
    say!("run        {}", path.display())?;
    say!("data       {}: {} training images", train.data, thousands(config.num_images))?;
    let network = (train.arch, train.stem, train.width, train.embedding_dim, train.size);
    say!("network    {}, {} stem, width {}, {}-dimensional embeddings, {} px", network.0, network.1, network.2, network.3, network.4)?;
    say!("settings")?;
    if let serde_json::Value::Object(settings) = serde_json::to_value(train)? {
        settings.iter().try_for_each(|(name, value)| say!("  {name:<20} {value}"))?;
    }
    say!(
        "made by    la-core {}, candle {}, commit {}",
        config.versions.la_core,
        config.versions.candle_core,
        config.git_commit.as_deref().unwrap_or("unknown")
    )?;
    let missing: Vec<&str> = ["metrics.jsonl", "model.safetensors"].into_iter().filter(|name| !run.file(name).is_file()).collect();
    if !missing.is_empty() {
        say!("missing    {}", missing.join(", "))?;
    }
    if missing.contains(&"metrics.jsonl") {
        return Ok(());
    }
    about_epochs(&run, train)
}

fn about_epochs(run: &RunFolder, train: &TrainConfig) -> anyhow::Result<()> {
    let epochs = run.read_metrics()?;
    let Some(last) = epochs.last() else { return say!("epochs     0 of {}: it has only begun", train.epochs) };
    say!("epochs     {} of {}, {}", last.epoch, train.epochs, duration(last.total_seconds))?;
    let accuracy = last.knn_top1.map_or(String::new(), |top1| format!(", kNN top-1 {}", percent(top1)));
    say!("last       loss {:.4}{accuracy}", last.loss)?;
    if let Some(baseline) = run.read_baseline() {
        let level = |level: Option<f32>| level.map_or("unknown".to_string(), percent);
        say!(
            "to beat    raw pixels {}, network before training {} (K = {}, temperature {})",
            level(baseline.raw_pixels),
            level(baseline.random_init),
            baseline.knn_k,
            baseline.knn_temperature
        )?;
    }
    if last.epoch < train.epochs {
        say!("next       {}", command(&["train", "--resume", &run.path().to_string_lossy()]))?;
    }
    Ok(())
}

fn about_weights(name: &str) -> anyhow::Result<()> {
    let encoder = Encoder::open(name, &Device::Cpu)?;
    say!("weights    {}", encoder.describe())?;
    encoder.packed.as_ref().map_or(Ok(()), about_packed)?;
    for (name, tensor) in encoder.net().tensors()? {
        say!("  {name:<40} {:?}", tensor.dims())?;
    }
    Ok(())
}

fn about_packed(packed: &Packed) -> anyhow::Result<()> {
    let run = &packed.run;
    say!(
        "trained    on {} images of {}, {} epochs, {}",
        thousands(run.num_images),
        run.train.data,
        packed.epochs,
        duration(packed.seconds)
    )?;
    say!("command    {}", shell_line(&packed.command))?;
    let commit = run.git_commit.as_deref().unwrap_or("unknown");
    say!("made by    la-core {}, candle {}, commit {commit}", run.versions.la_core, run.versions.candle_core)?;
    if let Some(figures) = &packed.figures {
        say!("figures    K = {}, temperature {}, {} test images", figures.knn.k, figures.knn.temperature, thousands(figures.num_test))?;
    }
    for line in figure_lines(packed) {
        say!("  {:<42} kNN top-1 {}{}", line.name, line.knn, line.linear.map_or(String::new(), |linear| format!(", linear {linear}")))?;
    }
    Ok(())
}

fn about_source(splits: &data::Splits) -> anyhow::Result<()> {
    say!("data       {}", source::describe(splits))?;
    let parts = [("training", Some(&splits.train)), ("test", splits.test.as_ref())];
    for (kind, part) in parts.into_iter().filter_map(|(kind, part)| Some((kind, part?))) {
        about_images(kind, part.as_ref())?;
    }
    source::warn_unreadable(splits);
    Ok(())
}

fn about_images(kind: &str, part: &dyn Source) -> anyhow::Result<()> {
    if let Some(first) = (0..part.len()).find_map(|index| Some((part.name(index), part.picture(index).ok()?))) {
        say!("{kind:<10} first is {}, {}×{} pixels as decoded", first.0, first.1.width, first.1.height)?;
    }
    let mut counts = vec![0; part.class_names().len()];
    (0..part.len()).filter_map(|index| part.label(index)).for_each(|label| counts[label as usize] += 1);
    for (name, count) in part.class_names().iter().zip(counts) {
        say!("  {:>9}  {name}", thousands(count))?;
    }
    Ok(())
}
