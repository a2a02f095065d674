//! The files of TensorFlow's Embedding Projector: tab-separated vectors and metadata, and one sprite of all thumbnails.

use super::rows::Rows;
use super::thumbnails::sheets;
use crate::output::tsv_field;
use anyhow::{bail, Context};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The largest sprite that the projector loads, in pixels a side.
const MAX_SPRITE: usize = 8192;

/// Whether one of the files has this name.
pub fn writes(name: &str) -> bool {
    ["tensors.tsv", "metadata.tsv", "sprite.png", "projector_config.json"].contains(&name)
}

/// Writes `tensors.tsv`, `metadata.tsv`, `sprite.png` and `projector_config.json` into `folder`.
pub fn write(rows: &Rows, folder: &Path) -> anyhow::Result<()> {
    let columns = (rows.len() as f64).sqrt().ceil() as usize;
    if columns * rows.thumb > MAX_SPRITE {
        let most = (MAX_SPRITE / rows.thumb).pow(2);
        bail!(
            "the projector shows up to {most} thumbnails of {} pixels, got {} images; use a smaller --thumb or --limit",
            rows.thumb,
            rows.len()
        );
    }
    let save = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).with_context(|| name.to_string());
    save("tensors.tsv", tensors(rows).as_bytes())?;
    save("metadata.tsv", metadata(rows).as_bytes())?;
    for sprite in sheets(rows, columns, columns * columns)? {
        sprite.save(folder.join("sprite.png")).context("sprite.png")?;
    }
    let config = serde_json::json!({ "embeddings": [{
        "tensorName": rows.title,
        "tensorShape": [rows.len(), rows.dim],
        "tensorPath": "tensors.tsv",
        "metadataPath": "metadata.tsv",
        "sprite": { "imagePath": "sprite.png", "singleImageDim": [rows.thumb, rows.thumb] },
    }]});
    save("projector_config.json", &serde_json::to_vec_pretty(&config)?)
}

fn tensors(rows: &Rows) -> String {
    let mut text = String::new();
    for row in rows.embeddings.chunks_exact(rows.dim) {
        for (i, value) in row.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{value}", if i > 0 { "\t" } else { "" });
        }
        text.push('\n');
    }
    text
}

/// One column has no header, several have one: the projector's own rule.
fn metadata(rows: &Rows) -> String {
    let names: Vec<String> = rows.names().iter().map(|name| tsv_field(name)).collect();
    let Some(labels) = rows.labels() else { return names.join("\n") + "\n" };
    let class = |label: Option<u32>| {
        label.and_then(|label| rows.images.class_names().get(label as usize)).map_or(String::new(), |name| tsv_field(name))
    };
    let lines = names.iter().zip(labels).map(|(name, label)| format!("{name}\t{}\n", class(label)));
    "name\tlabel\n".to_string() + &lines.collect::<String>()
}
