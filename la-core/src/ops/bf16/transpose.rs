//! Rows of bf16 into pairs of rows, and into columns, 16 values at a time.

use super::tile::{PAIR, PAIRS, SIDE};
use half::bf16;
use std::arch::x86_64::*;

/// Lanes of a vector: channels of one step.
pub(super) const LANES: usize = 16;

/// Pairs of rows for half a panel's block: `to[i][c] = (rows[2i][c], rows[2i + 1][c])` over 32 rows and 16 columns.
///
/// # Safety
/// Each pointer must give 16 readable values, `to` half of a block to write; the processor must have AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pair_rows(rows: &[*const bf16; SIDE], to: *mut bf16) {
    // SAFETY: the caller's promise.
    unsafe {
        for (i, pair) in rows.chunks_exact(2).enumerate() {
            _mm512_storeu_si512(to.add(PAIR * i).cast(), paired(pair[0], pair[1]));
        }
    }
}

/// Columns of 32 rows: `to[c * stride + r] = rows[r][c]` over 16 columns.
///
/// # Safety
/// Each pointer must give 16 readable values, each of 16 columns 32 writable ones; the processor must have AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn columns(rows: &[*const bf16; SIDE], to: *mut bf16, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs = [_mm512_setzero_si512(); LANES];
        for (pair, rows) in pairs.iter_mut().zip(rows.chunks_exact(2)) {
            *pair = paired(rows[0], rows[1]);
        }
        for (c, column) in transposed(pairs).into_iter().enumerate() {
            _mm512_storeu_si512(to.add(c * stride).cast(), column);
        }
    }
}

/// Weights for half a panel's block, rows becoming columns: `to[i][c] = (from[c][2i], from[c][2i + 1])`, of `count` rows, in bf16.
///
/// # Safety
/// Each of `count` rows, at most 16, must have `depth` readable values, at most 32, of which the rest are zeros;
/// `to` must have half of a block to write; the processor must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn narrowed_columns(from: *const f32, row: usize, (count, depth): (usize, usize), to: *mut bf16) {
    let masks = [depth.min(LANES), depth.saturating_sub(LANES)].map(|used| ((1u32 << used) - 1) as __mmask16);
    // SAFETY: the caller's promise; masked values are not read.
    unsafe {
        let mut lines = [_mm512_setzero_si512(); LANES];
        for (c, line) in lines.iter_mut().enumerate().take(count) {
            let low = _mm512_maskz_loadu_ps(masks[0], from.add(c * row));
            let high = _mm512_maskz_loadu_ps(masks[1], from.wrapping_add(c * row + LANES));
            *line = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        }
        for (i, pair) in transposed(lines).into_iter().enumerate() {
            _mm512_storeu_si512(to.add(PAIR * i).cast(), pair);
        }
    }
}

/// Weights for half a panel's block: `to[i][c] = (from[2i][c], from[2i + 1][c])`, in bf16, of `depth` rows with `count` columns.
///
/// # Safety
/// Each of `depth` rows, at most 32, must have `count` readable values, at most 16, of which the rest are zeros;
/// `to` must have half of a block to write; the processor must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn narrowed_rows(from: *const f32, row: usize, (count, depth): (usize, usize), to: *mut bf16) {
    let mask = ((1u32 << count.min(LANES)) - 1) as __mmask16;
    // SAFETY: the caller's promise; masked values are not read.
    unsafe {
        let line = |k: usize| {
            let values = if k < depth { _mm512_maskz_loadu_ps(mask, from.add(k * row)) } else { _mm512_setzero_ps() };
            _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)))
        };
        for i in 0..PAIRS {
            let pair = _mm512_or_si512(line(2 * i), _mm512_slli_epi32::<16>(line(2 * i + 1)));
            _mm512_storeu_si512(to.add(PAIR * i).cast(), pair);
        }
    }
}

/// `(even[c], odd[c])` for 16 columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn paired(even: *const bf16, odd: *const bf16) -> __m512i {
    // SAFETY: the caller gives 16 values at each pointer.
    unsafe {
        let (even, odd) = (_mm512_cvtepu16_epi32(_mm256_loadu_si256(even.cast())), _mm512_cvtepu16_epi32(_mm256_loadu_si256(odd.cast())));
        _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
    }
}

/// The transpose of 16 × 16 values of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    // Blocks of 4 × 4 within each quarter of the vectors, then the quarters.
    let mut t = rows;
    for i in (0..LANES).step_by(4) {
        let (a, b) = (_mm512_unpacklo_epi32(rows[i], rows[i + 1]), _mm512_unpackhi_epi32(rows[i], rows[i + 1]));
        let (c, d) = (_mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]), _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]));
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    let mut out = t;
    for i in 0..4 {
        let (a, b) = (_mm512_shuffle_i32x4::<0x88>(t[i], t[i + 4]), _mm512_shuffle_i32x4::<0xdd>(t[i], t[i + 4]));
        let (c, d) = (_mm512_shuffle_i32x4::<0x88>(t[i + 8], t[i + 12]), _mm512_shuffle_i32x4::<0xdd>(t[i + 8], t[i + 12]));
        out[i] = _mm512_shuffle_i32x4::<0x88>(a, c);
        out[i + 4] = _mm512_shuffle_i32x4::<0x88>(b, d);
        out[i + 8] = _mm512_shuffle_i32x4::<0xdd>(a, c);
        out[i + 12] = _mm512_shuffle_i32x4::<0xdd>(b, d);
    }
    out
}
