//! A picture as a browser decodes it, brought to what the network sees: the same values as training's evaluation view.

use crate::{
    error::bail,
    ops::color::ColorPlan,
    resize::{reduced, reduction, resized, Part, View},
    search::Preprocessing,
    Result,
};

/// The network's input `(size, size, 3)` from the RGBA pixels of a picture, row after row, colours not multiplied by alpha.
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
    let plan = ColorPlan::identity().normalizing(how.mean, how.std);
    let mut out = vec![0.0; how.size * how.size * 3];
    resized(View { width, height, pixels: &pixels }, Part::middle(how.size, how.crop_fraction), how.size, &mut out, &plan)?;
    Ok(out)
}

/// `value * alpha + 255 (1 - alpha)`, rounded.
pub fn over_white(pixel: &[u8]) -> [u8; 3] {
    let alpha = u32::from(pixel[3]);
    std::array::from_fn(|c| ((u32::from(pixel[c]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}
