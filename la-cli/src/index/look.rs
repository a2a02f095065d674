//! A folder's pictures as the system lists them, by which it is noticed that they have changed.

use super::stamp::Stamp;
use crate::data::files::has_image_extension;
use crate::data::walk::Walk;
use la_core::files::sha256_of;
use std::io;
use std::path::Path;

/// Another one where a picture came, went or was changed. No picture is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look(String);

impl Look {
    /// That at the pictures in `folder` and below; fails where it cannot be listed.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let walk = Walk::of(folder)?;
        let pictures = walk.files.iter().filter(|path| has_image_extension(path));
        Ok(Self(sha256_of(pictures.map(|path| format!("{path:?}{:?}\n", Stamp::of(&folder.join(path)).ok())))))
    }
}
