//! Tensors on the GPU and kernel launches over them.

use super::context::{self, precision};
use crate::{error::bail, ops::device::Precision, Error, Result};
use candle_core::{
    cuda_backend::{
        cudarc::driver::{sys::CUresult, DevicePtr, DeviceRepr, DriverError, LaunchConfig, PushKernelArg},
        CudaDevice, CudaStorage, CudaStorageSlice,
    },
    op::BackpropOp,
    DType, Device, Shape, Storage, Tensor,
};

/// Threads of a block where any number would do.
pub(super) const THREADS: usize = 256;

/// Blocks of a launch whose threads loop over many values.
const MAX_BLOCKS: usize = 8192;

/// An argument of a kernel.
pub(super) enum Arg {
    Pointer(u64),
    Int(i32),
    Long(i64),
    F32(f32),
    F64(f64),
    Window(super::pool::Window),
    Tensors(Box<super::sgd::Tensors>),
    Normal(super::views::Normal),
}

impl Arg {
    /// A pointer that the kernel checks before use.
    pub const NULL: Self = Self::Pointer(0);

    /// A count that the kernel takes as an int.
    pub fn int(n: usize) -> Self {
        Self::Int(n as i32)
    }

    /// A count that the kernel takes as 64 bits.
    pub fn long(n: usize) -> Self {
        Self::Long(n as i64)
    }

    pub fn flag(is_set: bool) -> Self {
        Self::Int(i32::from(is_set))
    }

    /// The values of a tensor, or null.
    pub fn maybe(x: Option<&Tensor>) -> Result<Self> {
        x.map_or(Ok(Self::NULL), arg)
    }
}

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

/// The CUDA device of a tensor.
pub(super) fn device(x: &Tensor) -> Result<CudaDevice> {
    Ok(x.device().as_cuda_device()?.clone())
}

/// A contiguous tensor's values as an argument.
pub(super) fn arg(x: &Tensor) -> Result<Arg> {
    Ok(Arg::Pointer(pointer(x)?))
}

/// The address of a contiguous tensor's values.
///
/// Work that uses it may be queued as long as the tensor lives: memory is given back in the order of the stream.
pub(super) fn pointer(x: &Tensor) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, got strides {:?}", layout.stride());
    };
    let Storage::Cuda(storage) = &*storage else {
        bail!("expected a tensor on the GPU, got one on {:?}", x.device().location());
    };
    let stream = storage.device.cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::U8(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::U32(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::BF16(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::F32(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::F64(values) => values.device_ptr(&stream).0,
        _ => bail!("expected u8, u32, bf16, f32 or f64 on the GPU, got {:?}", x.dtype()),
    };
    Ok(base + (start * x.dtype().size_in_bytes()) as u64)
}

/// A tensor whose values the caller overwrites before anything reads them.
pub(super) fn empty(device: &CudaDevice, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let len = shape.elem_count();
    // SAFETY: every caller queues a kernel that writes each value before one that reads.
    let slice = unsafe {
        match dtype {
            DType::U8 => device.alloc(len).map(CudaStorageSlice::U8),
            DType::U32 => device.alloc(len).map(CudaStorageSlice::U32),
            DType::BF16 => device.alloc(len).map(CudaStorageSlice::BF16),
            DType::F64 => device.alloc(len).map(CudaStorageSlice::F64),
            _ => device.alloc(len).map(CudaStorageSlice::F32),
        }
    };
    let slice = slice.map_err(|error| out_of_memory(error, len * dtype.size_in_bytes()))?;
    Ok(wrap(device, slice, shape))
}

/// A tensor of zeros.
pub(super) fn zeros(device: &CudaDevice, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let bytes = shape.elem_count() * dtype.size_in_bytes();
    Tensor::zeros(shape, dtype, &Device::Cuda(device.clone())).map_err(|error| out_of_memory(error, bytes))
}

pub(super) fn wrap(device: &CudaDevice, slice: CudaStorageSlice, shape: Shape) -> Tensor {
    let storage = Storage::Cuda(CudaStorage { slice, device: device.clone() });
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// Numbers on the GPU: indices and labels.
pub(super) fn upload(device: &CudaDevice, values: &[u32]) -> Result<Tensor> {
    let slice = device.clone_htod(values).map_err(|error| out_of_memory(error, std::mem::size_of_val(values)))?;
    Ok(wrap(device, CudaStorageSlice::U32(slice), values.len().into()))
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

/// An error of the driver in words.
pub(super) fn driver(error: DriverError) -> Error {
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::GpuMemory { asked: None },
        _ => Error::invalid(format!("CUDA: {error}")),
    }
}

/// The error of something that asked for so many bytes.
pub(super) fn out_of_memory(error: candle_core::Error, bytes: usize) -> Error {
    match Error::from(error) {
        Error::GpuMemory { .. } => Error::GpuMemory { asked: Some(bytes) },
        other => other,
    }
}

// SAFETY: plain numbers in the layout that the kernels declare.
unsafe impl DeviceRepr for super::pool::Window {}
// SAFETY: as above.
unsafe impl DeviceRepr for super::sgd::Tensors {}
// SAFETY: as above.
unsafe impl DeviceRepr for super::views::Normal {}
