//! Which instructions multiply bf16 on this processor.

use crate::{error::bail, ops::simd, Result};
use std::sync::OnceLock;

/// Instructions that multiply pairs of bf16 and sum them in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// 16×16 tiles, TDPBF16PS.
    Amx,
    /// Vectors of 16 sums, VDPBF16PS.
    Avx512,
}

/// The fastest that this processor and system have; the environment variable `LA_SIMD` lowers it: `avx512` leaves AMX out.
pub(super) fn path() -> Option<Path> {
    static PATH: OnceLock<Option<Path>> = OnceLock::new();
    *PATH.get_or_init(|| {
        if simd::level() != simd::Level::Avx512 || !is_x86_feature_detected!("avx512bf16") {
            return None;
        }
        let is_lowered = std::env::var("LA_SIMD").is_ok_and(|wanted| wanted == simd::Level::Avx512.name());
        Some(if !is_lowered && has_amx() { Path::Amx } else { Path::Avx512 })
    })
}

/// The instructions' name, as `config.json` keeps it; `None` where there are none.
pub(crate) fn name() -> Option<&'static str> {
    path().map(|path| match path {
        Path::Amx => "amx-bf16",
        Path::Avx512 => "avx512-bf16",
    })
}

/// Fails where this processor does not multiply bf16.
pub(crate) fn require() -> Result<()> {
    if path().is_none() {
        bail!("precision bf16 on the CPU needs AVX512-BF16 (AMD since Zen 4, Intel Xeon since Sapphire Rapids), which this processor lacks or LA_SIMD turns off; f32 runs on any");
    }
    Ok(())
}

/// Whether the processor has tiles of bf16, and the system lets this process use them.
#[cfg(target_os = "linux")]
fn has_amx() -> bool {
    const TILE_AND_BF16: u32 = 1 << 24 | 1 << 22;
    // SAFETY: every x86-64 processor has CPUID; leaf 7 exists where AVX-512 does, which was asked before.
    #[allow(unused_unsafe)]
    let features = unsafe { std::arch::x86_64::__cpuid_count(7, 0) }.edx;
    features & TILE_AND_BF16 == TILE_AND_BF16 && may_use_tiles()
}

#[cfg(not(target_os = "linux"))]
fn has_amx() -> bool {
    false
}

/// Asks Linux for the tiles' state, which it gives a process on request alone (`ARCH_REQ_XCOMP_PERM`).
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call changes a permission of this process and no memory; the system call clobbers rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}
