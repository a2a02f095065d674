//! What tags and markers say of a picture: the right pixels, or a refusal by name.

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use la_cli::data::decode::decode;
use std::io::Cursor;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/data/images").join(name)).unwrap()
}

fn pixels(bytes: &[u8]) -> Vec<u8> {
    decode(bytes, 224).unwrap().pixels
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes, 224).unwrap_err().to_string()
}

/// A smooth picture of 64×48 pixels as a JPEG with JFIF's segment.
fn jpeg() -> Vec<u8> {
    let mut out = Cursor::new(vec![]);
    let ramp = RgbImage::from_fn(64, 48, |x, y| image::Rgb([220 - x as u8, 40 + 2 * y as u8, 30 + x as u8 + y as u8]));
    ramp.write_to(&mut out, ImageFormat::Jpeg).unwrap();
    out.into_inner()
}

/// Where a marker's segment begins.
fn marker(bytes: &[u8], code: u8) -> usize {
    bytes.windows(2).position(|pair| pair == [0xff, code]).unwrap()
}

/// The JPEG with a segment put before its frame.
fn with_segment(jpeg: &[u8], code: u8, content: &[u8]) -> Vec<u8> {
    let at = marker(jpeg, 0xdb);
    let len = (content.len() as u16 + 2).to_be_bytes();
    [&jpeg[..at], &[0xff, code], &len, content, &jpeg[at..]].concat()
}

/// The JPEG with components of other names.
fn renamed(jpeg: &[u8], names: [u8; 3]) -> Vec<u8> {
    let mut out = jpeg.to_vec();
    let (frame, scan) = (marker(jpeg, 0xc0), marker(jpeg, 0xda));
    for (i, name) in names.into_iter().enumerate() {
        out[frame + 10 + 3 * i] = name;
        out[scan + 5 + 2 * i] = name;
    }
    out
}

fn without_jfif(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg.to_vec();
    out[marker(jpeg, 0xe0) + 4] = b'X';
    out
}

fn adobe(transform: u8) -> Vec<u8> {
    [b"Adobe\0\x64\0\0\0\0", &[transform][..]].concat()
}

#[test]
fn a_jpegs_colours_are_decided_as_libjpeg_does_at_every_size() {
    let plain = jpeg();
    for size in [224, 10] {
        let expected = decode(&plain, size).unwrap();
        let is_same = |bytes: &[u8]| decode(bytes, size).unwrap().pixels.iter().zip(&expected.pixels).all(|(a, b)| a.abs_diff(*b) <= 12);
        assert!(is_same(&renamed(&plain, *b"RGB")), "JFIF before names, {size}");
        assert!(is_same(&with_segment(&plain, 0xee, &adobe(0))), "JFIF before Adobe, {size}");
        let bare = without_jfif(&plain);
        assert!(is_same(&bare), "names 1, 2, 3, {size}");
        assert!(is_same(&with_segment(&renamed(&bare, *b"RGB"), 0xee, &adobe(1))), "Adobe before names, {size}");
        // Values that are taken for red, green and blue: brightness, which is no red, comes first.
        let (by_name, by_adobe) = (renamed(&bare, *b"RGB"), with_segment(&bare, 0xee, &adobe(0)));
        assert!(!is_same(&by_name) && !is_same(&by_adobe), "{size}");
        assert_eq!(decode(&by_name, size).unwrap().pixels, decode(&by_adobe, size).unwrap().pixels, "{size}");
    }
}

#[test]
fn a_jpeg_with_more_colour_than_brightness_is_refused_by_name() {
    let mut bytes = jpeg();
    let frame = marker(&bytes, 0xc0);
    (bytes[frame + 11], bytes[frame + 14], bytes[frame + 17]) = (0x11, 0x22, 0x22);
    assert!(refusal(&bytes).contains("more samples of colour than of brightness"));
}

/// EXIF data that hold an orientation as SHORT (3) or LONG (4).
fn exif(kind: u8, orientation: u8) -> Vec<u8> {
    let value = if kind == 3 { [0, orientation, 0, 0] } else { [0, 0, 0, orientation] };
    [b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0".as_slice(), &[kind, 0, 0, 0, 1], &value, &[0; 4]].concat()
}

#[test]
fn the_first_orientation_counts_and_may_be_long() {
    let size = |bytes: &[u8]| decode(bytes, 224).map(|picture| (picture.width, picture.height)).unwrap();
    for kind in [3, 4] {
        assert_eq!(size(&with_segment(&jpeg(), 0xe1, &exif(kind, 6))), (48, 64), "{kind}");
        // The later segment is put before the frame last.
        let two = with_segment(&with_segment(&jpeg(), 0xe1, &exif(kind, 6)), 0xe1, &exif(kind, 1));
        assert_eq!(size(&two), (48, 64), "{kind}");
    }
}

#[test]
fn exif_in_a_webp_may_begin_as_in_a_jpeg() {
    let plain = fixture("rgb.webp");
    let (width, height) = decode(&plain, 224).map(|picture| (picture.width, picture.height)).unwrap();
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let padding = vec![0; content.len() % 2];
        [&name[..], &(content.len() as u32).to_le_bytes(), content, &padding].concat()
    };
    let side = |pixels: usize| (pixels as u32 - 1).to_le_bytes()[..3].to_vec();
    for begin in [0, 6] {
        let head = [vec![8, 0, 0, 0], side(width), side(height)].concat();
        let body = [b"WEBP".to_vec(), chunk(b"VP8X", &head), plain[12..].to_vec(), chunk(b"EXIF", &exif(3, 6)[begin..])].concat();
        let turned = decode(&chunk(b"RIFF", &body), 224).unwrap();
        assert_eq!((turned.width, turned.height), (height, width), "{begin}");
    }
}

