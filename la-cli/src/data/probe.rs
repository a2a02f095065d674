//! A look at a file's header and end, without decoding it.

use crate::error::{bail, Error, Result};
use image::{ImageError, ImageReader};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

/// Images of more pixels are refused by their header, before any memory is taken for them.
pub const MAX_PIXELS: usize = 64 << 20;

/// Fails where a picture of that size is not to be decoded.
pub fn check_size(width: usize, height: usize) -> Result<()> {
    match width.checked_mul(height) {
        Some(0) => bail!("no pixels: {width}x{height}"),
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => bail!("too large: {width}x{height} is more than {} megapixels", MAX_PIXELS >> 20),
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Pixels a row, as stored.
    pub width: usize,
    /// Rows, as stored.
    pub height: usize,
    /// Whether the file's end is as it should be; where it is not, only decoding tells whether the image is whole.
    pub ends_well: bool,
}

/// Reads the header and the last bytes; fails with the reason where they show that the image cannot be used.
pub fn probe<R: Read + Seek>(reader: R) -> Result<Probe> {
    let mut reader = BufReader::new(reader);
    let failed = |err: std::io::Error| Error::invalid(err.to_string());
    let start = reader.fill_buf().map_err(failed)?;
    if start.is_empty() {
        bail!("empty file");
    }
    let mut magic = [0; 12];
    let known = start.len().min(12);
    magic[..known].copy_from_slice(&start[..known]);
    let (width, height) = if magic.starts_with(&[0xff, 0xd8, 0xff]) {
        let head = jpeg_head(&mut reader)?;
        (head.width, head.height)
    } else {
        other_size(&mut reader, &magic)?
    };
    check_size(width, height)?;
    let ends_well = ends_well(&magic, &mut reader).map_err(failed)?;
    Ok(Probe { width, height, ends_well })
}

fn other_size<R: BufRead + Seek>(reader: &mut R, magic: &[u8]) -> Result<(usize, usize)> {
    let reader = ImageReader::new(reader).with_guessed_format().map_err(|err| Error::invalid(err.to_string()))?;
    if reader.format().is_none() {
        return Err(unknown(magic));
    }
    let (width, height) = reader.into_dimensions().map_err(|err| said("damaged header", &err))?;
    Ok((width as usize, height as usize))
}

fn ends_well<R: Read + Seek>(magic: &[u8; 12], reader: &mut R) -> std::io::Result<bool> {
    let len = reader.seek(SeekFrom::End(0))?;
    let mut tail = [0; 12];
    let known = len.min(12);
    reader.seek(SeekFrom::End(-(known as i64)))?;
    reader.read_exact(&mut tail[12 - known as usize..])?;
    Ok(match magic {
        [0xff, 0xd8, ..] => tail[10..] == [0xff, 0xd9],
        [0x89, b'P', b'N', b'G', ..] => &tail[4..8] == b"IEND",
        [b'G', b'I', b'F', ..] => tail[11] == 0x3b,
        [b'R', b'I', b'F', b'F', size @ ..] => u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]])) + 8 <= len,
        _ => false,
    })
}

/// What stands before a JPEG's first scan.
#[derive(Debug, Clone, Default)]
pub struct JpegHead {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Where the first scan starts.
    pub scan_start: usize,
    /// Identifier of each component, with its samples across and down.
    components: Vec<(u8, u8, u8)>,
    is_jfif: bool,
    /// The transform of Adobe's segment.
    adobe: Option<u8>,
    is_sequential: bool,
    components_of_scan: usize,
    /// Where the first EXIF data are.
    pub exif: Option<Range<usize>>,
}

impl JpegHead {
    /// Whether three components are red, green and blue, as libjpeg decides: by JFIF's segment, by Adobe's, then by their names.
    pub fn is_rgb(&self) -> bool {
        self.has_three_components() && !self.is_jfif && self.adobe.map_or(self.is_named_rgb(), |transform| transform == 0)
    }

    /// Whether it is neither gray nor of four inks.
    pub fn has_three_components(&self) -> bool {
        self.components.len() == 3
    }

    /// Whether a decoder that believes every sign of red, green and blue decides so too.
    pub fn is_clear(&self) -> bool {
        !self.has_three_components() || self.is_rgb() == (self.is_named_rgb() || self.adobe == Some(0))
    }

