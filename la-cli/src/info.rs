//! `la-cli info`: what a run, a weights file or a data source holds.

use crate::data::{self, OpenConfig};
use crate::digests::SUMS;
use crate::output::{command, counted, decimal, file_size, one_line, percent, say, shell_line, thousands};
use crate::pack::{figure_lines, settings::Packed};
use crate::progress::duration;
use crate::run::{RunConfig, RunFolder};
use crate::source;
use crate::weights::{self, Encoder, WeightFiles};
use anyhow::Context;
use candle_core::Device;
use la_core::data::{Source, Splits};
use la_core::train::{Baseline, EpochMetrics};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Options of `la-cli info`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli info sample
  la-cli info ~/photos
  la-cli info runs/mine --json")]
pub struct InfoArgs {
    /// A run folder, weights, or a data source
    #[arg(value_name = "RUN|WEIGHTS|SRC")]
    what: String,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs `la-cli info`.
pub fn run(args: &InfoArgs) -> anyhow::Result<()> {
    match kind(&args.what) {
        Kind::Run => answer(args, &Run::read(Path::new(&args.what))?),
        Kind::Weights => answer(args, &Weights::read(&args.what)?),
        Kind::Other => match data::open(&args.what, &OpenConfig::default()) {
            Ok(splits) => {
                answer(args, &Data::of(&splits))?;
                source::warn_unreadable(&splits);
                Ok(())
            }
            // A name of the Hub may be a model's as well as a data set's.
            Err(not_data) if args.what.starts_with("hf:") => {
                answer(args, &Weights::read(&args.what).with_context(|| format!("neither a data set ({not_data}) nor a model"))?)
            }
            Err(error) => Err(error.into()),
        },
    }
}

/// What lies at a path; anything else is a name that may be one of data.
enum Kind {
    Run,
    Weights,
    Other,
}

fn kind(what: &str) -> Kind {
    let path = Path::new(what);
    let is_packed = path.join(SUMS).is_file();
    let is_weights = path.join("model.safetensors").is_file() || weights::is_file(path);
    match () {
        () if !is_packed && path.join("metrics.jsonl").is_file() => Kind::Run,
        () if is_packed || is_weights || what == weights::PHOTOS => Kind::Weights,
        () if weights::is_run(path) => Kind::Run,
        () => Kind::Other,
    }
}

/// What is known, for people and, serialised, for programs.
trait Answer: Serialize {
    fn print(&self) -> anyhow::Result<()>;
}

fn answer(args: &InfoArgs, answer: &impl Answer) -> anyhow::Result<()> {
    match args.json {
        true => say!("{}", serde_json::to_string(answer)?),
        false => answer.print(),
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename = "run")]
struct Run {
    run: String,
    #[serde(flatten)]
    config: RunConfig,
    model_bytes: Option<u64>,
    missing: Vec<&'static str>,
    epochs_done: usize,
    last: Option<EpochMetrics>,
    baseline: Option<Baseline>,
}

impl Run {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let run = RunFolder::open(path)?;
        let is_missing = |name: &&str| !run.file(name).is_file();
        let missing: Vec<&str> = ["metrics.jsonl", "model.safetensors"].into_iter().filter(is_missing).collect();
        let epochs = if missing.contains(&"metrics.jsonl") { Vec::new() } else { run.read_metrics()? };
        Ok(Self {
            run: path.display().to_string(),
            config: weights::run_config(path)?,
            model_bytes: run.model_path().metadata().ok().map(|file| file.len()),
            missing,
            epochs_done: epochs.last().map_or(0, |last| last.epoch),
            last: epochs.last().cloned(),
            baseline: run.read_baseline(),
        })
    }

