//! Encoded images, in files or in one block: decoded once where they fit in memory, else whenever they are asked for.

use super::{decode, probe, OpenConfig};
use crate::error::{bail, Error, Result};
use la_core::data::{none_readable, random_order, Picture, Source, Unreadable};
use rayon::prelude::*;
use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Endings of the names of images, in lower case. An MPO is a JPEG with more of them behind it.
pub(super) const EXTENSIONS: [&str; 13] = ["jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "apng"];

/// Endings of pictures that are not read: each is told, so that nobody misses it without a word.
const FOREIGN: &str = " heic heif hif avif jxl jp2 j2k j2c jpf jpx jpc jxr wdp hdp ppm pgm pbm pnm pam pfm tga psd psb xcf ico cur icns \
    dng cr2 cr3 crw nef nrw arw srf sr2 raf orf rw2 rwl pef srw 3fr fff iiq x3f mrw kdc dcr erf mef mos raw \
    exr hdr svg eps pcx sgi dds qoi dcm nii ";

/// Why the picture of this name is not read, where its format is one of those that never are.
pub(super) fn foreign_format(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_string_lossy().to_lowercase();
    FOREIGN.contains(&format!(" {extension} ")).then(|| format!("{} is not read; convert it to JPEG or PNG", extension.to_uppercase()))
}

/// Whether the file's name says that it is an image of a format that can be read.
pub fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// Where the bytes of an image are.
pub enum Origin {
    /// A file of its own.
    File(PathBuf),
    /// `len` bytes of a store from `start` on.
    Slice {
        /// The store.
        store: Arc<Store>,
        /// First byte.
        start: u64,
        /// Number of bytes.
        len: usize,
    },
}

/// Many encoded images, one after the other.
pub enum Store {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, for sets larger than memory should hold.
    File(Mutex<File>),
}

impl Origin {
    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::File(path) => read_regular(path).map(Cow::Owned),
            Self::Slice { store, start, len } => store.bytes(*start, *len),
        }
    }

    fn probe(&self) -> Result<probe::Probe> {
        match self {
            Self::File(path) => probe::probe(open_regular(path)?),
            Self::Slice { .. } => probe::probe(Cursor::new(self.bytes()?)),
        }
    }
}

/// The bytes of a file that is one: a pipe or a device may never end.
pub fn read_regular(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    open_regular(path)?.read_to_end(&mut bytes).map_err(|err| Error::invalid(err.to_string()))?;
    Ok(bytes)
}

/// Opening a pipe would wait for a writer for ever.
pub fn open_regular(path: &Path) -> Result<File> {
    let said = |err: std::io::Error| Error::invalid(err.to_string());
    if !std::fs::metadata(path).map_err(said)?.is_file() {
        bail!("not a regular file");
    }
    File::open(path).map_err(said)
}

impl Store {
    fn bytes(&self, start: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(&bytes[start as usize..start as usize + len])),
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let mut bytes = vec![0; len];
                let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes));
                read.map_err(|err| Error::invalid(format!("unpacked images: {err}")))?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// One encoded image.
pub struct Item {
    /// Its path below the source.
    pub name: String,
    /// Where its bytes are.
    pub origin: Origin,
    /// Its class, where it is known.
    pub label: Option<u32>,
}

/// A source of encoded images.
pub struct Files {
    items: Vec<Item>,
    class_names: Vec<String>,
    size: usize,
    decoded: Option<Vec<Picture>>,
}

impl Files {
    /// Looks at every item and keeps those that can be read: at most `limit` of them, drawn by `config.seed`.
    ///
    /// Where the pixels of all fit in `config.cache_bytes` they are decoded here and kept. The others are returned with
    /// the reason. Fails where not one is left.
    pub fn open(items: Vec<Item>, class_names: Vec<String>, config: &OpenConfig, limit: Option<usize>) -> Result<(Self, Vec<Unreadable>)> {
        let num_items = items.len();
        let mut unreadable = vec![];
        let checked = check_items(items, config, limit, &mut unreadable);
        let bytes: usize = checked.iter().map(|(_, probe)| decoded_bytes(probe, config.size)).sum();
        let items = checked.into_iter().map(|(item, _)| item).collect();
        let mut files = Self { items, class_names, size: config.size, decoded: None };
        if bytes <= config.cache_bytes {
            files.decode_all(&mut unreadable);
        }
        files.checked(num_items, unreadable)
    }

