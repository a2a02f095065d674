//! What becomes of 32 rows of sums: rounded to bf16 and written to their pixels, after whatever is fused with that.

use super::{
    grid::NOWHERE,
    tile::{Sums, SIDE},
};
use half::bf16;
use std::arch::x86_64::*;

/// Batch norm in eval mode, as a factor and a summand of each channel, with what follows it.
pub(crate) struct Norm<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    /// Added before the ReLU; the shape of the output.
    pub residual: Option<&'a [bf16]>,
    pub relu: bool,
}

/// Where rows go, and how.
pub(super) struct Rows<'a> {
    pub out: *mut bf16,
    /// Values of a pixel, and the first of this block's columns.
    pub channels: usize,
    pub start: usize,
    /// Whether to add to what is there.
    pub is_added: bool,
    pub norm: Option<&'a Norm<'a>>,
    /// Where the sums and the sums of squares of what is written are added, 32 of each; or null.
    pub moments: [*mut f32; 2],
}

/// Writes the rows that have a target.
///
/// # Safety
/// `rows.out` must have `rows.channels` values for each target, which no other thread touches in these columns; the
/// processor must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn write(rows: &Rows, sums: &Sums, targets: &[usize]) {
    let used = SIDE.min(rows.channels - rows.start);
    let mask = (u64::MAX >> (64 - used)) as __mmask32;
    let halves = [mask as __mmask16, (mask >> 16) as __mmask16];
    let is_counted = !rows.moments[0].is_null();
    // SAFETY: the caller's promise; values outside the mask are neither read nor written.
    unsafe {
        let [mut sum, mut square] = [[_mm512_setzero_ps(); 2]; 2];
        let affine = rows.norm.map(|norm| {
            let of = |x: &[f32]| {
                let p = x[rows.start..rows.start + used].as_ptr();
                [_mm512_maskz_loadu_ps(halves[0], p), _mm512_maskz_loadu_ps(halves[1], p.wrapping_add(16))]
            };
            (of(norm.scale), of(norm.shift))
        });
        for (row, &target) in sums.0.chunks_exact(SIDE).zip(targets).filter(|(_, &target)| target != NOWHERE) {
            let at = target * rows.channels + rows.start;
            let mut y = [_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(16))];
            if rows.is_added {
                y = add(y, widened(_mm512_maskz_loadu_epi16(mask, rows.out.add(at).cast())));
            }
            if let (Some(norm), Some((scale, shift))) = (rows.norm, &affine) {
                y = [_mm512_fmadd_ps(y[0], scale[0], shift[0]), _mm512_fmadd_ps(y[1], scale[1], shift[1])];
                if let Some(residual) = norm.residual {
                    y = add(y, widened(_mm512_maskz_loadu_epi16(mask, residual[at..at + used].as_ptr().cast())));
                }
                if norm.relu {
                    // The second operand where one is NaN.
                    let zero = _mm512_setzero_ps();
                    y = [_mm512_max_ps(zero, y[0]), _mm512_max_ps(zero, y[1])];
                }
            }
            let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(y[1], y[0]));
            _mm512_mask_storeu_epi16(rows.out.add(at).cast(), mask, rounded);
            if is_counted {
                let y = widened(rounded);
                sum = add(sum, y);
                square = [_mm512_fmadd_ps(y[0], y[0], square[0]), _mm512_fmadd_ps(y[1], y[1], square[1])];
            }
        }
        if is_counted {
            for (p, values) in rows.moments.into_iter().zip([sum, square]) {
                for (i, value) in values.into_iter().enumerate() {
                    let p = p.add(16 * i);
                    _mm512_storeu_ps(p, _mm512_add_ps(_mm512_loadu_ps(p), value));
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: [__m512; 2], b: [__m512; 2]) -> [__m512; 2] {
    [_mm512_add_ps(a[0], b[0]), _mm512_add_ps(a[1], b[1])]
}

/// 32 values in f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(x: __m512i) -> [__m512; 2] {
    let wide = |half: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
    [wide(_mm512_castsi512_si256(x)), wide(_mm512_extracti64x4_epi64::<1>(x))]
}
