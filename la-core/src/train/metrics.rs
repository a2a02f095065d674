//! What a run reports: one line of `metrics.jsonl` an epoch, and the events on the way there.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The objective of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Instance recognition.
    Ir,
    /// Local aggregation.
    La,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ir => "ir",
            Self::La => "la",
        })
    }
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// The objective.
    pub phase: Phase,
    /// Mean loss over the epoch's images.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Images per second of the training step alone: no waiting for data, no clustering, no evaluation.
    pub images_per_s: f64,
    /// Weighted kNN accuracy on the test split, in 0–1, where labels exist.
    pub knn_top1: Option<f32>,
    /// Wall time of the epoch with everything in it.
    pub seconds: f64,
    /// Wall time since the run began, all its sittings together.
    pub total_seconds: f64,
    /// Wall time of the clustering before the epoch, 0 where none was due.
    pub cluster_seconds: f64,
    /// Time that the training step waited for images.
    pub wait_seconds: f64,
    /// Share of images without a close neighbour among their background neighbours; local aggregation only.
    pub empty_close: Option<f64>,
    /// The clusters that were made before the epoch, if any were.
    #[serde(default)]
    pub clusters: Option<ClusterQuality>,
    /// [`super::health::Spread::mean_cosine`] of embeddings in eval mode, at epochs that are evaluated.
    pub mean_cosine: Option<f64>,
    /// [`super::health::Spread::effective_rank`] of the same.
    pub effective_rank: Option<f64>,
    /// Largest resident memory of the process so far, in MiB, where the system tells.
    pub peak_rss_mb: Option<f64>,
    /// When the epoch ended, in seconds since 1970.
    pub unix_time: f64,
}

/// How good the clusters of an epoch are, for the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClusterQuality {
    /// Normalised mutual information of clusters and classes, in 0–1, the mean of the clusterings; where there are labels.
    pub nmi: Option<f64>,
    /// Their adjusted Rand index, at most 1.
    pub ari: Option<f64>,
    /// How many other images are close to an image; the mean of 500 images, as the next two.
    pub close_size: f64,
    /// Share of these that are of the image's class, in 0–1; where there are labels.
    pub close_purity: Option<f64>,
    /// Share of the image's own row in `Σ exp(V_j · v / τ)` over its close rows, in 0–1.
    pub own_share: f64,
}

/// kNN accuracy before training, on the split and with the K and temperature of the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Cosine similarity of the normalised pixels themselves; absent where they would need too much memory.
    pub raw_pixels: Option<f32>,
    /// The same of pixels whitened by the principal components of the training images; absent from older runs, and where there are
    /// too many images or too few.
    pub whitened_pixels: Option<f32>,
    /// The network as initialised: random, or the weights to begin with.
    pub random_init: Option<f32>,
    /// Neighbours that vote.
    pub knn_k: usize,
    /// Temperature of the vote.
    pub knn_temperature: f64,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Accuracy before training, where labels exist.
    pub baseline: Option<Baseline>,
    /// Every epoch of the run, those before a resume too.
    pub epochs: Vec<EpochMetrics>,
    /// Where the run stopped before its last epoch, because the caller asked to.
    pub stopped_at: Option<StoppedAt>,
}

/// Where a run stands that can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoppedAt {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done of the next one.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
}

/// Running sums of an epoch; kept in checkpoints, so that a resumed epoch reports all of its steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Totals {
    /// Sum of the loss over images.
    pub loss: f64,
    /// Images seen.
    pub images: usize,
    /// Images without a close background neighbour.
    pub empty_close: usize,
    /// Seconds inside training steps.
    pub busy: f64,
    /// Seconds waited for images.
    pub wait: f64,
    /// Seconds spent on clustering.
    pub cluster: f64,
    /// Seconds since the epoch began.
    pub elapsed: f64,
    /// The clusters made at its start.
    #[serde(default)]
    pub clusters: Option<ClusterQuality>,
}

impl Totals {
    /// Images per second of the training step.
    pub fn images_per_s(&self) -> f64 {
        self.images as f64 / self.busy.max(1e-9)
    }
}

/// As many decimals as mean something: `metrics.jsonl` is read by people too.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// Seconds since 1970.
#[doc(hidden)]
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Largest resident memory of this process in MiB, where the system tells (Linux).
#[doc(hidden)]
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 1024.0 * 10.0).round() / 10.0)
}
