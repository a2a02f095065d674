//! The objectives, as pure functions of embeddings, memory bank and neighbours; gradients flow into embeddings only.

mod instance;
mod noise;
mod views;

use crate::{
    error::bail,
    kmeans::ClusterLabels,
    memory_bank::MemoryBank,
    ops::{device::on_gpu, gradients::refuse_tracked, host, mean::sum, nearest, parallel, row_sums::add_chosen_rows},
    Result,
};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use instance::instance_recognition;
pub use noise::{instance_recognition_nce, z_over_n, NceConfig};
pub use views::view_agreement;

/// Added inside the logarithm, as published: an empty close set costs `-ln 1e-7 = 16.1`.
const EPSILON: f64 = 1e-7;

/// What an objective gives.
#[derive(Debug, Clone)]
pub struct LossOutput {
    /// Mean over the batch; NaN only where an embedding is NaN or infinite.
    pub loss: f32,
    /// `(B, D)`: the gradient of the mean by the unit embeddings.
    pub grad_embeddings: Tensor,
    /// Embeddings with no close neighbour among their background neighbours: they pull nowhere. 0 in instance recognition.
    pub num_empty_close: usize,
}

/// A loss as an objective returns it: known on the CPU, still on its way on a GPU.
#[derive(Debug, Clone)]
pub enum Loss {
    /// It is computed.
    Known(LossOutput),
    /// A GPU computes it, and was not waited for.
    Pending(PendingLoss),
}

/// A loss that a GPU computes.
#[derive(Debug, Clone)]
pub struct PendingLoss {
    /// `(2,)` on the GPU: the mean loss, and how many embeddings have no close neighbour.
    pub figures: Tensor,
    /// `(B, D)` on the GPU: the gradient of the mean by the unit embeddings.
    pub grad_embeddings: Tensor,
}

impl Loss {
    /// The loss and its gradient; waits for the GPU where they are still there.
    pub fn settle(self) -> Result<LossOutput> {
        match self {
            Self::Known(output) => Ok(output),
            Self::Pending(pending) => pending.settle(),
        }
    }

    /// `(B, D)`: the gradient of the mean by the unit embeddings, without waiting for a GPU.
    pub fn grad_embeddings(&self) -> &Tensor {
        match self {
            Self::Known(output) => &output.grad_embeddings,
            Self::Pending(pending) => &pending.grad_embeddings,
        }
    }

    /// The loss where it is known to be NaN or infinite; nothing where it is finite or still on its way.
    pub fn not_finite(&self) -> Option<f32> {
        match self {
            Self::Known(output) if !output.loss.is_finite() => Some(output.loss),
            _ => None,
        }
    }

    /// The sum of two losses over the same embeddings; waits for a GPU only where one of them is there and the other is not.
    ///
    /// Fails where their shapes differ.
    pub fn plus(self, other: Self) -> Result<Self> {
        let grad_embeddings = sum(self.grad_embeddings(), other.grad_embeddings())?;
        if let (Self::Pending(ours), Self::Pending(others)) = (&self, &other) {
            return Ok(Self::Pending(PendingLoss { figures: sum(&ours.figures, &others.figures)?, grad_embeddings }));
        }
        let (ours, others) = (self.settle()?, other.settle()?);
        Ok(Self::Known(LossOutput {
            loss: ours.loss + others.loss,
            grad_embeddings,
            num_empty_close: ours.num_empty_close + others.num_empty_close,
        }))
    }
}

impl PendingLoss {
    fn settle(self) -> Result<LossOutput> {
        let figures = self.figures.to_vec1::<f32>()?;
        Ok(LossOutput { loss: figures[0], grad_embeddings: self.grad_embeddings, num_empty_close: figures[1] as usize })
    }

    /// What a replayed step gives: its figures alone, with nothing left to do for its gradient.
    #[cfg_attr(not(feature = "train"), allow(dead_code))]
    pub(crate) fn of_figures(figures: Tensor) -> Self {
        Self { grad_embeddings: figures.clone(), figures }
    }
}

#[cfg(feature = "cuda")]
impl From<crate::ops::cuda::loss::Found> for Loss {
    fn from(found: crate::ops::cuda::loss::Found) -> Self {
        Self::Pending(PendingLoss { figures: found.figures, grad_embeddings: found.grad })
    }
}

/// Settings of [`local_aggregation`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaConfig {
    /// Background neighbours of each image, `K`.
    pub num_background: usize,
    /// `τ`.
    pub temperature: f64,
}

