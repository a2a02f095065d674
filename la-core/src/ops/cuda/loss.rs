//! The objectives on the GPU. Scores against the whole bank are held for some images at a time.

use super::{
    arg::{arg, Arg},
    blas::{exact_product, Side},
    context::timed,
    launch::{step_indices, Launch},
    rows::scaled_sum,
    tensors::{device, empty, upload},
};
use crate::{kmeans::ClusterLabels, Result};
use candle_core::{cuda_backend::CudaDevice, DType, Device, Tensor};

/// Scores held at once: 1 GiB.
const MAX_SCORES: usize = 1 << 28;

/// What an objective gives: `figures` `(2,)`, the mean loss and how many images have no close neighbour, and the gradient.
pub(crate) struct Found {
    pub figures: Tensor,
    pub grad: Tensor,
}

/// What every objective is made of.
pub(crate) struct Inputs<'a> {
    /// `(B, D)` unit rows.
    pub embeddings: &'a Tensor,
    /// `(N, D)` the bank.
    pub rows: &'a Tensor,
    /// `(B,)` the images.
    pub indices: &'a [u32],
    pub temperature: f64,
}

impl Inputs<'_> {
    fn sizes(&self) -> Result<(usize, usize, usize)> {
        let ((batch, dim), n) = (self.embeddings.dims2()?, self.rows.dims2()?.0);
        Ok((batch, n, dim))
    }

    /// Calls `f(scores, first, count)` with the scores `(count, N)` of a few images at a time.
    fn each_scores(&self, mut f: impl FnMut(&Tensor, usize, usize) -> Result<()>) -> Result<()> {
        let (batch, n, dim) = self.sizes()?;
        let most = (MAX_SCORES / n).clamp(1, batch);
        let scores = empty(&device(self.rows)?, (most, n), DType::F32)?;
        for first in (0..batch).step_by(most) {
            let count = most.min(batch - first);
            let (images, bank) = (Side::new(self.embeddings, dim).rows_from(first), Side::new(self.rows, dim).transposed());
            exact_product(images, bank, (count, n, dim), &scores)?;
            f(&scores, first, count)?;
        }
        Ok(())
    }

    /// The `k` nearest bank rows of each image, in no order, and their scores.
    pub(crate) fn background(&self, k: usize) -> Result<(Tensor, Tensor)> {
        let (gpu, (batch, n, _)) = (device(self.rows)?, self.sizes()?);
        let (chosen, scores) = (empty(&gpu, (batch, k), DType::U32)?, empty(&gpu, (batch, k), DType::F32)?);
        self.each_scores(|all, first, count| {
            let (to, values) = (chosen.narrow(0, first, count)?, scores.narrow(0, first, count)?);
            let args = [arg(all)?, arg(&to)?, arg(&values)?, Arg::long(n), Arg::int(k)];
            timed(&gpu, "loss", || Launch::blocks("select_largest", count, 1024).run(&gpu, &args))
        })?;
        Ok((chosen, scores))
    }
}

/// Cluster labels on the GPU.
pub(crate) struct Labels {
    /// `(H, N)` u32.
    labels: Tensor,
    min_agreement: usize,
}

impl Labels {
    /// `clusters` on `gpu`.
    pub(crate) fn on(clusters: &ClusterLabels, gpu: &Device) -> Result<Self> {
        Ok(Self { labels: clusters.on(gpu)?, min_agreement: clusters.min_agreement() })
    }
}

/// Local aggregation.
pub(crate) fn local_aggregation(inputs: &Inputs, clusters: &Labels, num_background: usize) -> Result<Found> {
    let (gpu, (batch, n, _)) = (device(inputs.rows)?, inputs.sizes()?);
    let (chosen, weights) = inputs.background(num_background)?;
    let own = step_indices(&gpu, inputs.indices)?;
    let (losses, is_empty) = (empty(&gpu, batch, DType::F32)?, empty(&gpu, batch, DType::F32)?);
    let operands = [arg(&chosen)?, arg(&weights)?, arg(&own)?, arg(&clusters.labels)?, arg(&losses)?, arg(&is_empty)?];
    let counts = [num_background, clusters.labels.dims2()?.0, clusters.min_agreement, batch].map(Arg::int);
    let sizes = std::iter::once(Arg::long(n)).chain(counts).chain([Arg::F32(inputs.temperature as f32)]);
    let args: Vec<Arg> = operands.into_iter().chain(sizes).collect();
    timed(&gpu, "loss", || {
        Launch::blocks("la_weights", batch, 256).run(&gpu, &args)?;
        let grad = weighted_rows(inputs, (&weights, &chosen), None)?;
        Ok(Found { figures: figures(&gpu, &losses, Some(&is_empty))?, grad })
    })
}

