//! The page that `la-cli serve` makes of weights and images, and makes again when either has changed.

use super::folder::{self, NewFolder};
use super::page;
use super::rows::Rows;
use super::site::{page_precision, write_site, PRECISION};
use crate::digests::sha256;
use crate::index::{Data, OpenArgs};
use crate::output::{self, remark, warning};
use crate::source::{images, not_where_recorded, Split};
use crate::weights::{self, Encoder, EncoderArgs, PHOTOS};
use anyhow::{bail, Context};
use candle_core::Device;
use la_core::data::Source;
use la_core::files::{cache_folder, sha256_of, temporary_path, write_atomically};
use la_core::pca::Whitening;
use la_core::search::{FileEntry, Manifest};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Where a page has the list of its files.
const MANIFEST: &str = "bundle/manifest.json";

/// What a page was made of: `site.json` next to its folder, so that publishing the page does not publish this.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    /// Identity of the weights: equal where embeddings are.
    weights: String,
    /// The images.
    data: String,
    /// How many of them, where that was a part.
    limit: Option<usize>,
    /// Digest of the names and embeddings of a folder's pictures.
    #[serde(default)]
    pictures: Option<String>,
    /// Digest of the page's own files: those of an earlier la-cli are out of date.
    #[serde(default)]
    page: String,
}

/// An [`Origin`] with the page that it is of.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    origin: Origin,
    /// SHA-256 of the page's `manifest.json`.
    manifest: String,
}

/// Where a page and its note are.
struct Place {
    site: PathBuf,
    note: PathBuf,
}

/// A page with the pictures that it shows.
pub struct MadeSite {
    /// The page.
    pub folder: PathBuf,
    /// The file of each row; none where the pictures are not files of a folder.
    pub originals: Vec<PathBuf>,
    /// SHA-256 of the page's file of names, by which it knows which rows it has.
    pub names: String,
}

/// Makes the page of a run or of weights, again whenever it is asked to.
pub struct SiteMaker {
    encoder: Encoder,
    /// The encoder's own read-out: each page has it fitted to its pictures.
    readout: Option<Whitening>,
    /// The images, and how many of them.
    src: String,
    limit: Option<usize>,
    /// Whether they were named, and not recorded in a run.
    is_named: bool,
    place: Place,
    /// Where the page cannot be kept, it goes with this.
    _temporary: Option<TempDir>,
}

impl SiteMaker {
    /// That of the weights `name`, with `data` or the images that their run records.
    ///
    /// The folder of a page in its place where one is there of which nothing says what it was made of.
    pub fn open(name: &str, data: Option<&str>, device: &Device) -> anyhow::Result<Result<Self, PathBuf>> {
        let beside = Place::beside(name);
        if let Some(place) = beside.as_ref().filter(|place| data.is_none() && place.has_page() && place.read().is_none()) {
            let site = place.site.display();
            remark!("note: nothing says what {site} was made of, so it is shown as it is; to make it again, remove it or name --data");
            return Ok(Err(place.site.clone()));
        }
        let encoder = EncoderArgs::of(name).load(device)?;
        let (src, limit) = chosen_images(&encoder, data)?;
        let (place, _temporary) = beside.map_or_else(|| Place::kept_or_not(&src), |place| Ok((place, None)))?;
        let readout = encoder.readout().cloned();
        Ok(Ok(Self { encoder, readout, src, limit, is_named: data.is_some(), place, _temporary }))
    }

    /// The folder of pictures that it shows, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        Some(Path::new(&self.src)).filter(|folder| folder.is_dir())
    }

    /// The page, made where none of these images and weights is there yet. `before` is told of it before anybody can see it.
    pub fn make(&mut self, before: &dyn Fn(&MadeSite)) -> anyhow::Result<MadeSite> {
        self.encoder.set_readout(self.readout.clone());
        let recorded = |error| if self.is_named { error } else { not_where_recorded(error, &self.encoder.name, &self.src) };
        let open = OpenArgs { data: &self.src, limit: self.limit, use_cache: true };
        let mut images = Data::open(&open, &self.encoder).map_err(recorded)?;
        let split = if self.is_named { Split::All } else { Split::Train };
        let weights = self.encoder.identity();
        // A folder's embeddings are kept, so looking for new pictures is quick; others are embedded where the page is made.
        let known = if images.is_folder() { Some(images.embed(split, &mut self.encoder)?) } else { None };
        let made = MadeSite::of(&self.place.site, known.as_ref().map(|indexed| &indexed.images));
        before(&made);
        let pictures = known.as_ref().map(|indexed| indexed.digest()).transpose()?;
        let origin = Origin { weights, data: self.src.clone(), limit: self.limit, pictures, page: page::digest() };
        match self.place.read().filter(|_| self.place.has_page()) {
            Some(earlier) if earlier == origin => return Ok(made),
            Some(earlier) => remark!("note: {} is made again: {}", self.place.site.display(), difference(&earlier, &origin)),
            None => {}
        }
        // One process at a time makes it: another may have made the very page meanwhile.
        let _lock = self.place.lock();
        if self.place.read().filter(|_| self.place.has_page()).as_ref() == Some(&origin) {
            return Ok(made);
        }
        folder::check(&self.place.site, true)?;
        let indexed = known.map_or_else(|| images.embed(split, &mut self.encoder), Ok)?;
        self.place.make(&Rows::new(&self.encoder, indexed, None)?, origin)?;
        Ok(made)
    }
}

impl MadeSite {
    /// The page in `folder`, with the pictures of a folder where it shows those.
    fn of(folder: &Path, images: Option<&Arc<dyn Source>>) -> Self {
        let names = images.map_or(String::new(), |images| sha256_of([Rows::names_file(images)]));
        Self { folder: folder.to_path_buf(), originals: images.map_or(vec![], |images| files_of(images.as_ref())), names }
    }
}

