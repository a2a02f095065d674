//! `la-cli bench loss`: an objective and its gradient by the embeddings, at the size of ImageNet unless told otherwise.

use super::figures::{Figures, Times};
use super::{count, made_up};
use anyhow::bail;
use candle_core::{Device, Tensor};
use la_core::config::TrainConfig;
use la_core::kmeans::ClusterLabels;
use la_core::loss::{instance_recognition, instance_recognition_nce, local_aggregation, LaConfig, NceConfig};
use la_core::memory_bank::MemoryBank;
use la_core::train::peak_rss_mb;

/// Options of `la-cli bench loss`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench loss --num-images 100000")]
pub struct LossArgs {
    /// What is measured
    #[arg(long, value_enum, default_value_t = Objective::La)]
    objective: Objective,
    /// Rows of the memory bank
    #[arg(long, value_name = "N", default_value_t = 1_281_167, value_parser = count)]
    num_images: usize,
    /// Dimension of the embedding
    #[arg(long, value_name = "D", default_value_t = TrainConfig::default().embedding_dim, value_parser = count)]
    embedding_dim: usize,
    /// Images per step
    #[arg(long, value_name = "B", default_value_t = TrainConfig::default().batch_size, value_parser = count)]
    batch_size: usize,
    /// la: background neighbours of each image
    #[arg(long, value_name = "K", default_value_t = LaConfig::default().num_background, value_parser = count)]
    num_background: usize,
    /// la: clusterings that give the close neighbours
    #[arg(long, value_name = "H", default_value_t = 10, value_parser = count)]
    num_clusterings: usize,
    /// la: clusters of each
    #[arg(long, value_name = "M", default_value_t = 30_000, value_parser = count)]
    num_clusters: usize,
    /// nce: noise samples of each image
    #[arg(long, value_name = "K", default_value_t = TrainConfig::default().num_noise, value_parser = count)]
    num_noise: usize,
    /// Steps that are measured
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = count)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Objective {
    /// Local aggregation, with the update of the bank
    La,
    /// Instance recognition by noise-contrastive estimation, likewise
    Nce,
    /// Instance recognition by the full softmax, likewise
    Softmax,
}

/// Runs `la-cli bench loss`.
pub fn run(args: &LossArgs, device: &Device) -> anyhow::Result<Figures> {
    let mut inputs = Inputs::new(args, device)?;
    let before = peak_rss_mb();
    let times = Times::measure(1, args.rounds, || {
        inputs.step(args)?;
        Ok(device.synchronize()?)
    })?;
    let figures = Figures::of("loss")
        .with("objective", clap::ValueEnum::to_possible_value(&args.objective).map(|value| value.get_name().to_string()))
        .with("num_images", args.num_images)
        .with("batch_size", args.batch_size);
    let figures = times.add_to(figures).with_gpu(device).with_peak();
    // What the step needs beside bank and labels.
    Ok(figures.with("step_mb", peak_rss_mb().zip(before).map(|(after, before)| ((after - before) * 10.0).round() / 10.0)))
}

struct Inputs {
    bank: MemoryBank,
    embeddings: Tensor,
    indices: Vec<u32>,
    clusters: Option<ClusterLabels>,
    noise_indices: Vec<u32>,
}

impl Inputs {
    fn new(args: &LossArgs, device: &Device) -> anyhow::Result<Self> {
        let LossArgs { num_images, batch_size, num_background, .. } = *args;
        if args.objective == Objective::La && num_background > num_images {
            bail!("--num-background must be at most --num-images {num_images}, got {num_background}");
        }
        let is_la = args.objective == Objective::La;
        let clusters = is_la.then(|| made_up::clusters(num_images, args.num_clusterings, args.num_clusters)).transpose()?;
        let num_noise = if args.objective == Objective::Nce { batch_size.saturating_mul(args.num_noise) } else { 0 };
        Ok(Self {
            bank: made_up::bank(num_images, args.embedding_dim, device)?,
            embeddings: made_up::embeddings(batch_size, args.embedding_dim, device)?,
            indices: made_up::indices(batch_size, num_images)?,
            clusters,
            noise_indices: made_up::indices(num_noise, num_images)?,
        })
    }

    fn step(&mut self, args: &LossArgs) -> anyhow::Result<()> {
        let Self { bank, embeddings, indices, clusters, noise_indices } = self;
        let temperature = TrainConfig::default().temperature;
        match (args.objective, clusters) {
            (Objective::La, Some(clusters)) => {
                let config = LaConfig { num_background: args.num_background, temperature };
                local_aggregation(embeddings, bank, indices, clusters, &config)?
            }
            (Objective::Nce, _) => instance_recognition_nce(embeddings, bank, indices, noise_indices, &NceConfig::default())?,
            _ => instance_recognition(embeddings, bank, indices, temperature)?,
        };
        Ok(bank.update(indices, embeddings, TrainConfig::default().bank_momentum as f32)?)
    }
}
