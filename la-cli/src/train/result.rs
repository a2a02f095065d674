//! What a run came to, as JSON, and what is said of a run that is complete.

use super::outcome::Used;
use super::reporter::{unless_closed, Lines};
use crate::output::{command, counted, percent, say};
use crate::run::RunFolder;
use la_core::train::{Baseline, Summary};
use std::path::Path;

/// Says that every epoch of a run is done, and how to learn on from it.
pub fn say_complete(run: &RunFolder, lines: Lines) -> anyhow::Result<()> {
    let config = run.read_config()?.train;
    let summary = Summary { baseline: run.read_baseline(), epochs: run.read_metrics()?, stopped_at: None };
    say_json(run, (&summary, None), lines)?;
    if lines.is_json {
        return Ok(());
    }
    let path = run.path().to_string_lossy();
    let done = match config.epochs {
        1 => "1 epoch is done".to_string(),
        n => format!("all {} are done", counted(n, "epoch")),
    };
    let top1 = summary.epochs.last().and_then(|epoch| epoch.knn_top1);
    let top1 = top1.map_or(String::new(), |top1| format!(" (kNN top-1 {})", percent(top1)));
    say!("run        {path}: {done}{top1}, so nothing is left to resume")?;
    let longer = command(&["train", "--branch", &path, "--epochs", &(2 * config.epochs).to_string()]);
    lines.tell(format_args!("next       {longer}      # more epochs, in a run of its own"))
}

/// The object that `--json` prints; accuracies in 0–1.
#[derive(serde::Serialize)]
struct Json<'a> {
    run: &'a Path,
    data: &'a str,
    num_images: usize,
    num_test_images: Option<usize>,
    epochs: usize,
    epochs_done: usize,
    is_stopped: bool,
    seconds: f64,
    loss: Option<f64>,
    knn_top1: Option<f32>,
    baseline: Option<Baseline>,
    /// kNN accuracy by what search compares, of a run that began from weights.
    search: Option<Used>,
}

/// Prints the result as JSON, where that is wanted.
pub fn say_json(run: &RunFolder, (summary, used): (&Summary, Option<&Used>), lines: Lines) -> anyhow::Result<()> {
    if !lines.is_json {
        return Ok(());
    }
    let recorded = run.read_config()?;
    let last = summary.epochs.last();
    let json = Json {
        run: run.path(),
        data: &recorded.train.data,
        num_images: recorded.num_images,
        num_test_images: recorded.num_test_images,
        epochs: recorded.train.epochs,
        epochs_done: summary.epochs.len(),
        is_stopped: summary.stopped_at.is_some(),
        seconds: last.map_or(0.0, |last| last.total_seconds),
        loss: last.map(|last| last.loss),
        knn_top1: last.and_then(|last| last.knn_top1),
        baseline: summary.baseline,
        search: used.copied(),
    };
    unless_closed(say!("{}", serde_json::to_string(&json)?))
}
