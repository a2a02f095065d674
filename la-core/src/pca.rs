//! Principal components: the linear map that makes all directions of some rows equally strong.
//!
//! Pooled features of a network vary a thousand times more along some directions than along others, so a few of them
//! decide every cosine similarity. Whitening divides each principal component by its deviation.

use crate::{
    error::bail,
    ops::{host, normalize::normalize},
    Error, Result,
};
use candle_core::{Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};
use std::collections::HashMap;

/// Share of the largest variance that is added to each: the weakest components are mostly noise.
const RIDGE: f64 = 1e-4;
/// Rows whose covariance is summed in one product.
const BLOCK: usize = 1024;
/// Names of the tensors in files.
const NAMES: [&str; 2] = ["readout.weight", "readout.bias"];

/// `y = weight · x + bias`, then divided by its length.
#[derive(Debug, Clone)]
pub struct Whitening {
    /// `(D, F)`: the first principal components, each divided by its deviation.
    pub weight: Tensor,
    /// `(D,)`: minus the weighted mean.
    pub bias: Tensor,
}

/// The whitening map of `rows` `(N, F)` to `dim` dimensions, or to as many as `N - 1` and `F` allow.
///
/// Component `i` is `vᵢ · (x - mean) / √(λᵢ + 1e-4 λ₁)`, where `vᵢ` and `λᵢ` are the eigenvectors and eigenvalues of the
/// covariance, the largest first. Each `vᵢ` has its largest value positive, so that equal rows give equal maps.
/// Fails where there are fewer than two rows, a value is not finite, or all rows are equal.
pub fn whitening(rows: &Tensor, dim: usize) -> Result<Whitening> {
    let (num_rows, num_features) = rows.dims2()?;
    if num_rows < 2 || dim == 0 {
        bail!("whitening needs at least 2 rows and 1 dimension, got {num_rows} and {dim}");
    }
    let (mean, covariance) = host::read(&host::local(rows)?, |values| moments(values, num_features))?;
    if !covariance.iter().all(|value| value.is_finite()) {
        bail!("whitening needs finite values, got NaN or infinity");
    }
    let eigen = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..num_features).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let largest = eigen.eigenvalues[order[0]];
    if largest <= f64::from(f32::EPSILON) * mean.iter().map(|x| x * x).sum::<f64>() {
        bail!("whitening needs rows that differ, got {num_rows} equal ones");
    }
    let dim = dim.min(num_features).min(num_rows - 1);
    let (mut weight, mut bias) = (Vec::with_capacity(dim * num_features), Vec::with_capacity(dim));
    for &i in &order[..dim] {
        let vector = eigen.eigenvectors.column(i);
        let sign = vector[vector.iamax()].signum();
        let scale = sign / (eigen.eigenvalues[i].max(0.0) + RIDGE * largest).sqrt();
        bias.push(-(vector.iter().zip(&mean).map(|(v, m)| v * m).sum::<f64>() * scale) as f32);
        weight.extend(vector.iter().map(|v| (v * scale) as f32));
    }
    Ok(Whitening { weight: host::tensor(weight, (dim, num_features)), bias: host::tensor(bias, dim) })
}

/// The mean and the covariance of rows, summed in 64 bits.
fn moments(values: &[f32], num_features: usize) -> (Vec<f64>, DMatrix<f64>) {
    let num_rows = values.len() / num_features;
    let mut mean = vec![0.0; num_features];
    for row in values.chunks_exact(num_features) {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    mean.iter_mut().for_each(|sum| *sum /= num_rows as f64);
    let mut covariance = DMatrix::zeros(num_features, num_features);
    for block in values.chunks(BLOCK * num_features) {
        let centred = block.iter().enumerate().map(|(i, &x)| f64::from(x) - mean[i % num_features]);
        let columns = DMatrix::from_iterator(num_features, block.len() / num_features, centred);
        covariance.gemm(1.0 / num_rows as f64, &columns, &columns.transpose(), 1.0);
    }
    (mean, covariance)
}

impl Whitening {
    /// Number of dimensions `D`.
    pub fn dim(&self) -> usize {
        self.bias.elem_count()
    }

    /// Unit-length rows `(N, D)` of `features` `(N, F)`, on the CPU.
    pub fn apply(&self, features: &Tensor) -> Result<Tensor> {
        let rows = host::local(features)?.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        Ok(normalize(&rows)?.0)
    }

    /// The tensors of a file: `readout.weight` `(D, F)` and `readout.bias` `(D,)`.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        NAMES.iter().map(|name| name.to_string()).zip([self.weight.clone(), self.bias.clone()]).collect()
    }

    /// The map that [`Whitening::tensors`] was made of, for features of `num_features` values.
    pub fn from_tensors(tensors: &HashMap<String, Tensor>, num_features: usize) -> Result<Self> {
        let get = |name: &str| match tensors.get(name) {
            Some(tensor) => Ok(tensor.to_dtype(candle_core::DType::F32)?.to_device(&Device::Cpu)?.contiguous()?),
            None => Err(Error::invalid(format!("read-out: tensor {name} is missing"))),
        };
        let (weight, bias) = (get(NAMES[0])?, get(NAMES[1])?);
        match (weight.dims(), bias.dims()) {
            (&[dim, features], &[same]) if dim == same && features == num_features && dim > 0 => Ok(Self { weight, bias }),
            (weight, bias) => bail!(
                "read-out: expected {} (D, {num_features}) and {} (D,) for this network, got {weight:?} and {bias:?}",
                NAMES[0],
                NAMES[1]
            ),
        }
    }
}
