//! Clusters of a bank's rows, for a person to look at.

use super::SearchBank;
use crate::{
    error::bail,
    kmeans::{
        lloyd,
        typical::{sorted, usual_num_clusters},
        KmeansConfig, Lloyd,
    },
    ops::{parallel, row_sums::dot},
    Result,
};

/// The most rows that k-means sees; of a larger bank these are spread evenly, and all rows go to their nearest centroids.
const MOST_ROWS: usize = 10_000;

/// The rows of each cluster, the largest first, in each the most typical first. Fails where the bank is empty.
pub fn clusters(bank: &SearchBank) -> Result<Vec<Vec<u32>>> {
    let (total, dim) = (bank.len(), bank.dim());
    if total == 0 {
        bail!("bank: there is no row to cluster");
    }
    let count = total.min(MOST_ROWS);
    let mut chosen = Vec::with_capacity(count * dim);
    for i in 0..count {
        chosen.extend(bank.row(i * total / count)?);
    }
    let config = KmeansConfig { num_clusters: usual_num_clusters(total).min(count), seed: 0, ..KmeansConfig::default() };
    // Plain products: those that k-means makes of many points would make the browser's module a tenth larger.
    let assign = |centroids: &[f32], labels: &mut [u32]| {
        let centroids = Centroids::new(centroids, dim);
        let found = parallel::map(count, |i| centroids.nearest(&chosen[i * dim..][..dim]).0);
        labels.copy_from_slice(&found);
    };
    let Lloyd { centroids, .. } = lloyd(&assign, &chosen, dim, &config);
    let centroids = Centroids::new(&centroids, dim);
    let of_rows = parallel::map(total, |row| Ok(centroids.nearest(&bank.row(row)?))).into_iter().collect::<Result<Vec<_>>>()?;
    let (labels, nearness): (Vec<u32>, Vec<f32>) = of_rows.into_iter().unzip();
    Ok(sorted(&labels, &nearness, config.num_clusters))
}

/// Centroids with `|c|² / 2`: `|x - c|²` is smallest where `x · c - |c|² / 2` is largest.
struct Centroids<'a> {
    rows: Vec<(&'a [f32], f32)>,
}

impl<'a> Centroids<'a> {
    fn new(rows: &'a [f32], dim: usize) -> Self {
        Self { rows: rows.chunks_exact(dim).map(|row| (row, 0.5 * dot(row, row))).collect() }
    }

    /// The number of the nearest centroid, the lowest of several, and its product with `row`.
    fn nearest(&self, row: &[f32]) -> (u32, f32) {
        let (mut best, mut largest) = (0, f32::NEG_INFINITY);
        for (i, (centroid, half)) in self.rows.iter().enumerate() {
            let value = dot(row, centroid) - half;
            if value > largest {
                (best, largest) = (i, value);
            }
        }
        (best as u32, largest + self.rows[best].1)
    }
}
