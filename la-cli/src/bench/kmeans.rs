//! `la-cli bench kmeans`: one clustering, labels included.

use super::figures::{Figures, Times};
use super::{count, made_up};
use candle_core::Device;
use la_core::config::TrainConfig;
use la_core::kmeans::{kmeans, KmeansConfig};
use la_core::ops::device::{set_precision, Precision};
use std::path::PathBuf;

/// Options of `la-cli bench kmeans`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench kmeans --num-points 50000 --num-clusters 500")]
pub struct KmeansArgs {
    /// Points
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = count)]
    num_points: usize,
    /// Their dimension
    #[arg(long, value_name = "D", default_value_t = TrainConfig::default().embedding_dim, value_parser = count)]
    dim: usize,
    /// Points of your own: a NumPy file, (N, D) f32
    #[arg(long, value_name = "FILE.npy", conflicts_with_all = ["num_points", "dim"])]
    points: Option<PathBuf>,
    /// Clusters
    #[arg(long, value_name = "M", default_value_t = 1000, value_parser = count)]
    num_clusters: usize,
    /// Rounds of assignment and averaging
    #[arg(long, value_name = "I", default_value_t = KmeansConfig::default().max_iters, value_parser = count)]
    iters: usize,
    /// What a GPU computes products in; the CPU computes in f32 only
    #[arg(long, value_name = "f32|tf32|bf16", default_value_t = Precision::F32)]
    precision: Precision,
    /// Chooses the first centroids
    #[arg(long, value_name = "S", default_value_t = KmeansConfig::default().seed)]
    seed: u64,
    /// Clusterings that are measured
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = count)]
    rounds: usize,
}

/// Runs `la-cli bench kmeans`.
pub fn run(args: &KmeansArgs, device: &Device) -> anyhow::Result<Figures> {
    let points = match &args.points {
        Some(path) => made_up::read_rows(path)?,
        None => made_up::clouds(args.num_points, args.dim, 0)?,
    };
    set_precision(device, args.precision)?;
    let points = points.to_device(device)?;
    let config = KmeansConfig { num_clusters: args.num_clusters, max_iters: args.iters, seed: args.seed };
    let mut found = None;
    let times = Times::measure(0, args.rounds, || {
        found = Some(kmeans(&points, &config)?);
        Ok(())
    })?;
    let figures = Figures::of("kmeans")
        .with("num_points", points.dim(0)?)
        .with("dim", points.dim(1)?)
        .with("num_clusters", args.num_clusters)
        .with("iters", found.as_ref().map(|found| found.iters))
        .with("inertia", found.as_ref().map(|found| found.inertia));
    Ok(times.add_to(figures).with_gpu(device).with_peak())
}
