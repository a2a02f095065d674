//! What the system says of a file, by which a change is noticed without reading the file.

use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Two writes that are closer than this may leave equal times: FAT counts in steps of two seconds.
const STEP: Duration = Duration::from_secs(2);

/// Size, times and number of a file; times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct Stamp {
    size: u64,
    modified: i64,
    /// When anything of it changed last, its times included; as `modified` where the system does not tell.
    changed: i64,
    inode: u64,
}

type Parts = (u64, i64, i64, u64);

impl Stamp {
    /// That of the regular file at `path`, or of the one that a link there leads to.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        match meta.is_file() {
            true => Ok(of_metadata(&meta)),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Whether the file was changed so lately that another change could leave the same stamp. Git calls that racily clean.
    pub fn is_fresh(&self) -> bool {
        nanoseconds(SystemTime::now()) < self.changed.saturating_add(STEP.as_nanos() as i64)
    }
}

impl From<Parts> for Stamp {
    fn from((size, modified, changed, inode): Parts) -> Self {
        Self { size, modified, changed, inode }
    }
}

impl From<Stamp> for Parts {
    fn from(stamp: Stamp) -> Self {
        (stamp.size, stamp.modified, stamp.changed, stamp.inode)
    }
}

#[cfg(unix)]
fn of_metadata(meta: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Stamp {
        size: meta.size(),
        modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

#[cfg(not(unix))]
fn of_metadata(meta: &Metadata) -> Stamp {
    let modified = meta.modified().map_or(0, nanoseconds);
    // When it was made tells a file from another that took its name.
    Stamp { size: meta.len(), modified, changed: modified, inode: meta.created().map_or(0, nanoseconds) as u64 }
}

/// Since 1970; 0 before.
fn nanoseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().min(i64::MAX as u128) as i64)
}
