//! The pictures of a folder with their embeddings: those that are new or have changed are embedded, the others are known.

use super::fitted;
use super::kept::{Entry, IndexFile, Known};
use super::stamp::Stamp;
use crate::data::files;
use crate::data::folder::Listing;
use crate::data::walk::slashed;
use crate::digests::sha256;
use crate::interrupt;
use crate::output::{counted, remark, thousands, warning};
use crate::progress::Progress;
use crate::source::{images, Embedded};
use crate::weights::{finite, Encoder};
use anyhow::Context;
use candle_core::{Device, Tensor};
use la_core::data::{none_readable, Picture, Source, Unreadable};
use la_core::eval::embed::Part;
use la_core::files::sha256_of;
use rayon::prelude::*;
use std::borrow::Cow;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What is embedded is kept after this time at first, then after twice as long each time up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// An index of a folder's pictures.
pub struct FolderIndex {
    folder: PathBuf,
    /// Every picture of the folder by its path below it, embedded or not.
    names: Vec<String>,
    /// None where nothing is kept.
    file: Option<IndexFile>,
    known: Known,
    /// Whether the file does not hold what is known.
    is_changed: bool,
}

/// What a picture's file says of what is known of it.
enum Look {
    Known,
    /// The content is the same, and from now on its stamp proves it.
    Settled,
    New,
    /// There is no file to be opened.
    Missing(String),
}

impl FolderIndex {
    /// The index of `folder`, which `listing` lists, as `encoder` sees it.
    pub fn open(folder: &Path, listing: &Listing, encoder: &Encoder, is_kept: bool) -> Self {
        let canonical = if is_kept { folder.canonicalize().ok() } else { None };
        let mut file = canonical.and_then(|canonical| IndexFile::of(&canonical, &encoder.features_identity()));
        let known = file.as_mut().map(IndexFile::read_entries).unwrap_or_default();
        let names: Vec<String> = listing.paths().map(|path| name_below(folder, &path)).collect();
        // Each name is listed once: as many entries as names that have one means that no picture is gone.
        let is_changed = names.iter().filter(|name| known.entries.contains_key(*name)).count() != known.entries.len();
        Self { folder: folder.to_path_buf(), names, file, known, is_changed }
    }

    /// The embeddings of those images of `source` that can be read, and why the others cannot; fits the encoder to them.
    ///
    /// Where a signal comes meanwhile, what is done is kept, and the call fails.
    pub fn fit(&mut self, encoder: &mut Encoder, source: &Arc<dyn Source>) -> anyhow::Result<(Embedded, Vec<Unreadable>)> {
        if let Some(found) = self.fitted_before(encoder, source)? {
            return Ok(found);
        }
        let (features, unreadable) = self.features(encoder, source)?;
        let Some(readout) = encoder.fit(&features.rows)? else { return Ok((features, unreadable)) };
        let rows = finite(readout.apply(&features.rows)?, &encoder.name)?;
        if let Some(file) = &self.file {
            fitted::write(file, self.made_of(encoder, &self.names_of(source.as_ref())), (&readout, &rows));
        }
        encoder.set_readout(Some(readout));
        Ok((Embedded { rows, ..features }, unreadable))
    }

    /// What [`FolderIndex::fit`] gives, where neither pictures nor weights have changed since it was last asked.
    fn fitted_before(&mut self, encoder: &mut Encoder, source: &Arc<dyn Source>) -> anyhow::Result<Option<(Embedded, Vec<Unreadable>)>> {
        let (Some(file), Some(_)) = (&self.file, encoder.readout()) else { return Ok(None) };
        let names = self.names_of(source.as_ref());
        let Some((readout, rows)) = fitted::read(file, &self.made_of(encoder, &names)) else { return Ok(None) };
        let new = self.look(source.as_ref(), &names);
        if self.is_changed || !new.is_empty() {
            return Ok(None);
        }
        let (indices, unreadable) = self.places_of(source, &names)?;
        if indices.len() != rows.dim(0)? {
            return Ok(None);
        }
        encoder.set_readout(Some(readout));
        Ok(Some((Embedded::of(source, indices, rows)?, unreadable)))
    }

    /// Another one where any of these pictures, their order, the weights or their own read-out is.
    fn made_of(&self, encoder: &Encoder, names: &[String]) -> String {
        let seen = |entry: &Entry| (entry.stamp, entry.sha256.clone(), entry.row.clone().err());
        let pictures = names.iter().map(|name| format!("{name}\0{:?}\0", self.known.entries.get(name).map(seen)));
        sha256_of(pictures.chain([encoder.identity()]))
    }

