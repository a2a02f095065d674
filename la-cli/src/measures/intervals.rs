//! How far a figure may be chance: bootstrap intervals over test images, and the comparison of two networks on the same images.

use crate::error::{bail, Result};
use la_core::{
    ops::parallel,
    rng::{Rng, Stream},
};

/// How test images are drawn again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BootstrapConfig {
    /// Times that as many images are drawn with replacement.
    pub resamples: usize,
    /// The share of the draws that the interval holds, in (0, 1).
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { resamples: 1000, level: 0.95, seed: 0 }
    }
}

/// Percentiles of a figure over the draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower one.
    pub low: f64,
    /// The upper one.
    pub high: f64,
}

/// The percentile bootstrap (Efron 1979, <https://doi.org/10.1214/aos/1176344552>) of what `figure` makes of `n` images drawn with
/// replacement.
///
/// It tells how far the figure depends on which images were tested, not on the seed of training. The same for any number of
/// threads. Fails where there is nothing to draw.
pub fn bootstrap(n: usize, config: &BootstrapConfig, figure: impl Fn(&[u32]) -> f64 + Sync + Send) -> Result<Interval> {
    if n == 0 || config.resamples == 0 {
        bail!("a bootstrap needs at least one image and one draw, got {n} and {}", config.resamples);
    }
    if !(config.level > 0.0 && config.level < 1.0) {
        bail!("the level of a bootstrap must be in (0, 1), got {}", config.level);
    }
    let mut figures = parallel::map(config.resamples, |draw| {
        let mut rng = Rng::new(Stream::Bootstrap, &[config.seed, draw as u64]);
        figure(&(0..n).map(|_| rng.below(n) as u32).collect::<Vec<_>>())
    });
    figures.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - config.level);
    Ok(Interval { low: quantile(&figures, tail), high: quantile(&figures, 1.0 - tail) })
}

/// The bootstrap of the mean of one value for each image, such as 1 where it is classified right.
pub fn mean_interval(values: &[f64], config: &BootstrapConfig) -> Result<Interval> {
    let mean = |drawn: &[u32]| drawn.iter().map(|&i| values[i as usize]).sum::<f64>() / drawn.len() as f64;
    bootstrap(values.len(), config, mean)
}

/// The value below which a share `q` of sorted values lies, interpolated as numpy does.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Two networks on the same test images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// Mean of the first less that of the second.
    pub difference: f64,
    /// Its bootstrap over images, each drawn with both of its values.
    pub interval: Interval,
    /// Images on which the first is better, and the second.
    pub better: (usize, usize),
    /// McNemar's exact two-sided p, where all values are 0 or 1: how likely a split of those images at least as uneven is, were
    /// both as good.
    pub p_value: Option<f64>,
}

/// Compares two networks by one value for each test image, in the same order, such as 1 where it is classified right.
///
/// Fails where they differ in length or are empty.
pub fn paired(first: &[f64], second: &[f64], config: &BootstrapConfig) -> Result<Paired> {
    if first.len() != second.len() {
        bail!("a paired test needs the same images, got {} and {}", first.len(), second.len());
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let interval = mean_interval(&differences, config)?;
    let difference = differences.iter().sum::<f64>() / differences.len() as f64;
    let better = (differences.iter().filter(|&&d| d > 0.0).count(), differences.iter().filter(|&&d| d < 0.0).count());
    let is_binary = first.iter().chain(second).all(|&x| x == 0.0 || x == 1.0);
    Ok(Paired { difference, interval, better, p_value: is_binary.then(|| mcnemar(better.0, better.1)) })
}

/// McNemar's exact test: twice the smaller tail of a fair coin thrown `a + b` times, at most 1.
pub fn mcnemar(a: usize, b: usize) -> f64 {
    let throws = (a + b) as f64;
    let (mut log_term, mut tail) = (-throws * std::f64::consts::LN_2, 0.0);
    for i in 0..=a.min(b) {
        tail += log_term.exp();
        log_term += ((throws - i as f64) / (i as f64 + 1.0)).ln();
    }
    (2.0 * tail).min(1.0)
}
