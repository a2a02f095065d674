//! `la-cli train`: settings from a preset and flags, a run folder, and the run as it goes.

mod beginning;
mod flags;
mod outcome;
pub mod pictures;
mod reporter;
mod result;
mod trunk;
mod warnings;

pub use flags::TrainArgs;

use crate::data::OpenConfig;
use crate::eval::Labelled;
use crate::output::{command, counted, remark, say, warning};
use crate::recipes::Beginning;
use crate::run::{train, RunFolder};
use crate::weights::{readout, Encoder, PHOTOS};
use crate::{eval, interrupt, origin, output, source};
use anyhow::{bail, Context};
use beginning::Weights;
use candle_core::Device;
use la_core::checkpoint::{self, Position, TrainImages};
use la_core::config::{Monitor, TrainConfig};
use la_core::data::Splits;
use la_core::ops::device::{self, Precision};
use la_core::train::{check_start, Start, StoppedAt, Summary};
use outcome::{knn_config, Used};
use pictures::Embedder;
use reporter::{unless_closed, Lines, Reporter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Stands for the number of images before they are opened; settings that open them do not depend on it.
const TYPICAL_IMAGES: usize = 1000;

/// A run that is about to begin or to be resumed.
struct Plan {
    config: TrainConfig,
    /// Where its settings come from, in words.
    recipe: String,
    /// Where they begin, if they were chosen by the number of images.
    own: Option<Beginning>,
    run: RunFolder,
    splits: Splits,
    origin: Origin,
}

/// Where it begins.
enum Origin {
    First(Option<Weights>),
    Resumed,
    /// From the weights that it was to begin from: it was stopped before its first checkpoint.
    Again(Weights),
    Branch(PathBuf),
}

impl Origin {
    fn start(&self) -> Start<'_> {
        match self {
            Self::First(None) => Start::New,
            Self::First(Some(weights)) | Self::Again(weights) => Start::From(weights.net()),
            Self::Resumed => Start::Resume,
            Self::Branch(checkpoint) => Start::Branch(checkpoint),
        }
    }
}

/// Runs `la-cli train`.
pub fn run(args: &TrainArgs, device: &Device, threads: Option<usize>) -> anyhow::Result<()> {
    let lines = Lines { is_json: args.json };
    let mut plan = match &args.resume {
        Some(path) => {
            let (run, position) = reopen(args, path)?;
            if !args.moves_data() && is_complete(&run, position.as_ref())? {
                return result::say_complete(&run, lines);
            }
            resume(args, (run, position), device)?
        }
        None => begin(args, device)?,
    };
    plan.config.device = device.clone();
    plan.config.threads = threads.unwrap_or(0);
    show(&plan, lines)?;
    if let Some(beginning) = plan.own {
        warnings::warn_of_few(plan.splits.train.len(), beginning, &plan.config);
    }
    source::warn_unreadable(&plan.splits);
    note_lack_of_labels(&plan);
    let mut reporter = Reporter::new(&plan.config, &plan.run, args.is_ir_chosen(), lines);
    let watch = interrupt::watch()?;
    let summary = train(&plan.config, &plan.splits, &plan.run, plan.origin.start(), &mut |event| {
        reporter.report(event);
        interrupt::requested().map_or(ControlFlow::Continue(()), |_| ControlFlow::Break(()))
    })
    .map_err(|error| with_way_out(error, &plan))?;
    reporter.finish();
    drop(watch);
    finish(&plan, &summary, lines)
}

/// Says why there will be no kNN accuracy, though there are test images.
fn note_lack_of_labels(plan: &Plan) {
    if plan.config.monitor == Monitor::None || plan.splits.test.is_none() {
        return;
    }
    if let Some(lack) = eval::lack_of_labels(&plan.splits) {
        remark!("note: no kNN accuracy is measured: {lack}");
    }
}

fn begin(args: &TrainArgs, device: &Device) -> anyhow::Result<Plan> {
    let weights = args.weights(device)?;
    // Refused, or found and opened, whatever the number of images.
    let mut config = args.recipe(TYPICAL_IMAGES, weights.as_ref(), device)?.config;
    // Not every device computes in every precision.
    config.device = device.clone();
    config.validate()?;
    let out = args.out.clone().map_or_else(|| free_folder(&config.data), Ok)?;
    refuse_existing(&out, device)?;
    let splits = open(&config).map_err(|error| match &args.branch {
        Some(run) if args.data.is_none() => source::not_where_recorded(error, &format!("--branch {}", run.display()), &config.data),
        _ => error,
    })?;
    let recipe = args.recipe(splits.train.len(), weights.as_ref(), device)?;
    config = TrainConfig { device: device.clone(), ..recipe.config };
    // Before the folder is made: settings that do not fit the data, or what to begin with, leave nothing behind.
    config.fit(splits.train.len())?;
    // Random crops enlarge what they show, so weights that are used with larger pictures than they saw in training stay so.
    let size = recipe.size.filter(|&size| size > config.size);
    let origin = recipe.checkpoint.map_or(Origin::First(weights), Origin::Branch);
    note_new_layer(&origin, &config);
    note_precision(args, &config);
    check_start(&config, &splits, origin.start())?;
    let mut run = RunFolder::create(&out)?;
    run.git_commit = option_env!("LA_GIT_COMMIT").map(String::from);
    run.command = Some(origin::command_line());
    run.machine = Some(origin::machine(&config.device));
    run.size = size;
    Ok(Plan { config, recipe: recipe.description, own: recipe.own, run, splits, origin })
}

