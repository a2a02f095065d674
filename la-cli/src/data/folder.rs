//! A folder of images: every file below it, its sub-folders as classes, those named so as splits.

use super::{
    files::{foreign_format, has_image_extension, Files, Item, Origin},
    folder_splits::{classes, divide, folders_of, Place, Placed},
    split_names::Kind,
    walk::{slashed, Walk},
    OpenConfig,
};
use crate::error::{bail, Error, Result};
use la_core::data::{Source, Splits, Unreadable};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The images of a folder by their names: no file has been opened.
///
/// Folders whose names say so are splits, as [`super::split_names`] reads them: that for training is learned from, one for tests or, where
/// that has no classes, for validation is the test split, and what lies beside them is left aside. Without such folders every
/// image is for training. The folders right below a split are its classes where there are at least two; an image beside them
/// has no label. Files are taken in the order of their paths. Links are followed, each folder once.
pub struct Listing {
    name: String,
    class_names: Vec<String>,
    train: Part,
    test: Option<Part>,
    note: Option<String>,
}

/// How the images of a split are opened: [`Files::open`] or [`Files::lazy`].
type Open = fn(Vec<Item>, Vec<String>, &OpenConfig, Option<usize>) -> Result<(Files, Vec<Unreadable>)>;

impl Listing {
    /// Lists the folder; fails where a split of it cannot be listed or holds no image.
    pub fn of(dir: &Path) -> Result<Self> {
        Self::of_walk(dir, Walk::of(dir).map_err(Error::io(dir))?)
    }

    /// The same of a folder that was walked through.
    pub fn of_walk(dir: &Path, mut walk: Walk) -> Result<Self> {
        walk.files.retain(|path| has_image_extension(path) || foreign_format(path).is_some());
        let divided = divide(&walk.files);
        let part = |kind| Part::new(dir, &walk, &divided.places, kind);
        let train = part(Kind::Train);
        let test = [Kind::Test, Kind::Validation].map(part);
        let [test, spare] = match test {
            [test, validation] if test.images.is_empty() || (!test.has_classes() && validation.has_classes()) => [validation, test],
            in_order => in_order,
        };
        let test = Some(test).filter(|test| !test.is_empty());
        let spare_name =
            if spare.prefix.as_os_str().is_empty() { "a second split of held-out images".into() } else { slashed(&spare.prefix) };
        let note = divided.note(&[(spare_name, spare.images.len())]);
        let (class_names, [train, test]) = named([Some(train), test]);
        let train = train.unwrap_or_default();
        let listing = Self { name: dir.display().to_string(), class_names, train, test, note };
        listing.splits().try_for_each(Part::check)?;
        Ok(listing)
    }

    /// Where each image is, those of the training split first.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.splits().flat_map(|split| split.images.iter().map(|(path, _)| split.dir.join(path)))
    }

    /// How many images there are: not one listing is empty.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.splits().map(|split| split.images.len()).sum()
    }

    /// Looks at every file and keeps those that can be read, as [`Files::open`] does.
    pub fn open(self, config: &OpenConfig) -> Result<Splits> {
        self.into_splits(config, Files::open)
    }

    /// Splits whose images are read when they are asked for, as [`Files::lazy`] gives them: some may turn out to be unreadable.
    pub fn lazy(self, config: &OpenConfig) -> Result<Splits> {
        self.into_splits(config, Files::lazy)
    }

    /// The same with one more note.
    pub fn noting(mut self, note: Option<String>) -> Self {
        self.note = note.into_iter().chain(self.note).reduce(|all, note| format!("{all}; {note}"));
        self
    }

    fn splits(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.train).chain(&self.test)
    }

    fn into_splits(self, config: &OpenConfig, open: Open) -> Result<Splits> {
        let (train, mut unreadable) = self.train.into_source(&self.class_names, config, (config.limit, open))?;
        let test = self.test.map(|test| test.into_source(&self.class_names, config, (None, open))).transpose()?;
        let test = test.map(|(source, left_out)| {
            unreadable.extend(left_out);
            source
        });
        let notes = self.note.map(|note| format!("{}: {note}", self.name)).into_iter().collect();
        Ok(Splits { name: self.name, train, test, unreadable, notes })
    }
}

