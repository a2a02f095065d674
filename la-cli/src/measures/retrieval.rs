//! Retrieval: whether pictures of a query's class are found first.

use crate::error::{bail, Result};
use candle_core::Tensor;
use la_core::eval::knn::check_finite;
use la_core::ops::{host, parallel, products::Panels};

/// Queries whose scores are held at once.
const BLOCK: usize = 12;

/// How well each query finds the rows of its class. Queries whose class no row has are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// Which queries these are, by increasing index.
    pub queries: Vec<u32>,
    /// Rank of the first row of the query's class, from 0.
    pub first_ranks: Vec<u32>,
    /// Average precision of the ranking of all rows, in 0–1.
    pub average_precision: Vec<f64>,
}

impl Retrieval {
    /// Whether a row of each query's class is among the `k` nearest.
    pub fn is_found_in(&self, k: usize) -> Vec<bool> {
        self.first_ranks.iter().map(|&rank| (rank as usize) < k).collect()
    }

    /// The share of queries with a row of their class among the `k` nearest, in 0–1.
    pub fn recall(&self, k: usize) -> f64 {
        self.first_ranks.iter().filter(|&&rank| (rank as usize) < k).count() as f64 / self.queries.len().max(1) as f64
    }

    /// Mean of the average precisions, in 0–1.
    pub fn mean_average_precision(&self) -> f64 {
        self.average_precision.iter().sum::<f64>() / self.queries.len().max(1) as f64
    }
}

/// Ranks all rows of `bank` `(N, D)` with `labels` by their dot product with each query `(Q, D)`, equal ones by index.
///
/// Average precision is `Σ (R_n − R_(n−1)) P_n` over the distinct scores, as scikit-learn's. Fails where numbers or dimensions do
/// not fit, a value is not finite, or no query's class has a row.
pub fn retrieve(bank: &Tensor, labels: &[u32], queries: &Tensor, query_labels: &[u32]) -> Result<Retrieval> {
    ranked(bank, labels, queries, query_labels, false)
}

/// The same for the rows of a bank as queries, each of which finds the others.
pub fn retrieve_others(bank: &Tensor, labels: &[u32]) -> Result<Retrieval> {
    ranked(bank, labels, bank, labels, true)
}

fn ranked(bank: &Tensor, labels: &[u32], queries: &Tensor, query_labels: &[u32], is_own: bool) -> Result<Retrieval> {
    let ((n, dim), (num_queries, query_dim)) = (bank.dims2()?, queries.dims2()?);
    if dim != query_dim || dim == 0 {
        bail!("queries must have the bank's dimension {dim}, and at least one, got {query_dim}");
    }
    if labels.len() != n || query_labels.len() != num_queries {
        bail!("expected one label for each of {n} rows and {num_queries} queries, got {} and {}", labels.len(), query_labels.len());
    }
    let (bank, queries) = (host::local(bank)?, host::local(queries)?);
    let found = host::read(&bank, |bank| {
        host::read(&queries, |queries| {
            check_finite("bank", bank, dim)?;
            check_finite("queries", queries, dim)?;
            let own = |query: usize| is_own.then_some(query);
            Result::Ok(Search { panels: Panels::pack(bank, dim, |_| 0.0), labels, dim }.all(queries, query_labels, own))
        })?
    })??;
    let mut retrieval = Retrieval { queries: vec![], first_ranks: vec![], average_precision: vec![] };
    for (query, (first, precision)) in found.into_iter().enumerate().filter_map(|(query, found)| Some((query, found?))) {
        retrieval.queries.push(query as u32);
        retrieval.first_ranks.push(first);
        retrieval.average_precision.push(precision);
    }
    if retrieval.queries.is_empty() {
        bail!("no query's class has a row to be found");
    }
    Ok(retrieval)
}

struct Search<'a> {
    panels: Panels,
    labels: &'a [u32],
    dim: usize,
}

/// Rank of the first row of a query's class, and the average precision.
type Found = Option<(u32, f64)>;

impl Search<'_> {
    fn all(&self, queries: &[f32], query_labels: &[u32], own: impl Fn(usize) -> Option<usize> + Sync + Send) -> Vec<Found> {
        let blocks = parallel::map(query_labels.len().div_ceil(BLOCK), |block| {
            let first = block * BLOCK;
            let labels = &query_labels[first..query_labels.len().min(first + BLOCK)];
            let mut scores = vec![0.0; labels.len() * self.panels.num_columns()];
            self.panels.products(&queries[first * self.dim..][..labels.len() * self.dim], 0..self.panels.num_panels(), &mut scores);
            let rows = scores.chunks_exact(self.panels.num_columns()).zip(labels).enumerate();
            rows.map(|(i, (scores, &label))| self.one(&scores[..self.labels.len()], label, own(first + i))).collect::<Vec<Found>>()
        });
        blocks.concat()
    }

    fn one(&self, scores: &[f32], label: u32, own: Option<usize>) -> Found {
        let rows = scores.iter().enumerate().filter(|(row, _)| Some(*row) != own);
        let mut keys: Vec<u64> = rows.map(|(row, &score)| u64::from(!ordered(score)) << 32 | row as u64).collect();
        keys.sort_unstable();
        let is_of_class = |key: &u64| self.labels[*key as u32 as usize] == label;
        let first = keys.iter().position(is_of_class)?;
        let (mut seen, mut hits, mut sum) = (0.0, 0.0, 0.0);
        for equal in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            let more = equal.iter().filter(|key| is_of_class(key)).count() as f64;
            (seen, hits) = (seen + equal.len() as f64, hits + more);
            sum += more * hits / seen;
        }
        Some((first as u32, sum / hits))
    }
}

/// Bits that grow with the value; both zeros have the same.
fn ordered(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}
