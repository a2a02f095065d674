//! Images on their way to the GPU: through memory that the GPU reads by itself, so that nobody waits for the transfer.

use super::{
    context::{precision, with},
    launch::{driver, wrap},
};
use crate::{
    ops::{device::Precision, host, parallel},
    Result,
};
use candle_core::{
    cuda_backend::{
        cudarc::driver::{sys, CudaEvent, CudaSlice, DriverError, PinnedHostSlice},
        CudaDevice, CudaStorageSlice,
    },
    DType, Tensor,
};
use half::bf16;
use std::collections::VecDeque;

/// Buffers that may be on their way at once: those of a few steps.
const BUFFERS: usize = 16;
/// Values that a thread copies at a time.
const PIECE: usize = 1 << 16;

/// Buffers that are filled in turn, the longest unused first.
pub(super) type Staging = VecDeque<Buffer>;

/// Memory that the GPU reads by itself.
pub(super) struct Buffer {
    memory: PinnedHostSlice<u8>,
    /// Comes when the GPU has read what was sent last.
    is_read: CudaEvent,
}

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
        buffer.is_read.synchronize().map_err(driver)?;
        if buffer.memory.len() >= bytes {
            return Ok(buffer);
        }
    }
    Buffer::new(gpu, bytes).map_err(driver)
}

impl Buffer {
    fn new(gpu: &CudaDevice, bytes: usize) -> std::result::Result<Self, DriverError> {
        let context = gpu.cuda_stream().context().clone();
        let is_read = context.new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
        // SAFETY: every byte that is sent is written before.
        Ok(Self { memory: unsafe { context.alloc_pinned(bytes) }?, is_read })
    }

    fn send_words(&mut self, gpu: &CudaDevice, words: &[u32]) -> std::result::Result<CudaSlice<u32>, DriverError> {
        let (stream, bytes) = (gpu.cuda_stream(), self.memory.as_mut_slice()?);
        // SAFETY: pinned memory is aligned to pages and holds as many words; any bits are a word.
        let to = unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<u32>(), words.len()) };
        to.copy_from_slice(words);
        let slice = stream.clone_htod(&*to)?;
        self.is_read.record(&stream)?;
        Ok(slice)
    }

    fn send(&mut self, gpu: &CudaDevice, values: &[f32], dtype: DType) -> std::result::Result<CudaStorageSlice, DriverError> {
        let (stream, bytes) = (gpu.cuda_stream(), self.memory.as_mut_slice()?);
        let slice = if dtype == DType::BF16 {
            // SAFETY: pinned memory is aligned to pages and holds as many values; any bits are a bf16.
            let to = unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<bf16>(), values.len()) };
            copy(values, to, bf16::from_f32);
            CudaStorageSlice::BF16(stream.clone_htod(&*to)?)
        } else {
            // SAFETY: as above; any bits are an f32.
            let to = unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<f32>(), values.len()) };
            copy(values, to, |x| x);
            CudaStorageSlice::F32(stream.clone_htod(&*to)?)
        };
        self.is_read.record(&stream)?;
        Ok(slice)
    }
}

fn copy<T: Send>(from: &[f32], to: &mut [T], convert: impl Fn(f32) -> T + Sync + Send) {
    parallel::for_each_chunk(to, PIECE, |i, to| {
        to.iter_mut().zip(&from[i * PIECE..]).for_each(|(to, &from)| *to = convert(from));
    });
}
