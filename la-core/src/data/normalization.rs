//! The mean and deviation of the pixel values of a source.

use super::Source;
use crate::{error::bail, ops::parallel, preprocess::Normalization, Result};

/// Images that [`Normalization::of`] looks at.
const MEASURED: usize = 5000;
/// A deviation below this is that of a constant channel: it would only blow up noise.
const MIN_STD: f64 = 0.01;

impl Normalization {
    /// Measured over up to 5,000 images spread evenly over the source, each of equal weight, rounded to 4 decimals.
    ///
    /// Images that cannot be read do not count; fails where none can.
    pub fn of(source: &dyn Source) -> Result<Self> {
        // Spread, because folders come sorted by class.
        let (n, total) = (source.len().min(MEASURED), source.len());
        let moments = parallel::map(n, |i| source.picture(i * total / n).ok().map(|picture| moments(&picture.pixels)));
        let moments: Vec<[f64; 6]> = moments.into_iter().flatten().collect();
        if moments.is_empty() {
            bail!("normalization needs at least one readable image, got none");
        }
        let average = |i: usize| moments.iter().map(|m| m[i]).sum::<f64>() / moments.len() as f64;
        let deviation = |i: usize| (average(3 + i) - average(i).powi(2)).max(0.0).sqrt().max(MIN_STD);
        Ok(Self { mean: std::array::from_fn(|i| rounded(average(i))), std: std::array::from_fn(|i| rounded(deviation(i))) })
    }
}

/// Means of the three channels and of their squares, in 0 to 1.
fn moments(pixels: &[u8]) -> [f64; 6] {
    let mut sums = [0u64; 6];
    for pixel in pixels.chunks_exact(3) {
        for (c, &value) in pixel.iter().enumerate() {
            sums[c] += u64::from(value);
            sums[3 + c] += u64::from(value).pow(2);
        }
    }
    let n = (pixels.len() / 3) as f64;
    std::array::from_fn(|i| sums[i] as f64 / n / if i < 3 { 255.0 } else { 255.0 * 255.0 })
}

fn rounded(x: f64) -> f32 {
    ((x * 1e4).round() / 1e4) as f32
}
