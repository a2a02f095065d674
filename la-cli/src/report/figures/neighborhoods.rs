//! How good the clusters were that each epoch learned from.

use super::super::page::{csv, Page, Words};
use super::super::subject::Subject;
use super::super::svg::{lines, Axes, Series, COLORS};
use la_core::train::ClusterQuality;

/// A figure by epoch: name of its files, caption, axis, whether in percent, value.
type Figure = (&'static str, &'static str, &'static str, bool, fn(&ClusterQuality) -> Option<f64>);

const FIGURES: [Figure; 4] = [
    ("close-purity", "Share of an image's close neighbours that are of its class.", "purity", true, |found| found.close_purity),
    ("close-size", "Close neighbours of an image, itself apart.", "images", false, |found| Some(found.close_size)),
    ("nmi-by-epoch", "Normalised mutual information of clusters and classes.", "NMI", false, |found| found.nmi),
    ("ari-by-epoch", "Adjusted Rand index of clusters and classes.", "ARI", false, |found| found.ari),
];

/// Quality of clusters and close neighbours by epoch, of the runs that recorded it.
pub fn add(page: &mut Page, subjects: &[Subject]) -> anyhow::Result<()> {
    let title = "Clusters by epoch";
    if subjects.iter().flat_map(|subject| &subject.epochs).all(|epoch| epoch.clusters.is_none()) {
        page.left_out(title, "no run recorded an epoch of Local Aggregation, or all were trained by an older la-cli.");
        return Ok(());
    }
    page.section(title, "What Local Aggregation learns from: a close neighbour of another class pulls the wrong way.");
    let mut charts = Vec::new();
    for (name, caption, y, is_percent, value) in FIGURES {
        let of = |(place, subject): (usize, &Subject)| Series {
            name: subject.name.clone(),
            color: COLORS[place % COLORS.len()],
            is_dashed: false,
            points: subject.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, value(epoch.clusters.as_ref()?)?))).collect(),
        };
        let series: Vec<Series> = subjects.iter().enumerate().map(of).filter(|series| !series.points.is_empty()).collect();
        if series.is_empty() {
            continue;
        }
        let svg = lines(&Axes { x: "epoch", y, range: None, is_percent }, &series)?;
        let points =
            series.iter().flat_map(|one| one.points.iter().map(|(epoch, value)| [one.name.clone(), epoch.to_string(), value.to_string()]));
        let numbers = csv(std::iter::once(["run", "epoch", y].map(str::to_string)).chain(points).map(|row| row.to_vec()));
        let protocol = "as metrics.jsonl records it: the clusterings made before the epoch; close neighbours of 500 training images";
        charts.push((Words { name, caption, protocol }, svg, numbers));
    }
    page.charts(charts);
    Ok(())
}