    /// What the encoder makes embeddings of, for those images of `source` that can be read, and why the others cannot.
    ///
    /// Where a signal comes meanwhile, what is done is kept, and the call fails.
    pub fn features(&mut self, encoder: &Encoder, source: &Arc<dyn Source>) -> anyhow::Result<(Embedded, Vec<Unreadable>)> {
        if let Some(file) = self.file.as_mut().filter(|_| self.known.lacks_rows()) {
            self.known = file.read();
        }
        let names = self.names_of(source.as_ref());
        let new = self.look(source.as_ref(), &names);
        let num_new = new.len();
        // Where nothing is kept, a signal ends the command at once.
        let watch = if num_new > 0 && self.file.is_some() { Some(interrupt::watch()?) } else { None };
        let added = if num_new > 0 { self.add((encoder, source), (new, &names)) } else { Ok(0) };
        if self.is_changed {
            self.save(num_new > 0 && added.as_ref().is_ok_and(|&num_done| num_done == num_new));
        }
        let num_done = added?;
        if let Some(signal) = watch.and_then(|_| interrupt::requested()) {
            let kept = if self.file.is_some() { "kept, and the same command continues from there" } else { "embedded, but cannot be kept" };
            return Err(signal.stop(format!("{} of {} are {kept}", thousands(num_done), counted(num_new, "new picture"))));
        }
        self.rows_of(source, &names)
    }

    /// Compares every image of `source` with what is known of it; gives those that are to be embedded.
    fn look(&mut self, source: &dyn Source, names: &[String]) -> Vec<u32> {
        let looks: Vec<Look> = (0..source.len()).into_par_iter().map(|index| self.look_at(source.path(index), &names[index])).collect();
        let mut new = Vec::new();
        for ((index, name), look) in (0..).zip(names).zip(looks) {
            match look {
                Look::Known => (),
                Look::Settled => {
                    self.is_changed = true;
                    self.known.entries.entry(name.clone()).and_modify(|entry| entry.sha256 = None);
                }
                Look::New => new.push(index),
                Look::Missing(reason) => {
                    self.known.entries.insert(name.clone(), Entry { stamp: None, sha256: None, row: Err(reason) });
                }
            }
        }
        new
    }

    fn look_at(&self, path: Option<&Path>, name: &str) -> Look {
        let Some(path) = path else { return Look::New };
        let stamp = match Stamp::of(path) {
            Ok(stamp) => stamp,
            Err(error) => return Look::Missing(error.to_string()),
        };
        match self.known.entries.get(name).filter(|entry| entry.stamp == Some(stamp)) {
            None => Look::New,
            Some(Entry { sha256: None, .. }) => Look::Known,
            Some(Entry { sha256: Some(expected), .. }) => match sha256(path) {
                Ok(found) if found == *expected && stamp.is_fresh() => Look::Known,
                Ok(found) if found == *expected => Look::Settled,
                _ => Look::New,
            },
        }
    }

    /// Embeds the images at `new` of `source` until a signal comes, and keeps them now and then; gives how many are done.
    fn add(&mut self, (encoder, source): (&Encoder, &Arc<dyn Source>), (new, names): (Vec<u32>, &[String])) -> anyhow::Result<usize> {
        let num_new = new.len();
        let seen = new.iter().map(|_| OnceLock::new()).collect();
        let new = Arc::new(NewPictures { source: source.clone(), indices: new, size: encoder.size(), seen });
        let mut progress = Progress::new("embedding", num_new, "images");
        let (mut num_done, mut last_saved, mut interval) = (0, Instant::now(), FIRST);
        encoder.features_each(&(new.clone() as Arc<dyn Source>), &mut |part| {
            num_done += part.indices.len() + part.unreadable.len();
            self.take(part, &new, names);
            progress.set(num_done);
            if last_saved.elapsed() >= interval && num_done < num_new {
                progress.suspend(|| self.save(false));
                (last_saved, interval) = (Instant::now(), (2 * interval).min(LONGEST));
            }
            interrupt::requested().map_or(ControlFlow::Continue(()), |_| ControlFlow::Break(()))
        })?;
        Ok(num_done)
    }