    /// Keeps every item without a look at it: each is read when it is asked for.
    ///
    /// Only where `limit` asks for a part are the files looked at that are drawn, so that the same images are drawn as by
    /// [`Files::open`].
    pub fn lazy(items: Vec<Item>, class_names: Vec<String>, config: &OpenConfig, limit: Option<usize>) -> Result<(Self, Vec<Unreadable>)> {
        let (num_items, mut unreadable) = (items.len(), vec![]);
        let items = match limit.is_some_and(|limit| limit < num_items) {
            true => check_items(items, config, limit, &mut unreadable).into_iter().map(|(item, _)| item).collect(),
            false => items,
        };
        Self { items, class_names, size: config.size, decoded: None }.checked(num_items, unreadable)
    }

    fn checked(self, num_items: usize, unreadable: Vec<Unreadable>) -> Result<(Self, Vec<Unreadable>)> {
        match self.items.is_empty() {
            true => Err(none_readable(num_items, &unreadable)),
            false => Ok((self, unreadable)),
        }
    }

    fn decode_all(&mut self, unreadable: &mut Vec<Unreadable>) {
        let pictures = (0..self.items.len()).into_par_iter().map(|i| self.decode(i)).collect::<Vec<_>>();
        let items = std::mem::take(&mut self.items);
        let mut decoded = Vec::with_capacity(items.len());
        for (item, picture) in items.into_iter().zip(pictures) {
            match picture {
                Ok(picture) => {
                    decoded.push(picture);
                    self.items.push(item);
                }
                Err(err) => unreadable.push(Unreadable { name: item.name, reason: err.to_string() }),
            }
        }
        self.decoded = Some(decoded);
    }

    fn decode(&self, index: usize) -> Result<Picture> {
        decode::decode(&self.items[index].origin.bytes()?, self.size)
    }
}

/// The picture in the file at `path`, reduced as [`decode::decode`] does, after a look at its header.
pub fn read(path: &Path, size: usize) -> Result<Picture> {
    let origin = Origin::File(path.to_path_buf());
    origin.probe()?;
    decode::decode(&origin.bytes()?, size)
}

/// The items whose header and end are as they should be, or which decode all the same, in their order.
///
/// Drawn one after the other until `limit` good ones are found: a bad one is replaced by the next draw.
fn check_items(items: Vec<Item>, config: &OpenConfig, limit: Option<usize>, unreadable: &mut Vec<Unreadable>) -> Vec<(Item, probe::Probe)> {
    let keep = limit.unwrap_or(items.len()).min(items.len());
    let order = if keep < items.len() { random_order(items.len(), config.seed) } else { (0..items.len() as u32).collect() };
    let mut outcomes: Vec<Option<Result<probe::Probe>>> = items.iter().map(|_| None).collect();
    let (mut num_good, mut rest) = (0, &order[..]);
    while num_good < keep && !rest.is_empty() {
        let (drawn, after) = rest.split_at((keep - num_good).min(rest.len()));
        let look = |&index: &u32| check(&items[index as usize].origin, config.size);
        let probes: Vec<_> = drawn.par_iter().with_max_len(1).map(look).collect();
        for (&index, probe) in drawn.iter().zip(probes) {
            num_good += usize::from(probe.is_ok());
            outcomes[index as usize] = Some(probe);
        }
        rest = after;
    }
    let mut good = Vec::with_capacity(num_good);
    for (item, outcome) in items.into_iter().zip(outcomes) {
        match outcome {
            Some(Ok(probe)) => good.push((item, probe)),
            Some(Err(err)) => unreadable.push(Unreadable { name: item.name, reason: err.to_string() }),
            None => (),
        }
    }
    good
}

fn check(origin: &Origin, size: usize) -> Result<probe::Probe> {
    let probe = origin.probe()?;
    if !probe.ends_well {
        decode::decode(&origin.bytes()?, size)?;
    }
    Ok(probe)
}

fn decoded_bytes(probe: &probe::Probe, size: usize) -> usize {
    let factor = la_core::resize::reduction(probe.width, probe.height, size);
    probe.width.div_ceil(factor) * probe.height.div_ceil(factor) * 3
}

impl Source for Files {
    fn len(&self) -> usize {
        self.items.len()
    }
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        if let Some(decoded) = &self.decoded {
            return Ok(Cow::Borrowed(&decoded[index]));
        }
        self.decode(index).map(Cow::Owned).map_err(|err| Error::invalid(format!("{}: {err}", self.items[index].name)))
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.items[index].label
    }
    fn name(&self, index: usize) -> String {
        self.items[index].name.clone()
    }
    fn class_names(&self) -> &[String] {
        &self.class_names
    }
    fn path(&self, index: usize) -> Option<&Path> {
        match &self.items[index].origin {
            Origin::File(path) => Some(path),
            Origin::Slice { .. } => None,
        }
    }
}