/// Instance recognition by the softmax over the whole bank.
pub(crate) fn softmax(inputs: &Inputs) -> Result<Found> {
    let (gpu, (batch, n, dim)) = (device(inputs.rows)?, inputs.sizes()?);
    let vector = || empty(&gpu, batch, DType::F32);
    let (largest, sums, losses) = (vector()?, vector()?, vector()?);
    let (own, grad) = (step_indices(&gpu, inputs.indices)?, empty(&gpu, (batch, dim), DType::F32)?);
    inputs.each_scores(|scores, first, count| {
        let part = |x: &Tensor| x.narrow(0, first, count);
        let args = [arg(scores)?, arg(&part(&largest)?)?, arg(&part(&sums)?)?, Arg::long(n), Arg::F32(1.0 / inputs.temperature as f32)];
        timed(&gpu, "loss", || Launch::blocks("softmax_rows", count, 512).run(&gpu, &args))?;
        exact_product(Side::new(scores, n), Side::new(inputs.rows, dim), (count, dim, n), &part(&grad)?)
    })?;
    let operands = [inputs.embeddings, inputs.rows, &own, &largest, &sums, &grad, &losses];
    let sizes = [Arg::int(dim), Arg::int(batch), Arg::F32(inputs.temperature as f32)];
    let args = operands.into_iter().map(arg).chain(sizes.into_iter().map(Ok)).collect::<Result<Vec<Arg>>>()?;
    timed(&gpu, "loss", || Launch::blocks("softmax_finish", batch, 128).run(&gpu, &args))?;
    Ok(Found { figures: figures(&gpu, &losses, None)?, grad })
}

/// Instance recognition by noise-contrastive estimation, with `noise` `(B, m)` rows.
pub(crate) fn nce(inputs: &Inputs, noise: &[u32], (log_odds, epsilon_cost): (f64, f64)) -> Result<Found> {
    let (gpu, (batch, _, dim)) = (device(inputs.rows)?, inputs.sizes()?);
    let num_noise = noise.len() / batch;
    let (own, noise) = (upload(&gpu, inputs.indices)?, upload(&gpu, noise)?);
    let vector = || empty(&gpu, batch, DType::F32);
    let (weights, own_weights, losses) = (empty(&gpu, (batch, num_noise), DType::F32)?, vector()?, vector()?);
    let operands = [inputs.embeddings, inputs.rows, &own, &noise, &weights, &own_weights, &losses];
    let sizes = [Arg::int(num_noise), Arg::int(dim), Arg::int(batch)];
    let settings = [Arg::F64(inputs.temperature), Arg::F64(log_odds), Arg::F64(epsilon_cost)];
    let args = operands.into_iter().map(arg).chain(sizes.into_iter().chain(settings).map(Ok)).collect::<Result<Vec<Arg>>>()?;
    timed(&gpu, "loss", || {
        Launch::blocks("nce_weights", batch, 256).run(&gpu, &args)?;
        let grad = weighted_rows(inputs, (&weights, &noise), Some((&own_weights, &own)))?;
        Ok(Found { figures: figures(&gpu, &losses, None)?, grad })
    })
}

/// Agreement of two views of each image among `embeddings` `(2 B, D)`.
pub(crate) fn agreement(embeddings: &Tensor, temperature: f64) -> Result<Found> {
    let (gpu, (n, dim)) = (device(embeddings)?, embeddings.dims2()?);
    let (weights, losses) = (empty(&gpu, (n, n), DType::F32)?, empty(&gpu, n, DType::F32)?);
    let rows = Side::new(embeddings, dim);
    exact_product(rows, rows.transposed(), (n, n, dim), &weights)?;
    let args = [arg(&weights)?, arg(&losses)?, Arg::int(n), Arg::F32(temperature as f32)];
    timed(&gpu, "loss", || Launch::blocks("agreement_weights", n, 256).run(&gpu, &args))?;
    // Each similarity stands in two losses: that of the one embedding and that of the other.
    let (own, others) = (empty(&gpu, (n, dim), DType::F32)?, empty(&gpu, (n, dim), DType::F32)?);
    exact_product(Side::new(&weights, n), rows, (n, dim, n), &own)?;
    exact_product(Side::new(&weights, n).transposed(), rows, (n, dim, n), &others)?;
    Ok(Found { figures: figures(&gpu, &losses, None)?, grad: scaled_sum(&own, &others, 1.0)? })
}

/// The sums of chosen bank rows, each times its weight; `(B, D)`.
fn weighted_rows(inputs: &Inputs, (weights, chosen): (&Tensor, &Tensor), own: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    let (gpu, (batch, _, dim)) = (device(inputs.rows)?, inputs.sizes()?);
    let grad = empty(&gpu, (batch, dim), DType::F32)?;
    let own = [Arg::maybe(own.map(|own| own.0))?, Arg::maybe(own.map(|own| own.1))?];
    let sizes = [arg(inputs.rows)?, arg(&grad)?, Arg::int(weights.elem_count() / batch), Arg::int(dim)];
    let args: Vec<Arg> = [arg(weights)?, arg(chosen)?].into_iter().chain(own).chain(sizes).collect();
    Launch::grid("weighted_rows", (batch, 1)).run(&gpu, &args)?;
    Ok(grad)
}

fn figures(gpu: &CudaDevice, losses: &Tensor, is_empty: Option<&Tensor>) -> Result<Tensor> {
    let figures = empty(gpu, 2, DType::F32)?;
    let args = [arg(losses)?, Arg::maybe(is_empty)?, arg(&figures)?, Arg::int(losses.elem_count())];
    Launch::blocks("mean_figures", 1, 256).run(gpu, &args)?;
    Ok(figures)
}
