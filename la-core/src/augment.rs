//! The published augmentation, in its order: random resized crop, grayscale, colour jitter, horizontal flip.
//!
//! Semantics as torchvision's transforms (<https://pytorch.org/vision/stable/transforms.html>): the crop is resized in
//! 8 bits with an antialiased bilinear filter, as Pillow does; colours change in floating point.

pub use crate::resize::CropBox;
use crate::{
    data::Picture,
    error::bail,
    ops::color::{Adjust, ColorPlan},
    preprocess::{middle, Preprocessing},
    resize::{resized, Part, View},
    rng::Rng,
    Result,
};
use serde::{Deserialize, Serialize};

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

/// Writes one random view of `picture` to `out` (size, size, 3), normalised.
///
/// What is drawn from `rng`, in order: the crop, gray, the order of the colour changes, their factors, the flip.
/// Fails where `picture` or `out` do not have the values that their sizes ask for.
pub fn augment(picture: &Picture, config: &AugmentConfig, input: &Preprocessing, rng: &mut Rng, out: &mut [f32]) -> Result<()> {
    let (crop, plan) = draw((picture.width, picture.height), config, rng);
    resized(view(picture), Part::Box(crop), input.size, out, &plan.normalizing(input.normalization.mean, input.normalization.std))
}

/// Draws what a random view shows of a picture of this width and height, and how its colours change.
pub(crate) fn draw((width, height): (usize, usize), config: &AugmentConfig, rng: &mut Rng) -> (CropBox, ColorPlan) {
    let crop = random_crop(width, height, config, rng);
    (crop, random_colors(config, rng))
}

/// Writes the un-augmented view for evaluation to `out` (size, size, 3), in one pass.
pub fn center(picture: &Picture, input: &Preprocessing, out: &mut [f32]) -> Result<()> {
    input.check()?;
    middle(view(picture), input, out)
}

fn view(picture: &Picture) -> View<'_> {
    View { width: picture.width, height: picture.height, pixels: &picture.pixels }
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
