//! A linear probe: how well one softmax layer tells the classes apart from features of a frozen network.
//!
//! Protocol of Zhuang et al. 2019: SGD with momentum 0.9, batch 128, weight decay 1e-4, 70 epochs, the learning rate
//! divided by ten at 30/70 and 60/70. The features come from the network in eval mode, un-augmented, and are computed once;
//! they are standardised with the training mean and deviation, which a linear layer could absorb, so that one learning
//! rate suits every width.

use crate::error::bail;
use crate::ops::host;
use crate::rng::{Rng, Stream};
use crate::Result;
use candle_core::{DType, Tensor, D};

/// How the softmax layer is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearConfig {
    /// Passes over the training features.
    pub epochs: usize,
    /// Rows per step.
    pub batch_size: usize,
    /// Learning rate of the first epochs.
    pub learning_rate: f64,
    /// SGD momentum.
    pub momentum: f64,
    /// L2 penalty on the weight, not on the bias.
    pub weight_decay: f64,
    /// Shares of the epochs after which the learning rate is divided by ten.
    pub milestones: Vec<f64>,
    /// Seed of the order of the rows.
    pub seed: u64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self {
            epochs: 70,
            batch_size: 128,
            learning_rate: 0.01,
            momentum: 0.9,
            weight_decay: 1e-4,
            milestones: vec![30.0 / 70.0, 60.0 / 70.0],
            seed: 0,
        }
    }
}

/// Features with their classes.
#[derive(Debug, Clone)]
pub struct LabelledFeatures {
    /// `(N, F)` f32 on the CPU.
    pub features: Tensor,
    /// `(N,)` classes.
    pub labels: Vec<u32>,
}

/// What a probe reached; fractions in 0–1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearResult {
    /// Share of the test rows whose most likely class is their own.
    pub top1: f32,
    /// The same on the training rows.
    pub train_top1: f32,
}

/// Trains a softmax layer on `train` and measures it on `test`.
///
/// The encoder is not touched: it is not even an argument. Fails on empty or non-finite features, on a label without a
/// row or not below `num_classes`, and where the two sets differ in width.
pub fn linear_probe(train: &LabelledFeatures, test: &LabelledFeatures, num_classes: usize, config: &LinearConfig) -> Result<LinearResult> {
    check(train, "training", num_classes)?;
    check(test, "test", num_classes)?;
    if train.features.dim(1)? != test.features.dim(1)? {
        bail!("test features must be as wide as the training features ({}), got {}", train.features.dim(1)?, test.features.dim(1)?);
    }
    let (shift, scale) = standardization(&train.features)?;
    let x = train.features.broadcast_sub(&shift)?.broadcast_mul(&scale)?;
    let layer = fit(&x, &train.labels, num_classes, config)?;
    let x_test = test.features.broadcast_sub(&shift)?.broadcast_mul(&scale)?;
    Ok(LinearResult { top1: layer.accuracy(&x_test, &test.labels)?, train_top1: layer.accuracy(&x, &train.labels)? })
}

fn check(set: &LabelledFeatures, name: &str, num_classes: usize) -> Result<()> {
    let (n, width) = set.features.dims2()?;
    if n == 0 || width == 0 {
        bail!("{name} features of a linear probe must not be empty, got {n} rows of {width}");
    }
    if set.labels.len() != n {
        bail!("expected one label for each of the {n} {name} rows, got {}", set.labels.len());
    }
    if let Some(label) = set.labels.iter().find(|&&label| label as usize >= num_classes) {
        bail!("{name} labels must be below the number of classes ({num_classes}), got {label}");
    }
    let sum = set.features.sqr()?.sum_all()?.to_scalar::<f32>()?;
    if !sum.is_finite() {
        bail!("{name} features of a linear probe hold NaN or infinite values");
    }
    Ok(())
}

/// `(1, F)` mean and reciprocal deviation; a constant feature is left at its scale.
fn standardization(features: &Tensor) -> Result<(Tensor, Tensor)> {
    let mean = features.mean_keepdim(0)?;
    let variance = features.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
    let scale = variance.to_vec2::<f32>()?[0].iter().map(|&v| if v > 1e-12 { 1.0 / v.sqrt() } else { 1.0 }).collect::<Vec<_>>();
    let width = scale.len();
    Ok((mean, host::tensor(scale, (1, width))))
}

