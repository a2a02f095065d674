//! Memory of the host that the GPU reads by itself.

use crate::ops::parallel;
use candle_core::{
    cuda_backend::{
        cudarc::driver::{sys, CudaEvent, CudaSlice, DriverError, PinnedHostSlice},
        CudaDevice, CudaStorageSlice,
    },
    DType,
};
use half::bf16;

/// Values that a thread copies at a time.
const PIECE: usize = 1 << 16;

/// Memory that the GPU reads by itself.
pub(super) struct Buffer {
    memory: PinnedHostSlice<u8>,
    /// Comes when the GPU has read what was sent last.
    is_read: CudaEvent,
}

impl Buffer {
    pub fn new(gpu: &CudaDevice, bytes: usize) -> std::result::Result<Self, DriverError> {
        let context = gpu.cuda_stream().context().clone();
        let is_read = context.new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
        // SAFETY: every byte that is sent is written before.
        Ok(Self { memory: unsafe { context.alloc_pinned(bytes) }?, is_read })
    }

    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Waits until the GPU has read what was sent last.
    pub fn wait(&self) -> std::result::Result<(), DriverError> {
        self.is_read.synchronize()
    }

    pub fn send_words(&mut self, gpu: &CudaDevice, words: &[u32]) -> std::result::Result<CudaSlice<u32>, DriverError> {
        let (stream, bytes) = (gpu.cuda_stream(), self.memory.as_mut_slice()?);
        // SAFETY: pinned memory is aligned to pages and holds as many words; any bits are a word.
        let to = unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<u32>(), words.len()) };
        to.copy_from_slice(words);
        let slice = stream.clone_htod(&*to)?;
        self.is_read.record(&stream)?;
        Ok(slice)
    }

    pub fn send(&mut self, gpu: &CudaDevice, values: &[f32], dtype: DType) -> std::result::Result<CudaStorageSlice, DriverError> {
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
