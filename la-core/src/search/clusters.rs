//! Clusters of a bank's rows, for a person to look at.

use super::SearchBank;
use crate::{
    kmeans::typical::{best_of, sorted, usual_num_clusters},
    ops::{host, parallel, row_sums::dot},
    Result,
};

/// The most rows that k-means sees; of a larger bank these are spread evenly, and all rows go to their nearest centroids.
const MOST_ROWS: usize = 10_000;

/// The rows of each cluster, the largest first, in each the most typical first. Fails where the bank is empty.
pub fn clusters(bank: &SearchBank) -> Result<Vec<Vec<u32>>> {
    let (total, dim) = (bank.len(), bank.dim());
    let count = total.min(MOST_ROWS);
    let mut chosen = Vec::with_capacity(count * dim);
    for i in 0..count {
        chosen.extend(bank.row(i * total / count)?);
    }
    let found = best_of(&host::tensor(chosen, (count, dim)), usual_num_clusters(total).min(count), 1)?;
    let centroids: Vec<Vec<f32>> = found.centroids.to_vec2()?;
    // |x - c|² is smallest where x · c - |c|² / 2 is largest.
    let halves: Vec<f32> = centroids.iter().map(|centroid| 0.5 * dot(centroid, centroid)).collect();
    let nearest = |row: usize| {
        let row = bank.row(row)?;
        let products = centroids.iter().zip(&halves).map(|(centroid, half)| dot(&row, centroid) - half).enumerate();
        let (label, product) = products.fold((0, f32::NEG_INFINITY), |best, one| if one.1 > best.1 { one } else { best });
        Ok((label as u32, product + halves[label]))
    };
    let of_rows = parallel::map(total, nearest).into_iter().collect::<Result<Vec<_>>>()?;
    let (labels, nearness): (Vec<u32>, Vec<f32>) = of_rows.into_iter().unzip();
    Ok(sorted(&labels, &nearness, centroids.len()))
}