impl Default for LaConfig {
    fn default() -> Self {
        Self { num_background: 4096, temperature: 0.07 }
    }
}

/// The background neighbours of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// `(B, K)` rows of the bank, in no order.
    pub indices: Vec<u32>,
    /// `(B, K)` their dot products with the embedding.
    pub similarities: Vec<f32>,
    /// `K`.
    pub num_background: usize,
}

/// The `K` bank rows of largest dot product with each embedding, equal ones by lower index; the image's own may be among them.
///
/// - `embeddings` `(B, D)`: unit rows.
///
/// Fails where `num_background` is not in 1..=N, the dimension is not the bank's, an embedding is not finite, or the
/// embeddings track gradients.
pub fn background_neighbors(embeddings: &Tensor, bank: &MemoryBank, num_background: usize) -> Result<Background> {
    refuse_tracked(embeddings, "background_neighbors")?;
    let (_, dim) = embeddings.dims2()?;
    if dim != bank.dim() {
        bail!("embeddings must have the bank's dimension {}, got {dim}", bank.dim());
    }
    check_num_background(num_background, bank)?;
    on_gpu!(embeddings, {
        let inputs = crate::ops::cuda::loss::Inputs { embeddings, rows: bank.rows(), indices: &[], temperature: 1.0 };
        let (chosen, scores) = inputs.background(num_background)?;
        let (indices, similarities) = (chosen.flatten_all()?.to_vec1()?, scores.flatten_all()?.to_vec1()?);
        Ok(Background { indices, similarities, num_background })
    });
    let embeddings = values(embeddings)?;
    if let Some(at) = embeddings.iter().position(|x| !x.is_finite()) {
        bail!("embeddings must be finite, got {} in row {}", embeddings[at], at / dim);
    }
    let found = host::read(bank.rows(), |rows| nearest::top_k(rows, &embeddings, dim, num_background, false))?;
    Ok(Background { indices: found.indices, similarities: found.scores, num_background })
}

/// Which background neighbours are close: those that share a cluster with the image in any clustering, or in as many as must
/// agree ([`ClusterLabels::agreeing`]).
///
/// - `indices` `(B,)`: the images.
///
/// Gives a mask `(B, K)`. Fails where an index has no label or the sizes do not fit.
pub fn close_neighbors(background: &Background, indices: &[u32], clusters: &ClusterLabels) -> Result<Vec<bool>> {
    let (k, n) = (background.num_background, clusters.num_images());
    if background.indices.len() != indices.len() * k {
        bail!("background neighbours must be {k} for each of {} images, got {}", indices.len(), background.indices.len());
    }
    if let Some(index) = indices.iter().chain(&background.indices).find(|&&index| index as usize >= n) {
        bail!("index must be below the number of clustered images {n}, got {index}");
    }
    let mut is_close = vec![false; background.indices.len()];
    parallel::for_each_chunk(&mut is_close, k, |b, is_close| {
        let mut shared = vec![0; k];
        for labels in clusters.labels.chunks_exact(n) {
            let own = labels[indices[b] as usize];
            let neighbors = &background.indices[b * k..(b + 1) * k];
            shared.iter_mut().zip(neighbors).for_each(|(count, &j)| *count += usize::from(labels[j as usize] == own));
        }
        is_close.iter_mut().zip(shared).for_each(|(close, count)| *close = count >= clusters.min_agreement());
    });
    Ok(is_close)
}

