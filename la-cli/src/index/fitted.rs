//! The read-out that was fitted to the pictures of a folder, with their embeddings: as long as neither pictures nor weights
//! change, a search needs nothing else of the index.

use super::kept::{digest, IndexFile};
use crate::output::warning;
use candle_core::{Device, Tensor};
use la_core::files::sha256_of;
use la_core::pca::Whitening;
use la_core::tensor_files::{read_tensors, write_tensors};
use serde::{Deserialize, Serialize};

/// Files of another version are made anew.
const VERSION: u32 = 1;
/// The tensor of the embeddings, `(N, D)`.
const ROWS: &str = "embeddings";
/// The key of its metadata.
const KEY: &str = "fitted";

/// The metadata.
#[derive(Serialize, Deserialize, PartialEq)]
struct Header {
    version: u32,
    /// What it was fitted to, and from which read-out.
    made_of: String,
    /// SHA-256 of the read-out and the embeddings.
    sha256: String,
}

/// The fitted read-out and the embeddings, where they were made of this.
pub fn read(index: &IndexFile, made_of: &str) -> Option<(Whitening, Tensor)> {
    let (tensors, metadata) = read_tensors(&index.beside(KEY), &Device::Cpu).ok()?;
    let header: Header = serde_json::from_str(metadata.get(KEY)?).ok()?;
    let rows = tensors.get(ROWS)?;
    let readout = Whitening::from_tensors(&tensors).ok()?;
    let expected = Header { version: VERSION, made_of: made_of.into(), sha256: digest_of(&readout, rows).ok()? };
    (header == expected && rows.dim(1).ok()? == readout.dim()).then(|| (readout, rows.clone()))
}

/// Keeps them for the next command, which can do without.
pub fn write(index: &IndexFile, made_of: String, (readout, rows): (&Whitening, &Tensor)) {
    let path = index.beside(KEY);
    let written = digest_of(readout, rows).and_then(|sha256| {
        let header = serde_json::to_string(&Header { version: VERSION, made_of, sha256 })?;
        let mut tensors = readout.tensors();
        tensors.push((ROWS.into(), rows.clone()));
        Ok(write_tensors(&path, &tensors, Some((KEY, header)))?)
    });
    if let Err(error) = written {
        warning!("the fitted read-out could not be cached, so the next search starts more slowly: {error:#}");
    }
}

fn digest_of(readout: &Whitening, rows: &Tensor) -> anyhow::Result<String> {
    Ok(sha256_of([readout.digest(), digest(&rows.flatten_all()?.to_vec1::<f32>()?)]))
}
