//! Scratch timing of k-means, kNN and losses.
use candle_core::{Device, Tensor};
use la_core::{
    eval::knn::nearest,
    kmeans::*,
    loss::*,
    memory_bank::MemoryBank,
    rng::{Rng, Stream},
};
use std::time::Instant;

fn unit_rows(n: usize, dim: usize, num_groups: usize, spread: f32, seed: u64) -> Tensor {
    let mut rng = Rng::new(Stream::Subset, &[seed]);
    let centers: Vec<f32> = (0..num_groups * dim).map(|_| rng.normal()).collect();
    let mut rows = Vec::with_capacity(n * dim);
    for i in 0..n {
        let center = &centers[i % num_groups * dim..][..dim];
        let row: Vec<f32> = center.iter().map(|c| c + spread * rng.normal()).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        rows.extend(row.iter().map(|x| x / norm));
    }
    Tensor::from_vec(rows, (n, dim), &Device::Cpu).unwrap()
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn timed<T>(name: &str, f: impl FnOnce() -> T) -> T {
    let (t, c) = (Instant::now(), cpu());
    let out = f();
    println!("{name}: {:.4} s wall, {:.2} s cpu", t.elapsed().as_secs_f64(), cpu() - c);
    out
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();
    let n: usize = args.get(2).map_or(60_000, |x| x.parse().unwrap());
    let spread: f32 = args.get(3).map_or(1.0, |x| x.parse().unwrap());
    let rows = unit_rows(n, 128, 500, spread, 1);
    match args[1].as_str() {
        "kmeans" => {
            for k in [300, 1000] {
                for seed in 0..3 {
                    let r =
                        timed(&format!("kmeans k={k}"), || kmeans(&rows, &KmeansConfig { num_clusters: k, max_iters: 20, seed }).unwrap());
                    println!("   inertia {} iters {}", r.inertia, r.iters);
                }
            }
        }
        "knn" => {
            let q = unit_rows(10_000, 128, 500, spread, 1);
            for _ in 0..3 {
                timed("knn 200", || nearest(&rows, &q, 200).unwrap());
            }
        }
        _ => {
            let bank = MemoryBank::random(n, 128, 0, &Device::Cpu).unwrap();
            let b = 128;
            let e = MemoryBank::random(b, 128, 1, &Device::Cpu).unwrap();
            let idx: Vec<u32> = (0..b as u32).collect();
            let clusters =
                ClusterLabels::new((0..10 * n as u64).map(|i| (i.wrapping_mul(0x9E3779B97F4A7C15) >> 40) as u32 % 1000).collect(), 10)
                    .unwrap();
            let noise: Vec<u32> = (0..b * 4096).map(|i| ((i as u64).wrapping_mul(0x9E3779B97F4A7C15) >> 20) as u32 % n as u32).collect();
            for _ in 0..5 {
                timed("background", || background_neighbors(e.rows(), &bank, 4096).unwrap());
            }
            for _ in 0..5 {
                timed("la", || local_aggregation(e.rows(), &bank, &idx, &clusters, &LaConfig::default()).unwrap());
            }
            for _ in 0..5 {
                timed("softmax", || instance_recognition(e.rows(), &bank, &idx, 0.07).unwrap());
            }
            for _ in 0..5 {
                timed("nce", || instance_recognition_nce(e.rows(), &bank, &idx, &noise, &NceConfig::default()).unwrap());
            }
        }
    }
}
