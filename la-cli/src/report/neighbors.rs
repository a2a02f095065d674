//! Query pictures, each at the head of a row of its nearest neighbours with their similarities.

use super::{load_font, plot_error, save_png, FONT, GRAY, GREEN, INK, VERMILION};
use crate::error::{bail, Error, Result};
use la_core::data::{Picture, Source};
use la_core::eval::knn::Neighbors;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const MARGIN: usize = 16;
const GAP: usize = 10;
const BORDER: usize = 4;
const CAPTION: usize = 22;
const TITLE: usize = 34;
/// More than a character of the title is wide, on average.
const TITLE_CHARACTER: usize = 10;

/// What the border of a picture says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The picture that was asked for.
    Query,
    /// A neighbour of the query's class.
    Same,
    /// A neighbour of another class.
    Other,
    /// A neighbour where a label is missing.
    Unknown,
}

/// One picture of a panel.
#[derive(Debug, Clone)]
pub struct Tile {
    /// What is shown, at any size.
    pub picture: Picture,
    /// Words under it.
    pub caption: String,
    /// Colour around it.
    pub mark: Mark,
}

/// What `neighbors.png` shows: rows of a query and its neighbours.
#[derive(Debug, Clone, Default)]
pub struct NeighborPanel {
    /// Line above the picture.
    pub title: String,
    /// Each row: the query, then its neighbours by decreasing similarity.
    pub rows: Vec<Vec<Tile>>,
}

/// Which pictures a panel shows.
#[derive(Debug, Clone)]
pub struct PanelConfig {
    /// Line above the picture.
    pub title: String,
    /// Rows of `neighbors` to show, with the index of each one's query in the query source.
    pub queries: Vec<(usize, usize)>,
    /// Neighbours per row.
    pub num_neighbors: usize,
}

/// Fetches the pictures, classes and similarities of a panel.
///
/// `neighbors` are rows of `bank`. Fails where a picture cannot be read or a row is not there.
pub fn neighbor_panel(bank: &dyn Source, queries: &dyn Source, neighbors: &Neighbors, config: &PanelConfig) -> Result<NeighborPanel> {
    let mut rows = Vec::with_capacity(config.queries.len());
    for &(row, query_index) in &config.queries {
        let class = queries.label(query_index);
        let name = class.and_then(|class| queries.class_names().get(class as usize).cloned());
        let caption = name.unwrap_or_else(|| "query".into());
        let mut tiles = vec![Tile { picture: queries.picture(query_index)?.into_owned(), caption, mark: Mark::Query }];
        for place in row * neighbors.k..row * neighbors.k + config.num_neighbors.min(neighbors.k) {
            let (Some(&index), Some(&score)) = (neighbors.indices.get(place), neighbors.scores.get(place)) else {
                bail!("expected neighbours of query {row}, got {} rows", neighbors.indices.len() / neighbors.k.max(1));
            };
            tiles.push(neighbor_tile(bank, index as usize, score, class)?);
        }
        rows.push(tiles);
    }
    Ok(NeighborPanel { title: config.title.clone(), rows })
}

fn neighbor_tile(bank: &dyn Source, index: usize, score: f32, class: Option<u32>) -> Result<Tile> {
    let mark = match (class, bank.label(index)) {
        (Some(class), Some(label)) if class == label => Mark::Same,
        (Some(_), Some(_)) => Mark::Other,
        _ => Mark::Unknown,
    };
    // The sign says what the colour says, for readers who cannot tell the colours.
    let sign = match mark {
        Mark::Same => " ✓",
        Mark::Other => " ✗",
        _ => "",
    };
    Ok(Tile { picture: bank.picture(index)?.into_owned(), caption: format!("{score:.2}{sign}"), mark })
}

/// Draws `panel` as a PNG file; small pictures are enlarged by whole pixels, large ones are scaled down.
///
/// Fails without any row, and where the file cannot be written.
pub fn draw_neighbors(panel: &NeighborPanel, path: &Path) -> Result<()> {
    let (pixels, size) = paint_neighbors(panel).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    save_png(&pixels, size, path)
}

/// The same as rows of RGB, with width and height.
pub fn paint_neighbors(panel: &NeighborPanel) -> Result<(Vec<u8>, (u32, u32))> {
    let num_columns = panel.rows.iter().map(Vec::len).max().unwrap_or(0);
    if num_columns == 0 {
        bail!("there are no neighbours to draw");
    }
    load_font()?;
    let side = tile_side(panel);
    let cell = side + 2 * BORDER;
    // A wider gap sets the query apart.
    let of_pictures = 2 * MARGIN + num_columns * (cell + GAP) + GAP;
    let of_title = 2 * MARGIN + panel.title.chars().count() * TITLE_CHARACTER;
    let width = of_pictures.max(of_title).max(480);
    let height = 2 * MARGIN + TITLE + panel.rows.len() * (cell + CAPTION + GAP);
    let mut pixels = vec![255; width * height * 3];
    for (row, tiles) in panel.rows.iter().enumerate() {
        for (column, tile) in tiles.iter().enumerate() {
            paint(&mut pixels, width, tile_origin(row, column, cell), (tile, side));
        }
    }
    write_words(panel, &mut pixels, (width, height), cell)?;
    Ok((pixels, (width as u32, height as u32)))
}

