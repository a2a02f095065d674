//! A folder that appears whole or not at all.

use super::{bundle, page, projector};
use anyhow::{bail, Context};
use std::fs::{self, DirEntry, File};
use std::path::{Path, PathBuf};

/// What an export of any kind holds, by which `--force` knows that it may be replaced.
const MARKS: [&str; 2] = ["bundle/manifest.json", "projector_config.json"];
/// The folders inside an export.
const FOLDERS: [&str; 2] = ["bundle", "pkg"];

/// Fails, before any work is done, where nothing can be written to `out`.
pub fn check(out: &Path, force: bool) -> anyhow::Result<()> {
    let shown = out.display();
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        bail!("--out {shown}: there is no folder {}; make it first", parent.display());
    }
    if !out.exists() {
        return Ok(());
    }
    let is_export = MARKS.iter().any(|mark| out.join(mark).is_file());
    match (is_export, force) {
        (true, true) => refuse_foreign(out),
        (true, false) => bail!("--out {shown}: an earlier export is there; replace it with --force, or name another folder"),
        (false, _) if out.is_dir() && fs::read_dir(out)?.next().is_none() => Ok(()),
        (false, _) => bail!("--out {shown}: exists and is no earlier export; name a folder that does not exist"),
    }
}

/// Fails where replacing the export at `out` would lose something else.
fn refuse_foreign(out: &Path) -> anyhow::Result<()> {
    match foreign(out, "").with_context(|| out.display().to_string())? {
        None => Ok(()),
        Some(name) => bail!(
            "--out {}: --force replaces this whole folder, and no export has written {name} in it; move that away, or name another folder",
            out.display()
        ),
    }
}

/// The first entry, in the order of names, that no export writes.
fn foreign(folder: &Path, prefix: &str) -> anyhow::Result<Option<String>> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let (kind, name) = (entry.file_type()?, format!("{prefix}{}", entry.file_name().to_string_lossy()));
        let found = match () {
            () if kind.is_dir() && FOLDERS.contains(&name.as_str()) => foreign(&entry.path(), &format!("{name}/"))?,
            () if kind.is_file() && is_ours(&name) => None,
            () => Some(name),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn is_ours(name: &str) -> bool {
    page::writes(name) || name.strip_prefix("bundle/").is_some_and(bundle::writes) || projector::writes(name)
}

/// A folder under a temporary name beside the wanted one.
pub struct NewFolder {
    out: PathBuf,
    temporary: PathBuf,
}

impl NewFolder {
    /// Begins a folder that [`NewFolder::finish`] puts at `out`.
    pub fn create(out: &Path, force: bool) -> anyhow::Result<Self> {
        check(out, force)?;
        let this = Self { out: out.to_path_buf(), temporary: beside(out, "tmp") };
        // What an interrupted export has left.
        let _ = fs::remove_dir_all(&this.temporary);
        fs::create_dir_all(&this.temporary).with_context(|| format!("--out {}", out.display()))?;
        Ok(this)
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Syncs everything and renames.
    pub fn finish(self) -> anyhow::Result<()> {
        sync(&self.temporary)?;
        let old = beside(&self.out, "old");
        let has_old = self.out.exists();
        if has_old {
            refuse_foreign(&self.out)?;
            let _ = fs::remove_dir_all(&old);
            fs::rename(&self.out, &old).with_context(|| self.out.display().to_string())?;
        }
        if let Err(error) = fs::rename(&self.temporary, &self.out) {
            if has_old {
                fs::rename(&old, &self.out).with_context(|| format!("{error}; what was there is now in {}", old.display()))?;
            }
            return Err(error).with_context(|| self.out.display().to_string());
        }
        sync_entries(self.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        if has_old {
            fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone already where the folder was finished.
        let _ = fs::remove_dir_all(&self.temporary);
    }
}

fn beside(out: &Path, ending: &str) -> PathBuf {
    out.with_file_name(format!(".{}.{ending}", out.file_name().unwrap_or_default().to_string_lossy()))
}

fn sync(path: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            false => File::open(&path)?.sync_all().with_context(|| path.display().to_string())?,
        }
    }
    sync_entries(path)
}

/// Makes the names in a folder last, which only Unix can.
fn sync_entries(folder: &Path) -> anyhow::Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}
