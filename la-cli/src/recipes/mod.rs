//! Settings of `la-cli train` before any flag: by name, or chosen for pictures of one's own.

mod own;
mod presets;

pub use own::Beginning;
pub use presets::{Preset, PRESETS, QUICK};
