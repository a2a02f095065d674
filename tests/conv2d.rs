//! Convolution against a brute-force oracle in f64, at every stride, padding, odd and non-square size that ResNets meet.

use candle_core::{DType, Device, Tensor};
use la_core::ops::conv2d::{conv2d, conv2d_backward_input, conv2d_backward_weight, Conv2d};
use la_core::ops::device::bf16_instructions;
use la_core::rng::{Rng, Stream};

struct Case {
    x: Vec<f32>,
    w: Vec<f32>,
    grad: Vec<f32>,
    dims: [usize; 4],
    out_channels: usize,
    conv: Conv2d,
    out: (usize, usize),
}

impl Case {
    fn new(dims: [usize; 4], out_channels: usize, conv: Conv2d) -> Self {
        let out = conv.output_size((dims[1], dims[2])).unwrap();
        let mut rng = Rng::new(Stream::Weights, &[7, dims[1] as u64, out_channels as u64]);
        let mut draw = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f32>>();
        let x = draw(dims.iter().product());
        let w = draw(conv.kernel.0 * conv.kernel.1 * dims[3] * out_channels);
        let grad = draw(dims[0] * out.0 * out.1 * out_channels);
        Self { x, w, grad, dims, out_channels, conv, out }
    }

    /// Calls `f` with the flat indices of every (input, weight, output) triple that multiply.
    fn visit(&self, mut f: impl FnMut(usize, usize, usize)) {
        let ([b, h, w, c], o) = (self.dims, self.out_channels);
        let (kh, kw) = self.conv.kernel;
        for (n, y, x) in (0..b).flat_map(|n| (0..self.out.0).flat_map(move |y| (0..self.out.1).map(move |x| (n, y, x)))) {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let (iy, ix) = (y * self.conv.stride + ky, x * self.conv.stride + kx);
                let p = self.conv.padding;
                if iy < p || ix < p || iy - p >= h || ix - p >= w {
                    continue;
                }
                let input = ((n * h + iy - p) * w + ix - p) * c;
                let output = ((n * self.out.0 + y) * self.out.1 + x) * o;
                for (ci, co) in (0..c).flat_map(|ci| (0..o).map(move |co| (ci, co))) {
                    f(input + ci, ((ky * kw + kx) * c + ci) * o + co, output + co);
                }
            }
        }
    }

    fn tensor(&self, values: &[f32], dims: &[usize]) -> Tensor {
        Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
    }

    /// The same with every value rounded to bf16.
    fn rounded(mut self) -> Self {
        for values in [&mut self.x, &mut self.w, &mut self.grad] {
            values.iter_mut().for_each(|value| *value = half::bf16::from_f32(*value).to_f32());
        }
        self
    }

    fn check(&self) {
        self.check_as(DType::F32);
    }

    /// Activations and their gradients of `dtype`; weights and theirs f32.
    fn check_as(&self, dtype: DType) {
        let [b, h, w, c] = self.dims;
        let weight = self.tensor(&self.w, &[self.conv.kernel.0, self.conv.kernel.1, c, self.out_channels]);
        let x = self.tensor(&self.x, &self.dims).to_dtype(dtype).unwrap();
        let grad = self.tensor(&self.grad, &[b, self.out.0, self.out.1, self.out_channels]).to_dtype(dtype).unwrap();
        let (mut y, mut dx, mut dw) = (vec![0f64; self.grad.len()], vec![0f64; self.x.len()], vec![0f64; self.w.len()]);
        self.visit(|i, k, o| {
            y[o] += self.x[i] as f64 * self.w[k] as f64;
            dx[i] += self.grad[o] as f64 * self.w[k] as f64;
            dw[k] += self.grad[o] as f64 * self.x[i] as f64;
        });
        close(&conv2d(&x, &weight, &self.conv).unwrap(), &y, "forward");
        close(&conv2d_backward_input(&grad, &weight, &self.conv, (h, w), None).unwrap(), &dx, "backward input");
        let base = self.tensor(&vec![0.5; self.x.len()], &self.dims).to_dtype(dtype).unwrap();
        let added: Vec<f64> = dx.iter().map(|d| d + 0.5).collect();
        close(&conv2d_backward_input(&grad, &weight, &self.conv, (h, w), Some(base)).unwrap(), &added, "backward input, added");
        let out = weight.zeros_like().unwrap();
        conv2d_backward_weight(&x, &grad, &self.conv, &out).unwrap();
        close(&out, &dw, "backward weight");
    }
}

