//! The weighted k-nearest-neighbour classifier on embeddings (Wu et al. 2018, <https://arxiv.org/abs/1805.01978>).

#[cfg(feature = "train")]
use super::outcomes::Outcomes;
use crate::{
    error::bail,
    ops::{host, nearest},
    search::add_votes,
    Result,
};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// How neighbours vote; print both values beside each figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnnConfig {
    /// Neighbours that vote, `K`.
    pub k: usize,
    /// `τ`: a neighbour of similarity `s` weighs `exp(s / τ)`.
    pub temperature: f64,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 200, temperature: 0.07 }
    }
}

/// The nearest rows of some queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// `(Q, k)` rows of the bank, by decreasing score, equal scores by increasing index.
    pub indices: Vec<u32>,
    /// `(Q, k)` dot products.
    pub scores: Vec<f32>,
    /// Neighbours of each query.
    pub k: usize,
}

/// What the neighbours of one query say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vote {
    /// The class of the largest summed weight, the lowest where several have it.
    pub predicted: u32,
    /// Its share of all weights, in 0–1.
    pub confidence: f32,
}

/// The `k` rows of largest dot product with each query, exactly.
///
/// - `bank` `(N, D)` and `queries` `(Q, D)`: unit rows.
///
/// Fails where `k` is not in 1..=N, dimensions differ, or a value is NaN or infinite.
pub fn nearest(bank: &Tensor, queries: &Tensor, k: usize) -> Result<Neighbors> {
    let ((n, dim), (num_queries, query_dim)) = (bank.dims2()?, queries.dims2()?);
    if dim != query_dim || dim == 0 {
        bail!("queries must have the bank's dimension {dim}, and at least one, got {query_dim}");
    }
    if k == 0 || k > n {
        bail!("k must be in 1..={n}, the number of rows to search, got {k}");
    }
    let (bank, queries) = (host::local(bank)?, host::local(queries)?);
    let found = host::read(&bank, |bank| {
        host::read(&queries, |queries| {
            check_finite("bank", bank, dim)?;
            check_finite("queries", queries, dim)?;
            Result::Ok(nearest::top_k(bank, queries, dim, k, true))
        })?
    })??;
    debug_assert_eq!(found.indices.len(), num_queries * k);
    Ok(Neighbors { indices: found.indices, scores: found.scores, k })
}

#[doc(hidden)]
pub fn check_finite(name: &str, values: &[f32], dim: usize) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => bail!("{name} must be finite, got {} in row {}", values[at], at / dim),
        None => Ok(()),
    }
}

/// Each query's class by the weighted vote of its neighbours: `argmax_c Σ_{label = c} exp(s / τ)`.
///
/// - `labels` `(N,)`: classes of the bank's rows.
///
/// Fails where a neighbour has no label, a label is not below `num_classes`, or `temperature` is not above 0.
pub fn classify(neighbors: &Neighbors, labels: &[u32], num_classes: usize, temperature: f64) -> Result<Vec<Vote>> {
    check_votes(neighbors, labels, num_classes, temperature)?;
    let mut weights = vec![0.0; num_classes];
    Ok(voters(neighbors, labels).map(|voters| vote(voters, temperature, &mut weights)).collect())
}

/// What the same votes say of queries with `query_labels`; a class without a vote has no score.
///
/// Fails as [`classify`] does, and where labels and queries differ in number.
#[cfg(feature = "train")]
pub fn outcomes(neighbors: &Neighbors, labels: &[u32], query_labels: &[u32], num_classes: usize, temperature: f64) -> Result<Outcomes> {
    check_votes(neighbors, labels, num_classes, temperature)?;
    let scores = voters(neighbors, labels).flat_map(|voters| {
        let mut weights = vec![0.0; num_classes];
        add_votes(voters, temperature, &mut weights);
        weights.into_iter().map(|weight| if weight > 0.0 { weight } else { f64::NEG_INFINITY })
    });
    Outcomes::of_scores(&scores.collect::<Vec<f64>>(), query_labels, num_classes)
}

fn check_votes(neighbors: &Neighbors, labels: &[u32], num_classes: usize, temperature: f64) -> Result<()> {
    if temperature.is_nan() || temperature <= 0.0 {
        bail!("kNN temperature must be above 0, got {temperature}");
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= num_classes) {
        bail!("labels must be below the number of classes {num_classes}, got {label}");
    }
    if let Some(index) = neighbors.indices.iter().find(|&&index| index as usize >= labels.len()) {
        bail!("neighbour {index} has no label: there are {}", labels.len());
    }
    Ok(())
}

