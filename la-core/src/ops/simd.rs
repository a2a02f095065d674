//! Vectors of `f32` behind one trait, so that each kernel is written once and compiled for each instruction set.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Simd`]; `dispatch!` compiles it for AVX-512, AVX2 and
//! plain arrays (which become NEON or simd128 where the target has them) and picks the widest that the processor runs.

/// A vector of `LANES` values and the few operations that kernels need.
///
/// # Safety
/// Every method needs a processor with the instruction set of the implementing type; loads and stores need `LANES`
/// readable or writable values at the pointer.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy {
    /// The register.
    type V: Copy;
    /// How many values it holds.
    const LANES: usize;
    /// All lanes equal to `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `LANES` values from `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// `LANES` values to `p`.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `a * b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `a > b`, else `b`; so `max(0, NaN)` is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `x` where `gate > 0`, else 0.
    unsafe fn where_positive(gate: Self::V, x: Self::V) -> Self::V;
    /// One bit a lane: whether `a > b`.
    unsafe fn greater(a: Self::V, b: Self::V) -> u32;
}

/// The instruction sets that `dispatch!` chooses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 F, VL, BW, DQ.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Whatever the target has at compile time.
    Portable,
}

impl Level {
    /// Its name, as `LA_SIMD` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

/// The widest level that this processor runs; the environment variable `LA_SIMD` (`avx2`, `portable`) lowers it.
pub fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = std::env::var("LA_SIMD").unwrap_or_default();
        detect(&wanted)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect(wanted: &str) -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match wanted {
        "portable" => Level::Portable,
        "avx2" if avx2 => Level::Avx2,
        _ if avx512 => Level::Avx512,
        _ if avx2 => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect(_wanted: &str) -> Level {
    Level::Portable
}

/// Compiles `kernel::<S>(args)` for each instruction set and calls the one that [`level`] names.
///
/// `dispatch!(kernel::<4>(a: *const f32, n: usize) -> f32)` inside an `unsafe` block; each argument is an identifier in scope.
/// The kernel's first generic parameter is the [`Simd`] type and must be `#[inline(always)]`.
macro_rules! dispatch {
    ($kernel:ident $(::<$($generic:tt),*>)? ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller of the macro upholds the kernel's contract; the features are enabled above.
                unsafe { $kernel::<$crate::ops::simd::Avx512 $($(, $generic)*)?>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: as above.
                unsafe { $kernel::<$crate::ops::simd::Avx2 $($(, $generic)*)?>($($arg),*) }
            }
            match $crate::ops::simd::level() {
                $crate::ops::simd::Level::Avx512 => avx512($($arg),*),
                $crate::ops::simd::Level::Avx2 => avx2($($arg),*),
                $crate::ops::simd::Level::Portable => $kernel::<$crate::ops::simd::Portable $($(, $generic)*)?>($($arg),*),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            $kernel::<$crate::ops::simd::Portable $($(, $generic)*)?>($($arg),*)
        }
    }};
}
pub(crate) use dispatch;

/// Calls `$function::<S>` at every multiple of its lanes below `$count`, then `$function::<One>` at each value that is left.
macro_rules! over_lanes {
    ($s:ident, $count:expr, $at:ident, $function:ident $(::<$element:ident>)? ($($arg:expr),*)) => {{
        let mut $at = 0;
        while $at + $s::LANES <= $count {
            $function::<$s $(, $element)?>($($arg),*);
            $at += $s::LANES;
        }
        while $at < $count {
            $function::<$crate::ops::simd::One $(, $element)?>($($arg),*);
            $at += 1;
        }
    }};
}
pub(crate) use over_lanes;

/// Compiles `kernel::<Avx512, bf16>(args)` and calls it, inside an `unsafe` block; the processor must have AVX512-BF16.
#[cfg(target_arch = "x86_64")]
macro_rules! dispatch_bf16 {
    ($kernel:ident ( $($arg:ident : $ty:ty),* $(,)? )) => {{
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
        unsafe fn avx512($($arg: $ty),*) {
            // SAFETY: the caller of the macro upholds the kernel's contract; the features are enabled above.
            unsafe { $kernel::<$crate::ops::simd::Avx512, half::bf16>($($arg),*) }
        }
        avx512($($arg),*)
    }};
}
#[cfg(target_arch = "x86_64")]
pub(crate) use dispatch_bf16;

/// Values that are computed with in vectors of `f32`, whatever they are stored as.
///
/// # Safety
/// As for [`Simd`]; bf16 needs AVX512-BF16 as well.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Stored<S: Simd>: Copy {
    /// `LANES` values from `p`.
    unsafe fn load(p: *const Self) -> S::V;
    /// `LANES` values to `p`, rounded to the nearest.
    unsafe fn store(p: *mut Self, v: S::V);
}

