//! How the runs learned.

use super::super::page::{csv, row, Page, Words};
use super::super::subject::Subject;
use super::super::svg::{lines, Axes, Series, COLORS};
use la_core::train::EpochMetrics;

/// Loss and kNN accuracy by epoch, of all runs that recorded them.
pub fn add(page: &mut Page, subjects: &[Subject]) -> anyhow::Result<()> {
    let runs: Vec<(usize, &Subject)> = subjects.iter().enumerate().filter(|(_, subject)| !subject.epochs.is_empty()).collect();
    if runs.is_empty() {
        page.left_out("Training", "no metrics.jsonl lies beside these weights.");
        return Ok(());
    }
    page.section(
        "Training",
        "Epochs of instance recognition come first; Local Aggregation's loss is another one and begins at another height.",
    );
    let numbers = csv(std::iter::once(row(["run", "epoch", "objective", "loss", "knn_top1"]))
        .chain(runs.iter().flat_map(|(_, subject)| rows_of(subject))));
    let series = |value: fn(&EpochMetrics) -> Option<f64>| {
        let of = |(place, subject): &(usize, &Subject)| Series {
            name: subject.name.clone(),
            color: COLORS[place % COLORS.len()],
            is_dashed: false,
            points: subject.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?))).collect(),
        };
        runs.iter().map(of).collect::<Vec<_>>()
    };
    let axes = |y, is_percent| Axes { x: "epoch", y, range: None, is_percent };
    let loss = lines(&axes("loss", false), &series(|epoch| Some(epoch.loss)))?;
    let words = Words { name: "loss", caption: "Loss, the mean over each epoch.", protocol: "as metrics.jsonl of each run records it" };
    let mut charts = vec![(words, loss, numbers.clone())];
    let measured = series(|epoch| epoch.knn_top1.map(f64::from));
    if measured.iter().any(|series| !series.points.is_empty()) {
        let levels = levels(runs[0].1, &measured);
        let knn = lines(&axes("kNN top-1", true), &measured.into_iter().chain(levels).collect::<Vec<_>>())?;
        let protocol = "the monitor of training: kNN by the network's output on the run's own test images, with the run's K and τ";
        charts.push((
            Words { name: "knn", caption: "kNN accuracy after each epoch; dashed, where it is known, what it began from.", protocol },
            knn,
            numbers,
        ));
    }
    page.charts(charts);
    Ok(())
}

fn rows_of(subject: &Subject) -> impl Iterator<Item = Vec<String>> + '_ {
    subject.epochs.iter().map(|epoch| {
        let knn = epoch.knn_top1.map_or(String::new(), |top1| top1.to_string());
        vec![subject.name.clone(), epoch.epoch.to_string(), epoch.phase.to_string(), epoch.loss.to_string(), knn]
    })
}

/// What pixels and the first run before training reach, as dashed lines.
fn levels(first: &Subject, measured: &[Series]) -> Vec<Series> {
    let epochs = measured.iter().flat_map(|series| series.points.iter().map(|point| point.0)).fold(1.0, f64::max);
    let level = |(name, top1, color): (&str, Option<f32>, usize)| {
        let top1 = f64::from(top1?);
        Some(Series { name: name.into(), color: COLORS[color], is_dashed: true, points: vec![(0.0, top1), (epochs, top1)] })
    };
    let Some(baseline) = first.baseline else { return Vec::new() };
    [("raw pixels", baseline.raw_pixels, 4), ("before training", baseline.random_init, 5)].into_iter().filter_map(level).collect()
}
