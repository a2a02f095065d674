//! bf16 on the CPU: each operation against f64, whole networks against f32, and the same bits with any number of threads.
//! Convolutions alone are in `conv2d.rs`. Where the processor has no such instructions, only that it says so is tested.

use candle_core::{DType, Device, Tensor};
use la_core::{
    ops::{
        batch_norm::{batch_norm, batch_norm_backward, Epilogue},
        conv2d::{conv2d, conv2d_stats, Conv2d},
        device::{bf16_instructions, instructions, set_precision, Precision},
        pool::{global_average_pool, max_pool, max_pool_backward},
    },
    resnet::{Arch, ResNet, ResNetConfig, Stem},
    rng::{Rng, Stream},
};

/// Half a unit in the last place of a bf16, relative to the value.
const ROUNDING: f64 = 1.0 / 256.0;

fn has_bf16() -> bool {
    if bf16_instructions().is_none() {
        let error = set_precision(&Device::Cpu, Precision::Bf16).unwrap_err().to_string();
        assert!(error.contains("needs") && error.contains("AVX512-BF16") && error.contains("f32 runs on any"), "{error}");
    }
    bf16_instructions().is_some()
}

/// Normal values that bf16 holds exactly.
fn random(dims: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(Stream::Weights, &[seed]);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| half::bf16::from_f32(rng.normal()).to_f32()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn narrow(x: &Tensor) -> Tensor {
    x.to_dtype(DType::BF16).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Every value within its own rounding to bf16 and `tolerance` of the largest.
fn close(got: &Tensor, expected: &[f64], tolerance: f64, what: &str) {
    let rounding = if got.dtype() == DType::BF16 { ROUNDING } else { 0.0 };
    let scale = expected.iter().fold(0f64, |most, e| most.max(e.abs()));
    let got = values(got);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= rounding * e.abs() + tolerance * scale, "{what}: value {i}: got {g}, expected {e}");
    }
}

/// Mean and inverse standard deviation of each channel.
fn moments(x: &[f64], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (x.len() / channels) as f64;
    let of = |c: usize| x.iter().skip(c).step_by(channels);
    let mean: Vec<f64> = (0..channels).map(|c| of(c).sum::<f64>() / n).collect();
    let inv = (0..channels).map(|c| 1.0 / (of(c).map(|v| (v - mean[c]).powi(2)).sum::<f64>() / n + 1e-5).sqrt());
    let inv = inv.collect();
    (mean, inv)
}

#[test]
fn batch_norm_of_bf16_equals_the_definition() {
    if !has_bf16() {
        return;
    }
    for (i, (dims, out)) in [([2, 5, 7, 3], 40), ([1, 9, 4, 20], 16), ([3, 6, 6, 32], 67)].into_iter().enumerate() {
        for (has_residual, relu) in [(false, false), (false, true), (true, true)] {
            check_norm(&dims, out, (has_residual, relu), i as u64);
        }
    }
}

