//! A folder that appears whole or not at all.

use anyhow::{bail, Context};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What an export of any kind holds, by which `--force` knows that it may be replaced.
const MARKS: [&str; 2] = ["bundle/manifest.json", "projector_config.json"];

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
        (true, true) => Ok(()),
        (true, false) => bail!("--out {shown}: an earlier export is there; replace it with --force, or name another folder"),
        (false, _) if out.is_dir() && fs::read_dir(out)?.next().is_none() => Ok(()),
        (false, _) => bail!("--out {shown}: exists and is no earlier export; name a folder that does not exist"),
    }
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
            let _ = fs::remove_dir_all(&old);
            fs::rename(&self.out, &old).with_context(|| self.out.display().to_string())?;
        }
        fs::rename(&self.temporary, &self.out).with_context(|| self.out.display().to_string())?;
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
    Ok(())
}
