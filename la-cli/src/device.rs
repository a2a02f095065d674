//! Where the work is done: the device and the number of threads.

use anyhow::{bail, Context};
use candle_core::Device;
use la_core::ops::device;

/// Options that every subcommand takes.
#[derive(clap::Args)]
pub struct MachineArgs {
    /// Device to compute on
    #[arg(long, global = true, value_name = "cpu|cuda|cuda:I", default_value = "cpu")]
    pub device: String,
    /// Number of threads [default: one per core]
    #[arg(long, global = true, value_name = "T")]
    pub threads: Option<usize>,
}

impl MachineArgs {
    /// Sets up the thread pool and opens the device.
    pub fn prepare(&self) -> anyhow::Result<Device> {
        if let Some(threads) = self.threads {
            use_threads(threads)?;
        }
        open(&self.device)
    }
}

fn use_threads(threads: usize) -> anyhow::Result<()> {
    if !(1..=1024).contains(&threads) {
        bail!("--threads must be in 1 to 1024, got {threads}");
    }
    // candle asks this variable how finely to cut its work; no other thread runs yet.
    std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("the threads cannot be started")
}

fn open(name: &str) -> anyhow::Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index: usize = index.parse().with_context(|| format!("--device {name}: expected a number after the colon, got {index:?}"))?;
    match kind {
        "cpu" if name == "cpu" => Ok(Device::Cpu),
        "cuda" if !device::HAS_CUDA => bail!(
            "--device {name}: this la-cli was built without CUDA; build it with `cargo build --release -p la-cli --features cuda`, or leave --device out to use the CPU"
        ),
        "cuda" => device::open_cuda(index).with_context(|| format!("--device {name} cannot be opened")),
        _ => bail!("--device must be cpu, cuda or cuda:I, got {name:?}"),
    }
}
