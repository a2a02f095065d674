//! The idx files of the MNIST family, gzipped or not (<http://yann.lecun.com/exdb/mnist/>).
//!
//! candle-datasets reads them too, but only unpacked and into `f32`, four times the memory.

use crate::error::{bail, Error, Result};
use la_core::data::{array::Array, Splits};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TRAIN: &str = "train-images-idx3-ubyte";
const TEST: &str = "t10k-images-idx3-ubyte";

/// Whether the file starts as an idx file of bytes, or is a gzipped file with `idx` in its name.
pub fn is_idx(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let gzipped = magic[..2] == [0x1f, 0x8b] && path.to_string_lossy().contains("idx");
    read.is_ok() && (gzipped || (magic[..3] == [0, 0, 8] && matches!(magic[3], 1 | 3 | 4)))
}

/// Whether the folder holds training images under the MNIST family's file name.
pub fn is_idx_dir(dir: &Path) -> bool {
    existing(&dir.join(TRAIN)).is_some()
}

/// The MNIST family's folder: `train-*` and, where present, `t10k-*`.
pub fn open_dir(dir: &Path) -> Result<Splits> {
    let (train, test) = read_dir(dir)?;
    Ok(Splits {
        name: dir.display().to_string(),
        train: Arc::new(train),
        test: test.map(|test| Arc::new(test) as Arc<_>),
        unreadable: vec![],
    })
}

/// The training images of the MNIST family's folder and, where present, the test images.
pub fn read_dir(dir: &Path) -> Result<(Array, Option<Array>)> {
    let Some(train) = existing(&dir.join(TRAIN)) else { bail!("{}: expected {TRAIN}[.gz] in it, found none", dir.display()) };
    let test = existing(&dir.join(TEST)).map(|path| read(&path)).transpose()?;
    Ok((read(&train)?, test))
}

/// One idx file of images, its labels from the file beside it where there is one.
pub fn open_file(path: &Path) -> Result<Splits> {
    let train = Arc::new(read(path)?);
    Ok(Splits { name: path.display().to_string(), train, test: None, unreadable: vec![] })
}

fn read(images: &Path) -> Result<Array> {
    let beside = images.to_string_lossy().replace("images-idx3", "labels-idx1");
    let beside = beside.strip_suffix(".gz").unwrap_or(&beside);
    let labels = existing(Path::new(beside)).filter(|labels| labels != images);
    let labels = labels.map(|path| Ok::<_, Error>((unpacked(&path)?, path))).transpose()?;
    let labels = labels.as_ref().map(|(bytes, path)| parse_labels(bytes, &path.display().to_string())).transpose()?;
    parse(&unpacked(images)?, labels.unwrap_or_default(), &images.display().to_string())
}

/// Images out of an unpacked idx file, `labels` one each or empty; `name` stands in errors.
pub fn parse(bytes: &[u8], labels: Vec<u32>, name: &str) -> Result<Array> {
    let (shape, pixels) = header(bytes, name)?;
    let (height, width, channels) = match shape[1..] {
        [height, width] => (height, width, 1),
        [height, width, 3] => (height, width, 3),
        _ => bail!("{name}: expected an idx file of images (N, height, width), got shape {shape:?}"),
    };
    let num_classes = labels.iter().max().map_or(0, |max| max + 1);
    let class_names = (0..num_classes).map(|i| i.to_string()).collect();
    Array { width, height, channels, pixels: pixels.to_vec(), labels, class_names }.checked(name)
}

/// Labels out of an unpacked idx file; `name` stands in errors.
pub fn parse_labels(bytes: &[u8], name: &str) -> Result<Vec<u32>> {
    let (shape, labels) = header(bytes, name)?;
    if shape.len() != 1 {
        bail!("{name}: expected an idx file of labels (N), got shape {shape:?}");
    }
    Ok(labels.iter().map(|&label| u32::from(label)).collect())
}

fn header<'a>(bytes: &'a [u8], name: &str) -> Result<(Vec<usize>, &'a [u8])> {
    let Some([0, 0, 8, dims @ 1..=4]) = bytes.get(..4) else { bail!("{name}: expected an idx file of unsigned bytes, got another format") };
    let (start, end) = (4, 4 + 4 * *dims as usize);
    let Some(sizes) = bytes.get(start..end) else { bail!("{name}: truncated in its header") };
    let shape: Vec<usize> = sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let expected = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    if expected != Some(bytes.len() - end) {
        bail!("{name}: expected {shape:?} values after the header, got {} (truncated or damaged)", bytes.len() - end);
    }
    Ok((shape, &bytes[end..]))
}

/// The file's bytes, unpacked where they are gzipped.
fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    gunzip(bytes).map_err(Error::io(path))
}

/// `bytes`, unpacked where they are gzipped.
pub fn gunzip(bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut out)?;
    Ok(out)
}

/// `path` or `path.gz`, whichever is there.
fn existing(path: &Path) -> Option<PathBuf> {
    let gz = PathBuf::from(format!("{}.gz", path.display()));
    [path.to_path_buf(), gz].into_iter().find(|path| path.is_file())
}
