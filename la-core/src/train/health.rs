//! Signs that a run goes wrong, told while they can still be helped: settings out of proportion, and embeddings that collapse.

use super::metrics::EpochMetrics;
use crate::{config::Fit, error::bail, ops::host, Result};
use candle_core::Tensor;

/// Rows that are looked at: enough for two decimals, in a few milliseconds.
const SAMPLE: usize = 4096;
/// Mean cosine similarity of two rows from which on neighbours mean little; healthy runs stay below 0.3.
const COLLAPSED_COSINE: f64 = 0.9;
/// Effective rank below which the rows are little more than one line.
const COLLAPSED_RANK: f64 = 1.5;
/// By how much the mean cosine falls in an epoch where a network is on its way out of a collapse.
const LEAVING: f64 = 0.01;
/// Share of images without a close neighbour from which on a growing share is told; healthy runs stay below 0.01.
const MANY_WITHOUT_CLOSE: f64 = 0.1;
/// Epochs over which that share must have grown.
const GROWING_EPOCHS: usize = 3;
/// Images that a cluster must hold on average: with fewer, most images are close to nobody.
const FEWEST_IN_CLUSTER: usize = 4;

/// Something that the user should know in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warning {
    /// The embeddings of all images are nearly the same.
    Collapse {
        /// How far they lie apart.
        spread: Spread,
        /// Dimension of the embedding.
        dim: usize,
    },
    /// More and more images have no close neighbour: nothing pulls them.
    WithoutClose {
        /// Share of the images of the last epoch.
        share: f64,
    },
    /// So few background neighbours that one cluster holds them all, or more than half of the images.
    Background {
        /// Background neighbours of an image.
        num_background: usize,
        /// Training images.
        num_images: usize,
        /// Clusters of each run of k-means.
        num_clusters: usize,
    },
    /// So many clusters that few images share one.
    Clusters {
        /// Clusters of each run of k-means.
        num_clusters: usize,
        /// Training images.
        num_images: usize,
    },
    /// The run ends before local aggregation begins.
    NoLocalAggregation {
        /// Epochs in all.
        epochs: usize,
        /// Epochs of instance recognition.
        ir_epochs: usize,
    },
}

/// How far embeddings lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean cosine similarity of two different rows: 1 where all are the same, about 0 where they are spread evenly.
    pub mean_cosine: f64,
    /// `1 / |VᵀV / N|²`: in how many directions the rows lie, from 1 to the dimension (the participation ratio of the eigenvalues).
    pub effective_rank: f64,
}

impl Spread {
    /// The spread of unit rows `(N, D)`, measured on at most 4,096 of them, evenly taken.
    ///
    /// Fails where there are fewer than two rows.
    pub fn of(rows: &Tensor) -> Result<Self> {
        let rows = sample(rows)?;
        let n = rows.dim(0)? as f64;
        if n < 2.0 {
            bail!("the spread of embeddings needs at least two rows, got {n}");
        }
        let sum_of_squares = |tensor: &Tensor| -> Result<f64> {
            host::read(&tensor.contiguous()?, |values| values.iter().map(|&x| f64::from(x).powi(2)).sum())
        };
        // The sum of all N² similarities is the squared length of the rows' sum; each row's with itself is 1.
        let mean_cosine = (sum_of_squares(&rows.sum(0)?)? - n) / (n * (n - 1.0));
        let moments = (rows.t()?.contiguous()?.matmul(&rows)? / n)?;
        Ok(Self { mean_cosine, effective_rank: 1.0 / sum_of_squares(&moments)? })
    }

    /// That of an epoch, where it was measured.
    fn at(epoch: &EpochMetrics) -> Option<Self> {
        Some(Self { mean_cosine: epoch.mean_cosine?, effective_rank: epoch.effective_rank? })
    }

    /// Whether neighbours among such rows mean little.
    pub fn is_collapsed(&self) -> bool {
        self.mean_cosine > COLLAPSED_COSINE || self.effective_rank < COLLAPSED_RANK
    }
}

fn sample(rows: &Tensor) -> Result<Tensor> {
    let rows = host::local(rows)?;
    let (n, dim) = rows.dims2()?;
    let count = n.min(SAMPLE);
    let values = host::read(&rows, |values| {
        let row = |i: usize| &values[i * n / count * dim..][..dim];
        (0..count).flat_map(row).copied().collect::<Vec<f32>>()
    })?;
    Ok(host::tensor(values, (count, dim)))
}

/// What the settings of a run promise before its first step.
pub fn of_settings(fit: &Fit, num_images: usize) -> Vec<Warning> {
    let (epochs, ir_epochs) = (fit.config.epochs, fit.config.ir_epochs);
    if ir_epochs >= epochs {
        return vec![Warning::NoLocalAggregation { epochs, ir_epochs }];
    }
    let (num_background, num_clusters) = (fit.num_background(), fit.num_clusters());
    let mut warnings = Vec::new();
    // A cluster holds N / m images on average.
    if num_background * num_clusters <= num_images || num_background > num_images / 2 {
        warnings.push(Warning::Background { num_background, num_images, num_clusters });
    }
    if num_clusters * FEWEST_IN_CLUSTER > num_images {
        warnings.push(Warning::Clusters { num_clusters, num_images });
    }
    warnings
}

/// What the last of the epochs shows that none before it has shown.
pub fn of_epochs(epochs: &[EpochMetrics], dim: usize) -> Vec<Warning> {
    let Some(earlier) = epochs.len().checked_sub(1).map(|last| &epochs[..last]) else { return Vec::new() };
    let is_new = |find: &dyn Fn(&[EpochMetrics]) -> Option<Warning>| {
        let told = (1..=earlier.len()).any(|count| find(&earlier[..count]).is_some());
        find(epochs).filter(|_| !told)
    };
    // Random weights start close to a collapse, and leave it in the first epochs.
    let collapse = |epochs: &[EpochMetrics]| {
        let spread = Spread::at(epochs.last()?)?;
        let before = epochs.iter().rev().skip(1).find_map(Spread::at)?;
        let is_leaving = spread.mean_cosine < before.mean_cosine - LEAVING;
        (before.is_collapsed() && spread.is_collapsed() && !is_leaving).then_some(Warning::Collapse { spread, dim })
    };
    [is_new(&collapse), is_new(&without_close)].into_iter().flatten().collect()
}

fn without_close(epochs: &[EpochMetrics]) -> Option<Warning> {
    let shares: Vec<f64> = epochs.iter().rev().take(GROWING_EPOCHS).map_while(|epoch| epoch.empty_close).collect();
    let share = *shares.first()?;
    let is_growing = shares.len() == GROWING_EPOCHS && shares.windows(2).all(|pair| pair[0] > pair[1]);
    (is_growing && share > MANY_WITHOUT_CLOSE).then_some(Warning::WithoutClose { share })
}
