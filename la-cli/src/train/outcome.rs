//! What a run came to: its accuracy beside what it began from and beside pixels, and a plain word where training made it worse.

use crate::output::{command, percent};
use crate::progress::duration;
use la_core::config::TrainConfig;
use la_core::data::Splits;
use la_core::eval::knn::KnnConfig;
use la_core::train::{Baseline, Summary};

/// The level of weights that are given.
const START: &str = "the weights it begins from";
/// Standard errors of a difference that are more than chance.
const BEYOND_CHANCE: f64 = 2.0;

/// A level that a run is held against.
pub struct Level {
    /// What it is the accuracy of.
    pub name: &'static str,
    /// The accuracy.
    pub top1: f32,
    /// What to do where training stays below it.
    advice: String,
}

/// Accuracy by the embeddings that search compares, each network at its own size.
#[derive(Clone, Copy, serde::Serialize)]
pub struct Used {
    /// Of the run.
    pub run: f32,
    /// Of the weights that it began from, untrained, where it did.
    pub weights: Option<f32>,
}

/// The result in lines, and how much worse it is than each level that it stays below by more than chance.
pub fn lines(config: &TrainConfig, summary: &Summary, splits: &Splits, used: Option<&Used>) -> (Vec<String>, Vec<String>) {
    let time = duration(summary.epochs.last().map_or(0.0, |epoch| epoch.total_seconds));
    let Some(top1) = summary.epochs.last().and_then(|epoch| epoch.knn_top1) else {
        return (vec![format!("done in {time}")], Vec::new());
    };
    let mut levels = summary.baseline.map_or(Vec::new(), |baseline| levels(&baseline, config));
    let knn = knn_config(config, splits.train.len());
    let beside: String = levels.iter().map(|level| format!(", {} {}", level.name, percent(level.top1))).collect();
    let mut lines = vec![format!("done in {time}: kNN top-1 {}{beside} (K = {}, temperature {})", percent(top1), knn.k, knn.temperature)];
    let mut reached = top1;
    if let Some(used) = used {
        let weights = used.weights.map_or(String::new(), |weights| format!(", {START} {}", percent(weights)));
        lines.push(format!("search     by its read-out: kNN top-1 {}{weights}", percent(used.run)));
        reached = used.run;
        let start = levels.iter_mut().filter(|level| level.name == START);
        start.zip(used.weights).for_each(|(level, weights)| level.top1 = weights);
    }
    let num_test = splits.test.as_ref().map_or(0, |test| test.len());
    let worse = levels.into_iter().filter(|level| is_below(reached, level.top1, num_test));
    let worse = worse.map(|level| format!("than {}, by {:.1} points: {}", level.name, 100.0 * (level.top1 - reached), level.advice));
    (lines, worse.collect())
}

/// What a run is to beat.
pub fn levels(baseline: &Baseline, config: &TrainConfig) -> Vec<Level> {
    let untrained = command(&["serve", "--data", &config.data]);
    let (start, better) = match &config.init {
        Some(_) => (START, format!("they are better here; use `{untrained}`, or train with a lower --lr")),
        None => ("before training", format!("train with a lower --lr or more --epochs, or use `{untrained}`")),
    };
    let pixels = format!("the network has not learned these images yet; train for more --epochs, or use `{untrained}`");
    let all = [
        (start, baseline.random_init, better),
        ("raw pixels", baseline.raw_pixels, pixels.clone()),
        ("whitened pixels", baseline.whitened_pixels, pixels),
    ];
    all.into_iter().filter_map(|(name, top1, advice)| Some(Level { name, top1: top1?, advice })).collect()
}

/// Whether an accuracy on so many images is lower than another by more than chance.
fn is_below(top1: f32, level: f32, num_images: usize) -> bool {
    let variance = |p: f32| f64::from(p) * (1.0 - f64::from(p)) / num_images.max(1) as f64;
    f64::from(level - top1) > BEYOND_CHANCE * (variance(top1) + variance(level)).sqrt()
}

/// The vote that a run on so many images measures by.
pub fn knn_config(config: &TrainConfig, num_images: usize) -> KnnConfig {
    KnnConfig { k: config.knn_k.min(num_images), temperature: config.knn_temperature }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_from_two_standard_errors_on() {
        // Of 400 images each at 50 %: one standard error of the difference is sqrt(2 * 0.25 / 400) = 3.5 points.
        assert!(!is_below(0.5, 0.56, 400));
        assert!(is_below(0.5, 0.58, 400));
        assert!(!is_below(0.58, 0.5, 400), "it is above");
    }
}
