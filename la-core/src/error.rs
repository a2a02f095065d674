//! The one error type: each message names the argument or file, what was expected, and what was got.

use std::path::{Path, PathBuf};

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(candle_core::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A run whose loss or weights became NaN or infinite.
    #[error("{0}")]
    Diverged(String),
    /// An argument, a file's content or a combination of settings is not usable.
    #[error("{0}")]
    Invalid(String),
}

/// A result whose error names what was wrong.
pub type Result<T> = std::result::Result<T, Error>;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        if error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY") {
            return Self::gpu_memory_full("");
        }
        Self::Candle(error)
    }
}

/// For candle's traits, such as `Module`, whose methods give candle's error.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}

impl Error {
    /// The error of a GPU without memory left, with what was asked for in words.
    pub(crate) fn gpu_memory_full(asked: &str) -> Self {
        Self::Invalid(format!(
            "the GPU's memory is full{asked}; a smaller --batch-size or --size, or --precision bf16, needs less, and `nvidia-smi` shows who else \
             uses it"
        ))
    }

    /// An argument or content error with this message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// A closure for `map_err` that attaches `path` to an I/O error.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Returns early with an [`Error::Invalid`] of the formatted message.
macro_rules! bail {
    ($($arg:tt)*) => { return Err($crate::Error::Invalid(format!($($arg)*))) };
}
pub(crate) use bail;
