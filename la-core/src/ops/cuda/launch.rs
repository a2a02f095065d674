//! Kernel launches.

use super::arg::{arg, Arg};
use super::context::{self, precision};
use super::tensors::{device, driver, empty, upload};
use crate::{ops::precision::Precision, Result};
use candle_core::{
    cuda_backend::{
        cudarc::driver::{LaunchConfig, PushKernelArg},
        CudaDevice,
    },
    DType, Tensor,
};

/// Threads of a block where any number would do.
pub(super) const THREADS: usize = 256;

/// Blocks of a launch whose threads loop over many values.
const MAX_BLOCKS: usize = 8192;

/// Which kernel, over how many blocks of how many threads.
pub(super) struct Launch {
    name: &'static str,
    dtype: DType,
    grid: (usize, usize),
    block: (usize, usize),
}

impl Launch {
    /// `blocks` blocks of `threads` threads.
    pub fn blocks(name: &'static str, blocks: usize, threads: usize) -> Self {
        Self { name, dtype: DType::F32, grid: (blocks, 1), block: (threads, 1) }
    }

    /// A two-dimensional grid of blocks of 32 by 8 threads.
    pub fn grid(name: &'static str, grid: (usize, usize)) -> Self {
        Self { name, dtype: DType::F32, grid, block: (32, 8) }
    }

    /// A two-dimensional grid of blocks of `threads` threads.
    pub fn rows(name: &'static str, grid: (usize, usize), threads: usize) -> Self {
        Self { name, dtype: DType::F32, grid, block: (threads, 1) }
    }

    /// Threads that loop over `n` values.
    pub fn over(name: &'static str, n: usize) -> Self {
        Self::blocks(name, n.div_ceil(THREADS).clamp(1, MAX_BLOCKS), THREADS)
    }

    /// One thread for each of `n`.
    pub fn each(name: &'static str, n: usize) -> Self {
        Self::blocks(name, n.div_ceil(THREADS).max(1), THREADS)
    }

    /// The variant for activations of this type.
    pub fn of(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// Launches the kernel; the arguments must be those of its declaration.
    pub fn run(self, device: &CudaDevice, args: &[Arg]) -> Result<()> {
        let function = context::function(device, self.dtype, self.name)?;
        let stream = device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        for arg in args {
            match arg {
                Arg::Pointer(x) => builder.arg(x),
                Arg::Int(x) => builder.arg(x),
                Arg::Long(x) => builder.arg(x),
                Arg::F32(x) => builder.arg(x),
                Arg::F64(x) => builder.arg(x),
                Arg::Window(x) => builder.arg(x),
                Arg::Tensors(x) => builder.arg(&**x),
                Arg::Normal(x) => builder.arg(x),
            };
        }
        let of = |(x, y): (usize, usize)| (x as u32, y as u32, 1);
        // SAFETY: each caller passes the arguments of the kernel's declaration, over tensors as large as the kernel touches.
        unsafe { builder.launch(LaunchConfig { grid_dim: of(self.grid), block_dim: of(self.block), shared_mem_bytes: 0 }) }
            .map_err(driver)?;
        Ok(())
    }
}

/// The images of a step on the GPU: sent there, or where they will lie when a step that is being recorded is replayed.
pub(super) fn step_indices(device: &CudaDevice, indices: &[u32]) -> Result<Tensor> {
    match context::with(device, |context| Ok(context.recording.clone()))? {
        Some(inputs) => Ok(inputs.indices.narrow(0, 0, indices.len())?),
        None => upload(device, indices),
    }
}

/// Replaces a tensor's values by these.
pub(crate) fn overwrite(to: &Tensor, values: &[f32]) -> Result<()> {
    let from = Tensor::from_slice(values, to.shape(), to.device())?;
    copy(&from, to)
}

/// Copies one f32 tensor over another of as many values.
fn copy(from: &Tensor, to: &Tensor) -> Result<()> {
    let n = from.elem_count();
    Launch::over("from_f32", n).run(&device(to)?, &[arg(from)?, arg(to)?, Arg::long(n)])
}

/// Images in the type that the device's precision gives activations.
pub(crate) fn activations(x: Tensor) -> Result<Tensor> {
    let gpu = device(&x)?;
    if precision(&gpu) != Precision::Bf16 || x.dtype() == DType::BF16 {
        return Ok(x);
    }
    let out = empty(&gpu, x.shape(), DType::BF16)?;
    let n = x.elem_count();
    Launch::over("from_f32", n).of(DType::BF16).run(&gpu, &[arg(&x)?, arg(&out)?, Arg::long(n)])?;
    Ok(out)
}
