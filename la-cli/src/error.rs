//! The library's errors, for what implements its traits.

pub use la_core::{Error, Result};

/// Returns early with an [`Error::Invalid`] of the formatted message.
macro_rules! bail {
    ($($arg:tt)*) => { return Err($crate::error::Error::Invalid(format!($($arg)*))) };
}
pub(crate) use bail;