/// Local Aggregation: how likely a background neighbour is also a close one.
///
/// `-ln(P(C ∩ B | v) / P(B | v) + 1e-7)`, averaged over the batch, with `P(i | v)` proportional to `exp(V_i · v / τ)`
/// (Zhuang et al. 2019, <https://arxiv.org/abs/1903.12355>).
///
/// - `embeddings` `(B, D)`: unit rows; `indices` `(B,)`: their images.
/// - `clusters` `(H, N)`: a label for every row of the bank.
///
/// Fails where sizes do not fit, `num_background` is not in 1..=N, `temperature` is not above 0, or the embeddings track gradients
/// ([`crate::autograd::local_aggregation`] carries them).
pub fn local_aggregation(
    embeddings: &Tensor,
    bank: &MemoryBank,
    indices: &[u32],
    clusters: &ClusterLabels,
    config: &LaConfig,
) -> Result<Loss> {
    refuse_tracked(embeddings, "loss::local_aggregation")?;
    check_temperature(config.temperature)?;
    bank.check_batch(indices, embeddings)?;
    if clusters.num_images() != bank.len() {
        bail!("cluster labels must be one for each of {} images, got {}", bank.len(), clusters.num_images());
    }
    check_num_background(config.num_background, bank)?;
    on_gpu!(embeddings, {
        let inputs = crate::ops::cuda::loss::Inputs { embeddings, rows: bank.rows(), indices, temperature: config.temperature };
        let found = crate::ops::cuda::loss::local_aggregation(
            &inputs,
            &crate::ops::cuda::loss::Labels::on(clusters, embeddings.device())?,
            config.num_background,
        )?;
        Ok(found.into())
    });
    if !is_finite(embeddings)? {
        return Ok(not_a_number(embeddings));
    }
    let background = background_neighbors(embeddings, bank, config.num_background)?;
    let is_close = close_neighbors(&background, indices, clusters)?;
    Ok(Loss::Known(aggregate(&background, &is_close, bank, config)?))
}

/// Loss and gradient from the neighbours.
fn aggregate(background: &Background, is_close: &[bool], bank: &MemoryBank, config: &LaConfig) -> Result<LossOutput> {
    let (k, dim) = (config.num_background, bank.dim());
    let batch = is_close.len() / k;
    let rows = host::read(bank.rows(), |rows| {
        parallel::map(batch, |b| {
            let range = b * k..(b + 1) * k;
            let row = log_share(&background.similarities[range.clone()], &is_close[range.clone()], config.temperature);
            let weights: Vec<f32> = row.grad.iter().map(|g| (g / batch as f64) as f32).collect();
            let mut grad = vec![0.0; dim];
            add_chosen_rows(&weights, rows, &background.indices[range], &mut grad);
            (row.loss, row.is_empty, grad)
        })
    })?;
    Ok(LossOutput {
        loss: (rows.iter().map(|row| row.0).sum::<f64>() / batch as f64) as f32,
        num_empty_close: rows.iter().filter(|row| row.1).count(),
        grad_embeddings: host::tensor(rows.into_iter().flat_map(|row| row.2).collect(), (batch, dim)),
    })
}

/// One image's share of the loss.
struct LogShare {
    loss: f64,
    /// By each similarity.
    grad: Vec<f64>,
    is_empty: bool,
}

/// `-ln(r + 1e-7)` with `r` the close neighbours' share of `Σ exp(s / τ)`; an empty close set gives 16.1 and no gradient.
fn log_share(similarities: &[f32], is_close: &[bool], temperature: f64) -> LogShare {
    let largest = similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = similarities.iter().map(|&s| (f64::from(s - largest) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let close: f64 = weights.iter().zip(is_close).filter(|(_, &is_close)| is_close).map(|(w, _)| w).sum();
    let share = close / total;
    // dr/ds_j = w_j (is_close_j - r) / (τ Σ w): zero everywhere where nothing is close.
    let slope = -1.0 / ((share + EPSILON) * temperature * total);
    let grad = weights.iter().zip(is_close).map(|(w, &is_close)| slope * w * (f64::from(u8::from(is_close)) - share)).collect();
    LogShare { loss: -(share + EPSILON).ln(), grad, is_empty: !is_close.contains(&true) }
}

fn check_num_background(num_background: usize, bank: &MemoryBank) -> Result<()> {
    if num_background == 0 || num_background > bank.len() {
        bail!("number of background neighbours must be in 1..={}, the number of images, got {num_background}", bank.len());
    }
    Ok(())
}

fn check_temperature(temperature: f64) -> Result<()> {
    if !(temperature > 0.0 && temperature.is_finite()) {
        bail!("temperature must be above 0 and finite, got {temperature}");
    }
    Ok(())
}

/// The values of a `(B, D)` tensor, row by row.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    host::read(&tensor.contiguous()?, <[f32]>::to_vec)
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    host::read(&tensor.contiguous()?, |values| values.iter().all(|x| x.is_finite()))
}

/// The loss of embeddings that are not finite, for the caller to see and stop.
fn not_a_number(embeddings: &Tensor) -> Loss {
    let grad_embeddings = host::tensor(vec![f32::NAN; embeddings.elem_count()], embeddings.dims());
    Loss::Known(LossOutput { loss: f32::NAN, grad_embeddings, num_empty_close: 0 })
}