/// Says so where the processor, and no flag, asked for bf16.
fn note_precision(args: &TrainArgs, config: &TrainConfig) {
    if config.precision == Precision::Bf16 && !args.is_precision_chosen() && args.branch.is_none() {
        remark!("note: trains in bf16, in which this processor is faster; --precision f32 computes as processors without bf16 do");
    }
}

/// Says so where not all of the weights to begin from are used.
fn note_new_layer(origin: &Origin, config: &TrainConfig) {
    let Origin::First(Some(weights)) = origin else { return };
    let theirs = weights.net().config().embedding_dim;
    if theirs != config.embedding_dim {
        remark!("note: the last layer begins anew, with {} outputs; that of the weights has {theirs}", config.embedding_dim);
    }
}

/// The run to resume, and where its last checkpoint stands.
fn reopen(args: &TrainArgs, path: &Path) -> anyhow::Result<(RunFolder, Option<Position>)> {
    let given = args.given();
    if !given.is_empty() {
        let [branch, init] = ["--branch", "--init"].map(|flag| output::shell_line(&[flag, &path.to_string_lossy()]));
        bail!(
            "--resume keeps the run's own settings: leave out {}, or begin a new run with {branch}, from its last checkpoint, \
             or {init}, from its weights alone",
            given.join(", ")
        );
    }
    let run = RunFolder::open(path).context("--resume")?;
    // Taken for the run itself later on; here, so that no way out is told that is none.
    drop(run.lock().context("--resume")?);
    let position = last_position(&run)?;
    if position.is_none() {
        refuse_lost_checkpoint(&run)?;
    }
    note_other_instructions(&run)?;
    Ok((run, position))
}

/// Without its checkpoint, a run that has done something would begin anew, and replace what it has learned.
fn refuse_lost_checkpoint(run: &RunFolder) -> anyhow::Result<()> {
    let path = run.path();
    let num_epochs = if run.file("metrics.jsonl").exists() { run.read_metrics()?.len() } else { 0 };
    // Killed as it was about to save its first checkpoint, a run has written the metrics and the weights that belong to it.
    let is_before_first = num_epochs <= run.read_config()?.train.checkpoint_interval && !run.file("neighbors.png").is_file();
    if is_before_first || (num_epochs == 0 && !run.model_path().exists()) {
        return Ok(());
    }
    let beginning = command(&["train", "--init", &path.to_string_lossy()]);
    bail!(
        "--resume {}: its checkpoint {} is gone, and {} would be lost; `{beginning}` begins a new run from its weights",
        path.display(),
        run.checkpoint_path().display(),
        counted(num_epochs, "epoch")
    )
}

/// Says so where the last bits of results may differ from those of the machine where the run began.
fn note_other_instructions(run: &RunFolder) -> anyhow::Result<()> {
    let recorded = run.read_config()?;
    if recorded.train.precision == Precision::Bf16 && device::bf16_instructions().is_none() {
        return Ok(()); // Refused, with a reason, where the step begins.
    }
    let (before, now) = (recorded.simd, device::instructions(recorded.train.precision));
    if let Some(before) = before.filter(|before| before != now) {
        remark!("note: the run began with the processor's {before} instructions and resumes with {now}: results will differ a little");
    }
    Ok(())
}

/// Whether nothing is left to do: every epoch is done, and the last thing that a run leaves is there.
fn is_complete(run: &RunFolder, position: Option<&Position>) -> anyhow::Result<bool> {
    let config = run.read_config()?.train;
    Ok(position.is_some_and(|position| position.completes(&config)) && run.file("neighbors.png").is_file())
}

fn resume(args: &TrainArgs, (run, position): (RunFolder, Option<Position>), device: &Device) -> anyhow::Result<Plan> {
    let path = run.path();
    let mut config = run.read_config()?.train;
    args.move_data(&mut config);
    let splits = open(&config)
        .with_context(|| format!("--resume {}: the images it began with; --data and --test say where they are now", path.display()))?;
    if let Some(difference) = position.as_ref().and_then(|position| TrainImages::of(&*splits.train).difference(position)) {
        bail!(
            "--resume {}: {} does not hold the images that it learns from: {difference}; --data says where they are",
            path.display(),
            config.data
        );
    }
    let origin = match (&position, &config.init) {
        (None, Some(init)) => Origin::Again(Weights::open(&init.to_string_lossy(), device).context("--resume: the weights to begin from")?),
        _ => Origin::Resumed,
    };
    Ok(Plan { config, recipe: "as the run began".into(), own: None, run, splits, origin })
}

