//! Figures as text.

use super::figures::Row;
use super::measure::Reached;
use super::table::Table;
use crate::measures::intervals::BootstrapConfig;
use crate::output::{one_line, percent, say, thousands};
use crate::progress::duration;
use crate::source;
use la_core::eval::outcomes::Outcomes;

/// Prints all figures of a network, each with its protocol, and how another one compares.
pub fn print(table: &Table, reached: &Reached, against: Option<&Reached>, seconds: f64) -> anyhow::Result<()> {
    say!("weights       {}", reached.described)?;
    let left_out = match reached.num_left_out() {
        0 => String::new(),
        n => format!(", {} of the test images left out", thousands(n)),
    };
    say!("data          {}{left_out}", source::describe(&reached.splits))?;
    print_figures(table, reached)?;
    print_layers(table, reached)?;
    if !table.by_class.is_empty() {
        print_classes(reached)?;
    }
    if let Some(other) = against {
        say!("against       {}", other.described)?;
        table.own.iter().filter(|row| row.difference.is_some()).try_for_each(|row| print_difference(row, table))?;
    }
    let BootstrapConfig { resamples, level, .. } = BootstrapConfig::default();
    let test = if against.is_some() { "; p by McNemar's exact test" } else { "" };
    say!("in brackets   {} % of {} bootstraps over the images classified{test}", 100.0 * level, thousands(resamples))?;
    say!("time          {}", duration(seconds))
}

/// Figures of embeddings and pooled features, a line each; a protocol once where it is that of the line before.
fn print_figures(table: &Table, reached: &Reached) -> anyhow::Result<()> {
    let mut before = "";
    for row in table.own.iter().filter(|row| row.layer.is_empty()) {
        let train = reached.linear.filter(|_| row.measure == "linear_top1");
        let train = train.map_or(String::new(), |linear| format!("{} on the training images; ", percent(linear.train_top1)));
        let protocol = if row.protocol == before { "by the same" } else { &row.protocol };
        say!("{:<13} {}   {train}{}", title(row), with_interval(row), one_line(protocol))?;
        before = &row.protocol;
    }
    Ok(())
}

/// A line for each layer.
fn print_layers(table: &Table, reached: &Reached) -> anyhow::Result<()> {
    let Some(layers) = &reached.layers else { return Ok(()) };
    say!("layers        top-1, top-5, values; {}: {}", reached.protocol, reached.layers_protocol())?;
    for probe in &layers.layers {
        let rows = table.own.iter().filter(|row| row.layer == probe.layer.name());
        let tops: String = rows.map(|row| format!("{:<26}", with_interval(row))).collect();
        let (height, width) = probe.shape.grid;
        let seen = format!("{height}x{width}x{}", probe.shape.channels);
        let fitted = probe.fitted.map_or(String::new(), |fitted| {
            let usual = if fitted.is_chosen { "" } else { ", not chosen: each class has one image" };
            format!(" {} on the training images, penalty {}{usual}", percent(fitted.train_top1 as f32), fitted.penalty)
        });
        say!("{}", format!("  {:<11} {tops}{seen:<9}{fitted}", probe.layer.name()).trim_end())?;
    }
    Ok(())
}

/// Accuracy of each class, and what its images are taken for most often, by neighbours.
fn print_classes(reached: &Reached) -> anyhow::Result<()> {
    say!("classes       kNN top-1, and what others of the class are taken for: {}", reached.knn_protocol())?;
    let Outcomes { num_classes, .. } = reached.knn;
    let name = |class: usize| one_line(&reached.splits.train.class_names()[class]);
    let widest = (0..num_classes).map(|class| name(class).chars().count()).max().unwrap_or(0);
    let confusion = reached.knn.confusion();
    for (class, accuracy) in reached.knn.per_class().into_iter().enumerate() {
        let Some(accuracy) = accuracy else { continue };
        let counts = &confusion[class * num_classes..][..num_classes];
        let mut others: Vec<(u32, usize)> = counts.iter().copied().zip(0..).filter(|&(count, other)| count > 0 && other != class).collect();
        others.sort_by_key(|&(count, other)| (std::cmp::Reverse(count), other));
        let others: Vec<String> = others.iter().take(3).map(|&(count, other)| format!("{} {count}", name(other))).collect();
        let total = counts.iter().sum::<u32>() as usize;
        let line = format!("  {:<widest$}  {} of {}   {}", name(class), percent(accuracy as f32), thousands(total), others.join(", "));
        say!("{}", line.trim_end())?;
    }
    Ok(())
}

/// How a figure differs from that of the other network.
fn print_difference(row: &Row, table: &Table) -> anyhow::Result<()> {
    let (Some(difference), Some(low), Some(high)) = (row.difference, row.difference_low, row.difference_high) else { return Ok(()) };
    let other = table.other.iter().find(|other| (&other.measure, other.layer) == (&row.measure, row.layer));
    let p = row.p_value.map_or(String::new(), |p| if p < 1e-4 { ", p < 0.0001".into() } else { format!(", p = {p:.4}") });
    let [difference, low, high] = [difference, low, high].map(|share| 100.0 * share);
    let other = other.map_or(String::new(), |other| percent(other.value as f32));
    say!("  {:<17} {other:<8} {difference:+.1} points ({low:+.1} to {high:+.1}){p}", format!("{} {}", row.layer, title(row)).trim_start())
}

/// `81.9 % (79.5 to 84.2)`
fn with_interval(row: &Row) -> String {
    let interval = row.low.zip(row.high).map(|(low, high)| format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high));
    format!("{}{}", percent(row.value as f32), interval.unwrap_or_default())
}

/// A measure in words.
fn title(row: &Row) -> String {
    let (kind, rest) = row.measure.split_once("_top").or(row.measure.split_once("_at_")).unwrap_or(("mAP", ""));
    match kind {
        "knn" => format!("kNN top-{rest}"),
        "linear" => format!("linear top-{rest}"),
        "probe" => format!("top-{rest}"),
        "recall" => format!("recall@{rest}"),
        other => other.to_string(),
    }
}
