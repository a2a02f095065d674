//! The operations of the networks, forward and backward, at shapes of ResNet-18.
//!
//! `cargo bench -p la-core --bench network -- conv2d`; `RAYON_NUM_THREADS` sets the threads.

#![allow(missing_docs)] // Of the function that criterion_group! writes.

use candle_core::{DType, Device, Tensor};
use criterion::{criterion_group, criterion_main, BatchSize, BenchmarkId, Criterion, Throughput};
use la_core::ops::batch_norm::{batch_norm, batch_norm_backward, batch_stats, Epilogue};
use la_core::ops::conv2d::{conv2d, conv2d_backward_input, conv2d_backward_weight, Conv2d};
use la_core::ops::device::bf16_instructions;
use la_core::ops::pool::{max_pool, max_pool_backward};
use la_core::rng::{Rng, Stream};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Images of a batch.
const BATCH: usize = 16;

/// `(name, side, channels in, channels out, kernel, stride)`.
const CONVOLUTIONS: [(&str, usize, usize, usize, usize, usize); 6] = [
    ("stem 7x7/2", 112, 3, 64, 7, 2),
    ("3x3 56px", 56, 64, 64, 3, 1),
    ("3x3/2 56px", 56, 64, 128, 3, 2),
    ("3x3 14px", 14, 256, 256, 3, 1),
    ("1x1 28px", 28, 128, 512, 1, 1),
    ("3x3 7px", 7, 512, 512, 3, 1),
];

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(Stream::Bench, &[seed]);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Throughput counts multiply-adds, two operations each.
fn convolution(c: &mut Criterion) {
    convolution_of(c, DType::F32, "conv2d");
    if bf16_instructions().is_some() {
        convolution_of(c, DType::BF16, "conv2d_bf16");
    }
}

fn convolution_of(c: &mut Criterion, dtype: DType, group: &str) {
    let mut group = c.benchmark_group(group);
    for (name, side, channels, out_channels, kernel, stride) in CONVOLUTIONS {
        let conv = Conv2d::square(kernel, stride, kernel / 2);
        let x = random(&[BATCH, side, side, channels], 0).to_dtype(dtype).unwrap();
        let weight = random(&[kernel, kernel, channels, out_channels], 1);
        let grad = conv2d(&x, &weight, &conv).unwrap();
        let out = weight.zeros_like().unwrap();
        group.throughput(Throughput::Elements((2 * grad.elem_count() * kernel * kernel * channels) as u64));
        group.bench_function(BenchmarkId::new("forward", name), |b| b.iter(|| conv2d(&x, &weight, &conv).unwrap()));
        group.bench_function(BenchmarkId::new("backward input", name), |b| {
            b.iter(|| conv2d_backward_input(&grad, &weight, &conv, (side, side), None).unwrap())
        });
        group.bench_function(BenchmarkId::new("backward weight", name), |b| {
            b.iter(|| conv2d_backward_weight(&x, &grad, &conv, &out).unwrap())
        });
    }
}

/// With residual and ReLU, as a block ends. Throughput counts bytes of the activation.
fn normalization(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch_norm");
    for (side, channels) in [(56, 64), (7, 512)] {
        let shape = [BATCH, side, side, channels];
        let [x, residual, grad] = [0, 1, 2].map(|seed| random(&shape, seed));
        let (weight, bias) = (random(&[channels], 3), random(&[channels], 4));
        let epilogue = Epilogue { residual: Some(&residual), relu: true };
        let stats = batch_stats(&x).unwrap();
        let y = batch_norm(&x, &stats, (&weight, &bias), epilogue).unwrap();
        let name = format!("{side}px {channels}");
        group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
        group.bench_function(BenchmarkId::new("statistics", &name), |b| b.iter(|| batch_stats(&x).unwrap()));
        group
            .bench_function(BenchmarkId::new("forward", &name), |b| b.iter(|| batch_norm(&x, &stats, (&weight, &bias), epilogue).unwrap()));
        group.bench_function(BenchmarkId::new("backward", &name), |b| {
            let copy = || grad.copy().unwrap();
            let (of_weight, of_bias) = (weight.zeros_like().unwrap(), bias.zeros_like().unwrap());
            let backward = |grad| batch_norm_backward(grad, (&x, &y), &stats, (&weight, &bias), epilogue, (&of_weight, &of_bias)).unwrap();
            b.iter_batched(copy, backward, BatchSize::LargeInput)
        });
    }
}

fn pooling(c: &mut Criterion) {
    let mut group = c.benchmark_group("max_pool");
    let (x, window) = (random(&[BATCH, 112, 112, 64], 0), Conv2d::square(3, 2, 1));
    let (y, indices) = max_pool(&x, &window).unwrap();
    group.throughput(Throughput::Bytes(4 * x.elem_count() as u64));
    group.bench_function("forward", |b| b.iter(|| max_pool(&x, &window).unwrap()));
    group.bench_function("backward", |b| b.iter(|| max_pool_backward(&y, &indices).unwrap()));
}

/// Ten samples of half a second: enough to see a tenth.
fn quick() -> Criterion {
    // As la-cli does: else each sample pays for fresh pages.
    la_core::ops::memory::keep_freed_pages();
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = network; config = quick(); targets = convolution, normalization, pooling }
criterion_main!(network);
