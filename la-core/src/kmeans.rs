//! k-means (Lloyd's algorithm) with exact assignment; what makes the close neighbours.

pub(crate) mod clustering;
#[doc(hidden)]
pub mod typical;

use crate::{
    error::bail,
    ops::{assign::Points, device::on_gpu, gradients::refuse_tracked, host, parallel, resident::Resident},
    rng::{Rng, Stream},
    Result,
};
use candle_core::{Device, Tensor};
use clustering::fill_empty;
pub use clustering::Kmeans;

/// Points that one piece of work sums distances over.
const BLOCK: usize = 1024;

/// How to cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KmeansConfig {
    /// Clusters, `m` of the paper.
    pub num_clusters: usize,
    /// Rounds of assignment and averaging at most; fewer where no label changes.
    pub max_iters: usize,
    /// Chooses the points that the centroids start from.
    pub seed: u64,
}

impl Default for KmeansConfig {
    fn default() -> Self {
        Self { num_clusters: 30_000, max_iters: 20, seed: 1234 }
    }
}

/// Clusters `points` `(N, D)`: centroids start at distinct random points; empty clusters restart at the farthest points.
///
/// The result depends on the points and the configuration alone, not on the number of threads.
///
/// Fails where there are fewer points than clusters, no cluster is asked for, a point is not finite, or the points track
/// gradients.
pub fn kmeans(points: &Tensor, config: &KmeansConfig) -> Result<Kmeans> {
    let points = Checked::new(points, config)?;
    on_gpu!(points.rows, crate::ops::cuda::kmeans::run(&points.rows, &starts(points.rows.dims()[0], config), config.max_iters));
    host::read(&points.rows, |rows| run(&Points::new(rows, points.dim), rows, points.dim, config))
}

/// `H` clusterings of the same points with seeds `seed`, `seed + 1`, …, in parallel; fails as [`kmeans`] does.
pub fn cluster(points: &Tensor, num_clusterings: usize, config: &KmeansConfig) -> Result<ClusterLabels> {
    let points = Checked::new(points, config)?;
    let config_of = |h: usize| KmeansConfig { seed: config.seed.wrapping_add(h as u64), ..*config };
    on_gpu!(points.rows, {
        let one = |h| Ok(kmeans(&points.rows, &config_of(h))?.labels);
        let labels = (0..num_clusterings).map(one).collect::<Result<Vec<_>>>()?;
        ClusterLabels::new(labels.concat(), num_clusterings)
    });
    let labels = host::read(&points.rows, |rows| {
        let prepared = Points::new(rows, points.dim);
        parallel::map(num_clusterings, |h| run(&prepared, rows, points.dim, &config_of(h)).labels)
    })?;
    ClusterLabels::new(labels.concat(), num_clusterings)
}

/// `H` clusterings of `N` images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLabels {
    /// `(H, N)`, row by row.
    pub labels: Vec<u32>,
    /// `H`.
    pub num_clusterings: usize,
    /// Clusterings that must put two images together for them to be close: 1 as published.
    min_agreement: usize,
    on_gpu: Resident,
}

impl ClusterLabels {
    /// Labels `(H, N)`, row by row; fails where there is no clustering or their number is not a multiple of `num_clusterings`.
    pub fn new(labels: Vec<u32>, num_clusterings: usize) -> Result<Self> {
        if num_clusterings == 0 || !labels.len().is_multiple_of(num_clusterings) {
            bail!("cluster labels must be a multiple of the number of clusterings, at least 1; got {} for {num_clusterings}", labels.len());
        }
        Ok(Self { labels, num_clusterings, min_agreement: 1, on_gpu: Resident::default() })
    }

    /// The same labels, with images close only where at least `min_agreement` clusterings put them together.
    ///
    /// Fails where it is not in 1..=H.
    pub fn agreeing(self, min_agreement: usize) -> Result<Self> {
        check_agreement(min_agreement, self.num_clusterings)?;
        Ok(Self { min_agreement, ..self })
    }

    /// Clusterings that must put two images together for them to be close.
    pub fn min_agreement(&self) -> usize {
        self.min_agreement
    }

    /// `N`, the number of images.
    pub fn num_images(&self) -> usize {
        self.labels.len() / self.num_clusterings
    }

    /// The labels `(H, N)` u32 on a GPU, sent there once.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn on(&self, device: &Device) -> Result<Tensor> {
        self.on_gpu.get(&self.labels, self.num_clusterings, device)
    }

    /// The labels as a tensor `(H, N)` u32.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.labels, (self.num_clusterings, self.num_images()), &Device::Cpu)?)
    }

    /// Labels from a tensor `(H, N)` u32.
    pub fn from_tensor(labels: &Tensor) -> Result<Self> {
        let (num_clusterings, _) = labels.dims2()?;
        Self::new(labels.flatten_all()?.to_vec1()?, num_clusterings)
    }
}

/// Refuses an agreement that no two images could reach, or that all would.
pub(crate) fn check_agreement(min_agreement: usize, num_clusterings: usize) -> Result<()> {
    if !(1..=num_clusterings).contains(&min_agreement) {
        bail!("min-agreement must be in 1..={num_clusterings}, the number of clusterings, got {min_agreement}");
    }
    Ok(())
}

/// Points that can be clustered.
struct Checked {
    rows: Tensor,
    dim: usize,
}

