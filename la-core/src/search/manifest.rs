//! `manifest.json`: what a bundle holds, how long each file is, and how images are prepared for its network.

use crate::{
    choices::choices,
    error::bail,
    preprocess::{Preprocessing, MAX_SIZE},
    resnet::ResNetConfig,
    Result,
};
use serde::{Deserialize, Serialize};

/// What `format` says in every manifest.
pub const FORMAT: &str = "la-bundle";
/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// The longest manifest that a page reads.
pub const MAX_BYTES: usize = 1 << 20;
/// The most rows of a bank: row numbers are 32 bits wide, and a browser's memory is 4 GiB.
const MAX_ROWS: usize = 1 << 28;
/// The widest embedding.
const MAX_DIM: usize = 1 << 16;

choices! {
    /// How the values of weights or of a bank lie in a file.
    Precision, "precision" {
        /// 32-bit floats.
        F32 = "f32",
        /// 16-bit floats: half the bytes.
        F16 = "f16",
        /// 8-bit integers with a scale for each row or output channel: a quarter.
        I8 = "i8",
    }
}

/// A bundle: the network, the bank, and what the page shows of each row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The program that wrote the bundle, with its version.
    pub created_by: String,
    /// A line for the page: which data, which run.
    pub title: String,
    /// The network.
    pub model: ModelEntry,
    /// From a picture to the network's input.
    pub preprocessing: Preprocessing,
    /// The embeddings that are searched.
    pub bank: BankEntry,
    /// The class of each row, where known.
    pub labels: Option<LabelsEntry>,
    /// A name for each row: UTF-8, one a line, each line ended by `\n`.
    pub names: FileEntry,
    /// Small pictures of the rows.
    pub thumbnails: Option<ThumbnailsEntry>,
    /// Where each row lies on a plane.
    pub map: Option<MapEntry>,
}

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Beside the manifest: a plain name, without folders.
    pub path: String,
    /// Its length.
    pub bytes: usize,
    /// SHA-256 of its content, in lower-case hexadecimal.
    pub sha256: String,
}

/// The network's weights, a safetensors file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// Depth, stem, width, embedding size.
    pub config: ResNetConfig,
    /// Type of the convolutions' and the last layer's weights.
    pub precision: Precision,
    /// Dimensions of the read-out, the map `readout.weight`, `readout.bias` in the file that gives embeddings in place of `fc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout_dim: Option<usize>,
    /// The weights.
    pub file: FileEntry,
}

/// The bank: `rows × dim` unit-length embeddings.
///
/// f32 and f16 files hold the values row after row, little endian. i8 files hold `rows` f32 scales, then the codes row
/// after row; a value is its code times its row's scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BankEntry {
    /// Number of embeddings `N`.
    pub rows: usize,
    /// Their dimension `D`.
    pub dim: usize,
    /// How they are stored.
    pub precision: Precision,
    /// How they were made, in words.
    pub made: String,
    /// The values.
    pub file: FileEntry,
}

/// The class of each row: `rows` little-endian u32, indices into `classes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelsEntry {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The indices.
    pub file: FileEntry,
}

/// Sheets of square thumbnails, filled left to right, then top to bottom, then sheet after sheet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThumbnailsEntry {
    /// Side of a thumbnail in pixels.
    pub size: usize,
    /// Thumbnails in a row of a sheet.
    pub columns: usize,
    /// Thumbnails in a full sheet.
    pub per_sheet: usize,
    /// JPEG files.
    pub sheets: Vec<FileEntry>,
}

/// A point for each row: `rows` pairs of little-endian f32, each axis in -1 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapEntry {
    /// How the plane was found, `umap` for example.
    pub method: String,
    /// The points.
    pub file: FileEntry,
}