/// Statistics that the convolution before it counted, forward and backward.
fn check_norm(dims: &[usize; 4], channels: usize, (has_residual, relu): (bool, bool), seed: u64) {
    let weights = random(&[1, 1, dims[3], channels], 10 + seed);
    let (x, stats) = conv2d_stats(&narrow(&random(dims, seed)), &weights, &Conv2d::square(1, 1, 0)).unwrap();
    let residual = narrow(&random(x.dims(), 20 + seed));
    let (weight, bias) = (random(&[channels], 30 + seed), random(&[channels], 40 + seed));
    let epilogue = Epilogue { residual: has_residual.then_some(&residual), relu };
    let y = batch_norm(&x, &stats, (&weight, &bias), epilogue).unwrap();
    let grad = narrow(&random(x.dims(), 50 + seed));
    let (of_weight, of_bias) = (weight.zeros_like().unwrap(), bias.zeros_like().unwrap());
    let copy = grad.copy().unwrap();
    let (dx, dr) = batch_norm_backward(copy, (&x, &y), &stats, (&weight, &bias), epilogue, (&of_weight, &of_bias)).unwrap();

    let [x, r, w, b, g, shown] = [&x, &residual, &weight, &bias, &grad, &y].map(values);
    let (mean, inv) = moments(&x, channels);
    let normal: Vec<f64> = x.iter().enumerate().map(|(i, x)| (x - mean[i % channels]) * inv[i % channels]).collect();
    let sum = |i: usize| normal[i] * w[i % channels] + b[i % channels] + if has_residual { r[i] } else { 0.0 };
    let expected: Vec<f64> = (0..x.len()).map(sum).map(|y| if relu && y < 0.0 { 0.0 } else { y }).collect();
    close(&y, &expected, 1e-5, "forward");
    let g: Vec<f64> = g.iter().zip(&shown).map(|(g, y)| if relu && *y <= 0.0 { 0.0 } else { *g }).collect();
    let total = |f: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..channels).map(|c| (c..g.len()).step_by(channels).map(f).sum()).collect() };
    let (sums, dots) = (total(&|i| g[i]), total(&|i| g[i] * normal[i]));
    let n = (x.len() / channels) as f64;
    let through = |i: usize| w[i % channels] * inv[i % channels] * (g[i] - sums[i % channels] / n - normal[i] * dots[i % channels] / n);
    close(&dx, &(0..x.len()).map(through).collect::<Vec<_>>(), 1e-5, "gradient to the input");
    close(&of_weight, &dots, 1e-5, "gradient to the weight");
    close(&of_bias, &sums, 1e-5, "gradient to the bias");
    assert_eq!(dr.is_some(), has_residual);
    if let Some(dr) = dr {
        assert_eq!(values(&dr), g, "gradient to the residual");
    }
}

#[test]
fn pools_of_bf16_equal_those_of_f32() {
    if !has_bf16() {
        return;
    }
    for dims in [[2, 7, 9, 5], [1, 8, 6, 64], [3, 1, 1, 16]] {
        let (x, window) = (random(&dims, 1), Conv2d::square(3, 2, 1));
        let (wide, of_wide) = max_pool(&x, &window).unwrap();
        let (got, taps) = max_pool(&narrow(&x), &window).unwrap();
        assert_eq!(values(&got), values(&wide), "{dims:?}");
        let grad = random(wide.dims(), 2);
        let expected = max_pool_backward(&grad, &of_wide).unwrap();
        close(&max_pool_backward(&narrow(&grad), &taps).unwrap(), &values(&expected), 0.0, "max-pool backward");
        let mean = global_average_pool(&narrow(&x)).unwrap();
        assert_eq!(mean.dtype(), DType::F32);
        close(&mean, &values(&global_average_pool(&x).unwrap()), 1e-6, "mean");
    }
}

fn network(arch: Arch, stem: Stem) -> ResNet {
    ResNet::new(&ResNetConfig { arch, stem, width: 32, embedding_dim: 24 }, 5, &Device::Cpu).unwrap()
}

/// Outputs in training mode, and every gradient, of one step in `precision`.
fn step(net: &mut ResNet, images: &Tensor, grad: &Tensor, precision: Precision) -> Vec<Vec<f64>> {
    set_precision(&Device::Cpu, precision).unwrap();
    let (outputs, cache) = net.forward_train(images).unwrap();
    net.backward(cache, grad).unwrap();
    std::iter::once(values(&outputs)).chain(net.parameters().iter().map(|p| values(&p.grad))).collect()
}

/// `|a - b| / |b|` over all values.
fn distance<'a>(a: impl IntoIterator<Item = &'a Vec<f64>>, b: impl IntoIterator<Item = &'a Vec<f64>>) -> f64 {
    let (mut apart, mut length) = (0f64, 0f64);
    for (a, b) in a.into_iter().flatten().zip(b.into_iter().flatten()) {
        apart += (a - b).powi(2);
        length += b.powi(2);
    }
    (apart / length).sqrt()
}

/// Every convolution's weights rounded, so that f32 computes with what bf16 multiplies.
fn round_weights(net: &mut ResNet) {
    for parameter in net.parameters_mut().into_iter().filter(|p| p.value.rank() == 4 && !p.name.starts_with("fc")) {
        parameter.value = narrow(&parameter.value).to_dtype(DType::F32).unwrap();
    }
}

