//! The two principal components: where a map begins, and all there is of one of few rows.

use crate::error::Result;
use la_core::search::SearchBank;

/// Rounds of orthogonal iteration.
const ROUNDS: usize = 200;
/// What may be left by rounding of a vector from which its part along another is taken.
const ROUNDING: f64 = 1e-10;

/// The first two principal components of each row, not scaled.
pub(super) fn principal_components(bank: &SearchBank) -> Result<Vec<[f32; 2]>> {
    let mean = mean(bank)?;
    let axes = principal(&covariance(bank, &mean)?, bank.dim());
    let point = |row| centered(bank, row, &mean).map(|x| [dot(&x, &axes[0]) as f32, dot(&x, &axes[1]) as f32]);
    (0..bank.len()).map(point).collect()
}

fn mean(bank: &SearchBank) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; bank.dim()];
    for row in 0..bank.len() {
        sums.iter_mut().zip(bank.row(row)?).for_each(|(sum, x)| *sum += f64::from(x));
    }
    let count = bank.len().max(1) as f64;
    Ok(sums.into_iter().map(|sum| sum / count).collect())
}

fn centered(bank: &SearchBank, row: usize, mean: &[f64]) -> Result<Vec<f64>> {
    Ok(bank.row(row)?.iter().zip(mean).map(|(&x, mean)| f64::from(x) - mean).collect())
}

/// `(D, D)`, not divided by the number of rows.
fn covariance(bank: &SearchBank, mean: &[f64]) -> Result<Vec<f64>> {
    let dim = bank.dim();
    let mut covariance = vec![0.0; dim * dim];
    for row in 0..bank.len() {
        let x = centered(bank, row, mean)?;
        for (sums, &a) in covariance.chunks_exact_mut(dim).zip(&x) {
            sums.iter_mut().zip(&x).for_each(|(sum, &b)| *sum += a * b);
        }
    }
    Ok(covariance)
}

/// The two leading eigenvectors, by orthogonal iteration; the largest value of each is positive.
fn principal(covariance: &[f64], dim: usize) -> [Vec<f64>; 2] {
    // Incommensurable waves: orthogonal to an eigenvector only by accident.
    let mut axes = [1.0, 2.0f64.sqrt()].map(|wave: f64| (0..dim).map(|i| (wave * (i + 1) as f64).sin()).collect::<Vec<_>>());
    for _ in 0..ROUNDS {
        axes = axes.map(|axis| covariance.chunks_exact(dim).map(|row| dot(row, &axis)).collect());
        normalize(&mut axes[0]);
        let (along, before) = (dot(&axes[0], &axes[1]), dot(&axes[1], &axes[1]).sqrt());
        let [first, second] = &mut axes;
        second.iter_mut().zip(first.iter()).for_each(|(y, x)| *y -= along * x);
        // Of rows on a line nothing but rounding is left, which is no direction.
        if dot(second, second).sqrt() <= ROUNDING * before {
            second.fill(0.0);
        }
        normalize(second);
    }
    axes.iter_mut().for_each(|axis| orient(axis));
    axes
}

/// Leaves zeros where there is no direction.
fn normalize(axis: &mut [f64]) {
    let length = dot(axis, axis).sqrt();
    let factor = if length > 1e-30 { 1.0 / length } else { 0.0 };
    axis.iter_mut().for_each(|x| *x *= factor);
}

fn orient(axis: &mut [f64]) {
    let largest = axis.iter().copied().fold(0.0f64, |largest, x| if x.abs() > largest.abs() { x } else { largest });
    if largest < 0.0 {
        axis.iter_mut().for_each(|x| *x = -*x);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
