//! The page with its bundle, as a folder.

use super::folder::NewFolder;
use super::rows::Rows;
use super::{bundle, page};
use anyhow::Context;
use la_core::search::Precision;
use std::path::Path;

/// How a page's weights and bank are stored where nothing is asked for.
pub const PRECISION: Precision = Precision::F16;

/// A part of a page with its bytes.
pub type Size = (&'static str, usize);

/// 16 bits, or as few as the weights have: codes of 8 bits are stored again without loss.
pub fn page_precision(rows: &Rows) -> Precision {
    match rows.encoder.precision() {
        Precision::I8 => Precision::I8,
        _ => PRECISION,
    }
}

/// Writes page and bundle into `folder`; gives the size of each part. `before` is told where all of it lies before it is seen
/// there.
pub fn write_site(
    rows: &Rows,
    (weights, bank): (Precision, Precision),
    folder: NewFolder,
    before: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Size>> {
    page::write(folder.path())?;
    let sizes = bundle::write(rows, (weights, bank), &folder.path().join("bundle")).context("the export is not written")?;
    before(folder.path())?;
    folder.finish()?;
    Ok([("page", page::num_bytes())].into_iter().chain(sizes).collect())
}
