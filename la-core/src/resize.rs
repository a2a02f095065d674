//! A part of a picture, resized in 8 bits with an antialiased filter, as Pillow does.

use crate::{
    error::bail,
    ops::color::{self, ColorPlan},
    Error, Result,
};
use fast_image_resize::{
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::U8x3,
    FilterType, ResizeAlg, ResizeOptions, Resizer,
};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// How much larger than the network's input the shorter side stays: the smallest published crop (a fifth of the area,
/// ratio 3/4) of a picture 2.25 times as large is not enlarged.
const KEPT: f64 = 2.25;

/// How pixels in between are computed, as Pillow does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// From two pixels a side.
    #[default]
    Bilinear,
    /// From four pixels a side, by Catmull and Rom's cubic (a = -1/2).
    Bicubic,
}

impl Interpolation {
    pub(crate) fn is_usual(&self) -> bool {
        *self == Interpolation::Bilinear
    }
}

/// A part of a picture, in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// RGB pixels of a picture, row after row.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` values.
    pub pixels: &'a [u8],
}

/// The power of two by which a picture of `width` by `height` is reduced for a network that sees `size` pixels.
pub fn reduction(width: usize, height: usize, size: usize) -> usize {
    let shorter = width.min(height) as f64;
    let mut factor = 1;
    while shorter / (2 * factor) as f64 >= KEPT * size as f64 {
        factor *= 2;
    }
    factor
}

/// Width, height and pixels of the picture at `1 / factor` of its sides, each pixel the mean of the area that it stands for.
pub fn reduced(picture: View, factor: usize) -> Result<(usize, usize, Vec<u8>)> {
    let (width, height) = (picture.width.div_ceil(factor), picture.height.div_ceil(factor));
    let mut pixels = vec![0; width * height * 3];
    let failed = |err: &dyn std::fmt::Display| Error::invalid(format!("could not be reduced: {err}"));
    let from = TypedImageRef::<U8x3>::from_buffer(picture.width as u32, picture.height as u32, picture.pixels).map_err(|e| failed(&e))?;
    let mut to = TypedImage::<U8x3>::from_buffer(width as u32, height as u32, &mut pixels).map_err(|e| failed(&e))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
    Resizer::new().resize_typed(&from, &mut to, &options).map_err(|e| failed(&e))?;
    Ok((width, height, pixels))
}

/// Which part of a picture is resized.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// These pixels; nothing outside them counts, as if they had been cut out first.
    #[cfg_attr(not(feature = "train"), allow(dead_code))]
    Box(CropBox),
    /// The middle, after the shorter side is resized to this with a filter.
    Middle(usize, Interpolation),
}

/// Buffers that each thread keeps from picture to picture.
#[derive(Default)]
struct Work {
    resizer: Resizer,
    pixels: Vec<u8>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

/// Resizes the part and writes it to `out` (size, size, 3) with the colours of `plan`.
pub(crate) fn resized(picture: View, part: Part, size: usize, out: &mut [f32], plan: &ColorPlan) -> Result<()> {
    if size == 0 || out.len() != size * size * 3 {
        bail!("expected a buffer of {} values for a view of {size} pixels, got {}", size * size * 3, out.len());
    }
    WORK.with_borrow_mut(|work| {
        work.pixels.resize(size * size * 3, 0);
        let failed = |err: &dyn std::fmt::Display| Error::invalid(format!("picture of {}x{}: {err}", picture.width, picture.height));
        let (width, height) = (picture.width as u32, picture.height as u32);
        let from = TypedImageRef::<U8x3>::from_buffer(width, height, picture.pixels).map_err(|e| failed(&e))?;
        let mut to = TypedImage::<U8x3>::from_buffer(size as u32, size as u32, &mut work.pixels).map_err(|e| failed(&e))?;
        let filter = match part {
            Part::Middle(_, Interpolation::Bicubic) => FilterType::CatmullRom,
            _ => FilterType::Bilinear,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        match part {
            Part::Box(b) => {
                let from = TypedCroppedImage::new(from, b.left as u32, b.top as u32, b.width as u32, b.height as u32);
                work.resizer.resize_typed(&from.map_err(|e| failed(&e))?, &mut to, &options)
            }
            Part::Middle(shorter, _) => {
                let (left, top, side_x, side_y) = middle(picture.width, picture.height, size, shorter);
                work.resizer.resize_typed(&from, &mut to, &options.crop(left, top, side_x, side_y))
            }
        }
        .map_err(|e| failed(&e))?;
        color::apply(&work.pixels, size, plan, out);
        Ok(())
    })
}

/// The part of the picture that is in the middle once its shorter side has been resized: left, top, width, height.
///
/// Sides and offsets of the resized picture are whole pixels, as in torchvision's `Resize` and `CenterCrop`.
fn middle(width: usize, height: usize, size: usize, shorter: usize) -> (f64, f64, f64, f64) {
    let longer = shorter * width.max(height) / width.min(height);
    let (w, h) = if width <= height { (shorter, longer) } else { (longer, shorter) };
    let offset = |side: usize| ((side - size) as f64 / 2.0).round_ties_even();
    let (per_x, per_y) = (width as f64 / w as f64, height as f64 / h as f64);
    let (left, top) = (offset(w) * per_x, offset(h) * per_y);
    // Rounding must not carry a part past the picture's end.
    (left, top, (size as f64 * per_x).min(width as f64 - left), (size as f64 * per_y).min(height as f64 - top))
}
