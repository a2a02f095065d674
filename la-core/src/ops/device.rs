//! The devices beside the CPU: opening one, the precision it computes in, and what it can say of itself.

use crate::{choices::choices, error::bail, Result};
use candle_core::{Device, DeviceLocation, Tensor};

/// Leaves the function with the GPU's implementation where a tensor lives on one.
macro_rules! on_gpu {
    ($x:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if $x.device().is_cuda() {
            return $call;
        }
    };
}
pub(crate) use on_gpu;

choices! {
    /// What the network computes in; weights, statistics and losses are f32 in each.
    #[derive(Default)]
    Precision, "precision" {
        /// 32-bit floating point.
        #[default]
        F32 = "f32",
        /// f32 in memory, products of 10-bit mantissas: tensor cores.
        Tf32 = "tf32",
        /// Activations and their gradients in bf16.
        Bf16 = "bf16",
    }
}

impl Precision {
    /// Fails where `device` cannot compute in this precision.
    pub(crate) fn check(self, device: &Device) -> Result<()> {
        if self != Self::F32 && !device.is_cuda() {
            bail!("precision {self} needs a CUDA device, got {:?}; only f32 is available on the CPU", device.location());
        }
        Ok(())
    }
}

/// The device's name, as `la-cli --device` takes it.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".into(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        // No other device is ever opened here.
        other => format!("{other:?}"),
    }
}

/// A share of the time of profiled work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Which operations.
    pub part: &'static str,
    /// Seconds on the device since profiling began.
    pub seconds: f64,
}

/// Whether this build can use NVIDIA GPUs.
pub const HAS_CUDA: bool = cfg!(feature = "cuda");

/// Opens NVIDIA GPU number `index`; fails with what is missing: build, driver, library or device.
pub fn open_cuda(index: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return super::cuda::open(index);
    #[cfg(not(feature = "cuda"))]
    bail!("GPU {index}: this program was built without the feature `cuda`")
}

/// Makes `device` compute in `precision` from here on; the CPU knows f32 alone.
pub fn set_precision(device: &Device, precision: Precision) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::cuda::set_precision(device, precision);
    }
    precision.check(device)
}

/// Starts to measure which operations a GPU spends its time on (slower: each is waited for), or gives what was measured.
pub fn profile(device: &Device, is_on: bool) -> Result<Vec<Share>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::cuda::profile(device, is_on);
    }
    let _ = (device, is_on);
    Ok(Vec::new())
}

/// The most memory that this process has held on a GPU, in MiB, and the GPU's name.
pub fn gpu_memory(device: &Device) -> Option<(f64, String)> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::cuda::memory(device).ok();
    }
    let _ = device;
    None
}

/// Images on `device`, in the type that its precision gives activations.
pub(crate) fn activations(x: Tensor, device: &Device) -> Result<Tensor> {
    on_gpu!(x, super::cuda::activations(x));
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::cuda::send(&x, device);
    }
    Ok(x.to_device(device)?)
}
