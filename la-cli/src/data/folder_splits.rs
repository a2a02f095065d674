//! The splits and classes of a folder of images, by the folders that they lie in.

use super::split_names::{of_siblings, parse, Kind, Sibling};
use super::walk::slashed;
use crate::output::counted;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// How many of the things that were left aside a note names.
const SHOWN: usize = 4;

/// Where an image belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its split.
    pub kind: Kind,
    /// Which folder of its path is that split's; none where none is.
    pub at: Option<usize>,
}

const NO_SPLIT: Place = Place { kind: Kind::Train, at: None };

/// The place of each image.
pub struct Divided {
    /// None for what is left aside.
    pub places: Vec<Option<Place>>,
    /// What was left aside, with the number of its images.
    aside: Vec<(String, usize)>,
    notes: Vec<String>,
}

impl Divided {
    /// What was left aside, these with their numbers of images too, and why: one line.
    pub fn note(&self, more: &[(String, usize)]) -> Option<String> {
        let aside: Vec<&(String, usize)> = more.iter().filter(|(_, count)| *count > 0).chain(&self.aside).collect();
        let mut named: Vec<String> =
            aside.iter().take(SHOWN).map(|(name, count)| format!("{name} ({})", counted(*count, "image"))).collect();
        named.extend((aside.len() > SHOWN).then(|| format!("{} more", aside.len() - SHOWN)));
        let aside = (!named.is_empty()).then(|| format!("left aside, because other folders are the splits: {}", named.join(", ")));
        self.notes.iter().cloned().chain(aside).reduce(|all, note| format!("{all}; {note}"))
    }
}

/// Divides images, whose paths are sorted.
///
/// Splits are folders that lie side by side, in the folder itself or in the only folder there; or every folder there has splits
/// of its own, as where each kind of object has `train` and `test`.
pub fn divide(paths: &[PathBuf]) -> Divided {
    let mut divided = Divided { places: vec![Some(NO_SPLIT); paths.len()], aside: vec![], notes: vec![] };
    Level { paths, start: 0, depth: 0 }.divide(&mut divided);
    if !divided.places.iter().flatten().any(|place| place.kind == Kind::Train) && !paths.is_empty() {
        divided.notes.push("no folder is named as one for training, so all images are taken".to_string());
        divided.places.iter_mut().flatten().for_each(|place| place.kind = Kind::Train);
    }
    divided
}

/// Images whose paths agree up to `depth`.
#[derive(Clone, Copy)]
struct Level<'a> {
    paths: &'a [PathBuf],
    /// The index of the first.
    start: usize,
    depth: usize,
}

impl<'a> Level<'a> {
    fn divide(self, divided: &mut Divided) {
        let (folders, num_loose) = self.folders();
        let kinds = kinds(&folders);
        match &folders[..] {
            _ if kinds.iter().any(Option::is_some) => self.assign(divided, (&folders, &kinds)),
            [only] if num_loose == 0 => only.divide(divided),
            [_, _, ..] if num_loose == 0 && folders.iter().all(Level::has_both) => folders.iter().for_each(|folder| folder.divide(divided)),
            _ => divided.notes.extend(folders.iter().filter_map(Level::class_note)),
        }
    }

    /// The folders right here with images in them, and how many images lie beside them.
    fn folders(self) -> (Vec<Self>, usize) {
        let (mut folders, mut num_loose, mut start) = (vec![], 0, self.start);
        for paths in self.paths.chunk_by(|a, b| part(a, self.depth) == part(b, self.depth)) {
            match part(&paths[0], self.depth + 1) {
                Some(_) => folders.push(Self { paths, start, depth: self.depth + 1 }),
                None => num_loose += paths.len(),
            }
            start += paths.len();
        }
        (folders, num_loose)
    }

    /// The last folder that all of these lie in.
    fn folder(&self) -> PathBuf {
        self.paths[0].components().take(self.depth).collect()
    }

    fn name(&self) -> String {
        self.depth.checked_sub(1).and_then(|depth| part(&self.paths[0], depth)).unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether there are splits of both kinds here, or in the only folder here.
    fn has_both(&self) -> bool {
        let (folders, num_loose) = self.folders();
        let kinds: BTreeSet<Kind> = kinds(&folders).into_iter().flatten().collect();
        match &folders[..] {
            [only] if num_loose == 0 => only.has_both(),
            _ => kinds.contains(&Kind::Train) && kinds.len() > 1,
        }
    }

    fn class_note(&self) -> Option<String> {
        let is_split = parse(&self.name()).is_some_and(|named| named.rest.is_empty());
        is_split.then(|| format!("{} is taken for a class, as the folders beside it are", slashed(&self.folder())))
    }

    /// What is in no split is for training where no folder is named so, else it is left aside.
    fn assign(self, divided: &mut Divided, (folders, kinds): (&[Self], &[Option<Kind>])) {
        let has_train = kinds.contains(&Some(Kind::Train));
        let other = if has_train { None } else { Some(NO_SPLIT) };
        divided.places[self.start..self.start + self.paths.len()].fill(other);
        for (folder, kind) in folders.iter().zip(kinds) {
            match kind {
                Some(kind) => {
                    divided.places[folder.start..folder.start + folder.paths.len()].fill(Some(Place { kind: *kind, at: Some(self.depth) }))
                }
                None if has_train => divided.aside.push((slashed(&folder.folder()), folder.paths.len())),
                None => (),
            }
        }
        let num_loose = self.paths.len() - folders.iter().map(|folder| folder.paths.len()).sum::<usize>();
        if has_train && num_loose > 0 {
            divided.aside.push(("what lies beside them".to_string(), num_loose));
        }
    }
}

fn part(path: &Path, depth: usize) -> Option<&OsStr> {
    path.components().nth(depth).map(|part| part.as_os_str())
}

fn kinds(folders: &[Level]) -> Vec<Option<Kind>> {
    let names: Vec<String> = folders.iter().map(Level::name).collect();
    if names.iter().all(|name| parse(name).is_none()) {
        return vec![None; folders.len()];
    }
    let sibling = |(name, folder): (&'_ String, &Level)| (name.clone(), folder.folders().0.len());
    let siblings: Vec<(String, usize)> = names.iter().zip(folders).map(sibling).collect();
    of_siblings(&siblings.iter().map(|(name, num_folders)| Sibling { name, num_folders: *num_folders }).collect::<Vec<_>>())
}

/// An image with the place of its split's folder in its path.
pub type Placed = (PathBuf, Option<usize>);

/// The folders that an image lies in, but for that of its split.
pub fn folders_of((path, at): &Placed) -> Vec<OsString> {
    let parts = path.parent().map(|folder| folder.components().enumerate().collect::<Vec<_>>()).unwrap_or_default();
    parts.into_iter().filter(|(index, _)| Some(*index) != *at).map(|(_, part)| part.as_os_str().to_os_string()).collect()
}

/// The class of each image of a split: the first folder of its path in which not all of them lie, where there are at least two.
pub fn classes(images: &[Placed]) -> Vec<Option<OsString>> {
    let Some(first) = images.first().map(folders_of) else { return vec![] };
    let num_common =
        images.iter().fold(first.len(), |count, image| folders_of(image).iter().zip(&first[..count]).take_while(|(a, b)| a == b).count());
    let classes: Vec<Option<OsString>> = images.iter().map(|image| folders_of(image).into_iter().nth(num_common)).collect();
    match classes.iter().flatten().collect::<BTreeSet<_>>().len() {
        0 | 1 => vec![None; images.len()],
        _ => classes,
    }
}
