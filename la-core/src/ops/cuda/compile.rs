//! Kernels compiled by NVRTC to machine code: a driver need not be as new as NVRTC, as it must for its assembly.

use crate::{error::bail, Error, Result};
use candle_core::cuda_backend::cudarc::nvrtc::{
    result::{self, NvrtcError},
    sys, Ptx,
};
use std::ffi::{c_char, CString};

/// A program of NVRTC's, destroyed at the end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was created and is destroyed once; a failure would leave nothing to do.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// The machine code of `source` for GPUs of this compute capability, with activations of type `value`.
pub(super) fn compile(source: &str, value: &str, (major, minor): (i32, i32)) -> Result<Ptx> {
    let source = CString::new(source).map_err(|_| Error::invalid("the kernels' source holds a zero byte"))?;
    let program = Program(result::create_program(&source, None).map_err(nvrtc)?);
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), format!("-DVALUE={value}"), "-std=c++17".into()];
    // SAFETY: the program was created just above and lives on.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        bail!("NVRTC cannot compile the kernels for compute capability {major}.{minor}: {error:?}\n{}", log(&program));
    }
    Ok(Ptx::from_binary(machine_code(&program)?))
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
