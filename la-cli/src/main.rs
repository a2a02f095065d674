//! The program `la-cli`.

use std::process::ExitCode;

// Training allocates and frees large tensors at every step; the system's allocator gives their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    la_cli::main()
}
