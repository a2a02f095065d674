//! Random rows for tests.

use candle_core::{Device, Tensor};
use la_core::rng::{Rng, Stream};

/// `(n, dim)` unit rows around `num_groups` directions, `spread` apart from them; row by row.
pub fn unit_rows(n: usize, dim: usize, num_groups: usize, spread: f32, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(Stream::Subset, &[seed]);
    let centers: Vec<f32> = (0..num_groups * dim).map(|_| rng.normal()).collect();
    let mut rows = Vec::with_capacity(n * dim);
    for i in 0..n {
        let center = &centers[i % num_groups * dim..][..dim];
        let row: Vec<f32> = center.iter().map(|c| c + spread * rng.normal()).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        rows.extend(row.iter().map(|x| x / norm));
    }
    rows
}

/// The rows as a tensor.
pub fn tensor(rows: Vec<f32>, dim: usize) -> Tensor {
    let n = rows.len() / dim;
    Tensor::from_vec(rows, (n, dim), &Device::Cpu).unwrap()
}

/// Runs `f` on a pool of so many threads.
pub fn on_threads<T: Send>(num_threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap().install(f)
}
