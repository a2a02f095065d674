//! `la-cli bench`: how fast each part of the work is on this machine, measured on made-up data.

mod embed;
mod figures;
mod growth;
mod kmeans;
mod knn;
mod loader;
mod loss;
mod made_up;
mod step;

use candle_core::Device;
use la_core::resnet::{Arch, ResNetConfig, Stem};

/// Options of `la-cli bench`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli bench step --size 64                   # a training step on this machine
  la-cli bench loader --data ~/photos --json    # reading your pictures")]
pub struct BenchArgs {
    #[command(subcommand)]
    kind: Kind,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Kind {
    /// The training step of Local Aggregation: embed, loss, backward, SGD, memory bank; no data loading.
    Step(step::StepArgs),
    /// The network in eval mode.
    Embed(embed::EmbedArgs),
    /// The losses and their gradients, without a network.
    Loss(loss::LossArgs),
    /// Clustering.
    Kmeans(kmeans::KmeansArgs),
    /// The search for nearest neighbours that evaluation makes.
    Knn(knn::KnnArgs),
    /// Reading, decoding and augmenting images, without a network.
    Loader(loader::LoaderArgs),
    /// How time and memory of the loss and of k-means grow with the number of images.
    Growth(growth::GrowthArgs),
}

/// Runs `la-cli bench`.
pub fn run(args: &BenchArgs, device: &Device) -> anyhow::Result<()> {
    let figures = match &args.kind {
        Kind::Step(kind) => step::run(kind, device)?,
        Kind::Embed(kind) => embed::run(kind, device)?,
        Kind::Loss(kind) => loss::run(kind, device)?,
        Kind::Kmeans(kind) => kmeans::run(kind, device)?,
        Kind::Knn(kind) => knn::run(kind)?,
        Kind::Loader(kind) => loader::run(kind)?,
        Kind::Growth(kind) => return growth::run(kind, args.json),
    };
    figures.print(args.json)
}

/// The network that is measured, and what it sees.
#[derive(clap::Args)]
struct NetworkArgs {
    /// Network
    #[arg(long, value_name = "resnet18|resnet34|resnet50", default_value_t = ResNetConfig::default().arch)]
    arch: Arch,
    /// First layers: 7×7 stride 2 with max-pool, or 3×3 for small images
    #[arg(long, value_name = "imagenet|small", default_value_t = ResNetConfig::default().stem)]
    stem: Stem,
    /// Channels of the first stage
    #[arg(long, value_name = "C", default_value_t = ResNetConfig::default().width, value_parser = count)]
    width: usize,
    /// Dimension of the embedding
    #[arg(long, value_name = "D", default_value_t = ResNetConfig::default().embedding_dim, value_parser = count)]
    embedding_dim: usize,
    /// Side of the square images
    #[arg(long, value_name = "PX", default_value_t = 224, value_parser = count)]
    size: usize,
}

impl NetworkArgs {
    fn config(&self) -> ResNetConfig {
        ResNetConfig { arch: self.arch, stem: self.stem, width: self.width, embedding_dim: self.embedding_dim }
    }
}

/// Parses a number of things to measure with.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_000_000_000) => Ok(n),
        _ => Err(format!("expected a whole number in 1 to 1000000000, got {text:?}")),
    }
}
