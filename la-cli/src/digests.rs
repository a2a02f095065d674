//! `SHA256SUMS` of a folder of weights, as `sha256sum -c` reads it: what was published is what is loaded.

use crate::error::{bail, Error, Result};
use la_core::files::{hexadecimal, write_atomically};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The file's name.
pub const SUMS: &str = "SHA256SUMS";

/// SHA-256 of a file's content, in lower-case hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.map_err(Error::io(path))?;
    Ok(hexadecimal(&hash.finalize()))
}

/// Writes `SHA256SUMS` over every other file of `folder`, in the order of their names; folders inside it are left out.
pub fn write_sums(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()).map_err(Error::io(folder))?;
    let files = entries.iter().map(|entry| entry.path()).filter(|path| path.is_file());
    let mut names: Vec<String> = files.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect();
    names.retain(|name| name != SUMS);
    names.sort();
    let line = |name: &String| Ok(format!("{}  {name}\n", sha256(&folder.join(name))?));
    let text = names.iter().map(line).collect::<Result<String>>()?;
    write_atomically(&folder.join(SUMS), |file| file.write_all(text.as_bytes()))
}

/// Holds a file against the `SHA256SUMS` beside it; without one there is nothing to hold it against.
///
/// Fails where the digests differ, with both, and where `SHA256SUMS` does not list the file.
pub fn check_beside(path: &Path) -> Result<()> {
    let sums = path.with_file_name(SUMS);
    if !sums.is_file() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(&sums).map_err(Error::io(&sums))?;
    let Some(expected) = listed(&text, &name) else {
        bail!("{}: expected a line with the sha256 of {name}, got none; take the file from where the weights came from", sums.display());
    };
    let got = sha256(path)?;
    if !got.eq_ignore_ascii_case(expected) {
        bail!(
            "{}: expected sha256 {expected} (from {SUMS} beside it), got {got}: the file is not the one that was published; \
             download it again, or remove {} if the change is meant",
            path.display(),
            sums.display()
        );
    }
    Ok(())
}

/// The digest of `name`: a line is a digest, a space, a space or `*`, and the name.
fn listed<'a>(sums: &'a str, name: &str) -> Option<&'a str> {
    sums.lines().find_map(|line| {
        let (digest, file) = line.split_once(' ')?;
        (file.strip_prefix([' ', '*'])? == name).then_some(digest)
    })
}