    fn print_epochs(&self) -> anyhow::Result<()> {
        let epochs = self.config.train.epochs;
        let Some(last) = &self.last else { return say!("epochs     0 of {epochs}: it has only begun") };
        say!("epochs     {} of {epochs}, {}", last.epoch, duration(last.total_seconds))?;
        let accuracy = last.knn_top1.map_or(String::new(), |top1| format!(", kNN top-1 {}", percent(top1)));
        say!("last       loss {:.4}{accuracy}", last.loss)?;
        if let Some(baseline) = &self.baseline {
            let level = |level: Option<f32>| level.map_or("unknown".to_string(), percent);
            say!(
                "to beat    raw pixels {}, network before training {} (K = {}, temperature {})",
                level(baseline.raw_pixels),
                level(baseline.random_init),
                baseline.knn_k,
                baseline.knn_temperature
            )?;
        }
        if last.epoch < epochs {
            let on_device = ["--device", &self.config.device];
            let on_device = if self.config.device == "cpu" { &[][..] } else { &on_device };
            say!("next       {}", command(&[&["train", "--resume", &self.run], on_device].concat()))?;
        }
        Ok(())
    }
}

impl Answer for Run {
    fn print(&self) -> anyhow::Result<()> {
        let (config, train) = (&self.config, &self.config.train);
        say!("run        {}", self.run)?;
        say!("data       {}: {}", train.data, counted(config.num_images, "training image"))?;
        let network = (train.arch, train.stem, train.width, train.embedding_dim, train.size);
        say!("network    {}, {} stem, width {}, {}-dimensional embeddings, {} px", network.0, network.1, network.2, network.3, network.4)?;
        say!("settings")?;
        if let Value::Object(settings) = serde_json::to_value(train)? {
            settings.iter().try_for_each(|(name, value)| say!("  {name:<20} {}", readable(name, value)))?;
        }
        let commit = config.git_commit.as_deref().unwrap_or("unknown");
        say!("made by    la-core {}, candle {}, commit {commit}", config.versions.la_core, config.versions.candle_core)?;
        if let Some(bytes) = self.model_bytes {
            say!("weights    model.safetensors, {}", file_size(bytes))?;
        }
        if !self.missing.is_empty() {
            say!("missing    {}", self.missing.join(", "))?;
        }
        match self.missing.contains(&"metrics.jsonl") {
            true => Ok(()),
            false => self.print_epochs(),
        }
    }
}

/// A setting as people write it; numbers that name things keep their digits together.
fn readable(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "unset".into(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(n) if name != "seed" => thousands(n as usize),
            _ => number.as_f64().filter(|_| number.is_f64()).map_or(number.to_string(), decimal),
        },
        Value::Array(values) => values.iter().map(|value| readable(name, value)).collect::<Vec<_>>().join(", "),
        Value::Object(parts) => {
            parts.iter().map(|(name, value)| format!("{name} {}", readable(name, value))).collect::<Vec<_>>().join("; ")
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename = "weights")]
struct Weights {
    weights: String,
    arch: String,
    stem: String,
    width: usize,
    embedding_dim: usize,
    size: usize,
    num_parameters: usize,
    bytes: u64,
    packed: Option<Packed>,
    tensors: Vec<Tensor>,
    #[serde(skip)]
    description: String,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
}

impl Weights {
    fn read(name: &str) -> anyhow::Result<Self> {
        let encoder = Encoder::open(name, &Device::Cpu)?;
        let net = encoder.net();
        let tensors = net.tensors()?.into_iter().map(|(name, tensor)| Tensor { name, shape: tensor.dims().to_vec() });
        Ok(Self {
            weights: name.to_string(),
            arch: net.config().arch.to_string(),
            stem: net.config().stem.to_string(),
            width: net.config().width,
            embedding_dim: net.config().embedding_dim,
            size: encoder.size(),
            num_parameters: net.parameters().iter().map(|parameter| parameter.value.elem_count()).sum(),
            bytes: WeightFiles::open(name)?.model.len() as u64,
            tensors: tensors.collect(),
            description: encoder.describe(),
            packed: encoder.packed,
        })
    }
}

impl Answer for Weights {
    fn print(&self) -> anyhow::Result<()> {
        say!("weights    {}, {}", self.description, file_size(self.bytes))?;
        self.packed.as_ref().map_or(Ok(()), print_packed)?;
        for Tensor { name, shape } in &self.tensors {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            say!("  {name:<40} {}", shape.join(" × "))?;
        }
        Ok(())
    }
}

