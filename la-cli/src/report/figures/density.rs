//! Figure 2 of the paper: how dense neighbourhoods are.

use super::super::page::{csv, row, Page, Words};
use super::super::subject::{embeddings, Subject};
use super::super::svg::{lines, Axes, Series, COLORS};
use crate::measures::density::Densities;
use serde_json::json;

/// Steps of a distribution.
const STEPS: usize = 60;

/// The distributions of local and background density, all runs in one chart.
pub fn add(page: &mut Page, subjects: &[Subject]) -> anyhow::Result<()> {
    let title = "Densities";
    let found: Vec<(usize, &Subject, &Densities)> =
        subjects.iter().enumerate().filter_map(|(place, subject)| Some((place, subject, subject.densities.as_ref()?))).collect();
    let Some(ranks) = found.first().map(|(_, _, densities)| densities.ranks) else {
        page.left_out(title, "densities need at least 8 training images.");
        return Ok(());
    };
    page.section(
        title,
        "Local Aggregation wants neighbourhoods that are dense, apart from a background that is not: figure 2 of the paper.",
    );
    let (first, last) = ranks.background;
    let scaled = if ranks.is_published {
        "the ranks of the paper".into()
    } else {
        format!("ranks scaled to the {} others there are; the paper has 30, and 1000 to 4096 of 1.28 million", last)
    };
    let protocol = format!(
        "cosine similarity of un-augmented training images, {} of them evenly chosen: mean to the {} nearest others, and to those of rank {first} to {last} ({scaled}); {}",
        found[0].2.local.len(),
        ranks.local,
        embeddings(subjects)
    );
    let numbers = csv(std::iter::once(row(["run", "local", "background"])).chain(found.iter().flat_map(|(_, subject, densities)| {
        let pairs = densities.local.iter().zip(&densities.background);
        pairs.map(|(local, background)| vec![subject.name.clone(), local.to_string(), background.to_string()])
    })));
    let chart = |values: fn(&Densities) -> &[f32], x| {
        let series: Vec<Series> = found
            .iter()
            .map(|(place, subject, densities)| Series {
                name: subject.name.clone(),
                color: COLORS[place % COLORS.len()],
                is_dashed: false,
                points: distribution(values(densities), &found.iter().flat_map(|found| values(found.2)).copied().collect::<Vec<_>>()),
            })
            .collect();
        lines(&Axes { x, y: "share of images", range: None, is_percent: true }, &series)
    };
    let local = chart(|densities| &densities.local, "local density")?;
    let background = chart(|densities| &densities.background, "background density")?;
    let words = |name, caption| Words { name, caption, protocol: &protocol };
    page.charts(vec![
        (words("local-density", "How images spread over local densities."), local, numbers.clone()),
        (words("background-density", "How images spread over background densities."), background, numbers),
    ]);
    let figures = found.iter().map(
        |(_, subject, densities)| json!({"name": subject.name, "local": mean(&densities.local), "background": mean(&densities.background)}),
    );
    let figures: Vec<_> = figures.collect();
    let rows = figures.iter().map(|figure| {
        format!(
            "{} {:.3} and {:.3}",
            figure["name"].as_str().unwrap_or(""),
            figure["local"].as_f64().unwrap_or(0.0),
            figure["background"].as_f64().unwrap_or(0.0)
        )
    });
    page.text(&format!("Means of local and background density: {}.", rows.collect::<Vec<_>>().join("; ")));
    page.note("densities", json!({"protocol": protocol, "runs": figures}));
    Ok(())
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

/// The share of `values` in each of some steps over the range of `all`.
fn distribution(values: &[f32], all: &[f32]) -> Vec<(f64, f64)> {
    let (low, high) = all.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    let step = f64::from((high - low).max(1e-3)) / STEPS as f64;
    let mut counts = [0usize; STEPS];
    values.iter().for_each(|&value| counts[((f64::from(value - low) / step) as usize).min(STEPS - 1)] += 1);
    let share = |(i, &count): (usize, &usize)| (f64::from(low) + (i as f64 + 0.5) * step, count as f64 / values.len() as f64);
    counts.iter().enumerate().map(share).collect()
}
