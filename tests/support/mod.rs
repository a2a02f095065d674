//! What several test files share: golden values and comparisons.
#![allow(dead_code)]

pub mod clouds;

use candle_core::{DType, Device, Tensor};
use la_core::resnet::ResNet;
use std::{collections::HashMap, path::PathBuf};

/// One reference file.
pub struct Golden {
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

/// Reads `NAME.safetensors` from the folder in `LA_GOLDEN`, or from the copy beside this file.
pub fn golden(name: &str) -> Golden {
    let folder =
        std::env::var_os("LA_GOLDEN").map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")), PathBuf::from);
    let path = folder.join(format!("{name}.safetensors"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    Golden { tensors, metadata: header.metadata().clone().unwrap_or_default() }
}

impl Golden {
    /// A tensor by name.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// The one value of a tensor.
    pub fn scalar(&self, name: &str) -> f32 {
        self.get(name).flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    }

    /// A setting.
    pub fn setting(&self, name: &str) -> &str {
        self.metadata.get(name).unwrap_or_else(|| panic!("no setting {name}"))
    }

    /// A setting as a number.
    pub fn number(&self, name: &str) -> f64 {
        self.setting(name).parse().unwrap()
    }

    /// The values of a tensor of numbers.
    pub fn values(&self, name: &str) -> Vec<f32> {
        self.get(name).flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The values of a tensor of indices or labels.
    pub fn indices(&self, name: &str) -> Vec<u32> {
        self.get(name).to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Tensors whose names start with `prefix`, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.tensors.iter().filter_map(move |(name, t)| Some((name.strip_prefix(prefix)?, t)))
    }
}

/// Asserts that the largest difference is at most `tolerance` times the largest expected magnitude.
pub fn close(got: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(got.elem_count(), expected.elem_count(), "{what}: shapes {:?} and {:?}", got.dims(), expected.dims());
    let flat = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, expected) = (flat(got), flat(expected));
    let scale = expected.iter().fold(0f32, |m, e| m.max(e.abs()));
    let worst = got.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    assert!(worst <= tolerance * scale, "{what}: largest difference {worst} at scale {scale}");
}

/// The loss of the training cases, `−mean ⟨normalised output, target⟩`, and its gradient to the raw outputs.
pub fn target_loss(outputs: &Tensor, golden: &Golden) -> (f64, Tensor) {
    let outputs = outputs.to_dtype(DType::F64).unwrap();
    let target = golden.get("target").to_dtype(DType::F64).unwrap();
    let batch = outputs.dim(0).unwrap() as f64;
    let norms = outputs.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
    let unit = outputs.broadcast_div(&norms).unwrap();
    let loss = (unit.mul(&target).unwrap().sum_all().unwrap() * (-1.0 / batch)).unwrap();
    let grad = (target * (-1.0 / batch)).unwrap();
    let along = unit.mul(&grad).unwrap().sum_keepdim(1).unwrap();
    let across = grad.sub(&unit.broadcast_mul(&along).unwrap()).unwrap().broadcast_div(&norms).unwrap();
    (loss.to_scalar().unwrap(), across.to_dtype(DType::F32).unwrap())
}

/// What fills the convolutions and the last layer of a golden ResNet: element `j` of entry `p`, before its scale.
#[derive(Clone, Copy)]
pub enum Fill {
    /// `sin(0.7 j + p)`, which gives a layer's weights rank 2: every filter is a mixture of one sine and one cosine.
    Waves,
    /// A hash of `j` and `p`, uniform in `[-1, 1)`.
    Scattered,
}

impl Fill {
    /// That of the golden file `name`.
    pub fn of(name: &str) -> Self {
        if name.contains("scattered") {
            Fill::Scattered
        } else {
            Fill::Waves
        }
    }

    fn value(self, j: u64, p: u64) -> f64 {
        match self {
            Fill::Waves => (0.7 * j as f64 + p as f64).sin() * 2f64.sqrt(),
            Fill::Scattered => {
                let x = (j + 1 + 1_000_003 * p).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                (((x ^ (x >> 29)) >> 40) as f64 / (1 << 23) as f64 - 1.0) * 6f64.sqrt()
            }
        }
    }
}

/// The weights that a golden ResNet was filled with: a formula of the entry's and the element's index.
pub fn formula_weights(net: &ResNet, fill: Fill) -> HashMap<String, Tensor> {
    let entries = net.tensors().unwrap();
    let fill = |(p, (name, tensor)): (usize, &(String, Tensor))| {
        let (dims, phase) = (tensor.dims(), p as f64);
        let fan_in: usize = dims.iter().skip(1).product();
        let value = |index: usize| {
            let j = index as f64;
            match name {
                n if n.ends_with("running_var") => 1.0 + 0.5 * (0.9 * j + phase).sin().powi(2),
                n if n.ends_with("bias") || n.ends_with("running_mean") => 0.05 * (0.3 * j + phase).sin(),
                _ if dims.len() == 1 => 1.0 + 0.1 * (0.5 * j + phase).sin(),
                _ => fill.value(index as u64, p as u64) / (fan_in as f64).sqrt(),
            }
        };
        let values: Vec<f32> = (0..tensor.elem_count()).map(|j| value(j) as f32).collect();
        (name.clone(), Tensor::from_vec(values, dims, &Device::Cpu).unwrap())
    };
    entries.iter().enumerate().map(fill).collect()
}

/// Gradients in torchvision's layout: `(KH, KW, C, O)` to `(O, C, KH, KW)`, a linear layer to `(O, C)`.
pub fn file_layout(net: &ResNet) -> HashMap<String, Tensor> {
    let permute = |name: &str, grad: &Tensor| match (grad.rank(), name) {
        (4, "fc.weight") => grad.squeeze(0).unwrap().squeeze(0).unwrap().t().unwrap().contiguous().unwrap(),
        (4, _) => grad.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap(),
        _ => grad.clone(),
    };
    net.parameters().iter().map(|p| (p.name.clone(), permute(&p.name, &p.grad))).collect()
}
