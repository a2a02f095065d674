//! The devices beside the CPU: opening one, the precision it computes in, and what it can say of itself.

use crate::{error::bail, Result};
use candle_core::{Device, DeviceLocation};
use std::cell::Cell;

pub use super::precision::{Precision, Share};

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

/// Leaves the function with the implementation for bf16 on the CPU where a tensor is of that type.
macro_rules! in_bf16 {
    ($x:expr, $call:expr) => {
        #[cfg(target_arch = "x86_64")]
        if $x.dtype() == candle_core::DType::BF16 && $x.device().is_cpu() {
            $crate::ops::bf16::require()?;
            return $call;
        }
    };
}
pub(crate) use in_bf16;

/// Fails where `device` cannot compute in `precision`.
pub(crate) fn check(precision: Precision, device: &Device) -> Result<()> {
    match precision {
        Precision::Tf32 if !device.is_cuda() => {
            bail!("precision tf32 needs a CUDA device, got {:?}; the CPU has f32 and bf16", device.location())
        }
        Precision::Bf16 if device.is_cpu() => require_bf16(),
        _ => Ok(()),
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

/// Whether this build can use NVIDIA GPUs.
pub const HAS_CUDA: bool = cfg!(feature = "cuda");

/// Opens NVIDIA GPU number `index`; fails with what is missing: build, driver, library or device.
pub fn open_cuda(index: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return super::cuda::open(index);
    #[cfg(not(feature = "cuda"))]
    bail!("GPU {index}: this program was built without the feature `cuda`")
}

#[cfg(target_arch = "x86_64")]
fn require_bf16() -> Result<()> {
    super::bf16::require()
}

#[cfg(not(target_arch = "x86_64"))]
fn require_bf16() -> Result<()> {
    bail!("precision bf16 on the CPU needs an x86-64 processor with AVX512-BF16; f32 runs on any")
}

/// The vector instructions that a network on the CPU computes with: the last bits of results depend on them.
pub fn instructions(precision: Precision) -> &'static str {
    match bf16_instructions() {
        Some(name) if precision == Precision::Bf16 => name,
        _ => super::simd::level().name(),
    }
}

/// The instructions that multiply bf16 on this CPU: `amx-bf16` or `avx512-bf16`; `None` where it has neither.
pub fn bf16_instructions() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    return super::bf16::name();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

thread_local! {
    /// What networks on the CPU compute in where this thread runs them.
    static ON_CPU: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Makes `device` compute in `precision` from here on; on the CPU, the work that the calling thread begins.
pub fn set_precision(device: &Device, precision: Precision) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::cuda::set_precision(device, precision);
    }
    check(precision, device)?;
    ON_CPU.set(precision);
    Ok(())
}

/// Whether networks on the CPU compute in bf16 where this thread runs them.
pub(crate) fn is_bf16_on_cpu() -> bool {
    ON_CPU.get() == Precision::Bf16
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
