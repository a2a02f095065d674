//! `la-cli bench step`: the trainer's own step, on random images and with random clusters.

use super::figures::{Figures, Times};
use super::{count, made_up, NetworkArgs};
use candle_core::{Device, Tensor};
use la_core::checkpoint::{Position, TrainState};
use la_core::config::TrainConfig;
use la_core::loss::LaConfig;
use la_core::ops::device::{instructions, profile, set_precision, Precision, Share};
use la_core::ops::replay::{Recording, Replay};
use la_core::optim::{Sgd, SgdConfig};
use la_core::resnet::{ResNet, ResNetConfig};
use la_core::train::{record, step, Objective, Phase, StepPart, Totals};
use std::{ops::Range, time::Instant};

/// Steps before the first that counts: memory is fresh and code is cold in them.
const WARMUPS: usize = 2;

/// Steps of a round on a GPU, between two waits for it.
const UNWATCHED: usize = 5;

/// Options of `la-cli bench step`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench step --arch resnet50 --batch-size 32")]
pub struct StepArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Images per step
    #[arg(long, value_name = "B", default_value_t = TrainConfig::default().batch_size, value_parser = count)]
    batch_size: usize,
    /// Rows of the memory bank
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = count)]
    num_images: usize,
    /// Background neighbours of each image
    #[arg(long, value_name = "K", default_value_t = LaConfig::default().num_background, value_parser = count)]
    num_background: usize,
    /// Clusterings that give the close neighbours
    #[arg(long, value_name = "H", default_value_t = 3, value_parser = count)]
    num_clusterings: usize,
    /// Clusters of each
    #[arg(long, value_name = "M", default_value_t = 1000, value_parser = count)]
    num_clusters: usize,
    /// Precision; a CPU needs AVX512-BF16 or AMX for bf16, and has no tf32
    #[arg(long, value_name = "f32|tf32|bf16", default_value_t = Precision::F32)]
    precision: Precision,
    /// Steps that are measured
    #[arg(long, value_name = "R", default_value_t = 10, value_parser = count)]
    rounds: usize,
}

impl StepArgs {
    /// The published recipe with these settings.
    fn config(&self, device: &Device) -> TrainConfig {
        let ResNetConfig { arch, stem, width, embedding_dim } = self.network.config();
        TrainConfig {
            arch,
            stem,
            width,
            embedding_dim,
            size: self.network.size,
            batch_size: self.batch_size,
            num_background: Some(self.num_background),
            num_clusterings: Some(self.num_clusterings),
            num_clusters: Some(self.num_clusters),
            precision: self.precision,
            device: device.clone(),
            ..TrainConfig::default()
        }
    }
}

/// Runs `la-cli bench step`.
pub fn run(args: &StepArgs, device: &Device) -> anyhow::Result<Figures> {
    set_precision(device, args.precision)?;
    if device.is_cuda() {
        return run_on_gpu(args, device);
    }
    let mut workload = Workload::new(args, device)?;
    let mut parts = Vec::new();
    for step in 0..WARMUPS + args.rounds {
        let seconds = workload.step(step)?;
        if step >= WARMUPS {
            parts.push(seconds);
        }
    }
    let times = Times::of(parts.iter().map(|step| total(step)).collect());
    let figures = describe(args)
        .with("precision", args.precision.to_string())
        .with("instructions", instructions(args.precision))
        .with("images_per_s", args.batch_size as f64 / times.median());
    Ok(times.add_to(figures).with("shares", shares(&parts)).with_peak())
}

/// The same on a GPU, recorded as in training and waited for after each few steps; before that, what its time goes to.
fn run_on_gpu(args: &StepArgs, device: &Device) -> anyhow::Result<Figures> {
    let mut workload = Workload::new(args, device)?;
    workload.run(0..1, None)?;
    profile(device, true)?;
    let watched = workload.run(0..UNWATCHED, None)? * UNWATCHED as f64;
    let parts = profile(device, false)?;
    let recording = workload.record()?;
    let replay = match &recording {
        Recording::Done(replay) => Some(replay),
        Recording::Refused(_) => None,
    };
    let mut steps = |first: usize, count: usize| workload.run(first..first + count, replay);
    steps(0, WARMUPS)?;
    let rounds = (0..args.rounds).map(|round| steps(WARMUPS + round * UNWATCHED, UNWATCHED));
    let times = Times::of(rounds.collect::<anyhow::Result<_>>()?);
    let figures = describe(args)
        .with("precision", args.precision.to_string())
        .with("is_recorded", replay.is_some())
        .with("images_per_s", args.batch_size as f64 / times.median());
    let figures = match recording {
        Recording::Done(_) => figures,
        Recording::Refused(why) => figures.with("recording_refused", why),
    };
    Ok(times.add_to(figures).with("shares", gpu_shares(&parts, watched)).with_gpu(device).with_peak())
}

