//! NVIDIA's libraries, found at run time: a program that is linked without them runs on machines that have none, and can say
//! what is missing.

use crate::{error::bail, Error, Result};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::sync::{Mutex, PoisonError};

/// The oldest driver interface that CUDA 13.0's libraries work with.
const DRIVER_INTERFACE: i32 = 13_000;

/// Libraries stay loaded: their symbols are the program's.
static LOADED: Mutex<Vec<Library>> = Mutex::new(Vec::new());

/// Loads the driver; fails where it is missing, too old, or finds no GPU `index`.
pub(super) fn load_driver(index: usize) -> Result<()> {
    let driver = load("libcuda.so.1").map_err(|error| {
        Error::invalid(format!("GPU {index}: no NVIDIA driver here ({error}); install driver 580 or later, or use the CPU"))
    })?;
    check_driver(&driver, index)?;
    keep(driver);
    Ok(())
}

fn check_driver(driver: &Library, index: usize) -> Result<()> {
    let version = ask(driver, "cuDriverGetVersion")?;
    if version < DRIVER_INTERFACE {
        bail!(
            "GPU {index}: the driver speaks CUDA {}.{}, this program needs 13.0: install driver 580 or later",
            version / 1000,
            version % 1000 / 10
        );
    }
    // SAFETY: `cuInit` takes one number, which must be 0.
    let code = unsafe {
        let init = driver.get::<unsafe extern "C" fn(u32) -> i32>(b"cuInit\0").map_err(foreign)?;
        init(0)
    };
    if code != 0 {
        bail!("GPU {index}: the driver finds no usable GPU (cuInit gives {code}); `nvidia-smi` shows whether it sees one");
    }
    let count = ask(driver, "cuDeviceGetCount")?;
    if index >= count as usize {
        bail!("GPU {index}: there are {count} here, numbered from 0; `nvidia-smi` lists them");
    }
    Ok(())
}

/// What a driver function writes that takes the address of one number.
fn ask(driver: &Library, name: &str) -> Result<i32> {
    let mut value = 0;
    // SAFETY: both functions called this way take the address of an int, and give a status.
    let code = unsafe {
        let function = driver.get::<unsafe extern "C" fn(*mut i32) -> i32>(name.as_bytes()).map_err(foreign)?;
        function(&mut value)
    };
    match code {
        0 => Ok(value),
        code => bail!("the NVIDIA driver's {name} fails with {code}"),
    }
}

fn foreign(error: libloading::Error) -> Error {
    Error::invalid(format!("libcuda.so.1 is not NVIDIA's driver: {error}"))
}

/// Loads a library by the system's search, or from the folder `lib` beside the program.
pub(super) fn load(name: &str) -> std::result::Result<Library, libloading::Error> {
    // SAFETY: these are NVIDIA's libraries, whose initialisers ask for nothing.
    let found = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) };
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("lib").join(name)));
    match (found, beside.filter(|path| path.exists())) {
        // SAFETY: as above.
        (Err(_), Some(path)) => unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) },
        (found, _) => found,
    }
}

/// Keeps a library for as long as the program runs.
pub(super) fn keep(library: Library) {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).push(library);
}
