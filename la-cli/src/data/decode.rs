//! Encoded bytes to [`Picture`]: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, upright and over white.

use super::probe::{self, check_size, said, unknown};
use super::tags::Tags;
use crate::error::{bail, Error, Result};
use image::{metadata::Orientation, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};
use la_core::data::Picture;
use la_core::preprocess::over_white;
use la_core::resize::{reduced, reduction, View};
use std::io::Cursor;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, PoisonError};
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// libjpeg writes 10; each is a pass over the whole picture.
const MOST_SCANS: usize = 200;
/// The most pixels that are decoded at the same time, whatever the number of threads.
const MOST_PIXELS: usize = probe::MAX_PIXELS;
/// Pictures of fewer pixels take too little memory to be counted.
const COUNTED: usize = 1 << 20;

static PIXELS: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to decode so many pixels, for as long as it lives.
struct Share(usize);

fn share(num_pixels: usize) -> Option<Share> {
    if num_pixels < COUNTED {
        return None;
    }
    let mut taken = PIXELS.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken + num_pixels > MOST_PIXELS {
        taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
    *taken += num_pixels;
    Some(Share(num_pixels))
}

impl Drop for Share {
    fn drop(&mut self) {
        *PIXELS.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

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
    let _share = share(head.width * head.height);
    // The decoder fills what is missing with gray, as browsers do: nothing to learn from.
    if !bytes[head.scan_start.min(bytes.len())..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        bail!("truncated: the end-of-image marker is missing");
    }
    if let Some(refusal) = head.refusal() {
        bail!("{refusal}");
    }
    let num_scans = bytes[head.scan_start.min(bytes.len())..].windows(2).filter(|pair| *pair == [0xff, 0xda]).count();
    if num_scans > MOST_SCANS {
        bail!("not supported: a JPEG of {num_scans} scans, which would take too long; save it again");
    }
    let exif = head.exif.clone().and_then(|range| bytes.get(range));
    let orientation = exif.and_then(|exif| Tags::of(exif)?.orientation()).unwrap_or(Orientation::NoTransforms);
    let factor = reduction(head.width, head.height, size);
    // One decoder reduces, and reads what the other would not: the other is faster and says what is wrong.
    let is_odd = head.has_scans_of_components() || !head.is_clear();
    if let Some(picture) = (factor > 1 || is_odd).then(|| decode_scaled(bytes, &head, factor)).flatten() {
        return upright(picture, orientation);
    }
    if is_odd {
        bail!("not supported: a JPEG of this kind; save it again");
    }
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let damaged = |err| match err {
        DecodeErrors::Unsupported(scheme) => Error::invalid(format!("not supported: {scheme:?}")),
        err => Error::invalid(format!("damaged: {err:?}")),
    };
    decoder.decode_headers().map_err(damaged)?;
    // Inks of CMYK files are taken as inverted, with or without Adobe's marker: Pillow does the same.
    decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::RGB));
    let mut pixels = vec![0; head.width * head.height * 3];
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    upright(Picture::new(head.width, head.height, pixels)?, orientation)
}

/// The JPEG at `1 / factor` (at most 1/8) of its sides, straight from the low frequencies of its blocks.
///
/// A 12-megapixel photo takes two thirds of the time of a full decode, and a 64th of its memory. None where this
/// decoder cannot: the other one then says why.
fn decode_scaled(bytes: &[u8], head: &probe::JpegHead, factor: usize) -> Option<Picture> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    if head.has_three_components() {
        decoder.set_color_transform(if head.is_rgb() { jpeg_decoder::ColorTransform::RGB } else { jpeg_decoder::ColorTransform::YCbCr });
    }
    let scaled = |side: usize| side.div_ceil(factor.min(8)) as u16;
    let (width, height) = decoder.scale(scaled(head.width), scaled(head.height)).ok()?;
    let pixels = decoder.decode().ok()?;
    let pixels = match decoder.info()?.pixel_format {
        jpeg_decoder::PixelFormat::RGB24 => pixels,
        jpeg_decoder::PixelFormat::L8 => pixels.into_iter().flat_map(|gray| [gray; 3]).collect(),
        _ => return None,
    };
    Picture::new(width.into(), height.into(), pixels).ok()
}

