//! Encoded bytes to [`Picture`]: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, upright and over white.

use super::probe::{self, check_size};
use crate::error::{bail, Error, Result};
use image::{metadata::Orientation, DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use la_core::data::Picture;
use la_core::preprocess::over_white;
use la_core::resize::{reduced, reduction, View};
use std::io::Cursor;
use std::panic::{catch_unwind, AssertUnwindSafe};
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// The picture in `bytes`, reduced by a power of two where its shorter side stays at least 2.25 `size`.
///
/// Fails with the reason where the format is unknown, the data truncated or damaged, or the picture too large.
pub fn decode(bytes: &[u8], size: usize) -> Result<Picture> {
    // Decoders are fed with whatever users have: one that panics must not end the run.
    let picture = match catch_unwind(AssertUnwindSafe(|| decode_any(bytes, size))) {
        Ok(picture) => picture?,
        Err(_) => bail!("damaged: its decoder gave up"),
    };
    let factor = reduction(picture.width, picture.height, size);
    if factor == 1 {
        return Ok(picture);
    }
    let from = View { width: picture.width, height: picture.height, pixels: &picture.pixels };
    let (width, height, pixels) = reduced(from, factor)?;
    Picture::new(width, height, pixels)
}

fn decode_any(bytes: &[u8], size: usize) -> Result<Picture> {
    match bytes {
        [] => bail!("empty file"),
        [0xff, 0xd8, 0xff, ..] => decode_jpeg(bytes, size),
        _ => decode_other(bytes),
    }
}

fn decode_jpeg(bytes: &[u8], size: usize) -> Result<Picture> {
    let head = probe::jpeg_head(&mut Cursor::new(bytes))?;
    check_size(head.width, head.height)?;
    // The decoder fills what is missing with gray, as browsers do: nothing to learn from.
    if !bytes[head.scan_start.min(bytes.len())..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        bail!("truncated: the end-of-image marker is missing");
    }
    let factor = reduction(head.width, head.height, size);
    if let Some(picture) = (factor > 1).then(|| decode_scaled(bytes, &head, factor)).flatten() {
        return Ok(picture);
    }
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let damaged = |err| Error::invalid(format!("damaged: {err:?}"));
    decoder.decode_headers().map_err(damaged)?;
    // Inks of CMYK files are taken as inverted, with or without Adobe's marker: Pillow does the same.
    decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::RGB));
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let mut pixels = vec![0; head.width * head.height * 3];
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    upright(Picture::new(head.width, head.height, pixels)?, orientation.unwrap_or(Orientation::NoTransforms))
}

/// The JPEG at `1 / factor` (at most 1/8) of its sides, straight from the low frequencies of its blocks.
///
/// A 12-megapixel photo takes two thirds of the time of a full decode, and a 64th of its memory. None where this
/// decoder cannot: the other one then says why.
fn decode_scaled(bytes: &[u8], head: &probe::JpegHead, factor: usize) -> Option<Picture> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let scaled = |side: usize| side.div_ceil(factor.min(8)) as u16;
    let (width, height) = decoder.scale(scaled(head.width), scaled(head.height)).ok()?;
    let pixels = decoder.decode().ok()?;
    let pixels = match decoder.info()?.pixel_format {
        jpeg_decoder::PixelFormat::RGB24 => pixels,
        jpeg_decoder::PixelFormat::L8 => pixels.into_iter().flat_map(|gray| [gray; 3]).collect(),
        _ => return None,
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    upright(Picture::new(width.into(), height.into(), pixels).ok()?, orientation).ok()
}

fn decode_other(bytes: &[u8]) -> Result<Picture> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|err| Error::invalid(err.to_string()))?;
    if reader.format().is_none() {
        bail!("not an image of a known format");
    }
    let damaged = |err| Error::invalid(format!("damaged: {err}"));
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(1 << 30);
    decoder.set_limits(limits).map_err(damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    let rgb = if image.color().has_alpha() { without_alpha(image) } else { image.into_rgb8() };
    Picture::new(rgb.width() as usize, rgb.height() as usize, rgb.into_raw())
}

/// Transparent parts become white.
fn without_alpha(image: DynamicImage) -> RgbImage {
    let image = image.into_rgba8();
    let pixels = image.as_raw().chunks_exact(4).flat_map(over_white).collect();
    RgbImage::from_raw(image.width(), image.height(), pixels).expect("three values for each pixel of the same image")
}

fn upright(picture: Picture, orientation: Orientation) -> Result<Picture> {
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let Some(rgb) = RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.pixels) else {
        bail!("damaged: its pixels do not fill it");
    };
    let mut image = DynamicImage::ImageRgb8(rgb);
    image.apply_orientation(orientation);
    let rgb = image.into_rgb8();
    Picture::new(rgb.width() as usize, rgb.height() as usize, rgb.into_raw())
}
