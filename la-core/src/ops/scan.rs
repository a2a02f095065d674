//! Products of 8-bit codes in whole numbers, for the first pass of a search.

/// Codes are in `-LIMIT..=LIMIT`. Relaxed SIMD multiplies signed bytes with 7-bit ones, so there the query's are shifted up.
#[cfg(not(all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
const LIMIT: f32 = 127.0;
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
const LIMIT: f32 = 63.0;
/// What is added to the query's codes where they must not be negative.
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
const SHIFT: i32 = 64;

/// A query in whole numbers: `code * scale`.
pub(crate) struct Query {
    /// What a step stands for.
    pub scale: f32,
    codes: Vec<i16>,
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    shifted: Vec<i8>,
}

impl Query {
    /// Rounds `query`.
    pub fn new(query: &[f32]) -> Self {
        let mut codes = vec![0; query.len()];
        let scale = code(query, LIMIT, &mut codes);
        let codes: Vec<i16> = codes.into_iter().map(i16::from).collect();
        Self {
            scale,
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            shifted: codes.iter().map(|&code| (i32::from(code) + SHIFT) as i8).collect(),
            codes,
        }
    }

    /// The rounded values.
    pub fn decoded(&self) -> impl Iterator<Item = f64> + '_ {
        self.codes.iter().map(|&code| f64::from(code) * f64::from(self.scale))
    }

    /// `out[r] = Σ rows[r][i] query[i]` for rows of codes; `sums[r]` is `Σ rows[r][i]`.
    ///
    /// Exact for up to 65,536 codes in -127 to 127, whose sum fits 32 bits.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    pub fn dots(&self, rows: &[i8], _sums: &[i32], out: &mut [i32]) {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(self.codes.len())) {
            *out = row.iter().zip(&self.codes).map(|(&a, &b)| i32::from(i16::from(a)) * i32::from(b)).sum();
        }
    }

    /// `out[r] = Σ rows[r][i] query[i]` for rows of codes; `sums[r]` is `Σ rows[r][i]`.
    ///
    /// Exact for up to 65,536 codes in -127 to 127, whose sum fits 32 bits.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    pub fn dots(&self, rows: &[i8], sums: &[i32], out: &mut [i32]) {
        assert!(rows.len() == out.len() * self.codes.len() && sums.len() == out.len());
        let whole = out.len() / wasm::ROWS * wasm::ROWS;
        for first in (0..whole).step_by(wasm::ROWS) {
            // SAFETY: the assertion above: four rows begin here.
            let dots = unsafe { wasm::dots::<{ wasm::ROWS }>(self, rows.as_ptr().add(first * self.codes.len())) };
            out[first..first + wasm::ROWS].copy_from_slice(&dots);
        }
        for row in whole..out.len() {
            // SAFETY: as above, one row.
            out[row] = unsafe { wasm::dots::<1>(self, rows.as_ptr().add(row * self.codes.len())) }[0];
        }
        wasm::unshift(out, sums);
    }
}

/// Writes codes in `-limit` to `limit`, at most 127; gives what a step stands for. Values must be finite.
pub(crate) fn code(values: &[f32], limit: f32, codes: &mut [i8]) -> f32 {
    let scale = largest(values) / limit;
    if scale < f32::MIN_POSITIVE {
        codes.fill(0);
        return 0.0;
    }
    for (code, x) in codes.iter_mut().zip(values) {
        // Of a float as large as this the lowest bits are the whole number next to what was added.
        *code = (x / scale + 12_582_912.0).to_bits() as i8;
    }
    scale
}

/// The largest magnitude, of floats read as whole numbers, which have the same order and make vectors; at least infinity where a
/// value is not finite.
pub(crate) fn largest(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff)))
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::Query;
    use core::arch::wasm32::*;

    /// Rows that share each load of the query.
    pub const ROWS: usize = 4;

    /// Products of `R` rows that lie one after the other at `rows`; with relaxed SIMD, with the shifted query.
    ///
    /// # Safety
    /// `R` rows as long as the query can be read at `rows`.
    #[inline(always)]
    pub unsafe fn dots<const R: usize>(query: &Query, rows: *const i8) -> [i32; R] {
        let len = query.codes.len();
        let whole = len / 16 * 16;
        let mut sums = [i32x4_splat(0); R];
        for at in (0..whole).step_by(16) {
            // SAFETY: `at + 16` is at most the length of a row and of the query; wasm loads need no alignment.
            unsafe { step(query, rows.add(at), len, at, &mut sums) };
        }
        let mut out: [i32; R] = sums.map(total);
        for (r, out) in out.iter_mut().enumerate() {
            for i in whole..len {
                // SAFETY: row `r` has `len` codes.
                *out += i32::from(unsafe { *rows.add(r * len + i) }) * value(query, i);
            }
        }
        out
    }

    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    unsafe fn step<const R: usize>(query: &Query, rows: *const i8, len: usize, at: usize, sums: &mut [v128; R]) {
        // SAFETY: the caller's: 16 codes of the query at `at`, and of each row.
        unsafe {
            let b = v128_load(query.shifted.as_ptr().add(at).cast());
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = i32x4_relaxed_dot_i8x16_i7x16_add(v128_load(rows.add(r * len).cast()), b, *sum);
            }
        }
    }

    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    unsafe fn step<const R: usize>(query: &Query, rows: *const i8, len: usize, at: usize, sums: &mut [v128; R]) {
        // SAFETY: the caller's: 16 codes of the query at `at`, and of each row.
        unsafe {
            let (low, high) = (v128_load(query.codes.as_ptr().add(at).cast()), v128_load(query.codes.as_ptr().add(at + 8).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let codes = v128_load(rows.add(r * len).cast());
                *sum = i32x4_add(*sum, i32x4_dot_i16x8(i16x8_extend_low_i8x16(codes), low));
                *sum = i32x4_add(*sum, i32x4_dot_i16x8(i16x8_extend_high_i8x16(codes), high));
            }
        }
    }

    fn value(query: &Query, i: usize) -> i32 {
        #[cfg(target_feature = "relaxed-simd")]
        return i32::from(query.shifted[i]);
        #[cfg(not(target_feature = "relaxed-simd"))]
        i32::from(query.codes[i])
    }

    #[inline(always)]
    fn total(sum: v128) -> i32 {
        let pairs = i32x4_add(sum, i32x4_shuffle::<2, 3, 0, 1>(sum, sum));
        i32x4_extract_lane::<0>(pairs) + i32x4_extract_lane::<1>(pairs)
    }

    /// Takes the query's shift out of the products again: `Σ a (b + 64) - 64 Σ a`.
    pub fn unshift(_out: &mut [i32], _sums: &[i32]) {
        #[cfg(target_feature = "relaxed-simd")]
        _out.iter_mut().zip(_sums).for_each(|(out, sum)| *out -= super::SHIFT * sum);
    }
}