/// Each part's share of `total`, and what is left.
fn gpu_shares(parts: &[Share], total: f64) -> serde_json::Value {
    let known: f64 = parts.iter().map(|share| share.seconds).sum();
    let named = parts.iter().map(|share| (share.part.to_string(), (share.seconds / total).into()));
    named.chain([("rest".to_string(), ((total - known) / total).into())]).collect::<serde_json::Map<_, _>>().into()
}

fn describe(args: &StepArgs) -> Figures {
    let network = &args.network;
    Figures::of("step")
        .with("arch", network.arch.to_string())
        .with("stem", network.stem.to_string())
        .with("width", network.width)
        .with("size", network.size)
        .with("batch_size", args.batch_size)
        .with("num_images", args.num_images)
}

struct Workload {
    objective: Objective,
    state: TrainState,
    images: Tensor,
    order: Vec<u32>,
    learning_rate: f64,
}

impl Workload {
    fn new(args: &StepArgs, device: &Device) -> anyhow::Result<Self> {
        let fit = args.config(device).fit(args.num_images)?;
        let net = ResNet::new(&fit.config.network(), 0, device)?;
        let position = Position {
            config: fit.config.clone(),
            num_images: args.num_images,
            image_names: None,
            epoch: 0,
            step: 0,
            totals: Totals::default(),
            baseline: None,
            epochs: Vec::new(),
        };
        Ok(Self {
            objective: Objective::new(&fit, Phase::La, 0),
            state: TrainState {
                sgd: Sgd::new(SgdConfig::default(), &net)?,
                net,
                bank: made_up::bank(args.num_images, args.network.embedding_dim, device)?,
                clusters: Some(made_up::clusters(args.num_images, args.num_clusterings, args.num_clusters)?),
                position,
            },
            images: made_up::images(args.batch_size, args.network.size, device)?,
            order: made_up::indices(args.num_images, args.num_images)?,
            learning_rate: fit.config.lr,
        })
    }

    /// The images of a step: the order goes round.
    fn indices(&self, step: usize) -> anyhow::Result<Vec<u32>> {
        let batch_size = self.images.dim(0)?;
        Ok(self.order.iter().cycle().skip(step * batch_size % self.order.len()).take(batch_size).copied().collect())
    }

    /// Seconds that each of these steps takes, with one wait at the end.
    fn run(&mut self, steps: Range<usize>, replay: Option<&Replay>) -> anyhow::Result<f64> {
        let device = self.images.device().clone();
        device.synchronize()?;
        let (started, count) = (Instant::now(), steps.len());
        for step in steps {
            match replay {
                Some(replay) => drop(replay.run(&self.images, &self.indices(step)?, self.learning_rate)?),
                None => drop(self.step(step)?),
            }
        }
        device.synchronize()?;
        Ok(started.elapsed().as_secs_f64() / count as f64)
    }

    /// The step as training records it.
    fn record(&mut self) -> anyhow::Result<Recording> {
        let indices = self.indices(0)?;
        Ok(record(&self.objective, &mut self.state, &self.images, &indices)?)
    }

    /// One step of training; gives the seconds of its parts, in their order.
    fn step(&mut self, number: usize) -> anyhow::Result<Vec<(StepPart, f64)>> {
        let indices = self.indices(number)?;
        let (mut seconds, mut since) = (Vec::new(), Instant::now());
        step(&self.objective, &mut self.state, &self.images, &indices, self.learning_rate, &mut |part| {
            let before = std::mem::replace(&mut since, Instant::now());
            seconds.push((part, (since - before).as_secs_f64()));
        })?;
        Ok(seconds)
    }
}

/// Each part's share of all the time.
fn shares(steps: &[Vec<(StepPart, f64)>]) -> serde_json::Value {
    let total: f64 = steps.iter().map(|step| total(step)).sum();
    let share =
        |wanted: StepPart| steps.iter().flatten().filter(|(part, _)| *part == wanted).map(|(_, seconds)| seconds).sum::<f64>() / total;
    serde_json::json!({
        "forward": share(StepPart::Forward),
        "loss": share(StepPart::Loss),
        "backward": share(StepPart::Backward),
        "optimiser": share(StepPart::Optimiser),
        "bank": share(StepPart::Bank),
    })
}

fn total(step: &[(StepPart, f64)]) -> f64 {
    step.iter().map(|(_, seconds)| seconds).sum()
}
