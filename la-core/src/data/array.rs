//! Images of one size in one block of memory: what idx and CIFAR files become.

use super::{Picture, Source};
use crate::{error::bail, Result};
use std::borrow::Cow;

/// Pictures of equal size, gray or RGB, with labels.
#[derive(Debug, Clone)]
pub struct Array {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 for gray, 3 for RGB.
    pub channels: usize,
    /// `width * height * channels` values an image, channels innermost.
    pub pixels: Vec<u8>,
    /// A class for each image, or none at all.
    pub labels: Vec<u32>,
    /// Names of the classes.
    pub class_names: Vec<String>,
}

impl Array {
    /// The array, after a check that sizes and labels fit together; `name` stands in the error.
    pub fn checked(self, name: &str) -> Result<Self> {
        let size = self.image_len();
        if size == 0 || self.pixels.is_empty() || !self.pixels.len().is_multiple_of(size) {
            bail!(
                "{name}: expected at least one image of {}x{}x{}, got {} bytes",
                self.width,
                self.height,
                self.channels,
                self.pixels.len()
            );
        }
        if !self.labels.is_empty() && self.labels.len() != self.len() {
            bail!("{name}: expected {} labels, one an image, got {}", self.len(), self.labels.len());
        }
        if let Some(label) = self.labels.iter().find(|&&label| label as usize >= self.class_names.len()) {
            bail!("{name}: expected labels below {}, got {label}", self.class_names.len());
        }
        Ok(self)
    }

    /// The images at `indices`, in that order.
    pub fn take(&self, indices: &[usize]) -> Self {
        let size = self.image_len();
        Self {
            pixels: indices.iter().flat_map(|&i| &self.pixels[i * size..(i + 1) * size]).copied().collect(),
            labels: indices.iter().filter_map(|&i| self.labels.get(i)).copied().collect(),
            class_names: self.class_names.clone(),
            ..*self
        }
    }

    fn image_len(&self) -> usize {
        self.width * self.height * self.channels
    }
}

impl Source for Array {
    fn len(&self) -> usize {
        self.pixels.len() / self.image_len().max(1)
    }
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        let size = self.image_len();
        let pixels = &self.pixels[index * size..(index + 1) * size];
        let pixels = match self.channels {
            1 => pixels.iter().flat_map(|&gray| [gray; 3]).collect(),
            _ => pixels.to_vec(),
        };
        Ok(Cow::Owned(Picture { width: self.width, height: self.height, pixels }))
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}
