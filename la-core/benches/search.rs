//! Selection, nearest neighbours, k-means and the losses, at the size of Fashion-MNIST.
//!
//! `cargo bench -p la-core --bench search -- kmeans`; `RAYON_NUM_THREADS` sets the threads.

#![allow(missing_docs)] // Of the function that criterion_group! writes.

#[path = "../../tests/support/clouds.rs"]
#[allow(dead_code)]
mod clouds;

use candle_core::{Device, Tensor};
use clouds::{tensor, unit_rows};
use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion, Throughput};
use la_core::eval::knn::nearest;
use la_core::kmeans::{kmeans, ClusterLabels, KmeansConfig};
use la_core::loss::{background_neighbors, instance_recognition, instance_recognition_nce, local_aggregation, LaConfig, NceConfig};
use la_core::memory_bank::MemoryBank;
use la_core::ops::top_k::top_k;
use la_core::rng::{Rng, Stream};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NUM_ROWS: usize = 60_000;
const DIM: usize = 128;
const BATCH: usize = 128;

fn rows(n: usize, seed: u64) -> Tensor {
    tensor(unit_rows(n, DIM, 500, 1.0, seed), DIM)
}

fn below(limit: usize, count: usize) -> Vec<u32> {
    let mut rng = Rng::new(Stream::Bench, &[0]);
    (0..count).map(|_| rng.below(limit) as u32).collect()
}

fn selection(c: &mut Criterion) {
    let mut group = c.benchmark_group("top_k");
    let mut rng = Rng::new(Stream::Bench, &[1]);
    let scores: Vec<f32> = (0..NUM_ROWS).map(|_| rng.normal()).collect();
    group.throughput(Throughput::Elements(NUM_ROWS as u64));
    for k in [1, 200, 4096] {
        group.bench_function(BenchmarkId::from_parameter(k), |b| b.iter(|| top_k(&scores, k)));
    }
}

/// Throughput counts queries.
fn neighbors(c: &mut Criterion) {
    let mut group = c.benchmark_group("nearest");
    let (bank, queries) = (rows(NUM_ROWS, 0), rows(1024, 1));
    group.throughput(Throughput::Elements(1024));
    for k in [1, 200] {
        group.bench_function(BenchmarkId::from_parameter(k), |b| b.iter(|| nearest(&bank, &queries, k).unwrap()));
    }
}

fn clustering(c: &mut Criterion) {
    let mut group = c.benchmark_group("kmeans");
    let points = rows(NUM_ROWS / 4, 0);
    for num_clusters in [100, 1000] {
        let config = KmeansConfig { num_clusters, max_iters: 5, seed: 0 };
        group.bench_function(BenchmarkId::from_parameter(num_clusters), |b| b.iter(|| kmeans(&points, &config).unwrap()));
    }
}

fn losses(c: &mut Criterion) {
    let mut group = c.benchmark_group("loss");
    let bank = MemoryBank::random(NUM_ROWS, DIM, 0, &Device::Cpu).unwrap();
    let embeddings = rows(BATCH, 1);
    let indices = below(NUM_ROWS, BATCH);
    let clusters = ClusterLabels::new(below(1000, 3 * NUM_ROWS), 3).unwrap();
    let noise_indices = below(NUM_ROWS, BATCH * 4096);
    let (la, nce) = (LaConfig::default(), NceConfig::default());
    group.bench_function("background neighbors", |b| b.iter(|| background_neighbors(&embeddings, &bank, la.num_background).unwrap()));
    group.bench_function("local aggregation", |b| b.iter(|| local_aggregation(&embeddings, &bank, &indices, &clusters, &la).unwrap()));
    group.bench_function("softmax", |b| b.iter(|| instance_recognition(&embeddings, &bank, &indices, nce.temperature).unwrap()));
    group.bench_function("nce", |b| b.iter(|| instance_recognition_nce(&embeddings, &bank, &indices, &noise_indices, &nce).unwrap()));
}

/// Ten samples of half a second, or of one call where that takes longer.
fn quick() -> Criterion {
    // As la-cli does: else each sample pays for fresh pages.
    la_core::ops::memory::keep_freed_pages();
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = search; config = quick(); targets = selection, neighbors, clustering, losses }
criterion_main!(search);
