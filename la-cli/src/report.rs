//! Pictures of a run: how it learned (`curves.png`) and what it finds alike (`neighbors.png`); and `la-cli report`, a page of figures.
//!
//! Text is drawn with DejaVu Sans out of the binary, so the pictures look the same on a machine without any font.

mod args;
mod command;
mod curves;
mod figures;
mod neighbors;
mod page;
mod subject;
mod svg;

pub(crate) use args::ReportArgs;
pub(crate) use command::run;

pub use curves::{draw_curves, BesideCurve, CurvePoint, Curves};
pub use neighbors::{draw_neighbors, neighbor_panel, paint_neighbors, Mark, NeighborPanel, PanelConfig, Tile};

use crate::error::{Error, Result};
use la_core::files::write_atomically;
use plotters::prelude::*;
use plotters::style::{register_font, FontStyle};
use std::path::Path;
use std::sync::OnceLock;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);
const GRAY: RGBColor = RGBColor(120, 120, 120);
// Okabe and Ito's colours, which readers with any colour vision tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const VERMILION: RGBColor = RGBColor(213, 94, 0);

/// Makes the embedded font known to plotters, once.
fn load_font() -> Result<()> {
    static LOADED: OnceLock<bool> = OnceLock::new();
    let is_loaded = *LOADED.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok()
            && register_font(FONT, FontStyle::Bold, dejavu::sans::bold()).is_ok()
    });
    if is_loaded {
        Ok(())
    } else {
        Err(Error::invalid("the embedded font cannot be read"))
    }
}

fn plot_error(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("a picture cannot be drawn: {error}"))
}

/// Writes RGB rows as a PNG that is either whole or not there.
fn save_png(pixels: &[u8], (width, height): (u32, u32), path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, pixels, width, height, image::ExtendedColorType::Rgb8).map_err(plot_error)?;
    write_atomically(path, |file| file.write_all(&bytes))
}