fn print_packed(packed: &Packed) -> anyhow::Result<()> {
    let run = &packed.run;
    say!(
        "trained    on {} of {}, {}, {}",
        counted(run.num_images, "image"),
        run.train.data,
        counted(packed.epochs, "epoch"),
        duration(packed.seconds)
    )?;
    say!("command    {}", shell_line(&packed.command))?;
    let commit = run.git_commit.as_deref().unwrap_or("unknown");
    say!("made by    la-core {}, candle {}, commit {commit}", run.versions.la_core, run.versions.candle_core)?;
    if let Some(figures) = &packed.figures {
        let knn = &figures.knn;
        say!("figures    K = {}, temperature {}, {}", knn.k, knn.temperature, counted(figures.num_test, "test image"))?;
    }
    for line in figure_lines(packed) {
        say!("  {:<42} kNN top-1 {}{}", line.name, line.knn, line.linear.map_or(String::new(), |linear| format!(", linear {linear}")))?;
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(tag = "kind", rename = "data")]
struct Data {
    data: String,
    train: Part,
    test: Option<Part>,
    num_unreadable: usize,
    #[serde(skip)]
    description: String,
}

/// Images of a split.
#[derive(Serialize)]
struct Part {
    num_images: usize,
    first: Option<First>,
    classes: Vec<Class>,
}

/// The first image that can be read.
#[derive(Serialize)]
struct First {
    name: String,
    width: usize,
    height: usize,
}

#[derive(Serialize)]
struct Class {
    name: String,
    num_images: usize,
}

impl Data {
    fn of(splits: &Splits) -> Self {
        Self {
            data: splits.name.clone(),
            train: Part::of(splits.train.as_ref()),
            test: splits.test.as_deref().map(Part::of),
            num_unreadable: splits.unreadable.len(),
            description: source::describe(splits),
        }
    }
}

impl Part {
    fn of(images: &dyn Source) -> Self {
        let mut counts = vec![0; images.class_names().len()];
        (0..images.len()).filter_map(|index| images.label(index)).for_each(|label| counts[label as usize] += 1);
        let classes = images.class_names().iter().zip(counts).map(|(name, num_images)| Class { name: name.clone(), num_images });
        let first = (0..images.len()).find_map(|index| {
            let picture = images.picture(index).ok()?;
            Some(First { name: images.name(index), width: picture.width, height: picture.height })
        });
        Self { num_images: images.len(), first, classes: classes.collect() }
    }

    fn print(&self, kind: &str) -> anyhow::Result<()> {
        if let Some(First { name, width, height }) = &self.first {
            say!("{kind:<10} first is {}, {width}×{height} pixels as decoded", one_line(name))?;
        }
        self.classes.iter().try_for_each(|class| say!("  {:>9}  {}", thousands(class.num_images), one_line(&class.name)))
    }
}

impl Answer for Data {
    fn print(&self) -> anyhow::Result<()> {
        say!("data       {}", self.description)?;
        self.train.print("training")?;
        self.test.as_ref().map_or(Ok(()), |test| test.print("test"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_read_as_people_write_them() {
        let value = json!({"seed": 12345, "limit": 9000, "lr": 5e-4, "hue": 0.2f32, "flip": true, "init": null, "data": "my photos",
            "normalization": {"mean": [0.5, 0.25], "std": [1.0]}});
        let lines: Vec<String> =
            value.as_object().unwrap().iter().map(|(name, value)| format!("{name}: {}", readable(name, value))).collect();
        let mut expected = [
            "seed: 12345",
            "limit: 9,000",
            "lr: 0.0005",
            "hue: 0.2",
            "flip: yes",
            "init: unset",
            "data: my photos",
            "normalization: mean 0.5, 0.25; std 1",
        ];
        expected.sort();
        let mut lines = lines;
        lines.sort();
        assert_eq!(lines, expected);
    }
}
