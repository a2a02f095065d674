//! Kernels compiled by NVRTC to machine code: a driver need not be as new as NVRTC, as it must for its assembly.
//!
//! The machine code is kept in the user's cache folder, under a name that changes with all that went into it.

use crate::{
    error::bail,
    files::{cache_folder, write_atomically},
    Error, Result,
};
use candle_core::cuda_backend::cudarc::{
    driver::CudaModule,
    nvrtc::{
        result::{self, NvrtcError},
        sys, Ptx,
    },
};
use candle_core::cuda_backend::CudaDevice;
use sha2::{Digest, Sha256};
use std::{
    ffi::{c_char, CString},
    fs,
    path::PathBuf,
    sync::Arc,
};

/// A program of NVRTC's, destroyed at the end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was created and is destroyed once; a failure would leave nothing to do.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// The kernels of `source` on `device`, with activations of type `value`: from the cache, or compiled and then kept there.
pub(super) fn load(device: &CudaDevice, source: &str, value: &str) -> Result<Arc<CudaModule>> {
    let context = device.cuda_stream().context().clone();
    let (major, minor) = context.compute_capability().map_err(super::tensors::driver)?;
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), format!("-DVALUE={value}"), "-std=c++17".into()];
    let kept = cached(source, &options);
    let known = kept.as_ref().and_then(|path| fs::read(path).ok());
    if let Some(module) = known.and_then(|code| context.load_module(Ptx::from_binary(code)).ok()) {
        return Ok(module);
    }
    let code = compile(source, &options)?;
    // A cache that cannot be written costs the next start some seconds, and nothing else.
    if let Some(path) = kept.filter(|path| path.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok())) {
        let _ = write_atomically(&path, |file| file.write_all(&code));
    }
    context.load_module(Ptx::from_binary(code)).map_err(super::tensors::driver)
}

/// Where the machine code is kept, if there is a folder for caches.
fn cached(source: &str, options: &[String]) -> Option<PathBuf> {
    let caches = cache_folder()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers are written.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result().ok()?;
    let mut hash = Sha256::new();
    hash.update(source);
    hash.update(format!("{options:?} {major}.{minor}"));
    let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Some(caches.join(format!("kernels-{name}.cubin")))
}

fn compile(source: &str, options: &[String]) -> Result<Vec<u8>> {
    let source = CString::new(source).map_err(|_| Error::invalid("the kernels' source holds a zero byte"))?;
    let program = Program(result::create_program(&source, None).map_err(nvrtc)?);
    // SAFETY: the program was created just above and lives on.
    if let Err(error) = unsafe { result::compile_program(program.0, options) } {
        bail!("NVRTC cannot compile the kernels with {options:?}: {error:?}\n{}", log(&program));
    }
    machine_code(&program)
}

fn log(program: &Program) -> String {
    // SAFETY: as in `compile`.
    let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
    log.into_iter().map(|c| c as u8 as char).filter(|&c| c != '\0').collect()
}

fn machine_code(program: &Program) -> Result<Vec<u8>> {
    let mut size = 0;
    // SAFETY: the program is compiled, and `size` is written.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }.result().map_err(nvrtc)?;
    let mut code = vec![0u8; size];
    // SAFETY: the buffer is as long as NVRTC asked for.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast::<c_char>()) }.result().map_err(nvrtc)?;
    Ok(code)
}

fn nvrtc(error: NvrtcError) -> Error {
    Error::invalid(format!("NVRTC: {error:?}"))
}
