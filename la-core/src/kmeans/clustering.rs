//! A clustering, and the rule for clusters that nobody is in: the same on either device.

use candle_core::Tensor;

/// A clustering.
#[derive(Debug, Clone)]
pub struct Kmeans {
    /// `(k, D)`.
    pub centroids: Tensor,
    /// `(N,)` the nearest centroid of each point, the lowest where several are.
    pub labels: Vec<u32>,
    /// Sum of squared distances from each point to its centroid.
    pub inertia: f64,
    /// Rounds done.
    pub iters: usize,
}

/// Gives each empty cluster a point of its own: the farthest from its centroid, of a cluster that has others.
///
/// A cluster stays empty, its centroid where it was, where every point left lies on its centroid.
pub(crate) fn fill_empty(counts: &mut [u32], labels: &mut [u32], distances: &[f32]) {
    let mut farthest: Vec<u32> = (0..labels.len() as u32).filter(|&i| distances[i as usize] > 0.0).collect();
    farthest.sort_unstable_by(|&a, &b| distances[b as usize].total_cmp(&distances[a as usize]).then(a.cmp(&b)));
    let mut farthest = farthest.into_iter();
    for cluster in 0..counts.len() {
        if counts[cluster] > 0 {
            continue;
        }
        let Some(point) = farthest.find(|&i| counts[labels[i as usize] as usize] > 1) else { return };
        counts[labels[point as usize] as usize] -= 1;
        labels[point as usize] = cluster as u32;
        counts[cluster] = 1;
    }
}
