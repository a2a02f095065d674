//! Principal components: the linear map that makes all directions of some rows equally strong.
//!
//! Pooled features of a network vary a thousand times more along some directions than along others, so a few of them
//! decide every cosine similarity. Whitening divides each principal component by its deviation.

use crate::{
    error::bail,
    files::sha256_of,
    ops::{host, normalize::normalize},
    Error, Result,
};
use candle_core::{Device, Tensor};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rayon::prelude::*;
use std::collections::HashMap;

/// Share of the largest variance that is added to each: the weakest components are mostly noise.
const RIDGE: f64 = 1e-4;
/// Rows whose covariance is summed in one product.
const BLOCK: usize = 512;
/// Such products at a time.
const BLOCKS: usize = 16;
/// How many rows of its own a map counts for beside those that it is fitted to: for their covariance, and for their mean.
const COVARIANCE_ROWS: f64 = 1000.0;
const MEAN_ROWS: f64 = 50.0;
/// The variance that a map has outside its own components, as a share of its last one's.
const TAIL: f64 = 0.25;
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
    let eigen = Eigen::of(covariance);
    if eigen.largest() <= f64::from(f32::EPSILON) * mean.iter().map(|x| x * x).sum::<f64>() {
        bail!("whitening needs rows that differ, got {num_rows} equal ones");
    }
    Ok(eigen.whitening(&mean, dim.min(num_rows - 1)))
}

/// Eigenvectors of a covariance, the strongest first.
struct Eigen {
    values: Vec<f64>,
    vectors: DMatrix<f64>,
}

impl Eigen {
    fn of(covariance: DMatrix<f64>) -> Self {
        let SymmetricEigen { eigenvalues, eigenvectors } = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
        order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
        Self { values: order.iter().map(|&i| eigenvalues[i].max(0.0)).collect(), vectors: eigenvectors.select_columns(&order) }
    }

    fn largest(&self) -> f64 {
        self.values[0]
    }

    /// The first `dim` components, or all that there are, each divided by its deviation.
    fn whitening(&self, mean: &[f64], dim: usize) -> Whitening {
        let (num_features, dim) = (mean.len(), dim.min(mean.len()));
        let (mut weight, mut bias) = (Vec::with_capacity(dim * num_features), Vec::with_capacity(dim));
        for (vector, value) in self.vectors.column_iter().zip(&self.values).take(dim) {
            let scale = vector[vector.iamax()].signum() / (value + RIDGE * self.largest()).sqrt();
            bias.push(-(vector.iter().zip(mean).map(|(v, m)| v * m).sum::<f64>() * scale) as f32);
            weight.extend(vector.iter().map(|v| (v * scale) as f32));
        }
        Whitening { weight: host::tensor(weight, (dim, num_features)), bias: host::tensor(bias, dim) }
    }
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
    // A few blocks at a time side by side, added up in their order: the same bits on any number of threads.
    for blocks in values.chunks(BLOCKS * BLOCK * num_features) {
        let products = blocks.par_chunks(BLOCK * num_features).map(|block| {
            let centred = block.iter().enumerate().map(|(i, &x)| f64::from(x) - mean[i % num_features]);
            let columns = DMatrix::from_iterator(num_features, block.len() / num_features, centred);
            &columns * columns.transpose()
        });
        products.collect::<Vec<DMatrix<f64>>>().iter().for_each(|product| covariance += product);
    }
    covariance /= num_rows as f64;
    (mean, covariance)
}

impl Whitening {
    /// Number of dimensions `D`.
    pub fn dim(&self) -> usize {
        self.bias.elem_count()
    }

    /// Number of features `F` of the rows that it maps.
    pub fn num_features(&self) -> usize {
        self.weight.elem_count() / self.dim()
    }

    /// Unit-length rows `(N, D)` of `features` `(N, F)`, on the CPU.
    pub fn apply(&self, features: &Tensor) -> Result<Tensor> {
        let rows = host::local(features)?.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        Ok(normalize(&rows)?.0)
    }

