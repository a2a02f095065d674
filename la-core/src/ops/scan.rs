//! Products of 8-bit codes in whole numbers, for the first pass of a search.

/// `Σ a[i] b[i]`; exact for up to 65,536 codes in -127 to 127, whose sum fits 32 bits.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(crate) fn dot(a: &[i8], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(i16::from(a)) * i32::from(b)).sum()
}

/// `Σ a[i] b[i]`; exact for up to 65,536 codes in -127 to 127, whose sum fits 32 bits.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) fn dot(a: &[i8], b: &[i16]) -> i32 {
    use core::arch::wasm32::*;
    assert_eq!(a.len(), b.len());
    let whole = a.len() / 16 * 16;
    let mut sums = i32x4_splat(0);
    for at in (0..whole).step_by(16) {
        // SAFETY: `at + 16` is at most the length of both; wasm loads need no alignment.
        unsafe {
            let codes = v128_load(a.as_ptr().add(at).cast());
            let (low, high) = (v128_load(b.as_ptr().add(at).cast()), v128_load(b.as_ptr().add(at + 8).cast()));
            sums = i32x4_add(sums, i32x4_dot_i16x8(i16x8_extend_low_i8x16(codes), low));
            sums = i32x4_add(sums, i32x4_dot_i16x8(i16x8_extend_high_i8x16(codes), high));
        }
    }
    let rest: i32 = a[whole..].iter().zip(&b[whole..]).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
    let lanes =
        [i32x4_extract_lane::<0>(sums), i32x4_extract_lane::<1>(sums), i32x4_extract_lane::<2>(sums), i32x4_extract_lane::<3>(sums)];
    lanes.into_iter().sum::<i32>() + rest
}