impl Checked {
    fn new(points: &Tensor, config: &KmeansConfig) -> Result<Self> {
        refuse_tracked(points, "k-means")?;
        let (n, dim) = points.dims2()?;
        if config.num_clusters == 0 || n < config.num_clusters {
            bail!("number of clusters must be in 1..={n}, the number of points, got {}", config.num_clusters);
        }
        if dim == 0 {
            bail!("points must have at least one dimension, got shape ({n}, {dim})");
        }
        let rows = points.contiguous()?;
        on_gpu!(
            rows,
            match crate::ops::cuda::rows::is_finite(&rows)? {
                true => Ok(Self { rows, dim }),
                false => Self::new(&host::local(&rows)?, config),
            }
        );
        if let Some((i, value)) = host::read(&rows, |rows| rows.iter().copied().enumerate().find(|(_, x)| !x.is_finite()))? {
            bail!("points must be finite, got {value} in row {}", i / dim);
        }
        Ok(Self { rows, dim })
    }
}

fn run(points: &Points, rows: &[f32], dim: usize, config: &KmeansConfig) -> Kmeans {
    let assign = |centroids: &[f32], labels: &mut [u32]| points.assign(centroids, labels);
    let Lloyd { centroids, labels, iters } = lloyd(&assign, rows, dim, config);
    let inertia = distances(rows, dim, &labels, &centroids).iter().map(|&d| f64::from(d)).sum();
    Kmeans { centroids: host::tensor(centroids, (config.num_clusters, dim)), labels, inertia, iters }
}

/// A clustering without tensors, which would make the browser's module a sixth larger.
pub(crate) struct Lloyd {
    /// `(k, D)`, row by row.
    pub centroids: Vec<f32>,
    /// `(N,)`
    pub labels: Vec<u32>,
    iters: usize,
}

/// Clusters finite `rows`, of which there are at least as many as clusters; `assign` labels them by the nearest of some centroids.
pub(crate) fn lloyd(assign: &dyn Fn(&[f32], &mut [u32]), rows: &[f32], dim: usize, config: &KmeansConfig) -> Lloyd {
    let n = rows.len() / dim;
    let mut centroids = starting_centroids(rows, dim, config);
    let mut labels = vec![u32::MAX; n];
    let mut iters = 0;
    for _ in 0..config.max_iters {
        let before = labels.clone();
        assign(&centroids, &mut labels);
        if labels == before {
            break;
        }
        iters += 1;
        average(rows, dim, &mut labels, &mut centroids);
    }
    assign(&centroids, &mut labels);
    Lloyd { centroids, labels, iters }
}

fn starting_centroids(rows: &[f32], dim: usize, config: &KmeansConfig) -> Vec<f32> {
    starts(rows.len() / dim, config).iter().flat_map(|&i| &rows[i as usize * dim..][..dim]).copied().collect()
}

/// The distinct random points that the centroids start from.
fn starts(num_points: usize, config: &KmeansConfig) -> Vec<u32> {
    let mut order = Rng::new(Stream::Kmeans, &[config.seed]).permutation(num_points);
    order.truncate(config.num_clusters);
    order
}

/// Moves each centroid to the mean of its points; first gives each empty cluster the point farthest from its centroid.
fn average(rows: &[f32], dim: usize, labels: &mut [u32], centroids: &mut [f32]) {
    let mut counts = vec![0u32; centroids.len() / dim];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    if counts.contains(&0) {
        fill_empty(&mut counts, labels, &distances(rows, dim, labels, centroids));
    }
    let members = members(labels, &counts);
    parallel::for_each_chunk(centroids, dim, |cluster, centroid| {
        let members = &members.order[members.starts[cluster]..members.starts[cluster + 1]];
        if !members.is_empty() {
            mean(rows, members, centroid);
        }
    });
}

/// Points in the order of their clusters.
struct Members {
    order: Vec<u32>,
    starts: Vec<usize>,
}

fn members(labels: &[u32], counts: &[u32]) -> Members {
    let mut starts = vec![0; counts.len() + 1];
    counts.iter().enumerate().for_each(|(cluster, &count)| starts[cluster + 1] = starts[cluster] + count as usize);
    let (mut next, mut order) = (starts.clone(), vec![0; labels.len()]);
    for (i, &label) in labels.iter().enumerate() {
        order[next[label as usize]] = i as u32;
        next[label as usize] += 1;
    }
    Members { order, starts }
}

fn mean(rows: &[f32], members: &[u32], centroid: &mut [f32]) {
    let dim = centroid.len();
    let mut sum = vec![0.0f64; dim];
    for &i in members {
        let row = &rows[i as usize * dim..][..dim];
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    centroid.iter_mut().zip(sum).for_each(|(c, sum)| *c = (sum / members.len() as f64) as f32);
}

/// The squared distance of each point to its centroid.
fn distances(rows: &[f32], dim: usize, labels: &[u32], centroids: &[f32]) -> Vec<f32> {
    let mut distances = vec![0.0; labels.len()];
    parallel::for_each_chunk(&mut distances, BLOCK, |block, distances| {
        for (i, distance) in distances.iter_mut().enumerate() {
            let point = block * BLOCK + i;
            let (row, centroid) = (&rows[point * dim..][..dim], &centroids[labels[point] as usize * dim..][..dim]);
            *distance = row.iter().zip(centroid).map(|(x, c)| (x - c) * (x - c)).sum();
        }
    });
    distances
}
