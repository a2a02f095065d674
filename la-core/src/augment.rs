//! The published augmentation, in its order: random resized crop, grayscale, colour jitter, horizontal flip.
//!
//! Semantics as torchvision's transforms (<https://pytorch.org/vision/stable/transforms.html>): the crop is resized in
//! 8 bits with an antialiased bilinear filter, as Pillow does; colours change in floating point.

use crate::{
    data::{Normalization, Picture},
    error::bail,
    ops::color::{self, Adjust, ColorPlan},
    rng::Rng,
    Error, Result,
};
use fast_image_resize::{
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::U8x3,
    FilterType, ResizeAlg, ResizeOptions, Resizer,
};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

const MIN_RATIO: f64 = 3.0 / 4.0;
const MAX_RATIO: f64 = 4.0 / 3.0;
const CROP_TRIES: usize = 10;

/// How an image is changed each time it is seen; the default is what was published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Smallest share of the picture's area that a crop covers.
    pub crop_min_area: f32,
    /// Largest share.
    pub crop_max_area: f32,
    /// How often a picture turns gray.
    pub gray_probability: f32,
    /// Brightness is multiplied by a factor in 1 ± this.
    pub brightness: f32,
    /// Contrast, likewise.
    pub contrast: f32,
    /// Saturation, likewise.
    pub saturation: f32,
    /// Hue is turned by up to ± this share of the circle, at most 0.5.
    pub hue: f32,
    /// How often left and right change places.
    pub flip_probability: f32,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            crop_min_area: 0.2,
            crop_max_area: 1.0,
            gray_probability: 0.2,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.4,
            flip_probability: 0.5,
        }
    }
}

