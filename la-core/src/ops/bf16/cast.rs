//! From f32 to bf16.

use crate::ops::{
    host::scratch_of,
    parallel::{for_each, SharedMut},
};
use half::bf16;
use std::arch::x86_64::*;

/// Values that one piece of work rounds.
const CHUNK: usize = 64 * 1024;

/// Each value rounded to the nearest bf16.
pub(crate) fn rounded(x: &[f32]) -> Vec<bf16> {
    let mut out: Vec<bf16> = scratch_of(x.len());
    let shared = SharedMut(out.as_mut_ptr());
    for_each(x.len().div_ceil(CHUNK), |i| {
        let from = &x[i * CHUNK..((i + 1) * CHUNK).min(x.len())];
        // SAFETY: each chunk has its own outputs; bf16 is refused where the processor lacks AVX512-BF16.
        unsafe { round(from, shared.get().add(i * CHUNK)) };
    });
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn round(from: &[f32], to: *mut bf16) {
    for (i, chunk) in from.chunks(16).enumerate() {
        let mask = ((1u32 << chunk.len()) - 1) as __mmask16;
        // SAFETY: the caller gives as many outputs; values outside the mask are neither read nor written.
        unsafe {
            let x = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, chunk.as_ptr()));
            _mm256_mask_storeu_epi16(to.add(16 * i).cast(), mask, std::mem::transmute::<__m256bh, __m256i>(x));
        }
    }
}