impl Manifest {
    /// Reads and checks a manifest: every count and length agrees with every other before any file is looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: Self = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => bail!("manifest: expected the JSON of a {FORMAT}: {error}"),
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Every file of the bundle.
    pub fn files(&self) -> Vec<&FileEntry> {
        let sheets = self.thumbnails.iter().flat_map(|thumbnails| &thumbnails.sheets);
        let labels = self.labels.iter().map(|labels| &labels.file);
        let map = self.map.iter().map(|map| &map.file);
        [&self.model.file, &self.bank.file, &self.names].into_iter().chain(labels).chain(map).chain(sheets).collect()
    }

    /// Fails where a field contradicts another or lies out of its range, by name.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT || self.version != VERSION {
            bail!("manifest: expected format {FORMAT} version {VERSION}, got {} version {}", self.format, self.version);
        }
        for file in self.files() {
            file.check()?;
        }
        self.model.config.validate()?;
        self.preprocessing.check()?;
        self.bank.check(self.model.embedding_dim())?;
        let rows = self.bank.rows;
        if let Some(labels) = &self.labels {
            labels.file.expect_bytes("labels", rows * 4)?;
        }
        if let Some(map) = &self.map {
            map.file.expect_bytes("map", rows * 8)?;
        }
        self.thumbnails.as_ref().map_or(Ok(()), |thumbnails| thumbnails.check(rows))
    }
}

impl ModelEntry {
    /// Length of the embeddings that the network gives.
    pub fn embedding_dim(&self) -> usize {
        self.readout_dim.unwrap_or(self.config.embedding_dim)
    }
}

impl FileEntry {
    fn check(&self) -> Result<()> {
        let plain = self.path.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !plain || self.path.is_empty() || self.path.starts_with('.') {
            bail!("manifest: expected the plain name of a file beside the manifest, got {:?}", self.path);
        }
        if self.sha256.len() != 64 || !self.sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            bail!("manifest: {}: expected a sha256 of 64 hexadecimal digits, got {:?}", self.path, self.sha256);
        }
        Ok(())
    }

    /// Fails unless the entry's length is `expected`.
    pub fn expect_bytes(&self, what: &str, expected: usize) -> Result<()> {
        match self.bytes == expected {
            true => Ok(()),
            false => bail!("{what}: {} must have {expected} bytes, got {}", self.path, self.bytes),
        }
    }
}

impl BankEntry {
    fn check(&self, embedding_dim: usize) -> Result<()> {
        if !(1..=MAX_ROWS).contains(&self.rows) || !(1..=MAX_DIM).contains(&self.dim) {
            bail!("bank: expected 1 to {MAX_ROWS} rows of 1 to {MAX_DIM} values, got {} of {}", self.rows, self.dim);
        }
        if self.dim != embedding_dim {
            bail!("bank: rows have {} values, but the network's embeddings {embedding_dim}", self.dim);
        }
        self.file.expect_bytes("bank", self.num_bytes())
    }

    /// Length of the file that `rows`, `dim` and `precision` ask for.
    pub fn num_bytes(&self) -> usize {
        self.precision.bank_bytes(self.rows, self.dim)
    }
}

impl ThumbnailsEntry {
    fn check(&self, rows: usize) -> Result<()> {
        if self.size == 0 || self.columns == 0 || self.per_sheet == 0 || self.size > MAX_SIZE || self.columns > self.per_sheet {
            bail!("thumbnails: expected 1 to {MAX_SIZE} pixels and at least one column in a sheet, got {} and {}", self.size, self.columns);
        }
        let expected = rows.div_ceil(self.per_sheet);
        if self.sheets.len() != expected {
            bail!("thumbnails: {rows} rows at {} a sheet need {expected} sheets, got {}", self.per_sheet, self.sheets.len());
        }
        Ok(())
    }
}

impl Precision {
    /// Bytes of a bank of this many rows, as [`BankEntry`] lays them out.
    pub fn bank_bytes(self, rows: usize, dim: usize) -> usize {
        match self {
            Precision::F32 => rows.saturating_mul(dim).saturating_mul(4),
            Precision::F16 => rows.saturating_mul(dim).saturating_mul(2),
            Precision::I8 => rows.saturating_mul(dim).saturating_add(rows.saturating_mul(4)),
        }
    }
}
