//! Aggregation among the fresh embeddings of one step, two views of each image.

use super::{check_temperature, is_finite, log_share, not_a_number, values, LogShare, LossOutput};
use crate::{
    error::bail,
    kmeans::ClusterLabels,
    ops::{host, parallel, row_sums::dot},
    Result,
};
use candle_core::Tensor;

/// Local Aggregation with the step's own embeddings for background neighbours: what attracts is as fresh as what repels.
///
/// `-ln(Σ_close exp(u · v / τ) / Σ_{u ≠ v} exp(u · v / τ) + 1e-7)`, averaged over the embeddings `v` of the step: close are
/// the image's other view and, with `clusters`, the views of images that share a cluster with it in as many clusterings as must agree.
/// Without `clusters` this is NT-Xent (Chen et al. 2020, <https://arxiv.org/abs/2002.05709>). Gradients flow through `u` too.
///
/// - `embeddings` `(2 B, D)`: unit rows, the first view of all images first; `indices` `(B,)`: their images.
///
/// Fails where sizes do not fit, an index has no label, or `temperature` is not above 0.
pub fn aggregate_views(embeddings: &Tensor, indices: &[u32], clusters: Option<&ClusterLabels>, temperature: f64) -> Result<LossOutput> {
    check_temperature(temperature)?;
    let (n, dim) = embeddings.dims2()?;
    check(n, indices, clusters)?;
    let device = embeddings.device();
    let embeddings = host::local(embeddings)?;
    if !is_finite(&embeddings)? {
        return not_a_number(&embeddings);
    }
    let rows = values(&embeddings)?;
    let row = |i: usize| &rows[i * dim..][..dim];
    let shares: Vec<LogShare> = parallel::map(n, |i| {
        let similarities: Vec<f32> = others(n, i).map(|j| dot(row(i), row(j))).collect();
        let is_close: Vec<bool> = others(n, i).map(|j| is_close(indices, (i, j), clusters)).collect();
        log_share(&similarities, &is_close, temperature)
    });
    let slope = |i: usize, j: usize| shares[i].grad[if j < i { j } else { j - 1 }];
    let grads = parallel::map(n, |i| {
        let mut grad = vec![0.0; dim];
        for j in others(n, i) {
            // Each similarity stands in two losses: that of the one embedding and that of the other.
            let weight = ((slope(i, j) + slope(j, i)) / n as f64) as f32;
            grad.iter_mut().zip(row(j)).for_each(|(sum, value)| *sum += weight * value);
        }
        grad
    });
    let loss = shares.iter().map(|share| share.loss).sum::<f64>() / n as f64;
    let grad_embeddings = host::tensor(grads.concat(), (n, dim)).to_device(device)?;
    Ok(LossOutput { loss: loss as f32, grad_embeddings, num_empty_close: 0, pending: None })
}

fn check(num_rows: usize, indices: &[u32], clusters: Option<&ClusterLabels>) -> Result<()> {
    if indices.is_empty() || num_rows != 2 * indices.len() {
        bail!("embeddings must be two for each of {} images, got {num_rows}", indices.len());
    }
    let Some(clusters) = clusters else { return Ok(()) };
    match indices.iter().find(|&&index| index as usize >= clusters.num_images()) {
        Some(index) => bail!("index must be below the number of clustered images {}, got {index}", clusters.num_images()),
        None => Ok(()),
    }
}

fn others(n: usize, i: usize) -> impl Iterator<Item = usize> {
    (0..n).filter(move |&j| j != i)
}

fn is_close(indices: &[u32], (i, j): (usize, usize), clusters: Option<&ClusterLabels>) -> bool {
    let (a, b) = (indices[i % indices.len()] as usize, indices[j % indices.len()] as usize);
    a == b || clusters.is_some_and(|clusters| clusters.are_close(a, b))
}