// SAFETY of the blocks below: the trait's contract is that of the methods they call.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<S: Simd> Stored<S> for f32 {
    #[inline(always)]
    unsafe fn load(p: *const f32) -> S::V {
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: S::V) {
        unsafe { S::store(p, v) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Stored<One> for half::bf16 {
    #[inline(always)]
    unsafe fn load(p: *const Self) -> f32 {
        unsafe { (*p).to_f32() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut Self, v: f32) {
        unsafe { *p = Self::from_f32(v) }
    }
}

/// Sixteen lanes of AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512;

/// Eight lanes of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2;

/// Arrays that the compiler turns into whatever vectors the target has.
#[derive(Clone, Copy)]
pub struct Arrays;

/// Four lanes of WebAssembly's simd128.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[derive(Clone, Copy)]
pub struct Wasm128;

/// What the target has at compile time.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub type Portable = Wasm128;
/// What the target has at compile time.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub type Portable = Arrays;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Avx2, Avx512, Simd};
    use std::arch::x86_64::*;

    // SAFETY of every block below: the trait's contract gives the instruction set and valid pointers.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn where_positive(gate: __m512, x: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), x) }
        }
        #[inline(always)]
        unsafe fn greater(a: __m512, b: __m512) -> u32 {
            unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) as u32 }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl super::Stored<Avx512> for half::bf16 {
        #[inline(always)]
        unsafe fn load(p: *const Self) -> __m512 {
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut Self, v: __m512) {
            unsafe { _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))) }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn where_positive(gate: __m256, x: __m256) -> __m256 {
            unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), x) }
        }
        #[inline(always)]
        unsafe fn greater(a: __m256, b: __m256) -> u32 {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) as u32 }
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::{Simd, Wasm128};
    use std::arch::wasm32::*;

    // SAFETY of every block below: the trait's contract gives valid pointers.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Wasm128 {
        type V = v128;
        const LANES: usize = 4;
        #[inline(always)]
        unsafe fn splat(x: f32) -> v128 {
            f32x4_splat(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> v128 {
            unsafe { v128_load(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: v128) {
            unsafe { v128_store(p.cast(), v) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: v128, b: v128, c: v128) -> v128 {
            #[cfg(target_feature = "relaxed-simd")]
            return f32x4_relaxed_madd(a, b, c);
            #[cfg(not(target_feature = "relaxed-simd"))]
            f32x4_add(f32x4_mul(a, b), c)
        }
        #[inline(always)]
        unsafe fn add(a: v128, b: v128) -> v128 {
            f32x4_add(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: v128, b: v128) -> v128 {
            f32x4_sub(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: v128, b: v128) -> v128 {
            f32x4_mul(a, b)
        }
        #[inline(always)]
        unsafe fn max(a: v128, b: v128) -> v128 {
            f32x4_pmax(b, a)
        }
        #[inline(always)]
        unsafe fn where_positive(gate: v128, x: v128) -> v128 {
            v128_and(f32x4_gt(gate, f32x4_splat(0.0)), x)
        }
        #[inline(always)]
        unsafe fn greater(a: v128, b: v128) -> u32 {
            u32::from(i32x4_bitmask(f32x4_gt(a, b)))
        }
    }
}

/// One value, for the ends of rows that do not fill a vector.
#[derive(Clone, Copy)]
pub struct One;

const PORTABLE_LANES: usize = 4;

#[inline(always)]
fn zip(a: [f32; PORTABLE_LANES], b: [f32; PORTABLE_LANES], f: impl Fn(f32, f32) -> f32) -> [f32; PORTABLE_LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Arrays {
    type V = [f32; PORTABLE_LANES];
    const LANES: usize = PORTABLE_LANES;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; PORTABLE_LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller gives LANES readable values; arrays of f32 are read without alignment.
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: the caller gives LANES writable values.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // A fused multiply-add is one instruction on aarch64 and a library call on bare x86-64.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn where_positive(gate: Self::V, x: Self::V) -> Self::V {
        zip(gate, x, |g, x| if g > 0.0 { x } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V) -> u32 {
        (0..PORTABLE_LANES).map(|i| u32::from(a[i] > b[i]) << i).sum()
    }
}

// SAFETY of the blocks below: the trait's contract gives one valid value at each pointer.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for One {
    type V = f32;
    const LANES: usize = 1;
    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        unsafe { *p = v }
    }
    #[inline(always)]
    unsafe fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn max(a: f32, b: f32) -> f32 {
        if a > b {
            a
        } else {
            b
        }
    }
    #[inline(always)]
    unsafe fn where_positive(gate: f32, x: f32) -> f32 {
        if gate > 0.0 {
            x
        } else {
            0.0
        }
    }
    #[inline(always)]
    unsafe fn greater(a: f32, b: f32) -> u32 {
        u32::from(a > b)
    }
}
