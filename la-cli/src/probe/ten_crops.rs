//! The ten crops by which the paper tests its probes: four corners and the middle, and their mirror images.

use la_core::data::{Picture, Source};
use la_core::Result;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// How many there are.
pub const NUM_CROPS: usize = 10;
/// Side of a crop as a share of the picture's shorter side.
const SHARE: f64 = 224.0 / 256.0;

/// A source whose pictures are one of the ten crops of another's.
pub struct OneCrop {
    source: Arc<dyn Source>,
    crop: usize,
}

impl OneCrop {
    /// Crop `crop`, below [`NUM_CROPS`], of the pictures of `source`; from 5 on mirrored.
    pub fn new(source: Arc<dyn Source>, crop: usize) -> Self {
        Self { source, crop }
    }
}

impl Source for OneCrop {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        Ok(Cow::Owned(cropped(&*self.source.picture(index)?, self.crop)?))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    fn path(&self, index: usize) -> Option<&Path> {
        self.source.path(index)
    }
}

/// One of the ten crops of a picture.
pub fn cropped(picture: &Picture, crop: usize) -> Result<Picture> {
    let (width, height) = (picture.width, picture.height);
    let side = ((SHARE * width.min(height) as f64).round() as usize).max(1);
    let (right, bottom) = (width - side, height - side);
    let (left, top) = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right / 2, bottom / 2)][crop % 5];
    let mut pixels = Vec::with_capacity(side * side * 3);
    for row in picture.pixels.chunks_exact(width * 3).skip(top).take(side) {
        let row = &row[left * 3..(left + side) * 3];
        match crop < 5 {
            true => pixels.extend_from_slice(row),
            false => row.rchunks_exact(3).for_each(|pixel| pixels.extend_from_slice(pixel)),
        }
    }
    Picture::new(side, side, pixels)
}