/// Within f32's rounding of a sum, and half a unit in the last place of what is stored as bf16.
fn close(got: &Tensor, expected: &[f64], what: &str) {
    let rounding = if got.dtype() == DType::BF16 { 2f64.powi(-8) } else { 0.0 };
    let got: Vec<f32> = got.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0f64, |m, e| m.max(e.abs())).max(1e-9);
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((*g as f64 - e).abs() <= 2e-5 * scale + rounding * e.abs(), "{what}: value {i}: got {g}, expected {e}");
    }
}

#[test]
fn convolution_equals_the_definition_at_every_resnet_shape() {
    for (dims, out, conv) in [
        ([2, 9, 7, 64], 64, Conv2d::square(3, 1, 1)),
        ([3, 8, 8, 64], 128, Conv2d::square(3, 2, 1)),
        ([2, 9, 7, 64], 128, Conv2d::square(3, 2, 1)),
        ([2, 7, 9, 64], 128, Conv2d::square(1, 2, 0)),
        ([1, 5, 5, 64], 256, Conv2d::square(1, 1, 0)),
        ([2, 23, 17, 3], 64, Conv2d::square(7, 2, 3)),
        ([2, 11, 13, 3], 64, Conv2d::square(3, 1, 1)),
        ([70, 4, 4, 32], 32, Conv2d::square(3, 1, 1)),
        ([40, 16, 13, 64], 64, Conv2d::square(3, 1, 1)),
        ([70, 10, 11, 24], 72, Conv2d::square(3, 1, 1)),
        ([130, 7, 7, 128], 32, Conv2d::square(3, 1, 1)),
        ([40, 15, 16, 16], 16, Conv2d::square(3, 1, 0)),
        ([2, 1, 1, 640], 128, Conv2d::square(1, 1, 0)),
        ([1, 2, 2, 600], 40, Conv2d::square(3, 1, 1)),
    ] {
        Case::new(dims, out, conv).check();
    }
}

#[test]
fn convolution_equals_the_definition_at_awkward_channel_counts() {
    for channels in [1, 5, 8, 16, 24] {
        for out in [1, 3, 10, 17, 48, 72] {
            Case::new([2, 6, 5, channels], out, Conv2d::square(3, 1, 1)).check();
        }
    }
    Case::new([2, 6, 5, 4], 6, Conv2d { kernel: (1, 3), stride: 1, padding: 1 }).check();
    Case::new([2, 12, 9, 8], 6, Conv2d { kernel: (5, 2), stride: 3, padding: 2 }).check();
}

/// Shapes that ResNets meet, awkward ones, and random ones of odd sizes.
fn cases_of_bf16() -> Vec<([usize; 4], usize, Conv2d)> {
    let mut cases = vec![
        ([2, 34, 33, 64], 64, Conv2d::square(3, 1, 1)),
        ([1, 57, 40, 64], 32, Conv2d::square(3, 1, 1)),
        ([3, 8, 8, 64], 128, Conv2d::square(3, 2, 1)),
        ([2, 9, 7, 64], 96, Conv2d::square(3, 2, 1)),
        ([2, 7, 9, 64], 128, Conv2d::square(1, 2, 0)),
        ([2, 21, 30, 64], 160, Conv2d::square(1, 1, 0)),
        ([2, 45, 37, 3], 64, Conv2d::square(7, 2, 3)),
        ([3, 32, 33, 3], 64, Conv2d::square(3, 1, 1)),
        ([19, 4, 4, 96], 64, Conv2d::square(3, 1, 1)),
        ([2, 1, 1, 640], 128, Conv2d::square(1, 1, 0)),
        ([3, 1, 1, 40], 24, Conv2d::square(3, 2, 1)),
        ([2, 2, 2, 200], 40, Conv2d::square(3, 1, 1)),
        ([2, 6, 5, 4], 6, Conv2d { kernel: (1, 3), stride: 1, padding: 1 }),
        ([2, 12, 9, 8], 6, Conv2d { kernel: (5, 2), stride: 3, padding: 2 }),
        ([2, 9, 1, 48], 16, Conv2d { kernel: (3, 1), stride: 1, padding: 0 }),
        // Enough images for products of one pixel of each.
        ([8, 7, 7, 64], 64, Conv2d::square(3, 1, 1)),
        ([13, 6, 5, 32], 64, Conv2d::square(3, 2, 1)),
        ([40, 4, 4, 64], 32, Conv2d::square(3, 1, 1)),
        ([33, 1, 1, 64], 32, Conv2d::square(3, 1, 1)),
        ([64, 2, 3, 32], 64, Conv2d::square(1, 2, 0)),
        ([9, 41, 37, 32], 32, Conv2d::square(3, 1, 1)),
        ([35, 9, 8, 64], 32, Conv2d { kernel: (3, 2), stride: 3, padding: 1 }),
    ];
    let mut rng = Rng::new(Stream::Weights, &[11]);
    let mut draw = |n: f32| rng.uniform_in(0.0, n) as usize;
    while cases.len() < 40 {
        let conv = Conv2d { kernel: (1 + draw(4.0), 1 + draw(4.0)), stride: 1 + draw(3.0), padding: draw(3.0) };
        let dims = [8 + draw(30.0), 1 + draw(9.0), 1 + draw(9.0), 32 * (1 + draw(2.0))];
        let fits = conv.output_size((dims[1], dims[2])).is_some_and(|(y, x)| y * x > 0);
        if fits && conv.padding < conv.kernel.0.min(conv.kernel.1) {
            cases.push((dims, 32 * (1 + draw(2.0)), conv));
        }
    }
    while cases.len() < 80 {
        let conv = Conv2d { kernel: (1 + draw(4.0), 1 + draw(4.0)), stride: 1 + draw(3.0), padding: draw(3.0) };
        let dims = [1 + draw(4.0), 1 + draw(19.0), 1 + draw(19.0), 1 + draw(70.0)];
        let fits = conv.output_size((dims[1], dims[2])).is_some_and(|(y, x)| y * x > 0);
        if fits && conv.padding < conv.kernel.0.min(conv.kernel.1) {
            cases.push((dims, 1 + draw(70.0), conv));
        }
    }
    cases
}

