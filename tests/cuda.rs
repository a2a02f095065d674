//! The operations on a GPU against those on the CPU, the golden values, and training from images to checkpoint.
//!
//! `tests/gpu/run` runs this program on a GPU; `tests/gpu/emulate` runs it where there is none. `LA_CUDA` names the device, 0
//! unless it is set.

#[path = "support/blobs.rs"]
mod blobs;
#[path = "cuda/losses.rs"]
mod losses;
#[path = "cuda/networks.rs"]
mod networks;
mod support;
#[path = "cuda/views.rs"]
mod views;

use candle_core::{DType, Device, Tensor};
use la_core::{
    ops::{
        batch_norm::{batch_norm, batch_norm_backward, batch_norm_eval, batch_stats, Epilogue},
        conv2d::{conv2d, conv2d_backward_input, conv2d_backward_weight, Conv2d},
        device::{open_cuda, set_precision, Precision},
        normalize::{normalize, normalize_backward},
        pool::{global_average_pool, global_average_pool_backward, max_pool, max_pool_backward},
    },
    rng::{Rng, Stream},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::close;

/// What f32 and bf16 may differ from the CPU by, as a share of the largest value.
const F32: f32 = 1e-4;
const BF16: f32 = 2e-2;

/// The precision belongs to the device, so one test has it at a time.
static DEVICE: Mutex<()> = Mutex::new(());

/// The device, computing in `precision` as long as the guard lives.
fn gpu(precision: Precision) -> (Device, MutexGuard<'static, ()>) {
    let guard = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let index = std::env::var("LA_CUDA").map_or(0, |index| index.parse().unwrap());
    let device = open_cuda(index).unwrap();
    set_precision(&device, precision).unwrap();
    (device, guard)
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(Stream::Bench, &[seed]);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Both copies of a tensor, the first on the CPU with values that the second's type can hold.
fn pair(x: &Tensor, device: &Device, dtype: DType) -> (Tensor, Tensor) {
    let there = match dtype {
        DType::BF16 => x.to_dtype(DType::BF16).unwrap(),
        _ => x.clone(),
    };
    (there.to_dtype(DType::F32).unwrap(), there.to_device(device).unwrap())
}

/// A GPU tensor's values on the CPU.
fn here(x: &Tensor) -> Tensor {
    x.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

fn precisions() -> [(Precision, DType, f32); 2] {
    [(Precision::F32, DType::F32, F32), (Precision::Bf16, DType::BF16, BF16)]
}

#[test]
fn convolutions_equal_the_cpu() {
    let cases = [
        ((3, 9, 7, 5), 6, Conv2d::square(3, 1, 1)),
        ((2, 11, 13, 3), 8, Conv2d::square(7, 2, 3)),
        ((2, 8, 6, 40), 36, Conv2d::square(1, 2, 0)),
        ((1, 5, 5, 33), 70, Conv2d::square(3, 2, 1)),
        ((5, 1, 1, 12), 9, Conv2d::square(1, 1, 0)),
    ];
    for (precision, dtype, tolerance) in precisions() {
        let (device, _guard) = gpu(precision);
        for (i, (input, outputs, conv)) in cases.iter().enumerate() {
            let (kh, kw) = conv.kernel;
            let (x, x_there) = pair(&random(&[input.0, input.1, input.2, input.3], i as u64), &device, dtype);
            let weight = random(&[kh, kw, input.3, *outputs], 100 + i as u64);
            let weight_there = weight.to_device(&device).unwrap();
            let y = conv2d(&x, &weight, conv).unwrap();
            close(&here(&conv2d(&x_there, &weight_there, conv).unwrap()), &y, tolerance, "forward");
            let (grad, grad_there) = pair(&random(y.dims(), 200 + i as u64), &device, dtype);
            let (size, gradients) = ((input.1, input.2), Tensor::zeros_like(&weight).unwrap());
            let (added, added_there) = pair(&random(x.dims(), 300 + i as u64), &device, dtype);
            for add_to in [None, Some((added.copy().unwrap(), added_there))] {
                let (to, to_there) = add_to.map_or((None, None), |(to, to_there)| (Some(to), Some(to_there)));
                let back = conv2d_backward_input(&grad, &weight, conv, size, to).unwrap();
                let there = conv2d_backward_input(&grad_there, &weight_there, conv, size, to_there).unwrap();
                close(&here(&there), &back, tolerance, "backward to the input");
            }
            let gradients_there = Tensor::full(f32::NAN, weight.dims(), &Device::Cpu).unwrap().to_device(&device).unwrap();
            conv2d_backward_weight(&x, &grad, conv, &gradients).unwrap();
            conv2d_backward_weight(&x_there, &grad_there, conv, &gradients_there).unwrap();
            close(&here(&gradients_there), &gradients, tolerance, "backward to the weights");
        }
    }
}

#[test]
fn batch_norms_equal_the_cpu() {
    // Channels that are and are not a multiple of what a thread moves at once, more than a block takes; and pixels likewise.
    for (precision, dtype, tolerance) in precisions() {
        let (device, _guard) = gpu(precision);
        for (i, shape) in [[2, 3, 5, 7], [4, 9, 9, 36], [1, 5, 3, 40], [3, 40, 30, 8], [1, 2, 3, 2056], [1, 3, 2, 301]].iter().enumerate() {
            for (has_residual, relu) in [(false, false), (false, true), (true, true)] {
                let (seed, channels) = (i as u64, shape[3]);
                let moved = random(shape, seed).affine(1.5, 3.0).unwrap();
                let (x, x_there) = pair(&moved, &device, dtype);
                let (residual, residual_there) = pair(&random(shape, 10 + seed), &device, dtype);
                let (weight, bias) = (random(&[channels], 20 + seed), random(&[channels], 30 + seed));
                let (weight_there, bias_there) = (weight.to_device(&device).unwrap(), bias.to_device(&device).unwrap());
                let epilogue = Epilogue { residual: has_residual.then_some(&residual), relu };
                let epilogue_there = Epilogue { residual: has_residual.then_some(&residual_there), relu };
                let (stats, stats_there) = (batch_stats(&x).unwrap(), batch_stats(&x_there).unwrap());
                let y = batch_norm(&x, &stats, (&weight, &bias), epilogue).unwrap();
                let y_there = batch_norm(&x_there, &stats_there, (&weight_there, &bias_there), epilogue_there).unwrap();
                close(&here(&y_there), &y, tolerance, "forward");

                let (mean, variance) = (random(&[channels], 50), random(&[channels], 51).sqr().unwrap());
                let running = (mean.to_device(&device).unwrap(), variance.to_device(&device).unwrap());
                stats.move_running((&mean, &variance), 0.1).unwrap();
                stats_there.move_running((&running.0, &running.1), 0.1).unwrap();
                close(&here(&running.0), &mean, tolerance, "running mean");
                close(&here(&running.1), &variance, tolerance, "running variance");

                // One gate for both: values that round to the other side of 0 are not what is looked at.
                let y = here(&y_there);
                let (grad, grad_there) = pair(&random(shape, 40 + seed), &device, dtype);
                let (of_weight, of_bias) = (weight.zeros_like().unwrap(), bias.zeros_like().unwrap());
                let there = (of_weight.to_device(&device).unwrap(), of_bias.to_device(&device).unwrap());
                let affine = (&weight, &bias);
                let (input, residual) = batch_norm_backward(grad, (&x, &y), &stats, affine, epilogue, (&of_weight, &of_bias)).unwrap();
                let (affine, into) = ((&weight_there, &bias_there), (&there.0, &there.1));
                let (input_there, residual_there) =
                    batch_norm_backward(grad_there, (&x_there, &y_there), &stats_there, affine, epilogue_there, into).unwrap();
                close(&here(&input_there), &input, tolerance, "gradient to the input");
                close(&here(&there.0), &of_weight, tolerance, "gradient to the weight");
                close(&here(&there.1), &of_bias, tolerance, "gradient to the bias");
                assert_eq!(residual.is_some(), residual_there.is_some());
                if let (Some(there), Some(grad)) = (residual_there, residual) {
                    close(&here(&there), &grad, tolerance, "gradient to the residual");
                }
                let (x, x_there) = pair(&moved, &device, dtype);
                let x = x.copy().unwrap();
                batch_norm_eval(&x, (&mean, &variance), (&weight, &bias), epilogue).unwrap();
                batch_norm_eval(&x_there, (&running.0, &running.1), (&weight_there, &bias_there), epilogue_there).unwrap();
                close(&here(&x_there), &x, tolerance, "eval mode");
            }
        }
    }
}

#[test]
fn pools_equal_the_cpu() {
    for (precision, dtype, tolerance) in precisions() {
        let (device, _guard) = gpu(precision);
        for (i, (shape, window)) in
            [([2, 9, 7, 5], Conv2d::square(3, 2, 1)), ([1, 6, 8, 3], Conv2d::square(2, 2, 0)), ([2, 7, 6, 16], Conv2d::square(3, 2, 1))]
                .iter()
                .enumerate()
        {
            let (x, x_there) = pair(&random(shape, i as u64), &device, dtype);
            let ((y, taps), (y_there, taps_there)) = (max_pool(&x, window).unwrap(), max_pool(&x_there, window).unwrap());
            close(&here(&y_there), &y, 0.0, "max-pool");
            let (grad, grad_there) = pair(&random(y.dims(), 10), &device, dtype);
            let back = here(&max_pool_backward(&grad_there, &taps_there).unwrap());
            close(&back, &max_pool_backward(&grad, &taps).unwrap(), tolerance, "max-pool backward");
            let mean = global_average_pool(&x).unwrap();
            close(&here(&global_average_pool(&x_there).unwrap()), &mean, tolerance, "mean");
            let back = global_average_pool_backward(&mean.to_device(&device).unwrap(), (4, 3)).unwrap();
            assert_eq!(back.dtype(), dtype);
            close(&here(&back), &global_average_pool_backward(&mean, (4, 3)).unwrap(), tolerance, "mean backward");
        }
    }
}

#[test]
fn unit_rows_equal_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    for dim in [1, 33, 128, 300] {
        let (x, grad) = (random(&[7, dim], dim as u64), random(&[7, dim], 1));
        let (unit, norms) = normalize(&x).unwrap();
        let (unit_there, norms_there) = normalize(&x.to_device(&device).unwrap()).unwrap();
        close(&here(&unit_there), &unit, F32, "unit rows");
        close(&here(&norms_there), &norms, F32, "norms");
        let back = normalize_backward(&unit_there, &norms_there, &grad.to_device(&device).unwrap()).unwrap();
        let expected = normalize_backward(&unit, &norms, &grad).unwrap();
        let scale = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        // One dimension has no direction to turn to: both are rounding.
        assert!(dim > 1 || scale < 1e-5);
        if dim > 1 {
            close(&here(&back), &expected, F32, "backward");
        }
    }
}
