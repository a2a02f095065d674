//! Files that are never half written: a reader sees the former content or the new one, whenever the process dies.

use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::{
    env,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Replaces the file at `path` in one step: a temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// Others may write the same file meanwhile: the last one stays. Fails with the path and the system's words, for example on a full
/// disk; the former file is then unchanged.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let failed = |source: io::Error, note: &str| {
        let source = io::Error::new(source.kind(), format!("cannot be written: {source}{note}"));
        Error::Io { path: path.to_path_buf(), source }
    };
    let kept = if path.exists() { "; the former file is unchanged" } else { "" };
    remove_abandoned(path, &|left| fs::remove_file(left));
    let (temporary, file) =
        create_temporary(path, &|path| OpenOptions::new().write(true).create_new(true).open(path)).map_err(|error| failed(error, kept))?;
    fill(file, write).and_then(|_file| fs::rename(&temporary, path)).map_err(|source| {
        // What is left of the attempt is useless; that it cannot be removed adds nothing to the error.
        let _ = fs::remove_file(&temporary);
        failed(source, kept)
    })?;
    sync_folder(path).map_err(|source| failed(source, "; it is there, but may be lost if the machine stops now"))
}

/// How often a file or folder is made again that is gone before it is opened.
const MOST_ATTEMPTS: usize = 16;

/// A name beside that of `path` that nothing has yet; a file or a folder is written under it before it takes its own.
pub fn temporary_path(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Whether a file called `name` is one that [`temporary_path`] of `path` may have given, here or in an earlier version.
pub fn is_temporary(name: &OsStr, path: &Path) -> bool {
    let (name, own) = (name.to_string_lossy(), path.file_name().unwrap_or_default().to_string_lossy());
    let between = name.strip_prefix(&format!(".{own}.")).and_then(|rest| rest.strip_suffix("tmp"));
    between.is_some_and(|between| between.chars().all(|c| c.is_ascii_digit() || "-.".contains(c)))
}

/// Makes what `create` makes under a temporary name of `path`, and holds it: [`remove_abandoned`] leaves it alone while the file lives.
pub fn create_temporary(path: &Path, create: &dyn Fn(&Path) -> io::Result<File>) -> io::Result<(PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let temporary = temporary_path(path);
        match create(&temporary) {
            Ok(file) => {
                // Where there are no locks, nobody removes anything.
                let _ = file.try_lock();
                // Another process may have taken it for abandoned before it was held.
                if temporary.symlink_metadata().is_ok() {
                    return Ok((temporary, file));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            // Another process took it for abandoned as well, between its making and its opening.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < MOST_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Removes what was left under temporary names of `path` by processes that were killed.
pub fn remove_abandoned(path: &Path, remove: &dyn Fn(&Path) -> io::Result<()>) {
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return };
    let left =
        entries.flatten().filter(|entry| is_temporary(&entry.file_name(), path) && entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    for entry in left {
        let is_free = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        // What cannot be removed is in nobody's way.
        let _ = if is_free { remove(&entry.path()) } else { Ok(()) };
    }
}

/// The program's folder among the user's caches: `$LA_CACHE`, or where the system has such folders; none where there is no home.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = || match () {
        _ if cfg!(windows) => set("LOCALAPPDATA"),
        _ if cfg!(target_os = "macos") => Some(set("HOME")?.join("Library/Caches")),
        _ => set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))),
    };
    set("LA_CACHE").or_else(|| Some(caches()?.join("la-cli")))
}

fn fill(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    write(&mut file)?;
    let file = file.into_inner()?;
    file.sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix opens folders; elsewhere the rename alone has to do.
    if cfg!(unix) {
        File::open(folder_of(path))?.sync_all()?;
    }
    Ok(())
}

/// SHA-256 of several pieces, one after the other, in lower-case hexadecimal.
pub fn sha256_of(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let hash = pieces.into_iter().fold(Sha256::new(), |hash, piece| hash.chain_update(piece));
    hexadecimal(&hash.finalize())
}

/// Bytes in lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
