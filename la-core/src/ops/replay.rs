//! Steps on a GPU that are recorded once and then replayed.

use crate::Result;
use candle_core::{Device, Tensor};

/// A training step as the GPU keeps it: only images, indices and learning rate change from one to the next.
pub struct Replay {
    #[cfg(feature = "cuda")]
    graph: super::cuda::Graph,
    #[cfg(not(feature = "cuda"))]
    never: std::convert::Infallible,
}

/// What came of recording a step.
pub enum Recording {
    /// It can be replayed.
    Done(Replay),
    /// The device does not record it; why, in the driver's words.
    Refused(String),
}

impl Replay {
    /// Records the work that `step` gives the GPU for images like `images` `(B, 3, H, W)`, without doing it.
    ///
    /// `step` gets the images and gives the `(2,)` figures that its loss waits for. It must have run before with the same shapes,
    /// keep no tensor, and draw nothing on the host but the indices of its images, `num_indices` of them.
    pub fn record(device: &Device, images: &Tensor, num_indices: usize, step: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Recording> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = device {
            return Ok(match super::cuda::Graph::record(device, images, num_indices, step)? {
                Ok(graph) => Recording::Done(Self { graph }),
                Err(refusal) => Recording::Refused(refusal),
            });
        }
        let _ = (device, images, num_indices, step);
        Ok(Recording::Refused("no device of this kind records steps".into()))
    }

    /// Queues the step for these images, indices and learning rate; gives the figures, which wait for the GPU.
    pub fn run(&self, images: &Tensor, indices: &[u32], learning_rate: f64) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        return self.graph.replay(images, indices, learning_rate as f32);
        #[cfg(not(feature = "cuda"))]
        {
            let _ = (images, indices, learning_rate);
            match self.never {}
        }
    }
}
