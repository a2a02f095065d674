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
    /// The GPU has too little memory left.
    #[error("the GPU's memory is full{}", asked.map_or(String::new(), |bytes| format!(" when {} MiB more were asked for", bytes.div_ceil(1 << 20))))]
    GpuMemory {
        /// Bytes that could not be had, where known.
        asked: Option<usize>,
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
        if is_gpu_memory(&error) {
            return Self::GpuMemory { asked: None };
        }
        Self::Candle(error)
    }
}

/// Whether the driver had no memory left.
#[cfg(feature = "cuda")]
fn is_gpu_memory(error: &candle_core::Error) -> bool {
    use candle_core::cuda_backend::{
        cudarc::driver::{sys::CUresult, DriverError},
        CudaError,
    };
    use candle_core::Error::{Context, Cuda, WithBacktrace, WithPath};
    match error {
        Context { inner, .. } | WithBacktrace { inner, .. } | WithPath { inner, .. } => is_gpu_memory(inner),
        Cuda(inner) => {
            let of_driver = match inner.downcast_ref::<CudaError>() {
                Some(CudaError::Cuda(error) | CudaError::Load { cuda: error, .. }) => Some(error),
                _ => inner.downcast_ref::<DriverError>(),
            };
            of_driver.is_some_and(|error| error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY)
        }
        _ => false,
    }
}

#[cfg(not(feature = "cuda"))]
fn is_gpu_memory(_: &candle_core::Error) -> bool {
    false
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
