//! Opening a GPU.

use super::{
    context,
    library::{keep, load, load_driver},
};
use crate::{Error, Result};
use candle_core::Device;
use std::sync::{Mutex, PoisonError};

/// Each library with the PyPI package that brings it.
const LIBRARIES: [(&str, &str); 5] = [
    ("libcublasLt.so.13", "nvidia-cublas"),
    ("libcublas.so.13", "nvidia-cublas"),
    ("libcurand.so.10", "nvidia-curand"),
    ("libnvrtc.so.13", "nvidia-cuda-nvrtc"),
    ("libcudnn.so.9", "nvidia-cudnn-cu13"),
];

/// The GPUs that were opened: each has one stream, which all handles and kept memory belong to.
static OPENED: Mutex<Vec<(usize, Device)>> = Mutex::new(Vec::new());

/// GPU `index`, opened by the first call; fails with what stands in the way and what to do about it.
pub(crate) fn open(index: usize) -> Result<Device> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = opened.iter().find(|(other, _)| *other == index) {
        return Ok(device.clone());
    }
    let device = open_first(index)?;
    opened.push((index, device.clone()));
    Ok(device)
}

fn open_first(index: usize) -> Result<Device> {
    load_driver(index)?;
    // NVRTC looks for it by name alone, which finds it once it is loaded; another release's has another name.
    if let Ok(library) = load("libnvrtc-builtins.so.13.0") {
        keep(library);
    }
    for (name, package) in LIBRARIES {
        let library = load(name).map_err(|error| {
            Error::invalid(format!(
                "GPU {index}: {name} cannot be loaded ({error}); `pip install {package}` brings it: name its lib folder in LD_LIBRARY_PATH, \
                 or copy the library into a folder lib beside this program"
            ))
        })?;
        keep(library);
    }
    // A stream of its own can be recorded, which the default one cannot.
    let device = Device::new_cuda_with_stream(index).map_err(|error| Error::invalid(format!("GPU {index} cannot be opened: {error}")))?;
    context::prepare(device.as_cuda_device()?)?;
    Ok(device)
}