/// A softmax layer under training by SGD with momentum.
#[derive(Debug)]
#[doc(hidden)]
pub struct SoftmaxLayer {
    weight: Tensor, // (C, F)
    bias: Tensor,   // (1, C)
    weight_velocity: Tensor,
    bias_velocity: Tensor,
}

impl SoftmaxLayer {
    /// A layer of zeros for features of this width, on the CPU.
    pub fn zeros(num_classes: usize, width: usize) -> Result<Self> {
        let zeros = |rows, columns| Tensor::zeros((rows, columns), DType::F32, &candle_core::Device::Cpu);
        Ok(Self {
            weight: zeros(num_classes, width)?,
            bias: zeros(1, num_classes)?,
            weight_velocity: zeros(num_classes, width)?,
            bias_velocity: zeros(1, num_classes)?,
        })
    }

    /// `(B, C)` of features `(B, F)`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }

    /// One step of SGD on the mean cross-entropy of the rows `x` `(B, F)`.
    pub fn step(&mut self, x: &Tensor, classes: &[u32], learning_rate: f64, config: &LinearConfig) -> Result<()> {
        let grad = logit_gradient(&self.logits(x)?, classes)?;
        let grad_weight = (grad.t()?.matmul(x)? + self.weight.affine(config.weight_decay, 0.0)?)?;
        self.weight_velocity = (self.weight_velocity.affine(config.momentum, 0.0)? + grad_weight)?;
        self.bias_velocity = (self.bias_velocity.affine(config.momentum, 0.0)? + grad.sum_keepdim(0)?)?;
        self.weight = (&self.weight - self.weight_velocity.affine(learning_rate, 0.0)?)?;
        self.bias = (&self.bias - self.bias_velocity.affine(learning_rate, 0.0)?)?;
        Ok(())
    }

    fn accuracy(&self, x: &Tensor, labels: &[u32]) -> Result<f32> {
        let predicted = self.logits(x)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let num_right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
        Ok(num_right as f32 / labels.len() as f32)
    }
}

fn fit(x: &Tensor, labels: &[u32], num_classes: usize, config: &LinearConfig) -> Result<SoftmaxLayer> {
    let (n, width) = x.dims2()?;
    let mut layer = SoftmaxLayer::zeros(num_classes, width)?;
    for epoch in 0..config.epochs {
        let lr = config.learning_rate_of(epoch);
        let order = Rng::new(Stream::Probe, &[config.seed, epoch as u64]).permutation(n);
        for rows in order.chunks(config.batch_size.max(1)) {
            let batch = x.index_select(&Tensor::new(rows, x.device())?, 0)?;
            let classes: Vec<u32> = rows.iter().map(|&row| labels[row as usize]).collect();
            layer.step(&batch, &classes, lr, config)?;
        }
    }
    Ok(layer)
}

impl LinearConfig {
    /// The learning rate of an epoch.
    #[doc(hidden)]
    pub fn learning_rate_of(&self, epoch: usize) -> f64 {
        let done = epoch as f64 / self.epochs as f64;
        let num_passed = self.milestones.iter().filter(|&&milestone| done >= milestone - 1e-9).count();
        self.learning_rate * 0.1f64.powi(num_passed as i32)
    }
}

/// Gradient of the mean cross-entropy with respect to the logits: `(softmax - one hot) / B`.
fn logit_gradient(logits: &Tensor, classes: &[u32]) -> Result<Tensor> {
    let (batch, num_classes) = logits.dims2()?;
    let mut grad = host::read(&logits.contiguous()?, |values| values.to_vec())?;
    for (row, &class) in grad.chunks_mut(num_classes).zip(classes) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|v| *v = (*v - max).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum * batch as f32);
        row[class as usize] -= 1.0 / batch as f32;
    }
    Ok(host::tensor(grad, (batch, num_classes)))
}
