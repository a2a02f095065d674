//! From a picture to the network's input: one description for training, evaluation, bundles and foreign weights.

use crate::{
    error::bail,
    ops::color::ColorPlan,
    resize::{reduced, reduction, resized, Part, View},
    Result,
};
use serde::{Deserialize, Serialize};

pub use crate::resize::Interpolation;

/// Largest side of the network's input, in pixels.
pub(crate) const MAX_SIZE: usize = 4096;

/// The evaluation view: the shorter side is resized to `size / crop_fraction`, the middle cropped, each channel normalised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Side of the network's input, in pixels.
    pub size: usize,
    /// Share of the shorter side that the crop keeps, in (0, 1].
    pub crop_fraction: f64,
    /// The filter of the resize.
    #[serde(default, skip_serializing_if = "Interpolation::is_usual")]
    pub interpolation: Interpolation,
    /// Whether `size / crop_fraction` is rounded down, as timm does, and not to the nearest, as torchvision's users do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rounds_down: bool,
    /// What values are brought to.
    #[serde(flatten)]
    pub normalization: Normalization,
}

/// Each channel becomes `(value - mean) / std`, values in 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Means of red, green, blue.
    pub mean: [f32; 3],
    /// Their standard deviations.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// The largest middle square at this size, values in 0 to 1.
    pub fn plain(size: usize) -> Self {
        Self::of(size, 1.0, Normalization::identity())
    }

    /// A bilinear resize to `size / crop_fraction`, rounded to the nearest.
    pub fn of(size: usize, crop_fraction: f64, normalization: Normalization) -> Self {
        Self { size, crop_fraction, interpolation: Interpolation::Bilinear, rounds_down: false, normalization }
    }

    /// What the shorter side is resized to.
    pub fn resized_side(&self) -> usize {
        let side = self.size as f64 / self.crop_fraction;
        (if self.rounds_down { side.floor() } else { side.round() }) as usize
    }

    /// Fails where a field lies out of its range, by name.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_SIZE).contains(&self.size) {
            bail!("preprocessing: size must be in 1 to {MAX_SIZE}, got {}", self.size);
        }
        if !(self.crop_fraction > 0.0 && self.crop_fraction <= 1.0) {
            bail!("preprocessing: crop_fraction must be in (0, 1], got {}", self.crop_fraction);
        }
        let Normalization { mean, std } = self.normalization;
        if !mean.iter().all(|x| x.is_finite()) || !std.iter().all(|x| x.is_finite() && *x > 0.0) {
            bail!("preprocessing: expected finite means and positive deviations, got {mean:?} and {std:?}");
        }
        Ok(())
    }
}

impl Default for Normalization {
    /// ImageNet's, as torchvision's models expect them.
    fn default() -> Self {
        Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }
}

impl Normalization {
    /// Values as they are.
    pub fn identity() -> Self {
        Self { mean: [0.0; 3], std: [1.0; 3] }
    }
}

/// The network's input `(size, size, 3)` from a picture as a browser decodes it: RGBA pixels, row after row, colours not multiplied by alpha.
///
/// Transparent parts become white. Fails where `rgba` does not hold `width * height` pixels or `how` is out of range.
pub fn preprocess(rgba: &[u8], width: usize, height: usize, how: &Preprocessing) -> Result<Vec<f32>> {
    how.check()?;
    if width == 0 || height == 0 || width.checked_mul(height).and_then(|n| n.checked_mul(4)) != Some(rgba.len()) {
        bail!("picture: expected {width}x{height} RGBA pixels, got {} bytes", rgba.len());
    }
    let pixels: Vec<u8> = rgba.chunks_exact(4).flat_map(over_white).collect();
    let (width, height, pixels) = match reduction(width, height, how.size) {
        1 => (width, height, pixels),
        factor => reduced(View { width, height, pixels: &pixels }, factor)?,
    };
    let mut out = vec![0.0; how.size * how.size * 3];
    middle(View { width, height, pixels: &pixels }, how, &mut out)?;
    Ok(out)
}

/// Writes the evaluation view of a picture to `out` (size, size, 3).
pub(crate) fn middle(picture: View, how: &Preprocessing, out: &mut [f32]) -> Result<()> {
    let plan = ColorPlan::identity().normalizing(how.normalization.mean, how.normalization.std);
    resized(picture, Part::Middle(how.resized_side(), how.interpolation), how.size, out, &plan)
}

/// `value * alpha + 255 (1 - alpha)`, rounded.
#[doc(hidden)]
pub fn over_white(pixel: &[u8]) -> [u8; 3] {
    let alpha = u32::from(pixel[3]);
    std::array::from_fn(|c| ((u32::from(pixel[c]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}