/// An uncompressed little-endian TIFF of one strip; `tags` beside those that every file has.
fn tiff((width, height): (u32, u32), bits: &[u16], tags: &[(u16, u32)], data: &[u8]) -> Vec<u8> {
    let samples = bits.len() as u32;
    let mut entries: Vec<(u16, u16, u32, u32)> = vec![
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, samples, u32::from(bits[0])),
        (259, 3, 1, 1),
        (273, 4, 1, 0),
        (277, 3, 1, samples),
        (278, 4, 1, height),
        (279, 4, 1, data.len() as u32),
    ];
    let has_formats = tags.iter().any(|tag| tag.0 == 339);
    entries.extend(tags.iter().map(|&(tag, value)| (tag, 3, if tag == 339 { samples } else { 1 }, value)));
    entries.sort();
    let end = 8 + 2 + 12 * entries.len() as u32 + 4;
    let mut out = [b"II*\0".as_slice(), &8u32.to_le_bytes(), &(entries.len() as u16).to_le_bytes()].concat();
    for (tag, kind, count, value) in entries {
        let value = match tag {
            258 | 339 if samples > 2 => end + if tag == 339 { 2 * samples } else { 0 },
            273 if has_formats => end + 4 * samples,
            273 => end + 2 * samples,
            _ => value,
        };
        out.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        out.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    out.extend([0; 4]);
    out.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()));
    if has_formats {
        out.extend(bits.iter().flat_map(|_| 3u16.to_le_bytes()));
    }
    out.extend(data);
    out
}

#[test]
fn floats_of_a_tiff_are_brought_into_range() {
    let gray = |values: &[f32]| {
        let data: Vec<u8> = values.iter().flat_map(|value| [value.to_le_bytes(); 3].concat()).collect();
        tiff((values.len() as u32, 1), &[32; 3], &[(262, 2), (339, 3)], &data)
    };
    let first = |values: &[f32]| pixels(&gray(values)).chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>();
    assert_eq!(first(&[0.0, 0.2, 1.0]), [0, 51, 255]);
    assert_eq!(first(&[0.0, 51.0, 255.0]), [0, 51, 255]);
    assert_eq!(first(&[-1000.0, 1000.0, 3000.0]), [0, 128, 255]);
    assert!(refusal(&gray(&[0.0, f32::NAN])).contains("NaN"));
}

#[test]
fn twelve_bits_of_sixteen_use_the_whole_range() {
    let gray = |values: &[u16]| {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        pixels(&tiff((values.len() as u32, 1), &[16], &[(262, 1)], &data)).chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>()
    };
    assert_eq!(gray(&[0, 2048, 4095]), [0, 128, 255]);
    assert_eq!(gray(&[0, 32768, 65535]), [0, 128, 255]);
}

#[test]
fn colours_multiplied_by_alpha_are_not_multiplied_again() {
    let pixel = [100, 50, 0, 128];
    let rgba = |extra| pixels(&tiff((1, 1), &[8; 4], &[(262, 2), (338, extra)], &pixel));
    assert_eq!(rgba(1), [227, 177, 127]);
    assert_eq!(rgba(2), [177, 152, 127]);
}

#[test]
fn bits_in_reverse_order_are_refused_by_name() {
    let bits = |order| tiff((8, 1), &[1], &[(262, 1), (266, order)], &[0b1000_0000]);
    assert!(refusal(&bits(2)).contains("FillOrder 2"));
    assert_eq!(pixels(&bits(1))[..6], [255, 255, 255, 0, 0, 0]);
}

#[test]
fn a_bitmap_that_is_transparent_throughout_is_opaque() {
    let bitmap = |alpha: [u8; 2]| {
        let mut out = Cursor::new(vec![]);
        let image = RgbaImage::from_raw(2, 1, vec![10, 20, 30, alpha[0], 40, 50, 60, alpha[1]]).unwrap();
        DynamicImage::ImageRgba8(image).write_to(&mut out, ImageFormat::Bmp).unwrap();
        pixels(&out.into_inner())
    };
    assert_eq!(bitmap([0, 0]), [10, 20, 30, 40, 50, 60]);
    assert_eq!(bitmap([0, 255]), [255, 255, 255, 40, 50, 60]);
}

#[test]
fn a_kind_that_is_not_known_is_called_so_and_not_damaged() {
    let err = refusal(&tiff((2, 1), &[8; 5], &[(262, 5)], &[0; 10]));
    assert!(err.starts_with("not supported") && !err.contains("damaged"), "{err}");
    assert!(refusal(b"II+\0\x08\0\0\0").contains("BigTIFF"));
    let tiled = tiff((16, 16), &[8; 3], &[(262, 2), (284, 2), (322, 16), (323, 16)], &[0; 768]);
    assert!(refusal(&tiled).contains("plane for each colour"), "{}", refusal(&tiled));
}
