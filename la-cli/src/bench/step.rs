//! `la-cli bench step`: the step of `la_core::train`, on random images and with random clusters.

use super::figures::{Figures, Times};
use super::{count, made_up, NetworkArgs};
use candle_core::{Device, Tensor};
use la_core::config::TrainConfig;
use la_core::kmeans::ClusterLabels;
use la_core::loss::{local_aggregation, LaConfig, Loss};
use la_core::memory_bank::MemoryBank;
use la_core::ops::device::{profile, set_precision, Precision, Share};
use la_core::ops::normalize::{normalize, normalize_backward};
use la_core::ops::replay::{Recording, Replay};
use la_core::optim::{Sgd, SgdConfig};
use la_core::resnet::ResNet;
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
    /// Images a step
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
    /// What a GPU computes in; the CPU knows f32 alone
    #[arg(long, value_name = "f32|tf32|bf16", default_value_t = Precision::F32)]
    precision: Precision,
    /// Steps that are measured
    #[arg(long, value_name = "R", default_value_t = 10, value_parser = count)]
    rounds: usize,
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
        let indices = workload.indices(step, args.batch_size);
        let (seconds, _) = workload.step(&workload.images.clone(), &indices)?;
        if step >= WARMUPS {
            parts.push(seconds);
        }
    }
    let times = Times::of(parts.iter().map(Seconds::total).collect());
    let figures = describe(args).with("images_per_s", args.batch_size as f64 / times.median());
    Ok(times.add_to(figures).with("shares", shares(&parts)).with_peak())
}

/// The same on a GPU, recorded as in training and waited for after each few steps; before that, what its time goes to.
fn run_on_gpu(args: &StepArgs, device: &Device) -> anyhow::Result<Figures> {
    let mut workload = Workload::new(args, device)?;
    workload.run(0..1, args.batch_size, None)?;
    profile(device, true)?;
    let watched = workload.run(0..UNWATCHED, args.batch_size, None)? * UNWATCHED as f64;
    let parts = profile(device, false)?;
    let recording = workload.record(args.batch_size)?;
    let replay = match &recording {
        Recording::Done(replay) => Some(replay),
        Recording::Refused(_) => None,
    };
    let mut steps = |first: usize, count: usize| workload.run(first..first + count, args.batch_size, replay);
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
    net: ResNet,
    sgd: Sgd,
    bank: MemoryBank,
    clusters: ClusterLabels,
    images: Tensor,
    recipe: TrainConfig,
    loss: LaConfig,
    order: Vec<u32>,
}

impl Workload {
    fn new(args: &StepArgs, device: &Device) -> anyhow::Result<Self> {
        let net = ResNet::new(&args.network.config(), 0, device)?;
        Ok(Self {
            sgd: Sgd::new(SgdConfig::default(), &net)?,
            net,
            bank: made_up::bank(args.num_images, args.network.embedding_dim, device)?,
            clusters: made_up::clusters(args.num_images, args.num_clusterings, args.num_clusters)?,
            images: made_up::images(args.batch_size, args.network.size, device)?,
            recipe: TrainConfig::default(),
            loss: LaConfig { num_background: args.num_background, ..LaConfig::default() },
            order: made_up::indices(args.num_images, args.num_images)?,
        })
    }

    /// The images of a step: the order goes round.
    fn indices(&self, step: usize, batch_size: usize) -> Vec<u32> {
        self.order.iter().cycle().skip(step * batch_size % self.order.len()).take(batch_size).copied().collect()
    }

    /// Seconds that each of these steps takes, with one wait at the end.
    fn run(&mut self, steps: Range<usize>, batch_size: usize, replay: Option<&Replay>) -> anyhow::Result<f64> {
        let (device, images) = (self.images.device().clone(), self.images.clone());
        device.synchronize()?;
        let (started, count) = (Instant::now(), steps.len());
        for step in steps {
            let indices = self.indices(step, batch_size);
            match replay {
                Some(replay) => drop(replay.run(&images, &indices, self.recipe.lr)?),
                None => drop(self.step(&images, &indices)?),
            }
        }
        device.synchronize()?;
        Ok(started.elapsed().as_secs_f64() / count as f64)
    }

    /// The step as training records it.
    fn record(&mut self, batch_size: usize) -> anyhow::Result<Recording> {
        let (device, images, indices) = (self.images.device().clone(), self.images.clone(), self.indices(0, batch_size));
        Ok(Replay::record(&device, &images, batch_size, |images| {
            let (_, figures) = self.step(images, &indices).map_err(|error| la_core::Error::invalid(error.to_string()))?;
            figures.ok_or_else(|| la_core::Error::invalid("a step on a GPU gave its loss at once"))
        })?)
    }

    /// One step; gives what its parts took, and the figures that its loss waits for on a GPU.
    fn step(&mut self, images: &Tensor, indices: &[u32]) -> anyhow::Result<(Seconds, Option<Tensor>)> {
        let mut watch = Watch(Instant::now());
        let (outputs, cache) = self.net.forward_train(images)?;
        let (embeddings, norms) = normalize(&outputs)?;
        let forward = watch.lap();
        let loss = local_aggregation(&embeddings, &self.bank, indices, &self.clusters, &self.loss)?;
        let grad_outputs = normalize_backward(&embeddings, &norms, loss.grad_embeddings())?;
        let figures = match loss {
            Loss::Pending(loss) => Some(loss.figures),
            Loss::Known(_) => None,
        };
        let loss = watch.lap();
        self.net.backward(cache, &grad_outputs)?;
        let backward = watch.lap();
        self.sgd.step(&mut self.net, self.recipe.lr)?;
        let optimiser = watch.lap();
        self.bank.update(indices, &embeddings, self.recipe.bank_momentum as f32)?;
        Ok((Seconds { forward, loss, backward, optimiser, bank: watch.lap() }, figures))
    }
}

struct Watch(Instant);

impl Watch {
    /// Seconds since the last call.
    fn lap(&mut self) -> f64 {
        let before = std::mem::replace(&mut self.0, Instant::now());
        (self.0 - before).as_secs_f64()
    }
}

/// What the parts of one step took.
struct Seconds {
    forward: f64,
    loss: f64,
    backward: f64,
    optimiser: f64,
    bank: f64,
}

impl Seconds {
    fn total(&self) -> f64 {
        self.forward + self.loss + self.backward + self.optimiser + self.bank
    }
}

/// Each part's share of all the time.
fn shares(steps: &[Seconds]) -> serde_json::Value {
    let total: f64 = steps.iter().map(Seconds::total).sum();
    let share = |part: fn(&Seconds) -> f64| steps.iter().map(part).sum::<f64>() / total;
    serde_json::json!({
        "forward": share(|s| s.forward),
        "loss": share(|s| s.loss),
        "backward": share(|s| s.backward),
        "optimiser": share(|s| s.optimiser),
        "bank": share(|s| s.bank),
    })
}