    fn is_named_rgb(&self) -> bool {
        self.components.iter().map(|component| component.0).eq(*b"RGB")
    }

    /// Whether brightness and colours, each in a whole scan of its own, follow one after the other.
    pub fn has_scans_of_components(&self) -> bool {
        self.is_sequential && self.components_of_scan < self.components.len()
    }

    /// Why this kind is not decoded.
    pub fn refusal(&self) -> Option<&'static str> {
        let (_, across, down) = *self.components.first()?;
        let is_finer = self.components.iter().any(|component| component.1 > across || component.2 > down);
        is_finer.then_some("not supported: a JPEG with more samples of colour than of brightness; save it again")
    }
}

/// Walks the markers of a JPEG from its first byte to the first scan (ITU-T T.81, annex B).
pub fn jpeg_head<R: Read + Seek>(reader: &mut R) -> Result<JpegHead> {
    walk_markers(reader).map_err(|err| match err.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::invalid("truncated in its header"),
        _ => Error::invalid(err.to_string()),
    })
}

fn walk_markers<R: Read + Seek>(reader: &mut R) -> std::io::Result<JpegHead> {
    let mut head = JpegHead::default();
    reader.seek(SeekFrom::Start(2))?;
    loop {
        let marker = next_marker(reader)?;
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            continue; // these stand alone
        }
        let len = i64::from(read_u16(reader)?).max(2) - 2;
        let start = reader.stream_position()?;
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => read_frame(reader, marker, &mut head)?,
            0xda => {
                head.components_of_scan = usize::from(read_u8(reader)?);
                head.scan_start = start as usize;
                return Ok(head);
            }
            0xd9 => return Err(std::io::Error::other("damaged: it ends before any pixels")),
            0xe0 | 0xe1 | 0xee if len >= 6 => {
                let mut name = [0; 6];
                reader.read_exact(&mut name)?;
                match (marker, &name) {
                    (0xe0, b"JFIF\0\x01" | b"JFIF\0\x02") => head.is_jfif = true,
                    (0xe1, b"Exif\0\0") if head.exif.is_none() => head.exif = Some(start as usize..start as usize + len as usize),
                    (0xee, [b'A', b'd', b'o', b'b', b'e', _]) if len >= 12 => {
                        reader.seek(SeekFrom::Current(5))?;
                        head.adobe = Some(read_u8(reader)?);
                    }
                    _ => (),
                }
            }
            _ => (),
        }
        reader.seek(SeekFrom::Start(start + len as u64))?;
    }
}

fn read_frame<R: Read>(reader: &mut R, marker: u8, head: &mut JpegHead) -> std::io::Result<()> {
    let _precision = read_u8(reader)?;
    head.height = usize::from(read_u16(reader)?);
    head.width = usize::from(read_u16(reader)?);
    head.is_sequential = matches!(marker, 0xc0 | 0xc1);
    head.components.clear();
    for _ in 0..read_u8(reader)? {
        let (id, samples, _table) = (read_u8(reader)?, read_u8(reader)?, read_u8(reader)?);
        head.components.push((id, samples >> 4, samples & 15));
    }
    Ok(())
}

/// The byte after the next run of 0xff; whatever stands before is skipped, as decoders do.
fn next_marker<R: Read>(reader: &mut R) -> std::io::Result<u8> {
    let mut seen_ff = false;
    loop {
        match (read_u8(reader)?, seen_ff) {
            (0xff, _) => seen_ff = true,
            (0, true) => seen_ff = false,
            (marker, true) => return Ok(marker),
            _ => (),
        }
    }
}

fn read_u8<R: Read>(reader: &mut R) -> std::io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn read_u16<R: Read>(reader: &mut R) -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    reader.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Why bytes that begin so are no image.
pub(super) fn unknown(start: &[u8]) -> Error {
    Error::invalid(match start {
        [b'I', b'I', b'+', 0, ..] | [b'M', b'M', 0, b'+', ..] => "not supported: a BigTIFF; save it again as JPEG, PNG or TIFF",
        _ => "not an image of a known format",
    })
}

/// What a decoder says: `damaged`, unless it is that it does not know the kind.
pub(super) fn said(damaged: &str, err: &ImageError) -> Error {
    match err {
        ImageError::Unsupported(err) => Error::invalid(format!("not supported: {err}; save it again as JPEG or PNG")),
        err => Error::invalid(format!("{damaged}: {err}")),
    }
}