/// The file of each image, where all have one.
fn files_of(images: &dyn Source) -> Vec<PathBuf> {
    let files: Option<Vec<PathBuf>> = (0..images.len()).map(|index| images.path(index).map(Path::to_path_buf)).collect();
    files.unwrap_or_default()
}

/// The images of a page: `data`, or those that the run records.
fn chosen_images(encoder: &Encoder, data: Option<&str>) -> anyhow::Result<(String, Option<usize>)> {
    match (data, encoder.recorded_data().0) {
        (Some(data), _) => Ok((data.to_string(), None)),
        (None, Some(recorded)) => Ok((recorded.to_string(), encoder.recorded_limit())),
        _ => {
            let serve = match encoder.name.as_str() {
                PHOTOS => output::command(&["serve", "--data", "FOLDER"]),
                name => output::command(&["serve", name, "--data", "FOLDER"]),
            };
            bail!("nothing says which pictures to show; `{serve}` names them")
        }
    }
}

fn difference(earlier: &Origin, now: &Origin) -> String {
    match () {
        () if earlier.data != now.data => format!("it showed {}, not {}", earlier.data, now.data),
        () if earlier.weights != now.weights => "the weights have changed since".into(),
        () if earlier.pictures != now.pictures || earlier.limit != now.limit => "the pictures have changed since".into(),
        () => "it is the page of another la-cli".into(),
    }
}

impl Place {
    /// In the folder of a run or of weights that were packed.
    fn beside(name: &str) -> Option<Self> {
        let folder = Path::new(name);
        (name != PHOTOS && folder.join("config.json").is_file()).then(|| Self { site: folder.join("site"), note: folder.join("site.json") })
    }

    /// Among the user's caches, or where nothing can be kept there, in a folder that goes with this command.
    fn kept_or_not(src: &str) -> anyhow::Result<(Self, Option<TempDir>)> {
        let error = match Self::in_cache(src) {
            Ok(place) => return Ok((place, None)),
            Err(error) => error,
        };
        warning!("the page is not kept for the next time: {error:#}");
        let folder = tempfile::tempdir().context("there is no place for the page")?;
        Ok((Self { site: folder.path().join("site"), note: folder.path().join("site.json") }, Some(folder)))
    }

    /// Among the user's caches, for the images at `src`.
    fn in_cache(src: &str) -> anyhow::Result<Self> {
        let real = Path::new(src).canonicalize().map_or_else(|_| src.to_string(), |path| path.to_string_lossy().into_owned());
        let caches = cache_folder().context("there is no folder for the page: set LA_CACHE to one, or HOME")?;
        let folder = caches.join("pages").join(&sha256_of([real])[..16]);
        let trial = temporary_path(&folder.join("site"));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::create_dir(&trial))
            .and_then(|()| fs::remove_dir(&trial))
            .with_context(|| format!("{} cannot be written to; LA_CACHE names another folder", folder.display()))?;
        Ok(Self { site: folder.join("site"), note: folder.join("site.json") })
    }

    /// Held while the page is made; none where there are no locks.
    fn lock(&self) -> Option<File> {
        let folder = File::open(self.site.parent()?).ok()?;
        folder.lock().ok().map(|()| folder)
    }

    /// Whether the page is there with every file of its bundle, each as long as it was.
    fn has_page(&self) -> bool {
        let manifest = fs::read(self.manifest()).ok().and_then(|bytes| Manifest::parse(&bytes).ok());
        let is_whole = |file: &&FileEntry| {
            let path = self.site.join("bundle").join(&file.path);
            path.metadata().is_ok_and(|meta| meta.len() == file.bytes as u64)
        };
        self.site.join("index.html").is_file() && manifest.is_some_and(|manifest| manifest.files().iter().all(is_whole))
    }

    fn manifest(&self) -> PathBuf {
        self.site.join(MANIFEST)
    }

    /// What the page here was made of; nothing where there is none, or another than the note is of.
    fn read(&self) -> Option<Origin> {
        let note: Note = serde_json::from_slice(&fs::read(&self.note).ok()?).ok()?;
        (sha256(&self.manifest()).ok()? == note.manifest).then_some(note.origin)
    }

    /// The note is there before the page: a page without one would never be made again.
    fn make(&self, rows: &Rows, origin: Origin) -> anyhow::Result<()> {
        let data = origin.data.clone();
        let note = |page: &Path| {
            let note = serde_json::to_vec_pretty(&Note { origin, manifest: sha256(&page.join(MANIFEST))? })?;
            Ok(write_atomically(&self.note, |file| file.write_all(&note))?)
        };
        let write =
            NewFolder::create(&self.site, true).and_then(|folder| write_site(rows, (page_precision(rows), PRECISION), folder, note));
        let sizes = write.with_context(|| {
            let export = output::command(&["export", &rows.encoder.name, "--data", &data, "--out", "FOLDER"]);
            format!("{}: the page is not written; `{export}` writes one elsewhere", self.site.display())
        })?;
        let bytes: usize = sizes.iter().map(|(_, bytes)| bytes).sum();
        remark!("page of {}: {}, {:.1} MB", images(rows.len(), ""), self.site.display(), bytes as f64 / 1e6);
        Ok(())
    }
}

/// Whether `name` means weights, of whichever place, and no page.
pub fn are_weights(name: &str) -> bool {
    let path = Path::new(name);
    let is_file = weights::is_file(path) && path.is_file();
    name == PHOTOS || name.starts_with("hf:") || is_file || path.join("model.safetensors").is_file() || weights::is_run(path)
}
