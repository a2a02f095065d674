//! Every file below a folder, by its name alone.

use std::collections::HashSet;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

/// Folders that storage systems and archivers keep for themselves: thumbnails, deleted files, copies of what lies beside them.
const OF_SYSTEMS: [&str; 10] = [
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "lost+found",
    "system volume information",
];

/// What lies below a folder: hidden files and those of systems are passed over, links are followed, each folder once.
pub struct Walk {
    /// Paths below the folder, sorted.
    pub files: Vec<PathBuf>,
    /// Folders that could not be listed, and why.
    pub unlisted: Vec<(PathBuf, std::io::Error)>,
}

impl Walk {
    /// Walks through `dir`; fails where that itself cannot be listed.
    pub fn of(dir: &Path) -> std::io::Result<Self> {
        std::fs::read_dir(dir)?;
        let mut walk = Self { files: vec![], unlisted: vec![] };
        let mut seen = HashSet::from([dir.canonicalize()?]);
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            match walk.add_folder((dir, &folder), &mut seen) {
                Ok(inside) => waiting.extend(inside),
                Err(error) => walk.unlisted.push((folder, error)),
            }
        }
        walk.files.sort();
        walk.unlisted.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(walk)
    }

    /// Adds the files right in `folder`; returns the folders in it that were not seen before, the last first.
    fn add_folder(&mut self, (dir, folder): (&Path, &Path), seen: &mut HashSet<PathBuf>) -> std::io::Result<Vec<PathBuf>> {
        let mut entries: Vec<DirEntry> = std::fs::read_dir(dir.join(folder))?.collect::<std::io::Result<_>>()?;
        // Real folders before links, so that what a link leads to has its own name.
        entries.sort_by_key(|entry| (entry.file_type().is_ok_and(|kind| kind.is_symlink()), entry.file_name()));
        let mut below = vec![];
        for entry in entries {
            let path = folder.join(entry.file_name());
            match is_folder(&entry) {
                _ if entry.file_name().as_encoded_bytes().starts_with(b".") => (),
                false => self.files.push(path),
                true if is_of_system(&entry) => (),
                true => match entry.path().canonicalize() {
                    Ok(real) => below.extend(seen.insert(real).then_some(path)),
                    Err(error) => self.unlisted.push((path, error)),
                },
            }
        }
        below.reverse();
        Ok(below)
    }
}

/// Whether the entry is a folder or a link to one.
fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

fn is_of_system(entry: &DirEntry) -> bool {
    OF_SYSTEMS.contains(&entry.file_name().to_string_lossy().to_lowercase().as_str())
}

/// A path below a source as its images are called: with slashes, and `\xE4` for a byte that is no text, so that two files never
/// have one name.
pub fn slashed(path: &Path) -> String {
    let mut name = String::new();
    for part in path.components() {
        if !name.is_empty() {
            name.push('/');
        }
        for chunk in part.as_os_str().as_encoded_bytes().utf8_chunks() {
            name.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| name.push_str(&format!("\\x{byte:02X}")));
        }
    }
    name
}