fn decode_other(bytes: &[u8]) -> Result<Picture> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|err| Error::invalid(err.to_string()))?;
    let Some(format) = reader.format() else { return Err(unknown(bytes)) };
    let damaged = |err| said("damaged", &err);
    let tiff = Tags::of(bytes).filter(|_| format == ImageFormat::Tiff);
    if let Some(refusal) = tiff.as_ref().and_then(Tags::refusal) {
        bail!("{refusal}");
    }
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize)?;
    let _share = share(width as usize * height as usize);
    let mut limits = Limits::default();
    limits.max_alloc = Some(1 << 30);
    decoder.set_limits(limits).map_err(damaged)?;
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = tiff.as_ref().map_or_else(|| Tags::of(exif.as_deref()?)?.orientation(), Tags::orientation);
    let mut image = in_range(DynamicImage::from_decoder(decoder).map_err(damaged)?, tiff.is_some())?;
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    let is_premultiplied = tiff.is_some_and(|tags| tags.is_premultiplied());
    let rgb = match image.color().has_alpha() {
        true => without_alpha(image.into_rgba8(), is_premultiplied, format == ImageFormat::Bmp),
        false => image.into_rgb8(),
    };
    Picture::new(rgb.width() as usize, rgb.height() as usize, rgb.into_raw())
}

/// The image with its values in the range of their type: floats are in 0 to 1 or 0 to 255, or stretched to what they are in; 16 bits
/// of a TIFF may hold the 10, 12 or 14 of a camera or a microscope.
fn in_range(mut image: DynamicImage, is_tiff: bool) -> Result<DynamicImage> {
    match &mut image {
        DynamicImage::ImageRgb32F(image) => stretch(image)?,
        DynamicImage::ImageRgba32F(image) => stretch(image)?,
        DynamicImage::ImageLuma16(image) if is_tiff => widen(image),
        DynamicImage::ImageRgb16(image) if is_tiff => widen(image),
        _ => (),
    }
    Ok(image)
}

fn widen(values: &mut [u16]) {
    let most = values.iter().copied().max().unwrap_or(0);
    if let Some(bits) = [10, 12, 14].into_iter().find(|bits| most > 255 && most < 1 << bits) {
        let full = (1u32 << bits) - 1;
        values.iter_mut().for_each(|value| *value = (u32::from(*value) * 65535 / full) as u16);
    }
}

fn stretch(values: &mut [f32]) -> Result<()> {
    if values.iter().any(|value| !value.is_finite()) {
        bail!("not supported: values that are NaN or infinite");
    }
    let (least, most) = values.iter().fold((f32::MAX, f32::MIN), |(least, most), &value| (least.min(value), most.max(value)));
    let (from, to) = match () {
        () if least >= 0.0 && most <= 1.0 => return Ok(()),
        () if least >= 0.0 && most <= 255.0 => (0.0, 255.0),
        () => (least, most),
    };
    values.iter_mut().for_each(|value| *value = (*value - from) / (to - from).max(f32::MIN_POSITIVE));
    Ok(())
}

/// Transparent parts become white. Bitmaps that are transparent throughout are opaque: the byte is not used.
fn without_alpha(image: RgbaImage, is_premultiplied: bool, is_bitmap: bool) -> RgbImage {
    let is_unused = is_bitmap && image.pixels().all(|pixel| pixel[3] == 0);
    let over = |pixel: &[u8]| match () {
        () if is_unused => [pixel[0], pixel[1], pixel[2]],
        () if is_premultiplied => std::array::from_fn(|c| pixel[c].saturating_add(255 - pixel[3])),
        () => over_white(pixel),
    };
    let pixels = image.as_raw().chunks_exact(4).flat_map(over).collect();
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