/// Where the run's last checkpoint stands, if it has one.
fn last_position(run: &RunFolder) -> anyhow::Result<Option<Position>> {
    let path = run.checkpoint_path();
    if !path.exists() {
        return Ok(None);
    }
    checkpoint::position(&path).map(Some).with_context(|| {
        let beginning = output::command(&["train", "--init", &run.path().to_string_lossy()]);
        format!("--resume: the last checkpoint cannot be resumed; `{beginning}` begins a new one from its weights")
    })
}

fn open(config: &TrainConfig) -> anyhow::Result<Splits> {
    let open_config = OpenConfig { size: config.size, limit: config.limit, seed: config.seed, ..OpenConfig::default() };
    source::open(&config.data, config.test.as_deref(), &open_config)
}

/// The first folder `runs/NAME-1`, `runs/NAME-2`, … that is free.
fn free_folder(data: &str) -> anyhow::Result<PathBuf> {
    let name: String = data.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("run").to_string();
    let name: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let name = if name.trim_matches('.').is_empty() { "run".to_string() } else { name };
    (1..100_000)
        .map(|i| Path::new("runs").join(format!("{name}-{i}")))
        .find(|path| !path.exists())
        .context("runs: there is no free name left; give one with --out")
}

fn refuse_existing(out: &Path, device: &Device) -> anyhow::Result<()> {
    if out == Path::new(PHOTOS) {
        bail!("--out {PHOTOS}: other commands take this name for the built-in network; choose another, or write ./{PHOTOS}");
    }
    if out.join("config.json").exists() {
        bail!("{}: this run folder exists; resume it with `{}`, or name another one with --out", out.display(), resuming(out, device));
    }
    Ok(())
}

fn show(plan: &Plan, lines: Lines) -> anyhow::Result<()> {
    let Plan { config, recipe, run, splits, .. } = plan;
    lines.tell(format_args!("data       {}", source::describe(splits)))?;
    lines.tell(format_args!(
        "network    {}, {} stem, width {}, {}-dimensional embeddings, {} px",
        config.arch, config.stem, config.width, config.embedding_dim, config.size
    ))?;
    lines.tell(format_args!(
        "recipe     {recipe}: {}, the first {} of instance recognition, batch {}, lr {}, temperature {}, seed {}",
        counted(config.epochs, "epoch"),
        config.ir_epochs.min(config.epochs),
        config.batch_size,
        config.lr,
        config.temperature,
        config.seed
    ))?;
    lines.tell(format_args!("run        {} (Ctrl-C stops it, `{}` resumes it)", run.path().display(), resuming(run.path(), &config.device)))
}

/// The command that resumes a run where it was computed.
fn resuming(run: &Path, device: &Device) -> String {
    let (run, device) = (run.to_string_lossy(), device::name(device));
    let on_device = if device == "cpu" { Vec::new() } else { vec!["--device", device.as_str()] };
    command(&[vec!["train", "--resume", &run], on_device].concat())
}

fn with_way_out(error: la_core::Error, plan: &Plan) -> anyhow::Error {
    let run = &plan.run;
    let resuming = resuming(run.path(), &plan.config.device);
    if run.read_config().is_err() {
        return error.into();
    }
    let hint = if matches!(error, la_core::Error::Diverged(_)) {
        "the run has diverged, and would again with the same settings: begin a new one with a lower --lr".to_string()
    } else if error.to_string().contains(&*run.checkpoint_path().to_string_lossy()) {
        let beginning = command(&["train", "--init", &run.path().to_string_lossy()]);
        format!("the run stopped at its last checkpoint: fix this and resume with `{resuming}`, or begin a new run from its weights with `{beginning}`")
    } else if run.checkpoint_path().exists() {
        format!("the run stopped after its last checkpoint: fix this, then resume with `{resuming}`")
    } else {
        format!("the run stopped before its first checkpoint: fix this, then begin it again with `{resuming}`")
    };
    // The error stays the cause, for `output::fail`.
    let text = format!("{error}\n{hint}");
    anyhow::Error::new(error).context(text)
}

