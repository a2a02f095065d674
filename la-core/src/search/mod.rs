//! The exported bundle and the search over its bank: what the command line writes and the browser reads.
//!
//! Nothing here needs threads, files or data sources, so it compiles for the browser.

mod bank;
mod bounds;
mod manifest;
mod vote;

pub use bank::{Neighbor, SearchBank};
pub use manifest::{
    BankEntry, FileEntry, LabelsEntry, Manifest, MapEntry, ModelEntry, Precision, Preprocessing, ThumbnailsEntry, FORMAT, MAX_BYTES,
    VERSION,
};
pub use vote::vote;
