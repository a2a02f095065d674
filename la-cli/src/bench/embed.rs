//! `la-cli bench embed`: the network in eval mode, on random images.

use super::figures::{Figures, Times};
use super::{count, made_up, NetworkArgs};
use candle_core::Device;
use la_core::ops::device::{set_precision, Precision};
use la_core::resnet::ResNet;

/// Options of `la-cli bench embed`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  la-cli bench embed --size 96")]
pub struct EmbedArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Images a batch
    #[arg(long, value_name = "B", default_value_t = 32, value_parser = count)]
    batch_size: usize,
    /// Precision; a CPU needs AVX512-BF16 or AMX for bf16, and has no tf32
    #[arg(long, value_name = "f32|tf32|bf16", default_value_t = Precision::F32)]
    precision: Precision,
    /// Batches that are measured
    #[arg(long, value_name = "R", default_value_t = 10, value_parser = count)]
    rounds: usize,
}

/// Runs `la-cli bench embed`.
pub fn run(args: &EmbedArgs, device: &Device) -> anyhow::Result<Figures> {
    set_precision(device, args.precision)?;
    let network = &args.network;
    let net = ResNet::new(&network.config(), 0, device)?;
    let images = made_up::images(args.batch_size, network.size, device)?;
    let times = Times::measure(2, args.rounds, || net.embed(&images).map(drop).map_err(Into::into))?;
    let figures = Figures::of("embed")
        .with("arch", network.arch.to_string())
        .with("stem", network.stem.to_string())
        .with("width", network.width)
        .with("size", network.size)
        .with("batch_size", args.batch_size)
        .with("precision", args.precision.to_string())
        .with("images_per_s", args.batch_size as f64 / times.median());
    Ok(times.add_to(figures).with_peak())
}