fn finish(plan: &Plan, summary: &Summary, lines: Lines) -> anyhow::Result<()> {
    let Plan { config, run, .. } = plan;
    if let Some(at) = summary.stopped_at {
        result::say_json(run, (summary, None), lines)?;
        return Err(stopped(plan, at)?);
    }
    // The read-out whitens, which magnifies rounding: it is learned as the commands that use it compute.
    device::set_precision(&config.device, Precision::F32)?;
    if let Err(error) = keep_readout(plan) {
        warning!("no read-out was learned, so the network's output gives the embeddings: {error:#}");
    }
    let drawn = pictures::draw(run, &plan.splits, &config.device).inspect_err(|error| {
        // The weights are there; pictures are an extra.
        warning!("the pictures of the run are incomplete: {error:#}");
    });
    let used = as_used(plan, drawn.ok().as_ref()).unwrap_or_else(|error| {
        warning!("search accuracy could not be measured: {error:#}");
        None
    });
    result::say_json(run, (summary, used.as_ref()), lines)?;
    let (came_to, worse) = outcome::lines(config, summary, &plan.splits, used.as_ref());
    if lines.is_json {
        worse.iter().for_each(|line| warning!("worse {line}"));
    } else {
        let worse = worse.iter().map(|line| format!("worse      {line}"));
        came_to.into_iter().chain(worse).try_for_each(|line| unless_closed(say!("{line}")))?;
        let files = ["model.safetensors", readout::FILE, "metrics.jsonl", "curves.png", "neighbors.png"];
        let written: Vec<&str> = files.into_iter().filter(|name| run.file(name).is_file()).collect();
        unless_closed(say!("{}: {}", run.path().display(), written.join(", ")))?;
    }
    let path = run.path().to_string_lossy();
    lines.tell(format_args!(
        "next       {}                      # search by picture, in the browser",
        command(&["serve", &path, "--open"])
    ))?;
    if let Some(how) = evaluation(&plan.splits) {
        lines.tell(format_args!("           {}", command(&["eval", &path, how])))?;
    }
    lines.tell(format_args!("           {}", command(&["search", &path, "--data", &config.data, "--query", "PICTURE"])))
}

/// The end of a run that was asked to stop.
fn stopped(plan: &Plan, at: StoppedAt) -> anyhow::Result<anyhow::Error> {
    let signal = interrupt::requested().context("a run stops where it is asked to")?;
    let StoppedAt { epoch, step, steps } = at;
    let place = match step {
        0 => format!("after epoch {epoch} of {}", plan.config.epochs),
        _ => format!("in epoch {} of {}, after step {step} of {steps}", epoch + 1, plan.config.epochs),
    };
    let (path, resuming) = (plan.run.checkpoint_path(), resuming(plan.run.path(), &plan.config.device));
    Ok(signal.stop(format!("{} is saved, {place}; resume with `{resuming}`", path.display())))
}

/// Measures what search finds by the run, and by the weights that it began from, where there are labels to measure by and few
/// enough images to embed them all again; those of the run may have been `embedded` already.
fn as_used(plan: &Plan, embedded: Option<&Embedder>) -> anyhow::Result<Option<Used>> {
    let is_measured = plan.config.fit(plan.splits.train.len())?.config.monitor == Monitor::Reembed;
    if !is_measured || plan.splits.test.is_none() || eval::lack_of_labels(&plan.splits).is_some() {
        return Ok(None);
    }
    let images = Labelled::new(plan.splits.clone(), &plan.config.data)?;
    let knn = knn_config(&plan.config, plan.splits.train.len());
    let top1 = |name: &Path| -> anyhow::Result<f32> {
        let encoder = Encoder::open(&name.to_string_lossy(), &plan.config.device)?;
        Ok(images.measure(&encoder, &knn, false)?.knn_top1)
    };
    let weights = plan.config.init.as_deref().map(top1).transpose()?;
    let run = match embedded {
        Some(embedded) => images.measure_embedded(&embedded.encoder, &embedded.bank, &knn)?,
        None => top1(plan.run.path())?,
    };
    Ok(Some(Used { run, weights }))
}

/// Gives the finished network its read-out, unless the run has it already: that of the weights it began from fitted to the
/// training images, or one learned from these alone.
fn keep_readout(plan: &Plan) -> anyhow::Result<()> {
    let folder = plan.run.path();
    let encoder = Encoder::open(&folder.to_string_lossy(), &plan.config.device)?;
    if encoder.readout().is_some() {
        return Ok(());
    }
    let start = plan.config.init.as_ref().and_then(|init| Encoder::open(&init.to_string_lossy(), &plan.config.device).ok());
    let map = encoder.learn_readout(start.as_ref().and_then(Encoder::readout), &plan.splits.train)?;
    map.map_or(Ok(()), |map| readout::write(folder, &map))
}

/// How `la-cli eval` takes such images, where it does.
fn evaluation(splits: &Splits) -> Option<&'static str> {
    match eval::lack_of_labels(splits) {
        Some(_) => None,
        None if splits.test.is_some() => Some("--linear"),
        None => (splits.train.len() > 1).then_some("--leave-one-out"),
    }
}
