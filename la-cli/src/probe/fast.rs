//! The linear probe by protocol `fast`: logistic regression whose penalty a fifth of the training images chooses.
//!
//! Features are un-augmented, cached once in half precision and standardised by the training images. The penalty is chosen
//! by the accuracy on 20 % of the *training* images of each class, from strong to weak, each fit starting from the one before; then
//! all training images are fitted again. Test images choose nothing.

use super::few_labels::draw_by_class;
use super::half_rows::{HalfRows, Standardization};
use super::logistic::{check, check_classes, Logistic, LogisticConfig, Rows};
use crate::error::{bail, Result};
use la_core::eval::outcomes::Outcomes;
use la_core::rng::{Rng, Stream};

/// The name of this protocol, to be printed beside its figures.
pub const PROTOCOL: &str = "fast";

/// How a probe is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeConfig {
    /// Penalties to choose from, the strongest first.
    pub penalties: Vec<f64>,
    /// The penalty where no class has images to spare for a choice; one of the others.
    pub usual_penalty: f64,
    /// Share of the training images of a class that choose.
    pub held_out: f64,
    /// See [`LogisticConfig`].
    pub tolerance: f64,
    /// See [`LogisticConfig`].
    pub max_iters: usize,
    /// Seed of the choice of those images.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        let LogisticConfig { tolerance, .. } = LogisticConfig::default();
        Self { penalties: vec![100.0, 10.0, 1.0, 0.1, 0.01, 0.001], usual_penalty: 0.1, held_out: 0.2, tolerance, max_iters: 100, seed: 0 }
    }
}

/// Features with their classes.
#[derive(Debug, Clone, Copy)]
pub struct LabelledRows<'a> {
    /// `(N, F)`.
    pub rows: &'a HalfRows,
    /// `(N,)` classes.
    pub labels: &'a [u32],
}

/// What a probe reached.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The penalty that all training images were fitted with.
    pub penalty: f64,
    /// Accuracy on the held-out training images that chose it, in 0–1; none where no class had images to spare.
    pub held_out_top1: Option<f64>,
    /// Accuracy on the training images, in 0–1.
    pub train_top1: f64,
    /// What it says of the test images.
    pub outcomes: Outcomes,
}

/// Fits a softmax layer to `train` and measures it on `test`; `progress` is told steps done and the most there will be.
///
/// Fails on empty or non-finite rows, labels that do not fit, fewer than two classes, sets of different width, and where there
/// is no penalty to choose from.
pub fn probe(
    train: LabelledRows,
    test: LabelledRows,
    num_classes: usize,
    config: &ProbeConfig,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Probed> {
    check(train.rows, train.labels, num_classes, "training")?;
    check(test.rows, test.labels, num_classes, "test")?;
    check_classes(train.labels)?;
    if config.penalties.is_empty() {
        bail!("a probe needs at least one penalty to choose from");
    }
    let standardization = Standardization::of(train.rows);
    let fitting = Fitting { train, num_classes, config, standardization: &standardization };
    let total = (config.penalties.len() + 1) * config.max_iters;
    let chosen = fitting.choose(&mut |steps| progress(steps, total))?;
    let all: Vec<u32> = (0..train.rows.len() as u32).collect();
    let done = config.penalties.len() * config.max_iters;
    let layer = fitting.fit(&all, chosen.penalty, chosen.layer.as_ref(), &mut |steps| progress(done + steps, total))?;
    progress(total, total);
    let of = |set: LabelledRows| Outcomes::of_scores(&layer.scores(set.rows)?, set.labels, num_classes);
    Ok(Probed { penalty: chosen.penalty, held_out_top1: chosen.top1, train_top1: of(train)?.top(1), outcomes: of(test)? })
}

struct Fitting<'a> {
    train: LabelledRows<'a>,
    num_classes: usize,
    config: &'a ProbeConfig,
    standardization: &'a Standardization,
}

struct Chosen {
    penalty: f64,
    top1: Option<f64>,
    layer: Option<Logistic>,
}

impl Fitting<'_> {
    /// The penalty of the highest accuracy on held-out training images, the stronger of equals.
    ///
    /// Two in a row that are no better end the search: weaker ones take the longest, and overfit.
    fn choose(&self, progress: &mut dyn FnMut(usize)) -> Result<Chosen> {
        let (held_out, fitted) = self.parts();
        if held_out.is_empty() {
            return Ok(Chosen { penalty: self.config.usual_penalty, top1: None, layer: None });
        }
        let labels: Vec<u32> = held_out.iter().map(|&row| self.train.labels[row as usize]).collect();
        let (mut best, mut last, mut worse): (Option<Chosen>, Option<Logistic>, usize) = (None, None, 0);
        for (i, &penalty) in self.config.penalties.iter().enumerate() {
            let done = i * self.config.max_iters;
            let layer = self.fit(&fitted, penalty, last.as_ref(), &mut |steps| progress(done + steps))?;
            let top1 = Outcomes::of_scores(&layer.scores_of(self.train.rows, &held_out)?, &labels, self.num_classes)?.top(1);
            if best.as_ref().is_none_or(|best| best.top1.is_some_and(|highest| top1 > highest)) {
                best = Some(Chosen { penalty, top1: Some(top1), layer: Some(layer.clone()) });
                worse = 0;
            } else {
                worse += 1;
            }
            if worse == 2 {
                break;
            }
            last = Some(layer);
        }
        best.ok_or_else(|| crate::error::Error::invalid("a probe needs at least one penalty to choose from"))
    }

    /// Training rows that choose, and the others: of each class the share, at least one where it has two.
    fn parts(&self) -> (Vec<u32>, Vec<u32>) {
        let count =
            |total: usize| ((self.config.held_out * total as f64) as usize).max(usize::from(total > 1)).min(total.saturating_sub(1));
        draw_by_class(self.train.labels, |class| Rng::new(Stream::Probe, &[self.config.seed, u64::from(class)]), count)
    }

    fn fit(&self, chosen: &[u32], penalty: f64, start: Option<&Logistic>, stepped: &mut dyn FnMut(usize)) -> Result<Logistic> {
        let LabelledRows { rows, labels } = self.train;
        let rows = Rows { rows, chosen, labels, num_classes: self.num_classes, standardization: self.standardization };
        let ProbeConfig { tolerance, max_iters, .. } = *self.config;
        rows.fit(&LogisticConfig { penalty, tolerance, max_iters }, start, stepped)
    }
}