#[test]
fn convolution_of_bf16_equals_the_definition() {
    for (dims, out, conv) in cases_of_bf16() {
        let case = Case::new(dims, out, conv).rounded();
        if bf16_instructions().is_none() {
            let x = case.tensor(&case.x, &case.dims).to_dtype(DType::BF16).unwrap();
            let w = case.tensor(&case.w, &[conv.kernel.0, conv.kernel.1, dims[3], out]);
            assert!(conv2d(&x, &w, &conv).is_err());
            continue;
        }
        case.check_as(DType::BF16);
    }
}

/// Where the processor has AMX, the vectors of AVX512-BF16 are asked for in a process of their own.
#[test]
fn convolution_of_bf16_equals_the_definition_without_tiles() {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let done = again.env("LA_SIMD", "avx512").args(["--exact", "convolution_of_bf16_equals_the_definition"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_kernel_larger_than_the_image_is_refused() {
    let x = Tensor::zeros((1, 3, 3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let w = Tensor::zeros((5, 5, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = conv2d(&x, &w, &Conv2d::square(5, 1, 0)).unwrap_err().to_string();
    assert!(error.contains("5x5 kernel does not fit a 3x3 image"), "{error}");
}

#[test]
fn weights_of_other_channels_are_refused() {
    let x = Tensor::zeros((1, 3, 3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let w = Tensor::zeros((3, 3, 5, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = conv2d(&x, &w, &Conv2d::square(3, 1, 1)).unwrap_err().to_string();
    assert!(error.contains("expected weights (3, 3, 4, O), got [3, 3, 5, 4]"), "{error}");
}

#[test]
fn convolution_equals_the_layer_of_candle_nn() {
    use candle_nn::{Conv2dConfig, Module};
    for (size, conv) in [((9, 12), Conv2d::square(3, 1, 1)), ((13, 8), Conv2d::square(7, 2, 3)), ((6, 7), Conv2d::square(1, 2, 0))] {
        let case = Case::new([2, size.0, size.1, 5], 7, conv);
        let (x, w) = (case.tensor(&case.x, &case.dims), case.tensor(&case.w, &[conv.kernel.0, conv.kernel.1, 5, 7]));
        let config = Conv2dConfig { padding: conv.padding, stride: conv.stride, ..Conv2dConfig::default() };
        let layer = candle_nn::Conv2d::new(w.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap(), None, config);
        let theirs = layer.forward(&x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()).unwrap();
        let theirs = theirs.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        close(&conv2d(&x, &w, &conv).unwrap(), &theirs.iter().map(|&v| v as f64).collect::<Vec<_>>(), "candle-nn");
    }
}
