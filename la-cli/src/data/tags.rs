//! The tags of TIFF files, and of the EXIF data in others: which way up a picture is, and how its values are meant.

use image::metadata::Orientation;

const FILL_ORDER: u16 = 266;
const ORIENTATION: u16 = 274;
const PLANES: u16 = 284;
const TILE_WIDTH: u16 = 322;
const EXTRA_SAMPLES: u16 = 338;

/// The first directory of a TIFF file.
pub struct Tags<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    start: usize,
}

impl<'a> Tags<'a> {
    /// Those of a TIFF file or of EXIF data, with or without the `Exif` before it that JPEG files have; none where it is neither.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
        let is_big_endian = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        let tags = Self { bytes, is_big_endian, start: 0 };
        Some(Self { start: tags.long(4)? as usize, ..tags })
    }

    /// The first value of a tag of whole numbers.
    fn get(&self, tag: u16) -> Option<u32> {
        let count = usize::from(self.short(self.start)?);
        let entry = (0..count).map(|i| self.start + 2 + 12 * i).find(|&entry| self.short(entry) == Some(tag))?;
        let size = match self.short(entry + 2)? {
            1 => 1,
            3 => 2,
            4 => 4,
            _ => return None,
        };
        let is_here = (self.long(entry + 4)? as usize).saturating_mul(size) <= 4;
        let at = if is_here { entry + 8 } else { self.long(entry + 8)? as usize };
        match size {
            1 => self.bytes.get(at).copied().map(u32::from),
            2 => self.short(at).map(u32::from),
            _ => self.long(at),
        }
    }

    /// Why a TIFF is not decoded: what its decoder would get wrong.
    pub fn refusal(&self) -> Option<&'static str> {
        match () {
            () if self.get(FILL_ORDER) == Some(2) => {
                Some("not supported: a TIFF whose bits are in reverse order (FillOrder 2); save it again")
            }
            () if self.get(PLANES) == Some(2) && self.get(TILE_WIDTH).is_some() => {
                Some("not supported: a TIFF of tiles with a plane for each colour; save it again")
            }
            () => None,
        }
    }

    /// Whether the colours are multiplied by alpha.
    pub fn is_premultiplied(&self) -> bool {
        self.get(EXTRA_SAMPLES) == Some(1)
    }

    /// Which way up the picture is.
    pub fn orientation(&self) -> Option<Orientation> {
        Orientation::from_exif(u8::try_from(self.get(ORIENTATION)?).ok()?)
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}