/// The neighbours of each query: class and score.
fn voters<'a>(neighbors: &'a Neighbors, labels: &'a [u32]) -> impl Iterator<Item = impl Iterator<Item = (u32, f32)> + Clone + 'a> + 'a {
    let queries = neighbors.indices.chunks_exact(neighbors.k).zip(neighbors.scores.chunks_exact(neighbors.k));
    queries.map(|(indices, scores)| indices.iter().zip(scores).map(|(&index, &score)| (labels[index as usize], score)))
}

fn vote(neighbors: impl Iterator<Item = (u32, f32)> + Clone, temperature: f64, weights: &mut [f64]) -> Vote {
    weights.fill(0.0);
    add_votes(neighbors, temperature, weights);
    let best = weights.iter().enumerate().fold((0, 0.0), |best, (class, &weight)| if weight > best.1 { (class, weight) } else { best });
    Vote { predicted: best.0 as u32, confidence: (best.1 / weights.iter().sum::<f64>()) as f32 }
}

/// The fraction of queries that the weighted kNN classifier gets right, in 0–1.
///
/// - `bank` `(N, D)`, `labels` `(N,)`; `queries` `(Q, D)`, `query_labels` `(Q,)`.
///
/// Fails as [`nearest`] and [`classify`] do, and where labels and rows differ in number or there is no query.
pub fn knn_accuracy(bank: &Tensor, labels: &[u32], queries: &Tensor, query_labels: &[u32], config: &KnnConfig) -> Result<f32> {
    for (name, labels, rows) in [("bank", labels, bank.dims2()?.0), ("query", query_labels, queries.dims2()?.0)] {
        if labels.len() != rows || rows == 0 {
            bail!("{name} labels must be as many as the {rows} rows, and at least one, got {}", labels.len());
        }
    }
    let num_classes = labels.iter().max().map_or(1, |&label| label as usize + 1);
    let votes = classify(&nearest(bank, queries, config.k)?, labels, num_classes, config.temperature)?;
    Ok(fraction_right(&votes, query_labels))
}

/// The fraction of a bank's own rows whose class the vote of the others gets right, in 0–1.
///
/// For images without a split, and to choose settings without a look at test images.
///
/// - `bank` `(N, D)`, `labels` `(N,)`.
///
/// Fails as [`knn_accuracy`] does, and where `k` is not below N.
pub fn leave_one_out_accuracy(bank: &Tensor, labels: &[u32], config: &KnnConfig) -> Result<f32> {
    let num_rows = bank.dims2()?.0;
    if labels.len() != num_rows {
        bail!("labels must be as many as the {num_rows} rows, got {}", labels.len());
    }
    let num_classes = labels.iter().max().map_or(1, |&label| label as usize + 1);
    Ok(fraction_right(&classify(&nearest_others(bank, config.k)?, labels, num_classes, config.temperature)?, labels))
}

/// The `k` nearest other rows of each row of a bank `(N, D)`.
///
/// Fails as [`nearest`] does, and where `k` is not below N.
pub fn nearest_others(bank: &Tensor, k: usize) -> Result<Neighbors> {
    let num_rows = bank.dims2()?.0;
    if k == 0 || k >= num_rows {
        bail!("k must be in 1..{num_rows}, the number of rows, where each has the others for neighbours, got {k}");
    }
    let own: Vec<u32> = (0..num_rows as u32).collect();
    Ok(without(&nearest(bank, bank, k + 1)?, &own))
}

/// The neighbours of queries that are rows of the bank themselves, each without its `own` row: one fewer.
pub fn without(found: &Neighbors, own: &[u32]) -> Neighbors {
    let k = found.k - 1;
    let mut others = Neighbors { indices: Vec::new(), scores: Vec::new(), k };
    for (row, (indices, scores)) in own.iter().zip(found.indices.chunks_exact(found.k).zip(found.scores.chunks_exact(found.k))) {
        // Among more copies of a row than neighbours it may not be one of them: then the last goes.
        let at = indices.iter().position(|index| index == row).unwrap_or(k);
        others.indices.extend(indices[..at].iter().chain(&indices[at + 1..]));
        others.scores.extend(scores[..at].iter().chain(&scores[at + 1..]));
    }
    others
}

fn fraction_right(votes: &[Vote], labels: &[u32]) -> f32 {
    let num_right = votes.iter().zip(labels).filter(|(vote, &label)| vote.predicted == label).count();
    (num_right as f64 / labels.len() as f64) as f32
}
