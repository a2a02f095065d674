//! `la-cli bench knn`: the exact nearest rows of some queries.

use super::figures::{Figures, Times};
use super::{count, made_up};
use candle_core::Tensor;
use la_core::config::TrainConfig;
use la_core::eval::knn::{nearest, KnnConfig};
use std::path::PathBuf;

/// Options of `la-cli bench knn`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench knn --num-rows 13000 --num-queries 1 --k 10")]
pub struct KnnArgs {
    /// Queries
    #[arg(long, value_name = "Q", default_value_t = 10_000, value_parser = count)]
    num_queries: usize,
    /// Rows that are searched
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = count)]
    num_rows: usize,
    /// Their dimension
    #[arg(long, value_name = "D", default_value_t = TrainConfig::default().embedding_dim, value_parser = count)]
    dim: usize,
    /// Rows of your own: a NumPy file, (N, D) f32
    #[arg(long, value_name = "FILE.npy", requires = "queries", conflicts_with_all = ["num_rows", "num_queries", "dim"])]
    rows: Option<PathBuf>,
    /// Queries of your own, likewise
    #[arg(long, value_name = "FILE.npy", requires = "rows")]
    queries: Option<PathBuf>,
    /// Neighbours of each query
    #[arg(long, value_name = "K", default_value_t = KnnConfig::default().k, value_parser = count)]
    k: usize,
    /// Searches that are measured
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = count)]
    rounds: usize,
}

/// Runs `la-cli bench knn`.
pub fn run(args: &KnnArgs) -> anyhow::Result<Figures> {
    let (rows, queries) = data(args)?;
    let times = Times::measure(1, args.rounds, || nearest(&rows, &queries, args.k).map(drop).map_err(Into::into))?;
    let num_queries = queries.dim(0)?;
    let figures = Figures::of("knn")
        .with("num_queries", num_queries)
        .with("num_rows", rows.dim(0)?)
        .with("dim", rows.dim(1)?)
        .with("k", args.k)
        .with("queries_per_s", num_queries as f64 / times.median());
    Ok(times.add_to(figures).with_peak())
}

fn data(args: &KnnArgs) -> anyhow::Result<(Tensor, Tensor)> {
    match (&args.rows, &args.queries) {
        (Some(rows), Some(queries)) => Ok((made_up::read_rows(rows)?, made_up::read_rows(queries)?)),
        _ => Ok((made_up::clouds(args.num_rows, args.dim, 0)?, made_up::clouds(args.num_queries, args.dim, 1)?)),
    }
}