    /// The map to `dim` dimensions that whitens `rows` `(N, F)`, where they are too few or too much alike to tell, as this one does.
    ///
    /// The covariance is `(N C + 1000 C₀) / (N + 1000)`, where `C` is that of the rows, and `C₀` that which this map whitens: a
    /// quarter of its last variance in each direction that it has left out. The mean moves from this map's towards the rows'
    /// after `N = 50`. Fails where there is no row, or a value is not finite.
    pub fn fitted_to(&self, rows: &Tensor, dim: usize) -> Result<Self> {
        let (num_rows, num_features) = rows.dims2()?;
        if num_rows == 0 || num_features != self.num_features() {
            bail!("expected rows of {} features to fit a read-out to, got {num_rows} of {num_features}", self.num_features());
        }
        let (mean, covariance) = host::read(&host::local(rows)?, |values| moments(values, num_features))?;
        if !covariance.iter().all(|value| value.is_finite()) {
            bail!("whitening needs finite values, got NaN or infinity");
        }
        let prior = self.prior()?;
        let (count, of_rows) = (num_rows as f64, DVector::from_vec(mean));
        let mean = &of_rows + prior.towards_mean(&of_rows) * (MEAN_ROWS / (count + MEAN_ROWS));
        let share = count / (count + COVARIANCE_ROWS);
        let eigen = Eigen::of(covariance * share + prior.covariance() * (1.0 - share));
        Ok(eigen.whitening(mean.as_slice(), dim))
    }

    /// What the map says of the rows that it was learned from.
    fn prior(&self) -> Result<Prior> {
        let (dim, num_features) = self.weight.dims2()?;
        let values = |tensor: &Tensor| host::read(tensor, |values| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let mut vectors = DMatrix::from_vec(num_features, dim, values(&self.weight)?);
        let mut places = DVector::from_vec(values(&self.bias)?);
        // Component i is vᵢ / √(λᵢ + 1e-4 λ₁), so its squared length tells λᵢ.
        let largest = 1.0 / (vectors.column(0).norm_squared() * (1.0 + RIDGE));
        let mut variances = Vec::with_capacity(dim);
        for i in 0..dim {
            let length = vectors.column(i).norm();
            variances.push((1.0 / (length * length) - RIDGE * largest).max(0.0));
            vectors.column_mut(i).unscale_mut(length);
            places[i] /= -length;
        }
        Ok(Prior { vectors, variances, places })
    }

    /// SHA-256 of its values, in lower-case hexadecimal.
    pub fn digest(&self) -> String {
        let bytes = |tensor: &Tensor| host::read(tensor, |values| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        sha256_of([&self.weight, &self.bias].map(|tensor| bytes(tensor).unwrap_or_default()))
    }

    /// The tensors of a file: `readout.weight` `(D, F)` and `readout.bias` `(D,)`.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        NAMES.iter().map(|name| name.to_string()).zip([self.weight.clone(), self.bias.clone()]).collect()
    }

    /// The map that [`Whitening::tensors`] was made of.
    pub fn from_tensors(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let get = |name: &str| match tensors.get(name) {
            Some(tensor) => Ok(tensor.to_dtype(candle_core::DType::F32)?.to_device(&Device::Cpu)?.contiguous()?),
            None => Err(Error::invalid(format!("read-out: tensor {name} is missing"))),
        };
        let (weight, bias) = (get(NAMES[0])?, get(NAMES[1])?);
        match (weight.dims(), bias.dims()) {
            (&[dim, features], &[same]) if dim == same && dim * features > 0 => Ok(Self { weight, bias }),
            (weight, bias) => bail!("read-out: expected {} (D, F) and {} (D,), got {weight:?} and {bias:?}", NAMES[0], NAMES[1]),
        }
    }
}

/// The statistics that a map whitens.
struct Prior {
    /// `(F, D)`: its components.
    vectors: DMatrix<f64>,
    variances: Vec<f64>,
    /// The mean's place along each component.
    places: DVector<f64>,
}

impl Prior {
    fn covariance(&self) -> DMatrix<f64> {
        let tail = TAIL * self.variances.last().copied().unwrap_or(0.0);
        let mut scaled = self.vectors.clone();
        for (mut vector, variance) in scaled.column_iter_mut().zip(&self.variances) {
            vector *= variance - tail;
        }
        let mut covariance = scaled * self.vectors.transpose();
        covariance.iter_mut().step_by(self.vectors.nrows() + 1).for_each(|value| *value += tail);
        covariance
    }

    /// From `mean` to this map's own mean, along its components.
    fn towards_mean(&self, mean: &DVector<f64>) -> DVector<f64> {
        &self.vectors * (&self.places - self.vectors.tr_mul(mean))
    }
}
