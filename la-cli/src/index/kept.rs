//! The file that keeps what one network makes of the pictures of one folder, in the user's cache folder.

use super::stamp::Stamp;
use crate::output::remark;
use candle_core::{Device, Tensor};
use la_core::files::cache_folder;
use la_core::files::sha256_of;
use la_core::tensor_files::{read_metadata, read_tensors, write_tensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files of another version are made anew.
const VERSION: u32 = 2;
/// A file that was not used for half a year goes.
const UNUSED: Duration = Duration::from_secs(182 * 24 * 60 * 60);
/// The file's one tensor, `(N, F)`: the features of the pictures that have one, in the order of the entries.
const ROWS: &str = "features";
/// The key of its metadata.
const KEY: &str = "index";

/// What is known of pictures, by their path below the folder.
#[derive(Default)]
pub struct Known {
    /// What became of each.
    pub entries: HashMap<String, Entry>,
    /// Rows, one after the other; those that no entry names are of no use any more.
    values: Vec<f32>,
    dim: usize,
    /// Whether the rows are in the file alone.
    lacks_rows: bool,
}

/// What became of a picture.
pub struct Entry {
    /// The file that was read; none where it could not be opened, which is tried again each time.
    pub stamp: Option<Stamp>,
    /// SHA-256 of its content, where the stamp alone does not prove that it is still the same.
    pub sha256: Option<String>,
    /// Its place among the rows, or why it has none.
    pub row: Result<usize, String>,
}

impl Known {
    /// The values of a row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    /// Whether only the entries were read, and their rows are still in the file.
    pub fn lacks_rows(&self) -> bool {
        self.lacks_rows
    }

    /// Length of a row; 0 where there is none.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Adds a row; gives its place.
    pub fn push(&mut self, row: &[f32]) -> usize {
        self.dim = row.len();
        self.values.extend_from_slice(row);
        self.values.len() / row.len() - 1
    }

    /// Takes what `other` knows of pictures that are unknown here.
    fn adopt(&mut self, other: Known) {
        for (name, entry) in &other.entries {
            if self.entries.contains_key(name) {
                continue;
            }
            let row = entry.row.clone().map(|row| self.push(other.row(row)));
            self.entries.insert(name.clone(), Entry { stamp: entry.stamp, sha256: entry.sha256.clone(), row });
        }
    }
}

/// The metadata.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    folder: String,
    encoder: String,
    /// SHA-256 of the rows.
    sha256: String,
    entries: Vec<(String, Stamp, Option<String>, Option<String>)>,
}

/// Where an index is kept.
pub struct IndexFile {
    path: PathBuf,
    folder: String,
    encoder: String,
    /// The file as it was last read or written here.
    stamp: Option<Stamp>,
}

