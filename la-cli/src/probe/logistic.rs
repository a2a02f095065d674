//! Multinomial logistic regression by L-BFGS, on standardised features: what a linear probe fits.
//!
//! The minimum is unique, so neither a learning rate nor an order of the images enters a figure. One pass over the rows gives loss
//! and gradient; sums are cut by number alone, so the result is the same for any number of threads.

use super::half_rows::{HalfRows, Standardization, PIECES};
use super::lbfgs::{minimize, Stop};
use crate::error::{bail, Result};
use la_core::ops::{parallel, products::Panels};
use std::ops::Range;

/// Rows that are multiplied at once: enough to use a panel well, few enough for the cache.
const BLOCK: usize = 48;
/// Features whose gradient is summed at once: their block stays in the nearest cache.
const GROUP: usize = 256;
/// Classes are filled up to a multiple of this, the rows that a register tile multiplies.
const TILE: usize = 6;
/// The most values that the gradients of all pieces hold.
const MOST_VALUES: usize = 1 << 27;

/// What is minimised, and when it is near enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticConfig {
    /// `λ` of mean cross-entropy + λ/2 ‖W‖², the bias left out: scikit-learn's `C` is 1 / (λ N).
    pub penalty: f64,
    /// Largest component of the gradient that counts as none.
    pub tolerance: f64,
    /// Steps at most.
    pub max_iters: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self { penalty: 1e-2, tolerance: 1e-4, max_iters: 300 }
    }
}

/// A fitted softmax layer.
#[derive(Debug, Clone)]
pub struct Logistic {
    num_classes: usize,
    standardization: Standardization,
    /// Weights `(C, F)`, then biases `(C,)`.
    parameters: Vec<f64>,
    /// Mean cross-entropy + λ/2 ‖W‖² on the rows it was fitted to.
    pub loss: f64,
    /// Steps that were taken.
    pub iterations: usize,
}

/// Some rows with their classes, standardised as they are read.
pub(super) struct Rows<'a> {
    pub rows: &'a HalfRows,
    /// Which rows these are.
    pub chosen: &'a [u32],
    /// The class of every row, whether chosen or not.
    pub labels: &'a [u32],
    pub num_classes: usize,
    pub standardization: &'a Standardization,
}

/// Fits a softmax layer to `rows` with `labels`, each below `num_classes`.
///
/// Fails on empty or non-finite rows, a label without a row or out of range, fewer than two classes, and a penalty that is not
/// above 0: without one the minimum may be at infinity.
pub fn fit(rows: &HalfRows, labels: &[u32], num_classes: usize, config: &LogisticConfig) -> Result<Logistic> {
    check(rows, labels, num_classes, "training")?;
    check_classes(labels)?;
    let standardization = Standardization::of(rows);
    let chosen: Vec<u32> = (0..rows.len() as u32).collect();
    let rows = Rows { rows, chosen: &chosen, labels, num_classes, standardization: &standardization };
    rows.fit(config, None, &mut |_| ())
}

/// Fails where `labels` are not one below `num_classes` for each of at least one finite row.
pub(super) fn check(rows: &HalfRows, labels: &[u32], num_classes: usize, name: &str) -> Result<()> {
    if rows.is_empty() || labels.len() != rows.len() {
        bail!("expected one label for each of the {name} rows, at least one, got {} rows and {} labels", rows.len(), labels.len());
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= num_classes) {
        bail!("{name} labels must be below the number of classes ({num_classes}), got {label}");
    }
    match rows.first_not_finite() {
        Some(row) => bail!("{name} features must be finite and below 65,504, got others in row {row}"),
        None => Ok(()),
    }
}

/// Fails where all labels are the same.
pub(super) fn check_classes(labels: &[u32]) -> Result<()> {
    if labels.iter().all(|label| *label == labels[0]) {
        bail!("a probe tells classes apart: expected training images of at least 2 classes, got 1");
    }
    Ok(())
}

