//! What k-means does on the GPU: assignment in blocks of products, and new centroids.

use super::{
    arg::{arg, Arg},
    blas::{product, Side},
    context::precision,
    launch::Launch,
    rows,
    tensors::{device, empty, upload, zeros},
};
use crate::{
    kmeans::clustering::{fill_empty, Kmeans},
    ops::precision::Precision,
    Result,
};
use candle_core::{DType, Tensor};

/// Points and centroids of a block of products: 32 MiB, which stay in the second-level cache of the GPUs this is for.
const POINTS: usize = 2048;
const CENTROIDS: usize = 4096;
/// The dimension that the fused kernel is written for: that of the published embedding.
const FUSED_DIM: usize = 128;
/// Threads of a warp.
const WARP: usize = 32;

/// Lloyd's algorithm from the points of the indices `start`, as on the CPU.
pub(crate) fn run(points: &Tensor, start: &[u32], max_iters: usize) -> Result<Kmeans> {
    let mut clusters = Clusters::new(points, start)?;
    let (mut iters, mut before) = (0, None::<Tensor>);
    for _ in 0..max_iters {
        clusters.assign()?;
        if let Some(before) = &before {
            if !clusters.differs(before)? {
                break;
            }
        }
        iters += 1;
        let counts = clusters.filled_counts()?;
        before = Some(clusters.labels.clone());
        clusters.average(&counts)?;
    }
    clusters.assign()?;
    let inertia = clusters.distances()?.iter().map(|&d| f64::from(d)).sum();
    Ok(Kmeans { centroids: clusters.centroids, labels: clusters.labels.to_vec1()?, inertia, iters })
}

/// A clustering under way.
struct Clusters<'a> {
    points: &'a Tensor,
    /// `(k, D)`.
    centroids: Tensor,
    /// `(N,)` u32.
    labels: Tensor,
    k: usize,
}

impl<'a> Clusters<'a> {
    /// Starts from the points of these indices.
    fn new(points: &'a Tensor, start: &[u32]) -> Result<Self> {
        let labels = empty(&device(points)?, points.dims2()?.0, DType::U32)?;
        Ok(Self { points, centroids: rows::gather(points, start)?, labels, k: start.len() })
    }

    /// Gives each point its nearest centroid, the lowest of several.
    fn assign(&mut self) -> Result<()> {
        let (gpu, (_, dim)) = (device(self.points)?, self.points.dims2()?);
        match precision(&gpu) != Precision::F32 && dim == FUSED_DIM {
            true => self.assign_fused(),
            false => self.assign_blocks(),
        }
    }

    /// In one kernel, whose products are TF32.
    fn assign_fused(&mut self) -> Result<()> {
        let (gpu, n) = (device(self.points)?, self.labels.elem_count());
        let (rounded, half) = (empty(&gpu, self.centroids.shape(), DType::F32)?, empty(&gpu, self.k, DType::F32)?);
        let args = [arg(&self.centroids)?, arg(&rounded)?, arg(&half)?, Arg::int(self.k)];
        Launch::each("round_centroids", self.k * WARP).run(&gpu, &args)?;
        let labels = empty(&gpu, n, DType::U32)?;
        let args = [arg(self.points)?, arg(&rounded)?, arg(&half)?, arg(&labels)?, Arg::long(n), Arg::int(self.k)];
        Launch::each("nearest_centroids", n).run(&gpu, &args)?;
        self.labels = labels;
        Ok(())
    }

    /// In blocks of products.
    fn assign_blocks(&mut self) -> Result<()> {
        let (gpu, (n, dim)) = (device(self.points)?, self.points.dims2()?);
        let half = empty(&gpu, self.k, DType::F32)?;
        Launch::each("half_squares", self.k).run(&gpu, &[arg(&self.centroids)?, arg(&half)?, Arg::int(self.k), Arg::int(dim)])?;
        let (best, labels) = (empty(&gpu, n, DType::F32)?, empty(&gpu, n, DType::U32)?);
        let products = empty(&gpu, (POINTS.min(n), CENTROIDS.min(self.k)), DType::F32)?;
        for first_point in (0..n).step_by(POINTS) {
            let points = POINTS.min(n - first_point);
            let (best, labels) = (best.narrow(0, first_point, points)?, labels.narrow(0, first_point, points)?);
            for first in (0..self.k).step_by(CENTROIDS) {
                let width = CENTROIDS.min(self.k - first);
                let rows = Side::new(self.points, dim).rows_from(first_point);
                product(rows, Side::new(&self.centroids, dim).rows_from(first).transposed(), (points, width, dim), &products)?;
                let args = [arg(&products)?, arg(&half)?, arg(&best)?, arg(&labels)?, Arg::int(width), Arg::int(first)];
                Launch::blocks("best_centroid", points, 128).run(&gpu, &args)?;
            }
        }
        self.labels = labels;
        Ok(())
    }

    /// Whether any label differs from `before`; waits for the device.
    fn differs(&self, before: &Tensor) -> Result<bool> {
        let (gpu, n) = (device(self.points)?, self.labels.elem_count());
        let count = zeros(&gpu, 1, DType::U32)?;
        Launch::over("count_changes", n).run(&gpu, &[arg(before)?, arg(&self.labels)?, arg(&count)?, Arg::long(n)])?;
        Ok(count.to_vec1::<u32>()? != [0])
    }

    /// How many points each cluster has, `(k,)` u32.
    fn counts(&self) -> Result<Tensor> {
        let (gpu, n) = (device(self.points)?, self.labels.elem_count());
        let counts = zeros(&gpu, self.k, DType::U32)?;
        Launch::over("count_members", n).run(&gpu, &[arg(&self.labels)?, arg(&counts)?, Arg::long(n)])?;
        Ok(counts)
    }

    /// The counts, after each empty cluster got the point farthest from its centroid.
    fn filled_counts(&mut self) -> Result<Tensor> {
        let counts = self.counts()?;
        let mut known = counts.to_vec1::<u32>()?;
        if !known.contains(&0) {
            return Ok(counts);
        }
        let (gpu, mut labels) = (device(self.points)?, self.labels.to_vec1::<u32>()?);
        fill_empty(&mut known, &mut labels, &self.distances()?);
        self.labels = upload(&gpu, &labels)?;
        upload(&gpu, &known)
    }

    /// Moves each centroid to the mean of its points; one without points stays.
    fn average(&mut self, counts: &Tensor) -> Result<()> {
        let (gpu, (n, dim)) = (device(self.points)?, self.points.dims2()?);
        let sums = zeros(&gpu, (self.k, dim), DType::F64)?;
        let args = [arg(self.points)?, arg(&self.labels)?, arg(&sums)?, Arg::int(dim), Arg::long(n * dim)];
        Launch::over("sum_members", n * dim).run(&gpu, &args)?;
        let args = [arg(&sums)?, arg(counts)?, arg(&self.centroids)?, Arg::int(dim), Arg::long(self.k * dim)];
        Launch::over("move_centroids", self.k * dim).run(&gpu, &args)
    }

    /// The squared distance `(N,)` of each point to its centroid.
    fn distances(&self) -> Result<Vec<f32>> {
        let (gpu, (n, dim)) = (device(self.points)?, self.points.dims2()?);
        let out = empty(&gpu, n, DType::F32)?;
        let args = [arg(self.points)?, arg(&self.labels)?, arg(&self.centroids)?, arg(&out)?, Arg::int(dim), Arg::long(n)];
        Launch::over("member_distances", n).run(&gpu, &args)?;
        Ok(out.to_vec1()?)
    }
}