impl IndexFile {
    /// That of the folder with this canonical path, as the encoder of this identity sees it; none where there is no cache folder.
    pub fn of(folder: &Path, encoder: &str) -> Option<Self> {
        let digest = sha256_of([folder.as_os_str().as_encoded_bytes(), b"\0", encoder.as_bytes()]);
        let path = cache_folder()?.join(format!("index-{}.safetensors", &digest[..32]));
        Some(Self { path, folder: folder.to_string_lossy().into_owned(), encoder: encoder.into(), stamp: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of this kind that belongs to the same folder and encoder.
    pub fn beside(&self, kind: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().replace("index", kind);
        self.path.with_file_name(name)
    }

    /// The same without the rows, where the entries can be read.
    pub fn read_entries(&mut self) -> Known {
        match read_metadata(&self.path).ok().and_then(|metadata| self.header(&metadata)) {
            Some(header) => Known { lacks_rows: true, ..known(header, vec![], 0) },
            None => self.read(),
        }
    }

    /// What it holds: nothing where there is none, or it is broken or of another version.
    pub fn read(&mut self) -> Known {
        let Ok(stamp) = Stamp::of(&self.path) else { return Known::default() };
        self.stamp = Some(stamp);
        self.parse().unwrap_or_else(|| {
            remark!("note: {} is damaged or of another version; it is made anew", self.path.display());
            Known::default()
        })
    }

    fn parse(&self) -> Option<Known> {
        let (mut tensors, metadata) = read_tensors(&self.path, &Device::Cpu).ok()?;
        let header = self.header(&metadata)?;
        let (values, dim) = match tensors.remove(ROWS) {
            Some(rows) => (rows.flatten_all().ok()?.to_vec1::<f32>().ok()?, rows.dims2().ok()?.1),
            None => (vec![], 0),
        };
        let num_rows = header.entries.iter().filter(|(.., reason)| reason.is_none()).count();
        if values.len() != num_rows * dim || digest(&values) != header.sha256 {
            return None;
        }
        Some(known(header, values, dim))
    }

    fn header(&self, metadata: &HashMap<String, String>) -> Option<Header> {
        let header: Header = serde_json::from_str(metadata.get(KEY)?).ok()?;
        (header.version == VERSION && header.folder == self.folder && header.encoder == self.encoder).then_some(header)
    }

    /// Writes what is known of the pictures with these `names`, in their order; gives the number of pictures and of bytes.
    ///
    /// What another process has found out about others of them in the meantime is taken over.
    pub fn write(&mut self, known: &mut Known, names: &[String]) -> la_core::Result<(usize, u64)> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(la_core::Error::io(folder))?;
        // One process at a time; without locks there, the last one wins.
        let lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
        let stamp = Stamp::of(&self.path).ok();
        if stamp.is_some() && stamp != self.stamp {
            known.adopt(self.parse().unwrap_or_default());
        }
        let kept = names.iter().filter_map(|name| Some((name, known.entries.get(name)?))).filter(|(_, entry)| entry.stamp.is_some());
        let mut values = Vec::new();
        let mut entries = Vec::new();
        for (name, entry) in kept {
            let Some(stamp) = entry.stamp else { continue };
            if let Ok(row) = entry.row {
                values.extend_from_slice(known.row(row));
            }
            entries.push((name.clone(), stamp, entry.sha256.clone(), entry.row.clone().err()));
        }
        let count = entries.len();
        let (folder, encoder) = (self.folder.clone(), self.encoder.clone());
        let header = Header { version: VERSION, folder, encoder, sha256: digest(&values), entries };
        let header = serde_json::to_string(&header).map_err(|error| la_core::Error::invalid(error.to_string()))?;
        let shape = (values.len() / known.dim.max(1), known.dim);
        let rows = if values.is_empty() { None } else { Some((ROWS.to_string(), Tensor::from_vec(values, shape, &Device::Cpu)?)) };
        write_tensors(&self.path, rows.as_slice(), Some((KEY, header)))?;
        let meta = fs::metadata(&self.path).map_err(la_core::Error::io(&self.path))?;
        self.stamp = Stamp::of(&self.path).ok();
        drop(lock);
        if let Some(caches) = self.path.parent() {
            remove_unused(caches);
        }
        Ok((count, meta.len()))
    }
}

/// Removes what was neither read nor written for long: of a folder that is gone, or of weights that are used no more.
fn remove_unused(caches: &Path) {
    let Ok(entries) = fs::read_dir(caches) else { return };
    let is_ours = |name: &str| (name.starts_with("index-") || name.starts_with("fitted-")) && name.ends_with(".safetensors");
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours)) {
        let used = entry.metadata().and_then(|meta| Ok(meta.modified()?.max(meta.accessed()?)));
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|ago| ago > UNUSED)) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn known(header: Header, values: Vec<f32>, dim: usize) -> Known {
    let mut next = 0..;
    let entries = header.entries.into_iter().map(|(name, stamp, sha256, reason)| {
        let row = reason.map_or_else(|| Ok(next.next().unwrap_or_default()), Err);
        (name, Entry { stamp: Some(stamp), sha256, row })
    });
    Known { entries: entries.collect(), values, dim, lacks_rows: false }
}

/// SHA-256 of values.
pub fn digest(values: &[f32]) -> String {
    sha256_of(values.chunks(1 << 12).map(|chunk| chunk.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()))
}
