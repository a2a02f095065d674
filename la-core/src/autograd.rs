//! The losses as operations of candle's graph: scalars on which a candle program calls `backward()`.
//!
//! [`crate::loss`] computes a loss and its gradient in one fused pass. Here that pass becomes one node of the graph, whose
//! backward step multiplies the gradient by what comes in. It runs on the CPU and on NVIDIA GPUs, which are not waited for.
//!
//! Every other operation of this crate computes outside the graph, and fails on a tensor that tracks gradients.

use crate::{
    kmeans::ClusterLabels,
    loss::{self, LaConfig, Loss, NceConfig},
    memory_bank::MemoryBank,
    ops::normalize,
    Result,
};
use candle_core::{backend::BackendStorage, CpuStorage, CudaStorage, CustomOp1, Layout, Shape, Storage, Tensor};

/// [`loss::local_aggregation`] as a scalar that carries gradients to `embeddings`; fails as it does.
///
/// - `embeddings` `(B, D)`: unit rows, as [`normalize`] gives them; `indices` `(B,)`: their images.
/// - `clusters` `(H, N)`: a label for every row of the bank.
pub fn local_aggregation(
    embeddings: &Tensor,
    bank: &MemoryBank,
    indices: &[u32],
    clusters: &ClusterLabels,
    config: &LaConfig,
) -> Result<Tensor> {
    scalar("local-aggregation", embeddings, |embeddings| loss::local_aggregation(embeddings, bank, indices, clusters, config))
}

/// [`loss::instance_recognition`] as a scalar that carries gradients to `embeddings`; fails as it does.
///
/// - `embeddings` `(B, D)`: unit rows, as [`normalize`] gives them; `indices` `(B,)`: their images.
pub fn instance_recognition(embeddings: &Tensor, bank: &MemoryBank, indices: &[u32], temperature: f64) -> Result<Tensor> {
    scalar("instance-recognition", embeddings, |embeddings| loss::instance_recognition(embeddings, bank, indices, temperature))
}

/// [`loss::instance_recognition_nce`] as a scalar that carries gradients to `embeddings`; fails as it does.
///
/// - `embeddings` `(B, D)`: unit rows, as [`normalize`] gives them; `indices` `(B,)`: their images.
/// - `noise_indices` `(B, m)`: rows drawn uniformly with replacement.
pub fn instance_recognition_nce(
    embeddings: &Tensor,
    bank: &MemoryBank,
    indices: &[u32],
    noise_indices: &[u32],
    config: &NceConfig,
) -> Result<Tensor> {
    scalar("instance-recognition-nce", embeddings, |embeddings| {
        loss::instance_recognition_nce(embeddings, bank, indices, noise_indices, config)
    })
}

/// [`loss::view_agreement`] as a scalar that carries gradients to `embeddings`; fails as it does.
///
/// - `embeddings` `(2 B, D)`: unit rows, as [`normalize`] gives them, the first view of all images first.
pub fn view_agreement(embeddings: &Tensor, temperature: f64) -> Result<Tensor> {
    scalar("view-agreement", embeddings, |embeddings| loss::view_agreement(embeddings, temperature))
}

/// Rows of unit length, `x / max(|x|, 1e-12)`, that carry gradients to `x` `(B, D)` f32; fails where a row is empty.
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (unit, norms) = normalize::normalize(&x.detach())?;
    let rows = unit.clone();
    let backward = move |grad: &Tensor| normalize::normalize_backward(&rows, &norms, &grad.detach());
    let shape = unit.shape().clone();
    Ok(x.apply_op1(Computed { name: "normalize", value: unit, shape, backward })?)
}

/// The loss that `compute` gives for `embeddings`, as a node of their graph.
fn scalar(name: &'static str, embeddings: &Tensor, compute: impl FnOnce(&Tensor) -> Result<Loss>) -> Result<Tensor> {
    let embeddings = embeddings.contiguous()?;
    let loss = compute(&embeddings.detach())?;
    let grad_embeddings = loss.grad_embeddings().clone();
    let value = match loss {
        Loss::Known(output) => Tensor::new(output.loss, embeddings.device())?,
        // The loss is the first of the figures.
        Loss::Pending(pending) => pending.figures,
    };
    let backward = move |grad: &Tensor| Ok(grad_embeddings.broadcast_mul(&grad.detach())?);
    Ok(embeddings.apply_op1(Computed { name, value, shape: Shape::from(()), backward })?)
}

/// An operation whose result is known, and the gradient by its input in terms of that by its output.
struct Computed<B> {
    name: &'static str,
    /// Holds the result first.
    value: Tensor,
    /// Of the result.
    shape: Shape,
    backward: B,
}

impl<B: Fn(&Tensor) -> Result<Tensor>> CustomOp1 for Computed<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        match &*self.value.storage_and_layout().0 {
            Storage::Cpu(value) => Ok((value.clone(), self.shape.clone())),
            _ => candle_core::bail!("{}: the input is on the CPU, its result is not", self.name),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match &*storage {
            Storage::Cuda(value) => Ok((value.try_clone(layout)?, self.shape.clone())),
            _ => candle_core::bail!("{}: the input is on a GPU, its result is not", self.name),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some((self.backward)(grad)?))
    }
}
