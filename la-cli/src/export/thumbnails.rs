//! Small square pictures of the rows, many to a sheet.

use super::rows::Rows;
use crate::progress::Progress;
use anyhow::Context;
use image::{codecs::jpeg::JpegEncoder, RgbImage};
use la_core::augment::center;
use la_core::preprocess::Preprocessing;
use rayon::prelude::*;

/// What a thumbnail shows where its image cannot be read any more.
const GRAY: u8 = 128;
/// Strong enough to blur nothing at this size, weak enough for a kilobyte a thumbnail.
const QUALITY: u8 = 75;

/// The sheets of all rows, `columns` thumbnails wide and up to `per_sheet` in each.
pub fn sheets(rows: &Rows, columns: usize, per_sheet: usize) -> anyhow::Result<Vec<RgbImage>> {
    let mut progress = Progress::new("thumbnails", rows.len(), "images");
    let mut sheets = Vec::new();
    for first in (0..rows.len()).step_by(per_sheet) {
        let end = (first + per_sheet).min(rows.len());
        let tiles: Vec<Vec<u8>> = (first..end).into_par_iter().map(|row| tile(rows, row)).collect();
        sheets.push(sheet(&tiles, columns, rows.thumb));
        progress.set(end);
    }
    Ok(sheets)
}

/// RGB pixels of a row's thumbnail: the middle square of its image.
pub fn tile(rows: &Rows, row: usize) -> Vec<u8> {
    let mut values = vec![f32::from(GRAY) / 255.0; rows.thumb * rows.thumb * 3];
    if let Ok(picture) = rows.images.picture(row) {
        // The buffer has the size that is asked for.
        let _ = center(&picture, &Preprocessing::plain(rows.thumb), &mut values);
    }
    values.into_iter().map(|x| (x * 255.0).round() as u8).collect()
}

fn sheet(tiles: &[Vec<u8>], columns: usize, side: usize) -> RgbImage {
    let width = columns.min(tiles.len()) * side;
    let mut sheet = RgbImage::new(width as u32, (tiles.len().div_ceil(columns) * side) as u32);
    let pixels: &mut [u8] = &mut sheet;
    for (i, tile) in tiles.iter().enumerate() {
        let (left, top) = (i % columns * side, i / columns * side);
        for (y, line) in tile.chunks_exact(side * 3).enumerate() {
            let start = ((top + y) * width + left) * 3;
            pixels[start..start + side * 3].copy_from_slice(line);
        }
    }
    sheet
}

/// The picture as JPEG.
pub fn jpeg(picture: &RgbImage) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture).context("a thumbnail cannot be encoded")?;
    Ok(bytes)
}