impl AugmentConfig {
    /// Fails where a value is out of its range, by name.
    pub fn check(&self) -> Result<()> {
        let shares = [("gray_probability", self.gray_probability), ("flip_probability", self.flip_probability)];
        if let Some((name, value)) = shares.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            bail!("{name} must be in [0, 1], got {value}");
        }
        let strengths = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        if let Some((name, value)) = strengths.iter().find(|(_, value)| !(*value >= 0.0 && value.is_finite())) {
            bail!("{name} must be at least 0, got {value}");
        }
        if !(0.0..=0.5).contains(&self.hue) {
            bail!("hue must be in [0, 0.5], got {}", self.hue);
        }
        if !(self.crop_min_area > 0.0 && self.crop_min_area <= self.crop_max_area && self.crop_max_area <= 1.0) {
            bail!("crop areas must be 0 < min <= max <= 1, got {} and {}", self.crop_min_area, self.crop_max_area);
        }
        Ok(())
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

/// Writes one random view of `picture` to `out` (size, size, 3), values in 0 to 1.
///
/// What is drawn from `rng`, in order: the crop, gray, the order of the colour changes, their factors, the flip.
/// Fails where `picture` or `out` do not have the values that their sizes ask for.
pub fn augment(picture: &Picture, config: &AugmentConfig, size: usize, rng: &mut Rng, out: &mut [f32]) -> Result<()> {
    augment_normalized(picture, (config, &Normalization::identity()), size, rng, out)
}

/// [`augment`] and the normalization in one pass.
pub(crate) fn augment_normalized(
    picture: &Picture,
    (config, normalization): (&AugmentConfig, &Normalization),
    size: usize,
    rng: &mut Rng,
    out: &mut [f32],
) -> Result<()> {
    let crop = random_crop(picture.width, picture.height, config, rng);
    let plan = normalizing(random_colors(config, rng), normalization);
    resized(picture, Part::Box(crop), size, out, &plan)
}

/// Writes the un-augmented view for evaluation to `out` (size, size, 3), values in 0 to 1.
///
/// The shorter side is resized to `size / crop_fraction`, rounded, and the middle cropped, in one pass.
pub fn center(picture: &Picture, size: usize, crop_fraction: f64, out: &mut [f32]) -> Result<()> {
    center_normalized(picture, (crop_fraction, &Normalization::identity()), size, out)
}

/// [`center`] and the normalization in one pass.
pub(crate) fn center_normalized(
    picture: &Picture,
    (crop_fraction, normalization): (f64, &Normalization),
    size: usize,
    out: &mut [f32],
) -> Result<()> {
    if !(crop_fraction > 0.0 && crop_fraction <= 1.0) {
        bail!("crop fraction must be in (0, 1], got {crop_fraction}");
    }
    let plan = normalizing(ColorPlan::identity(), normalization);
    let part = Part::Middle((size as f64 / crop_fraction).round() as usize);
    resized(picture, part, size, out, &plan)
}

fn normalizing(plan: ColorPlan, normalization: &Normalization) -> ColorPlan {
    let scale = normalization.std.map(|std| 1.0 / std);
    ColorPlan { scale, shift: std::array::from_fn(|c| -normalization.mean[c] * scale[c]), ..plan }
}

/// A random crop as torchvision's `RandomResizedCrop.get_params`: area uniform, ratio log-uniform in 3/4 to 4/3, ten
/// tries, then the largest centred part of an allowed ratio.
pub fn random_crop(width: usize, height: usize, config: &AugmentConfig, rng: &mut Rng) -> CropBox {
    let area = (width * height) as f64;
    for _ in 0..CROP_TRIES {
        let target = area * f64::from(rng.uniform_in(config.crop_min_area, config.crop_max_area));
        let ratio = (MIN_RATIO.ln() + (MAX_RATIO.ln() - MIN_RATIO.ln()) * f64::from(rng.uniform())).exp();
        let w = (target * ratio).sqrt().round_ties_even() as usize;
        let h = (target / ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return CropBox { top: rng.below(height - h + 1), left: rng.below(width - w + 1), width: w, height: h };
        }
    }
    fallback_crop(width, height)
}

fn fallback_crop(width: usize, height: usize) -> CropBox {
    let ratio = width as f64 / height as f64;
    let (w, h) = match ratio {
        _ if ratio < MIN_RATIO => (width, (width as f64 / MIN_RATIO).round_ties_even() as usize),
        _ if ratio > MAX_RATIO => ((height as f64 * MAX_RATIO).round_ties_even() as usize, height),
        _ => (width, height),
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    CropBox { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// Draws what happens to the colours, and the flip.
fn random_colors(config: &AugmentConfig, rng: &mut Rng) -> ColorPlan {
    let gray = rng.uniform() < config.gray_probability;
    let mut adjust: Vec<Adjust> = vec![
        Adjust::Brightness(factor(config.brightness, rng)),
        Adjust::Contrast(factor(config.contrast, rng)),
        Adjust::Saturation(factor(config.saturation, rng)),
        Adjust::Hue(rng.uniform_in(-config.hue, config.hue)),
    ];
    rng.shuffle(&mut adjust);
    adjust.retain(|change| !matches!(change, Adjust::Brightness(1.0) | Adjust::Contrast(1.0) | Adjust::Saturation(1.0) | Adjust::Hue(0.0)));
    ColorPlan { gray, adjust, flip: rng.uniform() < config.flip_probability, ..ColorPlan::identity() }
}

fn factor(strength: f32, rng: &mut Rng) -> f32 {
    rng.uniform_in((1.0 - strength).max(0.0), 1.0 + strength)
}

/// Which part of a picture is resized.
#[derive(Clone, Copy)]
enum Part {
    /// These pixels; nothing outside them counts, as if they had been cut out first.
    Box(CropBox),
    /// The middle, after the shorter side is resized to this.
    Middle(usize),
}

/// Buffers that each data thread keeps from picture to picture.
#[derive(Default)]
struct Work {
    resizer: Resizer,
    pixels: Vec<u8>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

/// Resizes the part in 8 bits and writes it to `out` with the colours of `plan`.
fn resized(picture: &Picture, part: Part, size: usize, out: &mut [f32], plan: &ColorPlan) -> Result<()> {
    if size == 0 || out.len() != size * size * 3 {
        bail!("expected a buffer of {} values for a view of {size} pixels, got {}", size * size * 3, out.len());
    }
    WORK.with_borrow_mut(|work| {
        work.pixels.resize(size * size * 3, 0);
        let failed = |err: &dyn std::fmt::Display| Error::invalid(format!("picture of {}x{}: {err}", picture.width, picture.height));
        let (width, height) = (picture.width as u32, picture.height as u32);
        let from = TypedImageRef::<U8x3>::from_buffer(width, height, &picture.pixels).map_err(|e| failed(&e))?;
        let mut to = TypedImage::<U8x3>::from_buffer(size as u32, size as u32, &mut work.pixels).map_err(|e| failed(&e))?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        match part {
            Part::Box(b) => {
                let from = TypedCroppedImage::new(from, b.left as u32, b.top as u32, b.width as u32, b.height as u32);
                work.resizer.resize_typed(&from.map_err(|e| failed(&e))?, &mut to, &options)
            }
            Part::Middle(shorter) => {
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
    (offset(w) * per_x, offset(h) * per_y, size as f64 * per_x, size as f64 * per_y)
}