    fn take(&mut self, part: Part, new: &NewPictures, names: &[String]) {
        let dim = part.values.len() / part.indices.len().max(1);
        let rows = part.indices.iter().zip(part.values.chunks_exact(dim.max(1)));
        let rows: Vec<(u32, Result<usize, String>)> = rows.map(|(&index, row)| (index, Ok(self.known.push(row)))).collect();
        let failed = part.unreadable.into_iter().map(|(index, file)| (index, Err(file.reason)));
        for (index, row) in rows.into_iter().chain(failed) {
            let (stamp, sha256) = new.seen[index as usize].get().cloned().unzip();
            let name = &names[new.indices[index as usize] as usize];
            self.known.entries.insert(name.clone(), Entry { stamp, sha256: sha256.flatten(), row });
        }
        self.is_changed = true;
    }

    /// Writes the file, if there is one; `is_told` says where it is and how large. A cache that cannot be written fails nothing.
    fn save(&mut self, is_told: bool) {
        let Some(file) = &mut self.file else { return };
        match file.write(&mut self.known, &self.names) {
            Ok((count, bytes)) => {
                self.is_changed = false;
                if is_told {
                    remark!("index of {}: {}, {:.1} MB", pictures(count), file.path().display(), (bytes as f64 / 1e6).max(0.1));
                }
            }
            Err(error) => {
                warning!("the embeddings are not kept for the next time: {error}; LA_CACHE names another folder for them");
                self.file = None;
            }
        }
    }

    /// The rows of the images of `source`, all of which are known now.
    fn rows_of(&self, source: &Arc<dyn Source>, names: &[String]) -> anyhow::Result<(Embedded, Vec<Unreadable>)> {
        let (indices, unreadable) = self.places_of(source, names)?;
        let mut values = Vec::with_capacity(indices.len() * self.known.dim());
        for &index in &indices {
            if let Some(Entry { row: Ok(row), .. }) = self.known.entries.get(&names[index as usize]) {
                values.extend_from_slice(self.known.row(*row));
            }
        }
        let rows = Tensor::from_vec(values, (indices.len(), self.known.dim()), &Device::Cpu)?;
        Ok((Embedded::of(source, indices, rows)?, unreadable))
    }

    /// The images of `source` that have a row, and why the others have none.
    fn places_of(&self, source: &Arc<dyn Source>, names: &[String]) -> anyhow::Result<(Vec<u32>, Vec<Unreadable>)> {
        let (mut indices, mut unreadable) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            match &self.known.entries.get(name).context("a picture of the index was not looked at")?.row {
                Ok(_) => indices.push(index as u32),
                Err(reason) => unreadable.push(Unreadable { name: source.name(index), reason: reason.clone() }),
            }
        }
        if indices.is_empty() {
            return Err(none_readable(source.len(), &unreadable)).with_context(|| self.folder.display().to_string());
        }
        Ok((indices, unreadable))
    }

    fn names_of(&self, source: &dyn Source) -> Vec<String> {
        (0..source.len()).map(|index| self.name(source, index)).collect()
    }

    fn name(&self, source: &dyn Source, index: usize) -> String {
        source.path(index).map_or_else(|| source.name(index), |path| name_below(&self.folder, path))
    }
}

/// Pictures as they are embedded: what each file was like when it was read is noted.
struct NewPictures {
    source: Arc<dyn Source>,
    indices: Vec<u32>,
    size: usize,
    /// Stamp, and SHA-256 where the stamp is too fresh to prove anything.
    seen: Vec<OnceLock<(Stamp, Option<String>)>>,
}

impl Source for NewPictures {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn picture(&self, index: usize) -> la_core::Result<Cow<'_, Picture>> {
        let said = |error: std::io::Error| la_core::Error::invalid(error.to_string());
        let from = self.indices[index] as usize;
        let Some(path) = self.source.path(from) else { return self.source.picture(from) };
        // Before the picture is read: if the file changes in between, it is not the one that was seen.
        let stamp = Stamp::of(path).map_err(said)?;
        File::open(path).map_err(said)?;
        let digest = if stamp.is_fresh() { Some(sha256(path)?) } else { None };
        // Each image is asked for once.
        let _ = self.seen[index].set((stamp, digest));
        files::read(path, self.size).map(Cow::Owned)
    }

    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index] as usize)
    }

    fn class_names(&self) -> &[String] {
        &[]
    }
}

/// The path below the folder, with slashes.
fn name_below(folder: &Path, path: &Path) -> String {
    slashed(path.strip_prefix(folder).unwrap_or(path))
}

fn pictures(count: usize) -> String {
    images(count, "").replace("image", "picture")
}
