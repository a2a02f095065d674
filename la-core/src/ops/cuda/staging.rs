//! Images on their way to the GPU: through memory that the GPU reads by itself, so that nobody waits for the transfer.

use super::{
    context::{precision, with},
    pinned::Buffer,
    tensors::{driver, wrap},
};
use crate::{
    ops::{host, precision::Precision},
    Result,
};
use candle_core::{
    cuda_backend::{CudaDevice, CudaStorageSlice},
    DType, Tensor,
};

/// Buffers that may be on their way at once: those of a few steps.
const BUFFERS: usize = 16;

/// A copy of `x`, contiguous f32 on the CPU, on the GPU in the type of its activations; later kernels find it there.
pub(crate) fn send(x: &Tensor, gpu: &CudaDevice) -> Result<Tensor> {
    let (n, dtype) = (x.elem_count(), if precision(gpu) == Precision::Bf16 { DType::BF16 } else { DType::F32 });
    let mut buffer = take(gpu, n * dtype.size_in_bytes())?;
    let slice = host::read(x, |values| buffer.send(gpu, values, dtype).map_err(driver))??;
    with(gpu, |context| {
        context.staging.push_back(buffer);
        Ok(wrap(gpu, slice, x.shape().clone()))
    })
}

/// Words on the GPU.
pub(super) fn send_words(words: &[u32], gpu: &CudaDevice) -> Result<Tensor> {
    let mut buffer = take(gpu, std::mem::size_of_val(words))?;
    let slice = buffer.send_words(gpu, words).map_err(driver)?;
    with(gpu, |context| {
        context.staging.push_back(buffer);
        Ok(wrap(gpu, CudaStorageSlice::U32(slice), words.len().into()))
    })
}

/// The next buffer, of at least this many bytes, once the GPU has read what was in it.
fn take(gpu: &CudaDevice, bytes: usize) -> Result<Buffer> {
    let used = with(gpu, |context| Ok(if context.staging.len() < BUFFERS { None } else { context.staging.pop_front() }))?;
    if let Some(buffer) = used {
        buffer.wait().map_err(driver)?;
        if buffer.len() >= bytes {
            return Ok(buffer);
        }
    }
    Buffer::new(gpu, bytes).map_err(driver)
}
