//! Tensors on the GPU, and what its driver refuses.

use crate::{error::bail, Error, Result};
use candle_core::{
    cuda_backend::{
        cudarc::driver::{sys::CUresult, DevicePtr, DriverError},
        CudaDevice, CudaStorage, CudaStorageSlice,
    },
    op::BackpropOp,
    DType, Device, Shape, Storage, Tensor,
};

/// The CUDA device of a tensor.
pub(super) fn device(x: &Tensor) -> Result<CudaDevice> {
    Ok(x.device().as_cuda_device()?.clone())
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
