//! What a run tells on its way.

use super::health::Warning;
use super::metrics::{Baseline, EpochMetrics, Phase};
use std::path::PathBuf;

/// What [`super::train`] tells its caller on the way.
#[derive(Debug, Clone)]
pub enum Event {
    /// Something chosen or left out, with the reason.
    Note(String),
    /// Something that goes wrong, or will; each is told once in a run.
    Warning(Warning),
    /// Training begins or resumes.
    Start {
        /// Training images.
        num_images: usize,
        /// Epochs done before.
        epoch: usize,
        /// Steps of that epoch done before.
        step: usize,
        /// Steps of an epoch.
        steps: usize,
    },
    /// Accuracy before training.
    Baseline(Baseline),
    /// A clustering of the bank begins.
    Clustering {
        /// Clusters of each run of k-means.
        num_clusters: usize,
        /// Runs.
        num_clusterings: usize,
    },
    /// A training step is done.
    Step {
        /// The epoch under way, from 1.
        epoch: usize,
        /// Steps of it done.
        step: usize,
        /// Steps of an epoch.
        steps: usize,
        /// The objective.
        phase: Phase,
        /// Loss of this batch.
        loss: f32,
    },
    /// The kNN monitor begins.
    Evaluating,
    /// An epoch is done.
    Epoch(EpochMetrics),
    /// A checkpoint was written.
    Checkpoint(PathBuf),
}
