//! A folder that appears whole or not at all.

use super::{bundle, page, projector};
use anyhow::{bail, Context};
use la_core::files::{create_temporary, remove_abandoned, temporary_path};
use std::cell::Cell;
use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What a command writes, by which `--force` knows that it may be replaced.
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// Files, one of which is always there.
    pub marks: &'static [&'static str],
    /// The folders inside it.
    pub folders: &'static [&'static str],
    /// Whether one of its files has this path.
    pub writes: fn(&str) -> bool,
}

/// An export of any format.
static EXPORT: Kind =
    Kind { name: "export", marks: &["bundle/manifest.json", "projector_config.json"], folders: &["bundle", "pkg"], writes: is_of_export };

/// Fails, before any work is done, where no export can be written to `out`.
pub fn check(out: &Path, force: bool) -> anyhow::Result<()> {
    check_for(&EXPORT, out, force)
}

/// The same for what `kind` says.
pub fn check_for(kind: &Kind, out: &Path, force: bool) -> anyhow::Result<()> {
    let (shown, what) = (out.display(), kind.name);
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        bail!("--out {shown}: there is no folder {}; make it first", parent.display());
    }
    if !out.exists() {
        return Ok(());
    }
    let is_earlier = kind.marks.iter().any(|mark| out.join(mark).is_file());
    match (is_earlier, force) {
        (true, true) => refuse_foreign(kind, out),
        (true, false) => bail!("--out {shown}: an earlier {what} is there; replace it with --force, or name another folder"),
        (false, _) if out.is_dir() && fs::read_dir(out)?.next().is_none() => Ok(()),
        (false, _) => bail!("--out {shown}: exists and is no earlier {what}; name a folder that does not exist"),
    }
}

/// Fails where replacing what is at `out` would lose something else.
fn refuse_foreign(kind: &Kind, out: &Path) -> anyhow::Result<()> {
    match foreign(kind, out, "").with_context(|| out.display().to_string())? {
        None => Ok(()),
        Some(name) => bail!(
            "--out {}: --force replaces this whole folder, and no {} has written {name} in it; move that away, or name another folder",
            out.display(),
            kind.name
        ),
    }
}

/// The first entry, in the order of names, that is not of this kind.
fn foreign(of: &Kind, folder: &Path, prefix: &str) -> anyhow::Result<Option<String>> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let (kind, name) = (entry.file_type()?, format!("{prefix}{}", entry.file_name().to_string_lossy()));
        let found = match () {
            () if kind.is_dir() && of.folders.contains(&name.as_str()) => foreign(of, &entry.path(), &format!("{name}/"))?,
            () if kind.is_file() && (of.writes)(&name) => None,
            () => Some(name),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn is_of_export(name: &str) -> bool {
    page::writes(name) || name.strip_prefix("bundle/").is_some_and(bundle::writes) || projector::writes(name)
}

/// Whether a path that need not exist yet lies in `folder` or below it.
pub fn is_below(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    absolute.ancestors().find_map(|above| above.canonicalize().ok()).is_some_and(|above| above.starts_with(&folder))
}

/// A folder under a temporary name beside the wanted one, which no other process has.
pub struct NewFolder {
    kind: &'static Kind,
    out: PathBuf,
    force: bool,
    temporary: PathBuf,
    /// Whether what lies under the temporary name is this folder still.
    is_ours: Cell<bool>,
    /// Held as long as it is written to.
    _lock: File,
}

impl NewFolder {
    /// Begins an export that [`NewFolder::finish`] puts at `out`.
    pub fn create(out: &Path, force: bool) -> anyhow::Result<Self> {
        Self::create_for(&EXPORT, out, force)
    }

    /// Begins what `kind` says.
    pub fn create_for(kind: &'static Kind, out: &Path, force: bool) -> anyhow::Result<Self> {
        check_for(kind, out, force)?;
        // What an interrupted command has left, and nothing else.
        remove_abandoned(out, &|left| match foreign(kind, left, "") {
            Ok(None) => fs::remove_dir_all(left),
            _ => Ok(()),
        });
        let make = |path: &Path| fs::create_dir(path).and_then(|()| open_folder(path));
        let (temporary, lock) = create_temporary(out, &make).with_context(|| format!("--out {}", out.display()))?;
        Ok(Self { kind, out: out.to_path_buf(), force, temporary, is_ours: Cell::new(true), _lock: lock })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Syncs everything, then puts the folder in its place in one step.
    pub fn finish(self) -> anyhow::Result<()> {
        sync(&self.temporary)?;
        self.put().with_context(|| self.out.display().to_string())?;
        sync_entries(self.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }

    /// Others may put theirs in the same place meanwhile: the last one stays, and each is whole.
    fn put(&self) -> anyhow::Result<()> {
        loop {
            check_for(self.kind, &self.out, self.force)?;
            let is_new = fs::read_dir(&self.out).map_or(true, |mut entries| entries.next().is_none());
            let put = if is_new { fs::rename(&self.temporary, &self.out) } else { exchange(&self.temporary, &self.out) };
            match put.map_err(|error| (error.kind(), error)) {
                Ok(()) => {
                    self.is_ours.set(false);
                    return if is_new { Ok(()) } else { self.remove_former() };
                }
                // Something came or went since it was looked at.
                Err((ErrorKind::NotFound, _)) if !is_new && !self.out.exists() => (),
                Err((ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists, _)) if is_new => (),
                Err((_, error)) => return Err(error.into()),
            }
        }
    }

    /// What was in the place lies under the temporary name now. It goes, unless something else came into it meanwhile.
    fn remove_former(&self) -> anyhow::Result<()> {
        if let Ok(Some(name)) = foreign(self.kind, &self.temporary, "") {
            exchange(&self.temporary, &self.out)?;
            self.is_ours.set(true);
            bail!("{name} was put there meanwhile, which no {} has written; move it away, or name another folder", self.kind.name);
        }
        // Another process may take it for abandoned and remove it too; what is left, the next one removes.
        let _ = fs::remove_dir_all(&self.temporary);
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if self.is_ours.get() {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Gives two folders each other's name in one step, or in three where the system has no such step.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{renameat_with, RenameFlags, CWD};
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => (),
            outcome => return outcome.map_err(Into::into),
        }
    }
    let aside = temporary_path(b);
    fs::rename(b, &aside)?;
    if let Err(error) = fs::rename(a, b) {
        fs::rename(&aside, b)?;
        return Err(error);
    }
    fs::rename(&aside, a)
}

/// Only Unix opens folders; where there are no locks, nobody removes what is left.
fn open_folder(path: &Path) -> io::Result<File> {
    if cfg!(unix) {
        return File::open(path);
    }
    tempfile::tempfile()
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
