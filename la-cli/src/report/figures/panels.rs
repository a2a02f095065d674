//! Figure 3 of the paper: neighbours of the images with the most and the least confident votes.

use super::super::page::{Page, Words};
use super::super::subject::{embeddings, Subject};
use super::super::{neighbor_panel, paint_neighbors, PanelConfig};
use anyhow::Context;
use image::{codecs::jpeg::JpegEncoder, ExtendedColorType, ImageEncoder};

const ROWS: usize = 6;
const COLUMNS: usize = 9;
const QUALITY: u8 = 85;

/// A panel of each kind, of one run.
pub fn add(page: &mut Page, subject: &Subject) -> anyhow::Result<()> {
    let confidence: Vec<f32> = match &subject.votes {
        Some(votes) => votes.iter().map(|vote| vote.confidence).collect(),
        None => subject.neighbors.scores.chunks(subject.neighbors.k).map(|scores| scores.iter().take(COLUMNS).sum()).collect(),
    };
    let mut order: Vec<usize> = (0..confidence.len()).collect();
    order.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]).then(a.cmp(&b)));
    let measure =
        if subject.votes.is_some() { "share of the votes for the class with most" } else { "similarity to the nearest, without labels" };
    let same = if subject.votes.is_some() { " ✓ and green: of the same class." } else { "" };
    page.section(
        "Neighbours",
        &format!(
            "Of {}: images (left) with their nearest training images and cosine similarities, figure 3 of the paper.{same}",
            subject.name
        ),
    );
    let last: Vec<usize> = order.iter().rev().take(ROWS).copied().collect();
    let captions = match subject.votes {
        Some(_) => ["The images that the vote is most confident of.", "The images that it is least confident of."],
        None => ["The images that are most similar to others.", "The images that are least similar to others."],
    };
    for (name, caption, chosen) in
        [("most-confident", captions[0], &order[..ROWS.min(order.len())]), ("least-confident", captions[1], &last[..])]
    {
        let (jpeg, size) = panel(subject, caption, chosen)?;
        let protocol = format!("confidence is the {measure}; {}; {}", subject.protocol(), embeddings(std::slice::from_ref(subject)));
        page.picture(&Words { name, caption, protocol: &protocol }, jpeg, size);
    }
    Ok(())
}

fn panel(subject: &Subject, title: &str, chosen: &[usize]) -> anyhow::Result<(Vec<u8>, (u32, u32))> {
    let config = PanelConfig { title: title.into(), queries: chosen.iter().map(|&row| (row, row)).collect(), num_neighbors: COLUMNS };
    let panel = neighbor_panel(subject.bank.images.as_ref(), subject.asked.images.as_ref(), &subject.neighbors, &config)?;
    let (pixels, (width, height)) = paint_neighbors(&panel)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).write_image(&pixels, width, height, ExtendedColorType::Rgb8).context("a panel")?;
    Ok((jpeg, (width, height)))
}