/// bf16 rounds activations and gradients about four times a layer where rounding the weights rounds once. Squares add up: about
/// twice that distance, and half as much again for luck. Wrong gradients are as far from the right ones as those are long.
///
/// In a ResNet-50 of random weights rounding the weights alone moves the first layers' gradients by their length, so that only
/// those of the last block and of `fc` are held.
#[test]
fn whole_networks_in_bf16_are_as_far_from_f32_as_rounding_explains() {
    if !has_bf16() {
        return;
    }
    for (arch, stem, size, held) in
        [(Arch::Resnet18, Stem::Small, 21, ""), (Arch::Resnet18, Stem::Imagenet, 70, ""), (Arch::Resnet50, Stem::Small, 40, "layer4.2")]
    {
        let (images, grad) = (random(&[8, 3, size, size], 7), random(&[8, 24], 8));
        let mut net = network(arch, stem);
        let first = 1 + net.parameters().iter().position(|p| p.name.starts_with(held)).unwrap();
        let exact = step(&mut net, &images, &grad, Precision::F32);
        let mut rounded = network(arch, stem);
        round_weights(&mut rounded);
        let rounded = step(&mut rounded, &images, &grad, Precision::F32);
        let got = step(&mut network(arch, stem), &images, &grad, Precision::Bf16);
        for (what, part) in [("outputs", 0..1), ("gradients", first..exact.len())] {
            let explained = distance(&rounded[part.clone()], &exact[part.clone()]);
            let found = distance(&got[part.clone()], &exact[part]);
            println!("{arch} {stem} {what}: {found:.4}, rounded weights alone {explained:.4}");
            assert!(found <= 3.0 * explained && found < 0.6, "{arch} {stem} {what}: {found}, rounded weights alone {explained}");
        }
    }
}

#[test]
fn embeddings_in_bf16_point_where_those_of_f32_do() {
    if !has_bf16() {
        return;
    }
    for (arch, stem, size) in [(Arch::Resnet18, Stem::Imagenet, 75), (Arch::Resnet50, Stem::Small, 19)] {
        let (net, images) = (network(arch, stem), random(&[5, 3, size, size], 9));
        let embed = |precision| {
            set_precision(&Device::Cpu, precision).unwrap();
            net.embed(&images).unwrap()
        };
        let cosines = (embed(Precision::F32) * embed(Precision::Bf16)).unwrap().sum(1).unwrap();
        assert!(values(&cosines).iter().all(|&cosine| cosine >= 0.999), "{cosines}");
    }
}

#[test]
fn a_step_in_bf16_has_the_same_bits_on_any_number_of_threads() {
    if !has_bf16() {
        return;
    }
    let (images, grad) = (random(&[6, 3, 40, 33], 3), random(&[6, 24], 4));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step(&mut network(Arch::Resnet50, Stem::Imagenet), &images, &grad, Precision::Bf16))
    };
    let one = on(1);
    assert!(one == on(2) && one == on(5));
}

#[test]
fn the_precision_of_a_thread_is_its_own_and_is_named() {
    if !has_bf16() {
        return;
    }
    set_precision(&Device::Cpu, Precision::Bf16).unwrap();
    let net = network(Arch::Resnet18, Stem::Small);
    let dtype = |net: &ResNet| net.features(&random(&[1, 3, 8, 8], 1)).unwrap().stages[0].dtype();
    assert_eq!(dtype(&net), DType::BF16);
    std::thread::scope(|scope| scope.spawn(|| assert_eq!(dtype(&net), DType::F32)).join().unwrap());
    assert!(["amx-bf16", "avx512-bf16"].contains(&instructions(Precision::Bf16)));
    assert_eq!(instructions(Precision::F32), "avx512");
}

#[test]
fn tf32_on_the_cpu_is_refused() {
    let error = set_precision(&Device::Cpu, Precision::Tf32).unwrap_err().to_string();
    assert!(error.contains("tf32 needs a CUDA device"), "{error}");
}

#[test]
fn a_gradient_of_another_type_is_refused() {
    let x = Tensor::zeros((1, 3, 3, 4), DType::BF16, &Device::Cpu).unwrap();
    let w = Tensor::zeros((1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let grad = Tensor::zeros((1, 3, 3, 4), DType::F32, &Device::Cpu).unwrap();
    let conv = Conv2d::square(1, 1, 0);
    assert!(la_core::ops::conv2d::conv2d_backward_weight(&x, &grad, &conv, &w).is_err());
    assert!(conv2d(&x, &narrow(&w), &conv).is_err());
}
