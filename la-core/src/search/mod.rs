//! The exported bundle and the search over its bank: what the command line writes and the browser reads.
//!
//! Nothing here needs threads, files or data sources, so it compiles for the browser.

mod bank;
mod bounds;
mod manifest;
mod map;
mod vote;

pub use bank::{Neighbor, SearchBank};
pub use manifest::{
    BankEntry, FileEntry, LabelsEntry, Manifest, MapEntry, ModelEntry, Precision, Preprocessing, ThumbnailsEntry, FORMAT, VERSION,
};
pub use map::{map, MapConfig};
pub use vote::vote;