impl Rows<'_> {
    /// The softmax layer of least loss, looked for from `start` or from zeros; `stepped` is told after each step how many were done.
    pub fn fit(&self, config: &LogisticConfig, start: Option<&Logistic>, stepped: &mut dyn FnMut(usize)) -> Result<Logistic> {
        if config.penalty.is_nan() || config.penalty <= 0.0 {
            bail!("the penalty of a logistic regression must be above 0, got {}", config.penalty);
        }
        let num_weights = self.num_classes * self.rows.width();
        let start = start.map_or_else(|| vec![0.0; num_weights + self.num_classes], |start| start.parameters.clone());
        let stop = Stop { tolerance: config.tolerance, max_iters: config.max_iters };
        let mut penalised = |parameters: &[f64]| {
            let (mut loss, mut gradient) = self.loss_and_gradient(parameters);
            for (slope, weight) in gradient.iter_mut().zip(parameters).take(num_weights) {
                loss += 0.5 * config.penalty * weight * weight;
                *slope += config.penalty * weight;
            }
            (loss, gradient)
        };
        let found = minimize(start, stop, &mut penalised, stepped);
        Ok(Logistic {
            num_classes: self.num_classes,
            standardization: self.standardization.clone(),
            parameters: found.point,
            loss: found.value,
            iterations: found.iterations,
        })
    }

    /// Mean cross-entropy of the chosen rows, and its gradient.
    fn loss_and_gradient(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        let num_weights = self.num_classes * self.rows.width();
        let weights = panels(parameters, self.num_classes, self.rows.width());
        let num_pieces = (MOST_VALUES / num_weights).clamp(1, PIECES);
        let count = self.chosen.len();
        let pieces = parallel::map(num_pieces, |i| self.piece(&weights, &self.chosen[piece(count, i, num_pieces)]));
        let (mut loss, mut gradient) = (0.0, vec![0.0; parameters.len()]);
        for piece in &pieces {
            loss += piece.loss;
            gradient.iter_mut().zip(&piece.gradient).for_each(|(sum, &slope)| *sum += f64::from(slope));
        }
        gradient.iter_mut().for_each(|slope| *slope /= count as f64);
        (loss / count as f64, gradient)
    }

    /// Sums over the rows of one piece.
    fn piece(&self, weights: &Panels, chosen: &[u32]) -> Piece {
        let (width, classes) = (self.rows.width(), self.num_classes);
        let mut sums = Piece { loss: 0.0, gradient: vec![0.0; classes * width + classes] };
        let (mut x, mut logits) = (Vec::new(), vec![0.0; BLOCK * weights.num_columns()]);
        for block in chosen.chunks(BLOCK) {
            standardized(self.rows, self.standardization, block, &mut x);
            weights.products(&x, 0..weights.num_panels(), &mut logits);
            let mut residuals = vec![0.0; classes.next_multiple_of(TILE) * block.len()]; // (C, B)
            for (i, (logits, &row)) in logits.chunks_exact(weights.num_columns()).zip(block).enumerate() {
                let label = self.labels[row as usize] as usize;
                let log_sum = log_sum_exp(&logits[..classes]);
                sums.loss += log_sum - f64::from(logits[label]);
                for (class, &logit) in logits[..classes].iter().enumerate() {
                    let residual = ((f64::from(logit) - log_sum).exp() - f64::from(class == label)) as f32;
                    residuals[class * block.len() + i] = residual;
                    sums.gradient[classes * width + class] += residual;
                }
            }
            add_products(&residuals, (&x, width), classes, &mut sums.gradient);
        }
        sums
    }
}

/// Sums over some rows.
struct Piece {
    loss: f64,
    gradient: Vec<f32>,
}

impl Logistic {
    /// Logits `(N, C)` of rows as wide as those it was fitted to.
    pub fn scores(&self, rows: &HalfRows) -> Result<Vec<f64>> {
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        self.scores_of(rows, &all)
    }

    /// Those of some rows.
    pub(super) fn scores_of(&self, rows: &HalfRows, chosen: &[u32]) -> Result<Vec<f64>> {
        let width = self.standardization.scale.len();
        if rows.width() != width {
            bail!("test features must be as wide as the training features ({width}), got {}", rows.width());
        }
        let weights = panels(&self.parameters, self.num_classes, width);
        let blocks = parallel::map(chosen.len().div_ceil(BLOCK), |i| {
            let block = &chosen[i * BLOCK..chosen.len().min((i + 1) * BLOCK)];
            let (mut x, mut logits) = (Vec::new(), vec![0.0; block.len() * weights.num_columns()]);
            standardized(rows, &self.standardization, block, &mut x);
            weights.products(&x, 0..weights.num_panels(), &mut logits);
            let classes = logits.chunks_exact(weights.num_columns()).flat_map(|row| &row[..self.num_classes]);
            classes.map(|&logit| f64::from(logit)).collect::<Vec<f64>>()
        });
        Ok(blocks.concat())
    }
}

/// Weights and biases, packed; the products with a row are its logits.
fn panels(parameters: &[f64], num_classes: usize, width: usize) -> Panels {
    let (weights, biases) = parameters.split_at(num_classes * width);
    let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    Panels::pack(&weights, width, |class| biases[class] as f32)
}

/// Part `i` of `num_pieces` of so many rows.
fn piece(count: usize, i: usize, num_pieces: usize) -> Range<usize> {
    count * i / num_pieces..count * (i + 1) / num_pieces
}

/// Writes the rows of a block to `x`, one after the other.
fn standardized(rows: &HalfRows, standardization: &Standardization, block: &[u32], x: &mut Vec<f32>) {
    x.resize(block.len() * rows.width(), 0.0);
    for (&row, x) in block.iter().zip(x.chunks_exact_mut(rows.width())) {
        rows.read(row, x);
        standardization.apply(x);
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln()
}

/// Adds to `gradient` `(C, F)` the products of `residuals` `(C, B)` with the rows `x` `(B, F)`, a group of columns after another.
fn add_products(residuals: &[f32], (x, width): (&[f32], usize), num_classes: usize, gradient: &mut [f32]) {
    let mut out = Vec::new();
    for first in (0..width).step_by(GROUP) {
        let columns = first..width.min(first + GROUP);
        let panels = Panels::pack_columns(x, width, columns.clone());
        let stride = panels.num_columns();
        out.resize(residuals.len() / (x.len() / width) * stride, 0.0);
        panels.products(residuals, 0..panels.num_panels(), &mut out);
        for (class, row) in out.chunks_exact(stride).take(num_classes).enumerate() {
            let to = &mut gradient[class * width..][columns.clone()];
            to.iter_mut().zip(row).for_each(|(sum, product)| *sum += product);
        }
    }
}
