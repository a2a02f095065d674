//! The exported bundle and the search over its bank: what the command line writes and the browser reads.
//!
//! Nothing here needs threads, files or data sources, so it compiles for the browser.

mod bank;
mod bounds;
mod clusters;
mod coded;
mod manifest;
mod reader;
mod vote;

pub use bank::{Neighbor, SearchBank};
#[doc(hidden)]
pub use clusters::clusters;
pub use manifest::Precision;
#[doc(hidden)]
pub use manifest::{BankEntry, FileEntry, LabelsEntry, Manifest, MapEntry, ModelEntry, ThumbnailsEntry, FORMAT, MAX_BYTES, VERSION};
#[doc(hidden)]
pub use reader::BankReader;
pub(crate) use vote::add_votes;
pub use vote::vote;
