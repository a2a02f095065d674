//! `la-cli pack`: the weights of a run as a folder to publish, on the Hugging Face Hub or elsewhere.

mod args;
mod card;
mod measure;
pub mod names;
pub mod settings;

pub use args::{CardArgs, PackArgs};
pub use card::figure_lines;

use crate::digests::{sha256, write_sums};
use crate::export::folder::NewFolder;
use crate::output::{command, counted, file_size, percent, remark, say};
use crate::report::{draw_curves, BesideCurve, Curves};
use crate::run::{halved, write_weights, RunConfig, RunFolder};
use crate::train::pictures;
use crate::weights::{self, readout, Encoder};
use anyhow::{bail, Context};
use args::BESIDE_METRICS;
use candle_core::Device;
use la_core::files::write_atomically;
use la_core::pca::Whitening;
use la_core::train::{EpochMetrics, Phase};
use names::Names;
use settings::{Beside, Config, Packed};
use std::fs;
use std::path::Path;

/// Runs `la-cli pack`.
pub fn run(args: &PackArgs, device: &Device) -> anyhow::Result<()> {
    let packed = pack(args, device)?;
    match args.json {
        true => report_json(&args.out, &packed),
        false => report(&args.out, &packed),
    }
}

/// Makes the folder `args.out`; gives what its `config.json` says of the run.
pub fn pack(args: &PackArgs, device: &Device) -> anyhow::Result<Packed> {
    let run = RunFolder::open(&args.run)?;
    args.card.dataset.as_deref().map_or(Ok(()), check_dataset)?;
    let size = args.card.size.map(weights::check_size).transpose()?;
    let packed = describe(args, &run, size)?;
    refuse_existing(&args.out)?;
    let folder = NewFolder::create(&args.out, false)?;
    let packed = fill(args, (&run, packed), folder.path(), device)?;
    refuse_existing(&args.out)?;
    folder.finish()?;
    Ok(packed)
}

/// Fails where the Hub can have no data set of this name.
fn check_dataset(id: &str) -> anyhow::Result<()> {
    let is_part = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if id.split('/').count() != 2 || !id.split('/').all(is_part) {
        bail!("--dataset must be OWNER/NAME, such as uoft-cs/cifar10, got {id}");
    }
    Ok(())
}

fn refuse_existing(out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        bail!(
            "--out {}: exists, and published weights are never overwritten; name another folder, or remove this one first",
            out.display()
        );
    }
    match out.parent() {
        Some(parent) => fs::create_dir_all(parent).with_context(|| format!("--out {}", out.display())),
        None => Ok(()),
    }
}

/// Everything that is known of the run before anything is measured.
fn describe(args: &PackArgs, run: &RunFolder, size: Option<usize>) -> anyhow::Result<Packed> {
    let mut config = run.read_config()?;
    let names = Names::new(&config, args.card.data_as.as_deref());
    let last = last_epoch(run)?;
    if last.epoch < config.train.epochs {
        remark!(
            "note: {} has done {} of {}; resume it with `{}`",
            args.run.display(),
            last.epoch,
            counted(config.train.epochs, "epoch"),
            command(&["train", "--resume", &args.run.to_string_lossy()])
        );
    }
    let command = command_of(&config, &names);
    config.machine = args.card.machine.clone().or(config.machine);
    let beside = args.card.beside.as_deref().map(|path| describe_beside(path, &config, &names)).transpose().context("--beside")?;
    let mut run = names.settings(&config);
    // One place says it, so that --size can ask for the side of training.
    let size = size.or(run.size.take()).filter(|&size| size != run.train.size);
    Ok(Packed { run, size, epochs: last.epoch, seconds: last.total_seconds, command, beside, figures: None, sample: None })
}

fn last_epoch(run: &RunFolder) -> anyhow::Result<EpochMetrics> {
    let epochs = run.read_metrics()?;
    epochs.last().cloned().with_context(|| format!("{}: the run has not done an epoch yet; resume it first", run.path().display()))
}

/// The command that made a run, without this machine's paths; empty for runs of early versions, which do not record it.
fn command_of(config: &RunConfig, names: &Names) -> Vec<String> {
    config.command.as_ref().map_or(Vec::new(), |words| names.words(words))
}

/// Says what makes the run beside no fair comparison.
fn note_other_budget(beside: &Path, theirs: &RunConfig, ours: &RunConfig) {
    let budget = |run: &RunConfig| {
        let train = &run.train;
        [
            ("images", run.num_images.to_string()),
            ("network", format!("{}, {} stem, width {}", train.arch, train.stem, train.width)),
            ("size", train.size.to_string()),
            ("epochs", train.epochs.to_string()),
            ("views", train.views.to_string()),
        ]
    };
    let differing: Vec<String> = std::iter::zip(budget(ours), budget(theirs))
        .filter(|(ours, theirs)| ours != theirs)
        .map(|((name, ours), (_, theirs))| format!("{name} {theirs}, not {ours}"))
        .collect();
    if !differing.is_empty() {
        remark!("note: --beside {} is not on the same budget: {}", beside.display(), differing.join("; "));
    }
}

fn describe_beside(path: &Path, ours: &RunConfig, names: &Names) -> anyhow::Result<Beside> {
    let run = RunFolder::open(path)?;
    let config = run.read_config()?;
    note_other_budget(path, &config, ours);
    let is_recognition = run.read_metrics()?.iter().all(|epoch| epoch.phase == Phase::Ir);
    let folder = path.file_name().unwrap_or_default().to_string_lossy();
    let name = if is_recognition { "instance recognition".to_string() } else { format!("run {folder}") };
    let last = last_epoch(&run)?;
    let command = command_of(&config, names);
    let init = names.settings(&config).train.init;
    Ok(Beside { name, command, epochs: last.epoch, seconds: last.total_seconds, branched_after: config.branched_after, init })
}

