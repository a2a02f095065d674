//! Data to measure with, the same at every run.

use anyhow::{bail, Context};
use candle_core::{Device, Tensor};
use la_core::kmeans::ClusterLabels;
use la_core::memory_bank::MemoryBank;
use la_core::rng::{Rng, Stream};
use std::path::Path;

/// Directions that [`clouds`] lie around: as many as ImageNet has classes.
const NUM_CLOUDS: usize = 1000;

/// Refuses what does not fit into memory: `what` of this many values.
fn check_room(what: &str, sides: &[usize]) -> anyhow::Result<usize> {
    let values = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    let fits = |&values: &usize| Vec::<f32>::new().try_reserve_exact(values).is_ok();
    values.filter(fits).with_context(|| format!("{what} of shape {sides:?} take more memory than there is"))
}

/// `(B, 3, size, size)` images of noise, channels innermost in memory as the loader gives them.
pub fn images(batch_size: usize, size: usize, device: &Device) -> anyhow::Result<Tensor> {
    let num_values = check_room("images", &[batch_size, size, size, 3])?;
    let mut rng = Rng::new(Stream::Bench, &[0]);
    let values: Vec<f32> = (0..num_values).map(|_| rng.uniform_in(-1.0, 1.0)).collect();
    Ok(Tensor::from_vec(values, (batch_size, size, size, 3), device)?.permute((0, 3, 1, 2))?)
}

/// A memory bank as training starts with.
pub fn bank(n: usize, dim: usize, device: &Device) -> anyhow::Result<MemoryBank> {
    check_room("bank rows", &[n, dim])?;
    Ok(MemoryBank::random(n, dim, 0, device)?)
}

/// `(B, D)` random unit rows.
pub fn embeddings(batch_size: usize, dim: usize, device: &Device) -> anyhow::Result<Tensor> {
    check_room("embeddings", &[batch_size, dim])?;
    Ok(MemoryBank::random(batch_size, dim, 1, device)?.rows().clone())
}

/// Random labels.
pub fn clusters(n: usize, num_clusterings: usize, num_clusters: usize) -> anyhow::Result<ClusterLabels> {
    let num_labels = check_room("cluster labels", &[num_clusterings, n])?;
    let mut rng = Rng::new(Stream::Bench, &[1]);
    Ok(ClusterLabels::new((0..num_labels).map(|_| rng.below(num_clusters) as u32).collect(), num_clusterings)?)
}

/// `count` random rows below `n`.
pub fn indices(count: usize, n: usize) -> anyhow::Result<Vec<u32>> {
    check_room("indices", &[count])?;
    let mut rng = Rng::new(Stream::Bench, &[2]);
    Ok((0..count).map(|_| rng.below(n) as u32).collect())
}

/// `(n, dim)` unit rows around random directions, with as much noise in them as direction; `seed` draws the noise.
pub fn clouds(n: usize, dim: usize, seed: u64) -> anyhow::Result<Tensor> {
    let num_values = check_room("rows", &[n, dim])?;
    let mut rng = Rng::new(Stream::Bench, &[3]);
    let centers: Vec<f32> = (0..NUM_CLOUDS * dim).map(|_| rng.normal()).collect();
    let mut rng = Rng::new(Stream::Bench, &[4, seed]);
    let mut rows = Vec::with_capacity(num_values);
    for i in 0..n {
        let center = &centers[i % NUM_CLOUDS * dim..][..dim];
        rows.extend(center.iter().map(|value| value + rng.normal()));
        let row = &mut rows[i * dim..];
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
    }
    Ok(Tensor::from_vec(rows, (n, dim), &Device::Cpu)?)
}

/// The rows of a NumPy file, `(n, dim)` f32.
pub fn read_rows(path: &Path) -> anyhow::Result<Tensor> {
    let rows = Tensor::read_npy(path).with_context(|| format!("{}: expected a .npy file", path.display()))?;
    match (rows.dtype(), rows.dims()) {
        (candle_core::DType::F32, [_, _]) => Ok(rows),
        (dtype, dims) => bail!("{}: expected f32 of two dimensions, got {dtype:?} {dims:?}", path.display()),
    }
}
