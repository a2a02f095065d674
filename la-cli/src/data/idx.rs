//! The idx files of the MNIST family, gzipped or not (<http://yann.lecun.com/exdb/mnist/>).
//!
//! candle-datasets reads them too, but only unpacked and into `f32`, four times the memory.

use super::files::read_regular;
use super::split_names::{parse as parse_name, Kind};
use crate::error::{bail, Error, Result};
use la_core::data::{array::Array, Splits};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether the file starts as an idx file of bytes, or is a gzipped file with `idx` in its name.
pub fn is_idx(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let gzipped = magic[..2] == [0x1f, 0x8b] && path.to_string_lossy().contains("idx");
    read.is_ok() && (gzipped || (magic[..3] == [0, 0, 8] && matches!(magic[3], 1 | 3 | 4)))
}

/// The files of images of one set of the MNIST family.
pub struct Set {
    train: PathBuf,
    test: Option<PathBuf>,
}

/// The set of the MNIST family in a folder, or where torchvision puts it below (`MNIST/raw`); none where there is none.
///
/// Names are those of the first set, `train-images-idx3-ubyte`, with what others put before them, and dots for dashes. Fails where
/// several sets are there.
pub fn find(dir: &Path) -> Result<Option<Set>> {
    let below = entries(dir).into_iter().filter(|path| path.is_dir()).map(|path| path.join("raw"));
    for dir in [dir.to_path_buf(), dir.join("raw")].into_iter().chain(below) {
        if let Some(set) = find_in(&dir)? {
            return Ok(Some(set));
        }
    }
    Ok(None)
}

fn find_in(dir: &Path) -> Result<Option<Set>> {
    // By split and the rest of the name, the unpacked file before the gzipped one.
    let mut sets = BTreeMap::<(Kind, String), PathBuf>::new();
    for path in entries(dir) {
        let Some(key) = set_of(&path.file_name().unwrap_or_default().to_string_lossy()) else { continue };
        sets.entry(key).or_insert(path);
    }
    let mut train = sets.iter().filter(|((kind, _), _)| *kind == Kind::Train);
    let Some(((_, rest), path)) = train.next() else { return Ok(None) };
    if let Some((_, other)) = train.next() {
        bail!("{}: holds several sets; name a file of one, such as {} or {}", dir.display(), path.display(), other.display());
    }
    let test = sets.get(&(Kind::Test, rest.clone())).cloned();
    Ok(Some(Set { train: path.clone(), test }))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    entries.sort();
    entries
}

/// The split and the rest of the name of a file of images.
fn set_of(name: &str) -> Option<(Kind, String)> {
    let name = name.to_lowercase().replace('.', "-");
    let before = name.strip_suffix("-gz").unwrap_or(&name).strip_suffix("images-idx3-ubyte")?;
    match before {
        "t10k-" => Some((Kind::Test, String::new())),
        _ => parse_name(before).map(|named| (named.kind, named.rest)),
    }
}

impl Set {
    /// The training images and, where present, the test images.
    pub fn read(&self) -> Result<(Array, Option<Array>)> {
        Ok((read(&self.train)?, self.test.as_deref().map(read).transpose()?))
    }
}

/// The splits of a set that was found in the folder `dir`.
pub fn open_set(dir: &Path, set: &Set) -> Result<Splits> {
    let (train, test) = set.read()?;
    Ok(Splits {
        name: dir.display().to_string(),
        train: Arc::new(train),
        test: test.map(|test| Arc::new(test) as Arc<_>),
        unreadable: vec![],
        notes: vec![],
    })
}

/// One idx file of images, its labels from the file beside it where there is one.
pub fn open_file(path: &Path) -> Result<Splits> {
    let train = Arc::new(read(path)?);
    Ok(Splits { name: path.display().to_string(), train, test: None, unreadable: vec![], notes: vec![] })
}

fn read(images: &Path) -> Result<Array> {
    let labels = labels_beside(images).map(|path| parse_labels(&unpacked(&path)?, &path.display().to_string())).transpose()?;
    parse(&unpacked(images)?, labels.unwrap_or_default(), &images.display().to_string())
}

/// The file of labels that belongs to a file of images, gzipped or not.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let beside = name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1");
    let unpacked = beside.strip_suffix(".gz").unwrap_or(&beside);
    let names = [unpacked.to_string(), format!("{unpacked}.gz")].into_iter().filter(|_| beside != name);
    names.map(|name| images.with_file_name(name)).find(|path| path.is_file())
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

/// The file's bytes, unpacked where they are gzipped: no more than its header speaks of, and one.
fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let packed = read_regular(path).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Ok(packed);
    }
    let (mut rest, mut bytes) = (&packed[..], vec![]);
    // What stands behind the last member, gzip itself passes over too.
    while rest.starts_with(&[0x1f, 0x8b]) {
        let mut member = flate2::bufread::GzDecoder::new(rest);
        for _ in ["the header", "what it speaks of"] {
            let most = num_bytes(&bytes).map_or(LONGEST_HEADER, |expected| expected + 1);
            member.by_ref().take(most.saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes).map_err(Error::io(path))?;
        }
        rest = member.into_inner();
    }
    Ok(bytes)
}

/// Bytes of the header with four dimensions.
const LONGEST_HEADER: u64 = 20;

/// How many bytes an unpacked file has, as its header says.
fn num_bytes(start: &[u8]) -> Option<u64> {
    let num_dims = usize::from(*start.get(3)?);
    let mut sizes = start.get(4..4 + 4 * num_dims)?.chunks_exact(4).map(|b| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
    sizes.try_fold(1u64, |all, size| all.checked_mul(size))?.checked_add(4 + 4 * num_dims as u64)
}
