//! Clusters to look at: the largest first, in each the most typical points first.

use super::{kmeans, Kmeans, KmeansConfig};
use crate::{error::bail, Result};
use candle_core::{Device, Tensor};

/// How many clusters of so many points a person can look through.
#[doc(hidden)]
pub fn usual_num_clusters(num_points: usize) -> usize {
    (((num_points as f64).sqrt() / 3.0).round() as usize).clamp(2, 40).min(num_points)
}

/// The clustering of least inertia from so many starts; fails as [`kmeans`] does, and without a start.
#[doc(hidden)]
pub fn best_of(points: &Tensor, num_clusters: usize, starts: u64) -> Result<Kmeans> {
    let mut best: Option<Kmeans> = None;
    for seed in 0..starts {
        let found = kmeans(points, &KmeansConfig { num_clusters, seed, ..KmeansConfig::default() })?;
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    match best {
        Some(best) => Ok(best),
        None => bail!("k-means needs at least one start, got none"),
    }
}

/// The points `(N, D)` of each cluster: the largest first; in each, points by falling dot product with its centroid. Empty ones are left out.
#[doc(hidden)]
pub fn typical_first(points: &Tensor, Kmeans { centroids, labels, .. }: &Kmeans) -> Result<Vec<Vec<u32>>> {
    let own = centroids.index_select(&Tensor::new(&labels[..], &Device::Cpu)?, 0)?;
    Ok(sorted(labels, &(points * own)?.sum(1)?.to_vec1()?, centroids.dims()[0]))
}

/// Points by cluster, given how near each is to its centroid.
pub(crate) fn sorted(labels: &[u32], nearness: &[f32], num_clusters: usize) -> Vec<Vec<u32>> {
    let mut clusters = vec![Vec::new(); num_clusters];
    (0..).zip(labels).for_each(|(point, &label): (u32, &u32)| clusters[label as usize].push(point));
    clusters.retain(|points| !points.is_empty());
    for points in &mut clusters {
        points.sort_unstable_by(|&a, &b| nearness[b as usize].total_cmp(&nearness[a as usize]).then(a.cmp(&b)));
    }
    clusters.sort_unstable_by_key(|points| (std::cmp::Reverse(points.len()), points[0]));
    clusters
}
