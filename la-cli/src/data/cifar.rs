//! CIFAR-10 and CIFAR-100 in the binary version (<https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! candle-datasets reads CIFAR-10 only, into `f32`, and its Parquet path yields transposed images.

use crate::error::{bail, Error, Result};
use la_core::data::{array::Array, Splits};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// Which of the two sets a file holds: how many label bytes stand before an image, the last of them the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ten,
    Hundred,
}

impl Kind {
    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }
    fn num_classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }
    fn meta_file(self) -> &'static str {
        match self {
            Self::Ten => "batches.meta.txt",
            Self::Hundred => "fine_label_names.txt",
        }
    }
    fn record(self) -> usize {
        self.label_bytes() + 3 * PIXELS
    }
}

/// The folder with the binary files: `dir` itself or the one that the published archive unpacks in it.
pub fn find_dir(dir: &Path) -> Option<PathBuf> {
    let dirs = [dir.to_path_buf(), dir.join("cifar-10-batches-bin"), dir.join("cifar-100-binary")];
    dirs.into_iter().find(|dir| dir.join("data_batch_1.bin").is_file() || dir.join("train.bin").is_file())
}

/// Fails where the files are not of CIFAR's length.
pub fn check(dir: &Path) -> Result<()> {
    let (kind, train, _) = parts(dir);
    train.iter().try_for_each(|path| check_len(path, kind, std::fs::metadata(path).map_err(Error::io(path))?.len()))
}

fn check_len(path: &Path, kind: Kind, len: u64) -> Result<()> {
    match len > 0 && len.is_multiple_of(kind.record() as u64) {
        true => Ok(()),
        false => bail!("{}: expected a multiple of {} bytes, got {len} (truncated, or no CIFAR file)", path.display(), kind.record()),
    }
}

/// Whether the folder, or the one that the published archive unpacks in it, has the files of CIFAR's Python version.
pub fn is_python(dir: &Path) -> bool {
    let ten = [dir.to_path_buf(), dir.join("cifar-10-batches-py")].iter().any(|dir| dir.join("data_batch_1").is_file());
    ten || [dir.to_path_buf(), dir.join("cifar-100-python")].iter().any(|dir| dir.join("train").is_file() && dir.join("meta").is_file())
}

/// Which set it is, its training files and where its test file would be.
fn parts(dir: &Path) -> (Kind, Vec<PathBuf>, PathBuf) {
    match dir.join("train.bin").is_file() {
        true => (Kind::Hundred, vec![dir.join("train.bin")], dir.join("test.bin")),
        false => {
            let batches = (1..=5).map(|i| dir.join(format!("data_batch_{i}.bin"))).filter(|path| path.is_file());
            (Kind::Ten, batches.collect(), dir.join("test_batch.bin"))
        }
    }
}

/// A folder of `data_batch_*.bin` and `test_batch.bin`, or of `train.bin` and `test.bin`.
pub fn open_dir(dir: &Path) -> Result<Splits> {
    let (kind, train, test) = parts(dir);
    let test = Some(test).filter(|path| path.is_file());
    let test = test.map(|path| read(&[path], kind)).transpose()?;
    Ok(Splits {
        name: dir.display().to_string(),
        train: Arc::new(read(&train, kind)?),
        test: test.map(|test| Arc::new(test) as Arc<_>),
        unreadable: vec![],
        notes: vec![],
    })
}

/// One binary file; its length and label bytes tell which set it belongs to.
pub fn open_file(path: &Path) -> Result<Splits> {
    let len = std::fs::metadata(path).map_err(Error::io(path))?.len() as usize;
    let kind = match (len % Kind::Ten.record(), len % Kind::Hundred.record()) {
        (0, _) => Kind::Ten,
        (_, 0) => Kind::Hundred,
        _ => bail!("{}: expected a CIFAR binary file of 3073 or 3074 bytes an image, got {len} bytes", path.display()),
    };
    let train = Arc::new(read(&[path.to_path_buf()], kind)?);
    Ok(Splits { name: path.display().to_string(), train, test: None, unreadable: vec![], notes: vec![] })
}

fn read(paths: &[PathBuf], kind: Kind) -> Result<Array> {
    let mut array =
        Array { width: SIDE, height: SIDE, channels: 3, pixels: vec![], labels: vec![], class_names: class_names(&paths[0], kind) };
    for path in paths {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        check_len(path, kind, bytes.len() as u64)?;
        for record in bytes.chunks_exact(kind.record()) {
            array.labels.push(u32::from(record[kind.label_bytes() - 1]));
            push_interleaved(&record[kind.label_bytes()..], &mut array.pixels);
        }
    }
    array.checked(&paths[0].display().to_string())
}

/// Appends planes of red, green and blue as RGB pixels.
fn push_interleaved(planes: &[u8], out: &mut Vec<u8>) {
    out.extend((0..PIXELS).flat_map(|i| [planes[i], planes[PIXELS + i], planes[2 * PIXELS + i]]));
}

/// The names in the archive's text file, or numbers where it is not there.
fn class_names(beside: &Path, kind: Kind) -> Vec<String> {
    let text = std::fs::read_to_string(beside.with_file_name(kind.meta_file())).unwrap_or_default();
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    match names.len() == kind.num_classes() {
        true => names,
        false => (0..kind.num_classes()).map(|i| i.to_string()).collect(),
    }
}