/// Writes every file; the weights come first, because the figures are theirs.
fn fill(args: &PackArgs, (run, mut packed): (&RunFolder, Packed), folder: &Path, device: &Device) -> anyhow::Result<Packed> {
    // On the CPU, where f16 is made.
    let trained = Encoder::open(&args.run.to_string_lossy(), &Device::Cpu)?;
    let net = trained.net().config().clone();
    let weights = folder.join("model.safetensors");
    write_weights(&weights, &halved(trained.net().tensors()?)?)?;
    write_config(folder, &Config::new(&net, packed.clone(), args.card.license()))?;
    if let Some(map) = read_out(args, run, &trained, packed.size())? {
        readout::write(folder, &map)?;
    }
    let shipped = Encoder::open(&folder.to_string_lossy(), device)?;
    packed.sample = Some(measure::check_on_sample(&shipped)?);
    packed.figures = measure::figures(args, run, shipped, device)?;
    write_config(folder, &Config::new(&net, packed.clone(), args.card.license()))?;
    copy(&run.file("metrics.jsonl"), &folder.join("metrics.jsonl"))?;
    if let Some(beside) = &args.card.beside {
        copy(&beside.join("metrics.jsonl"), &folder.join(BESIDE_METRICS))?;
    }
    draw_curves(&curves(args, run, &packed)?, &folder.join("curves.png"))?;
    let shown = Encoder::open(&folder.to_string_lossy(), &Device::Cpu)?;
    let readout = shown.readout().map(|map| (map.dim(), map.num_features()));
    let card = card::Card { args, net: &net, readout, packed: &packed, sha256: sha256(&weights)? };
    write_atomically(&folder.join("README.md"), |file| file.write_all(card.text().as_bytes()))?;
    write_sums(folder)?;
    Ok(packed)
}

/// The run's read-out, or one learned from its images where it has none or the network is to see them at another side.
fn read_out(args: &PackArgs, run: &RunFolder, trained: &Encoder, size: usize) -> anyhow::Result<Option<Whitening>> {
    if let Some(map) = trained.readout().filter(|_| trained.size() == size) {
        return Ok(Some(map.clone()));
    }
    let shown = Encoder::open(&run.path().to_string_lossy(), &Device::Cpu)?.at(size);
    shown.learn_readout(trained.readout(), &measure::open(args, &run.read_config()?, &shown)?.train)
}

fn write_config(folder: &Path, config: &Config) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(config)? + "\n";
    Ok(write_atomically(&folder.join("config.json"), |file| file.write_all(text.as_bytes()))?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).map(drop).with_context(|| from.display().to_string())
}

fn curves(args: &PackArgs, run: &RunFolder, packed: &Packed) -> anyhow::Result<Curves> {
    let train = &packed.run.train;
    let title = format!("Local Aggregation on {}: {}, width {}, {} px", train.data, train.arch, train.width, train.size);
    let beside = match (&args.card.beside, &packed.beside) {
        (Some(path), Some(beside)) => Some(beside_curve(path, &beside.name)?),
        _ => None,
    };
    Ok(Curves { title, beside, ..pictures::curves(run)? })
}

fn beside_curve(path: &Path, name: &str) -> anyhow::Result<BesideCurve> {
    let epochs = RunFolder::open(path)?.read_metrics()?;
    let points = epochs.iter().filter_map(|epoch| Some((epoch.epoch, f64::from(epoch.knn_top1?)))).collect();
    Ok(BesideCurve { name: name.to_string(), points })
}

/// The object that `--json` prints; accuracies in 0–1.
#[derive(serde::Serialize)]
struct Json<'a> {
    out: &'a Path,
    bytes: u64,
    sha256: String,
    epochs: usize,
    seconds: f64,
    figures: Option<&'a settings::Figures>,
    sample: Option<&'a settings::SampleCheck>,
}

fn report_json(folder: &Path, packed: &Packed) -> anyhow::Result<()> {
    let weights = folder.join("model.safetensors");
    let json = Json {
        out: folder,
        bytes: weights.metadata().map_or(0, |file| file.len()),
        sha256: sha256(&weights)?,
        epochs: packed.epochs,
        seconds: packed.seconds,
        figures: packed.figures.as_ref(),
        sample: packed.sample.as_ref(),
    };
    say!("{}", serde_json::to_string(&json)?)
}

fn report(folder: &Path, packed: &Packed) -> anyhow::Result<()> {
    let out = folder.display();
    let size = fs::metadata(format!("{out}/model.safetensors")).map_or(0, |meta| meta.len());
    say!("{out}: model.safetensors ({}, f16), config.json, README.md, curves.png, metrics.jsonl, SHA256SUMS", file_size(size))?;
    for line in figure_lines(packed) {
        say!("  {:<42} kNN top-1 {}{}", line.name, line.knn, line.linear.map_or(String::new(), |linear| format!(", linear {linear}")))?;
    }
    if let Some(sample) = packed.sample {
        say!("  {:<42} kNN top-1 {}", format!("on {} of the sample", counted(sample.limit, "image")), percent(sample.knn_top1))?;
    }
    let search = command(&["search", &folder.to_string_lossy(), "--data", "FOLDER", "--query", "PHOTO", "--panel", "found.png"]);
    say!("next       read {out}/README.md; {search}")
}
