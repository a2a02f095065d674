//! A step's work recorded once and replayed as a whole: to queue its hundreds of kernels takes the host longer than small
//! batches take the GPU.

use super::{
    arg::{arg, Arg},
    context::{with, Inputs},
    launch::{activations, Launch},
    staging::{send, send_words},
    tensors::{device, driver, empty},
};
use crate::{error::bail, Result};
use candle_core::{
    cuda_backend::{
        cudarc::driver::{
            sys::{CUgraphInstantiate_flags, CUstreamCaptureMode},
            CudaGraph,
        },
        CudaDevice,
    },
    DType, Tensor,
};

/// A recorded step.
pub(crate) struct Graph {
    graph: CudaGraph,
    device: CudaDevice,
    inputs: Inputs,
    /// `(2,)` f32: the loss, and how many images have no close neighbour.
    figures: Tensor,
}

impl Graph {
    /// Records what `step` queues for images in the place of `images` `(B, 3, H, W)` and gives the figures of; nothing runs.
    ///
    /// `step` must have run on this device before, allocate nothing that outlives it, and take indices and learning rate by
    /// [`super::launch::step_indices`] and [`super::sgd::step`]. The inner error is why the driver
    /// does not record it.
    pub fn record(
        device: &CudaDevice,
        images: &Tensor,
        num_indices: usize,
        step: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<std::result::Result<Self, String>> {
        let images = here(images, device)?;
        let inputs = Inputs {
            images: empty(device, images.shape(), images.dtype())?,
            indices: empty(device, num_indices, DType::U32)?,
            rate: empty(device, 1, DType::F32)?,
        };
        let figures = empty(device, 2, DType::F32)?;
        let stream = device.cuda_stream();
        if let Err(refusal) = stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) {
            return Ok(Err(refusal.to_string()));
        }
        let take_from = |inputs: Option<Inputs>| {
            with(device, |context| {
                context.recording = inputs;
                Ok(())
            })
        };
        take_from(Some(inputs.clone()))?;
        let done = inputs.images.permute((0, 3, 1, 2)).map_err(Into::into).and_then(|images| copy(&step(&images)?, &figures));
        take_from(None)?;
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        done?;
        Ok(match graph {
            Ok(Some(graph)) => Ok(Self { graph, device: device.clone(), inputs, figures }),
            Ok(None) => Err("nothing was recorded".into()),
            Err(refusal) => Err(refusal.to_string()),
        })
    }

    /// Queues the step for these images, indices and learning rate; gives its figures.
    pub fn replay(&self, images: &Tensor, indices: &[u32], rate: f32) -> Result<Tensor> {
        if indices.len() != self.inputs.indices.elem_count() {
            bail!("a step of {} indices was recorded, got {}", self.inputs.indices.elem_count(), indices.len());
        }
        copy(&here(images, &self.device)?, &self.inputs.images)?;
        copy(&send_words(indices, &self.device)?, &self.inputs.indices)?;
        copy(&send_words(&[rate.to_bits()], &self.device)?, &self.inputs.rate)?;
        self.graph.launch().map_err(driver)?;
        let figures = empty(&self.device, 2, DType::F32)?;
        copy(&self.figures, &figures)?;
        Ok(figures)
    }
}

/// Images `(B, 3, H, W)` on the GPU, channels last, in the type of activations.
fn here(images: &Tensor, device: &CudaDevice) -> Result<Tensor> {
    let images = images.permute((0, 2, 3, 1))?.contiguous()?;
    match images.device().is_cuda() {
        true => activations(images),
        false => send(&images, device),
    }
}

/// Copies one tensor over another of as many bytes.
fn copy(from: &Tensor, to: &Tensor) -> Result<()> {
    let halves = from.elem_count() * from.dtype().size_in_bytes() / 2;
    Launch::over("copy_halves", halves.div_ceil(8)).run(&device(from)?, &[arg(from)?, arg(to)?, Arg::long(halves)])
}
