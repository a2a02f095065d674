//! What was found, for a terminal.

use super::find::{num_leaked, Twins, NUM_NEAREST};
use super::Inspected;
use crate::output::{counted, one_line, percent, say, thousands};
use crate::progress::duration;
use crate::source::images;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Prints a summary, then the first of each kind.
pub fn print(found: &Inspected) -> anyhow::Result<()> {
    summary(found)?;
    let findings = &found.findings;
    groups(found, "identical pictures", &findings.identical)?;
    groups(found, "near-duplicates", &findings.near)?;
    outliers(found)?;
    clusters(found)
}

fn summary(found: &Inspected) -> anyhow::Result<()> {
    let (findings, args) = (&found.findings, found.args);
    say!("weights      {}", found.weights)?;
    say!("data         {}", one_line(&found.data))?;
    say!("identical    {}", in_groups(&findings.identical))?;
    say!("near         {}, every two of a group at least {} alike", in_groups(&findings.near), args.threshold)?;
    let curve: Vec<String> = findings.curve.iter().map(|(threshold, count)| format!("{} at {threshold}", thousands(*count))).collect();
    say!("by threshold {}", format_args!("images in groups: {}", curve.join(", ")))?;
    if findings.complete_from > args.threshold {
        say!("             groups below {:.3} may be too small: a picture has more than 255 others so alike", findings.complete_from)?;
    }
    leaks(found)?;
    let differing = findings.identical.iter().chain(&findings.near).filter(|group| group.is_contradiction).count();
    if differing > 0 {
        say!("classes      {} with pictures of different classes", counted(differing, "group"))?;
    }
    if let Some(out) = &args.out {
        say!("sheets       {}", out.join("index.html").display())?;
    }
    say!("time         {}", duration(found.seconds))
}

fn leaks(found: &Inspected) -> anyhow::Result<()> {
    let Some(num_train) = found.num_train else {
        return say!("leaks        no split: no sub-folders are called train and test");
    };
    let findings = &found.findings;
    let num_test = found.images.len() - num_train;
    let count = |groups: &[Twins]| counted(groups.iter().filter(|group| group.is_leak).count(), "group");
    let share = |groups: &[Twins]| {
        let leaked = num_leaked(groups, num_train);
        format!("{} ({})", images(leaked, "test "), percent(leaked as f32 / num_test.max(1) as f32))
    };
    say!(
        "leaks        on both sides of the split: {} of identical pictures with {}, {} of near-duplicates with {}",
        count(&findings.identical),
        share(&findings.identical),
        count(&findings.near),
        share(&findings.near)
    )
}

/// How many images are in how many groups.
pub fn in_groups(groups: &[Twins]) -> String {
    let num_images = groups.iter().map(|group| group.images.len()).sum();
    format!("{} in {}", images(num_images, ""), counted(groups.len(), "group"))
}

fn heading(what: &str, shown: usize, of: usize) -> anyhow::Result<()> {
    let part = if shown < of { format!(", {} of {}", thousands(shown), thousands(of)) } else { String::new() };
    say!("\n{what}{part}")
}

/// Images of a group that are printed: a placeholder may have thousands of copies.
const MEMBERS: usize = 8;

fn groups(found: &Inspected, what: &str, groups: &[Twins]) -> anyhow::Result<()> {
    let shown = found.args.show.min(groups.len());
    if shown == 0 {
        return Ok(());
    }
    heading(what, shown, groups.len())?;
    for (place, group) in groups.iter().take(shown).enumerate() {
        say!("{:>4}  {}", place + 1, about(group))?;
        for &image in group.images.iter().take(MEMBERS) {
            say!("      {}", line(found, image))?;
        }
        if group.images.len() > MEMBERS {
            say!("      and {} more", thousands(group.images.len() - MEMBERS))?;
        }
    }
    Ok(())
}

/// A group in a few words.
pub fn about(group: &Twins) -> String {
    let mut words = vec![images(group.images.len(), "")];
    if group.least < 1.0 {
        words.push(format!("least similarity {:.3}", group.least));
    }
    if group.is_leak {
        words.push("on both sides of the split".into());
    }
    if group.is_contradiction {
        words.push("of different classes".into());
    }
    words.join(", ")
}

/// An image on a line, with its side of the split; its class is in its path, where it has one.
fn line(found: &Inspected, image: u32) -> String {
    let side = found.side(image).map_or(String::new(), |side| format!("{side:<5}  "));
    one_line(&format!("{side}{}", found.place(image)))
}

fn outliers(found: &Inspected) -> anyhow::Result<()> {
    let outliers = &found.findings.outliers;
    let shown = found.args.show.min(outliers.len());
    if shown == 0 {
        return Ok(());
    }
    say!("\noutliers, by mean similarity to the {NUM_NEAREST} nearest others")?;
    for (image, similarity) in &outliers[..shown] {
        say!("{similarity:>8.3}  {}", line(found, *image))?;
    }
    Ok(())
}

fn clusters(found: &Inspected) -> anyhow::Result<()> {
    let clusters = &found.findings.clusters;
    let shown = found.args.show.min(clusters.len());
    if shown == 0 {
        return Ok(());
    }
    heading("clusters, each with its most typical picture", shown, clusters.len())?;
    for (place, cluster) in clusters.iter().take(shown).enumerate() {
        let class = mostly(found, &cluster.images).map_or(String::new(), |mostly| format!("  ({})", one_line(&mostly)));
        say!("{:>4}  {:>9}  {}{class}", place + 1, thousands(cluster.images.len()), line(found, cluster.images[0]))?;
    }
    Ok(())
}

/// The most common class of some images, with its share of those that have one.
pub fn mostly(found: &Inspected, images: &[u32]) -> Option<String> {
    let mut counts = BTreeMap::<u32, usize>::new();
    images.iter().filter_map(|&image| found.images.label(image as usize)).for_each(|label| *counts.entry(label).or_default() += 1);
    let (&label, &count) = counts.iter().max_by_key(|&(&label, &count)| (count, Reverse(label)))?;
    let name = found.images.class_names().get(label as usize)?;
    Some(format!("{:.0} % {name}", 100.0 * count as f32 / counts.values().sum::<usize>() as f32))
}