/// The names of the classes of all parts, those of the first one first, and the parts with the places of their classes among them.
///
/// Classes are told apart by the bytes of their folders' names.
fn named(parts: [Option<Part>; 2]) -> (Vec<String>, [Option<Part>; 2]) {
    let (mut places, mut names) = (BTreeMap::<OsString, u32>::new(), vec![]);
    for class in parts.iter().flatten().flat_map(|part| part.classes.iter().flatten().collect::<BTreeSet<_>>()) {
        if !places.contains_key(class) {
            places.insert(class.clone(), names.len() as u32);
            names.push(slashed(Path::new(class)));
        }
    }
    let labelled = |part: Part| {
        let of_class = |class: &Option<OsString>| places.get(class.as_ref()?).copied();
        // One class alone is none, unless another split has it among others.
        let of_folders = |image| folders_of(image).iter().find_map(|folder| places.get(folder).copied());
        let labels = match part.has_classes() {
            true => part.classes.iter().map(of_class).collect(),
            false => part.images.iter().map(of_folders).collect(),
        };
        Part { labels, ..part }
    };
    (names, parts.map(|part| part.map(labelled)))
}

/// The images of one split.
#[derive(Default)]
struct Part {
    dir: PathBuf,
    /// The folder of the split below `dir`, where it has one of its own.
    prefix: PathBuf,
    /// Paths relative to `dir`, sorted.
    images: Vec<Placed>,
    /// The class of each.
    classes: Vec<Option<OsString>>,
    labels: Vec<Option<u32>>,
    /// Folders that could not be listed, and pictures of formats that are not read.
    unreadable: Vec<Unreadable>,
}

impl Part {
    fn new(dir: &Path, walk: &Walk, places: &[Option<Place>], kind: Kind) -> Self {
        let of_kind =
            |(path, place): (&PathBuf, &Option<Place>)| Some((path.clone(), place.as_ref().filter(|place| place.kind == kind)?.at));
        let all: Vec<Placed> = walk.files.iter().zip(places).filter_map(of_kind).collect();
        let prefix = common_prefix(&all);
        let name = |path: &Path| slashed(path.strip_prefix(&prefix).unwrap_or(path));
        let (pictures, foreign): (Vec<_>, Vec<_>) = all.into_iter().partition(|(path, _)| has_image_extension(path));
        let mut unreadable: Vec<Unreadable> = foreign
            .iter()
            .filter_map(|(path, _)| Some(Unreadable { name: name(path), reason: foreign_format(path)? }))
            .chain(
                walk.unlisted
                    .iter()
                    .filter(|_| kind == Kind::Train)
                    .map(|(path, error)| Unreadable { name: name(path), reason: error.to_string() }),
            )
            .collect();
        unreadable.sort_by(|a, b| a.name.cmp(&b.name));
        let classes = classes(&pictures);
        Self { dir: dir.to_path_buf(), prefix, images: pictures, classes, labels: vec![], unreadable }
    }

    fn is_empty(&self) -> bool {
        self.images.is_empty() && self.unreadable.is_empty()
    }

    fn has_classes(&self) -> bool {
        self.classes.iter().any(Option::is_some)
    }

    fn shown(&self) -> String {
        let folder = if self.prefix.as_os_str().is_empty() { self.dir.clone() } else { self.dir.join(&self.prefix) };
        folder.display().to_string()
    }

    fn check(&self) -> Result<()> {
        if !self.images.is_empty() {
            return Ok(());
        }
        let others = match self.unreadable.first() {
            None => String::new(),
            Some(Unreadable { name, reason }) => format!(" but {} that cannot be read, such as {name}: {reason}", self.unreadable.len()),
        };
        bail!("{}: expected images (JPEG, PNG, WebP, GIF, BMP or TIFF) in it or below, found none{others}", self.shown());
    }

    fn into_source(
        self,
        class_names: &[String],
        config: &OpenConfig,
        (limit, open): (Option<usize>, Open),
    ) -> Result<(Arc<dyn Source>, Vec<Unreadable>)> {
        let item = |((path, _), label): (&Placed, &Option<u32>)| Item {
            name: slashed(path.strip_prefix(&self.prefix).unwrap_or(path)),
            origin: Origin::File(self.dir.join(path)),
            label: *label,
        };
        let items = self.images.iter().zip(&self.labels).map(item).collect();
        let opened = open(items, class_names.to_vec(), config, limit);
        let (files, left_out) = opened.map_err(|err| Error::invalid(format!("{}: {err}", self.shown())))?;
        Ok((Arc::new(files), self.unreadable.into_iter().chain(left_out).collect()))
    }
}

/// The folder of the split that all of these lie in; empty where they lie in several or in none.
fn common_prefix(pictures: &[Placed]) -> PathBuf {
    let prefix = |(path, at): &Placed| Some(path.components().take(at.as_ref()? + 1).collect::<PathBuf>());
    let first = pictures.first().and_then(prefix).unwrap_or_default();
    match pictures.iter().all(|picture| prefix(picture).as_ref() == Some(&first)) {
        true => first,
        false => PathBuf::new(),
    }
}

/// Opens the folder that [`Listing`] describes.
pub fn open(dir: &Path, config: &OpenConfig) -> Result<Splits> {
    Listing::of(dir)?.open(config)
}