/// A whole multiple of small pictures' size, near 84 pixels; 128 for photographs.
fn tile_side(panel: &NeighborPanel) -> usize {
    let largest = panel.rows.iter().flatten().map(|tile| tile.picture.width.max(tile.picture.height)).max().unwrap_or(1);
    if largest > 84 {
        128
    } else {
        largest.max(1) * (84 / largest.max(1)).max(1)
    }
}

fn tile_origin(row: usize, column: usize, cell: usize) -> (usize, usize) {
    let aside = if column > 0 { GAP } else { 0 };
    (MARGIN + column * (cell + GAP) + aside, MARGIN + TITLE + row * (cell + CAPTION + GAP))
}

fn mark_color(mark: Mark) -> [u8; 3] {
    let RGBColor(r, g, b) = match mark {
        Mark::Query => INK,
        Mark::Same => GREEN,
        Mark::Other => VERMILION,
        Mark::Unknown => GRAY,
    };
    [r, g, b]
}

fn paint(pixels: &mut [u8], width: usize, (left, top): (usize, usize), (tile, side): (&Tile, usize)) {
    let cell = side + 2 * BORDER;
    let thumbnail = thumbnail(&tile.picture, side);
    for y in 0..cell {
        for x in 0..cell {
            let is_inside = (BORDER..BORDER + side).contains(&x) && (BORDER..BORDER + side).contains(&y);
            let color = if is_inside { thumbnail[(y - BORDER) * side + x - BORDER] } else { mark_color(tile.mark) };
            pixels[((top + y) * width + left + x) * 3..][..3].copy_from_slice(&color);
        }
    }
}

/// `side × side` pixels: the whole picture, its shape kept, on light gray.
fn thumbnail(picture: &Picture, side: usize) -> Vec<[u8; 3]> {
    let largest = picture.width.max(picture.height).max(1) as f64;
    let scale = side as f64 / largest;
    let fit = |length: usize| ((length as f64 * scale).round() as usize).clamp(1, side);
    let (width, height) = (fit(picture.width), fit(picture.height));
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let mut out = vec![[240u8; 3]; side * side];
    for y in 0..height {
        for x in 0..width {
            let rows = span(y, height, picture.height);
            out[(top + y) * side + left + x] = mean_color(picture, span(x, width, picture.width), rows);
        }
    }
    out
}

/// The source pixels that target pixel `i` of `n` covers; one where the picture is enlarged.
fn span(i: usize, n: usize, length: usize) -> (usize, usize) {
    let first = i * length / n;
    (first, ((i + 1) * length / n).clamp(first + 1, length.max(first + 1)))
}

fn mean_color(picture: &Picture, columns: (usize, usize), rows: (usize, usize)) -> [u8; 3] {
    let mut sum = [0u64; 3];
    for y in rows.0..rows.1 {
        for x in columns.0..columns.1 {
            let at = (y * picture.width + x) * 3;
            for (total, &value) in sum.iter_mut().zip(picture.pixels.get(at..at + 3).unwrap_or(&[0; 3])) {
                *total += value as u64;
            }
        }
    }
    let count = ((rows.1 - rows.0) * (columns.1 - columns.0)).max(1) as u64;
    sum.map(|total| ((total + count / 2) / count) as u8)
}

fn write_words(panel: &NeighborPanel, pixels: &mut [u8], (width, height): (usize, usize), cell: usize) -> Result<()> {
    let area = BitMapBackend::with_buffer(pixels, (width as u32, height as u32)).into_drawing_area();
    let title = (FONT, 18).into_font().color(&INK);
    area.draw_text(&panel.title, &title, (MARGIN as i32, MARGIN as i32)).map_err(plot_error)?;
    let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
    let longest = cell / 8 + 1; // characters that fit under a tile
    for (row, tiles) in panel.rows.iter().enumerate() {
        for (column, tile) in tiles.iter().enumerate() {
            let (left, top) = tile_origin(row, column, cell);
            let at = ((left + cell / 2) as i32, (top + cell + 4) as i32);
            area.draw_text(&shorten(&tile.caption, longest), &style, at).map_err(plot_error)?;
        }
    }
    area.present().map_err(plot_error)
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_string();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}
