//! Register tiles of convolution: a few pixels by a few vectors of output channels, with the whole sum in registers.

#[cfg(target_arch = "x86_64")]
use crate::ops::simd::{level, Avx2, Avx512, Level};
use crate::ops::simd::{Portable, Simd};

/// The most pixels that any tile holds.
pub(super) const MAX_ROWS: usize = 12;

/// What one gather tile computes: `out[r][..] (+)= Σ_t Σ_c rows[t][r][c] · panel[t][c][..]`.
pub(super) struct Gather {
    /// `taps × R` pointers to `channels` input values each.
    pub rows: *const *const f32,
    pub taps: usize,
    pub channels: usize,
    /// `taps × channels × (V · LANES)` packed weights.
    pub panel: *const f32,
    /// `R` pointers to `V · LANES` outputs each.
    pub out: *const *mut f32,
    /// Whether to add to the outputs that are there.
    pub accumulate: bool,
}

/// What one outer-product tile computes: `weight[r][..] += Σ_p rows[p][r] · grads[p][..]`.
pub(super) struct Outer {
    /// `pixels` pointers to the tile's `R` input channels.
    pub rows: *const *const f32,
    pub pixels: usize,
    /// The tile's columns of the first pixel's output gradient, and the distance to the next pixel's.
    pub grads: *const f32,
    pub grad_stride: usize,
    /// The tile's first weight gradient, and the distance to the next input channel's.
    pub weight: *mut f32,
    pub weight_stride: usize,
}

/// Channels whose addresses are sums with a constant: WebAssembly pays for any other sum.
const UNROLL: usize = if cfg!(target_arch = "wasm32") { 4 } else { 1 };

/// `acc[r][..] += Σ_c rows[r][c] · panel[c][..]` over `C` channels.
#[inline(always)]
unsafe fn gather_channels<S: Simd, const R: usize, const V: usize, const C: usize>(
    acc: &mut [[S::V; V]; R],
    rows: [*const f32; R],
    panel: *const f32,
) {
    // SAFETY: the caller gives `C` values in each row and `C · V · LANES` in the panel, and runs on a processor with S.
    unsafe {
        for c in 0..C {
            let b: [S::V; V] = std::array::from_fn(|v| S::load(panel.add((c * V + v) * S::LANES)));
            for (acc, row) in acc.iter_mut().zip(rows) {
                let a = S::splat(*row.add(c));
                for v in 0..V {
                    acc[v] = S::mul_add(a, b[v], acc[v]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn gather<S: Simd, const R: usize, const V: usize>(job: &Gather) {
    // SAFETY: `Gather` documents how many values lie at each pointer; the caller runs on a processor with S.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; R];
        let mut panel = job.panel;
        for t in 0..job.taps {
            let rows: [*const f32; R] = std::array::from_fn(|r| *job.rows.add(t * R + r));
            let whole = job.channels / UNROLL * UNROLL;
            for c in (0..whole).step_by(UNROLL) {
                gather_channels::<S, R, V, UNROLL>(&mut acc, rows.map(|row| row.add(c)), panel);
                panel = panel.add(UNROLL * V * S::LANES);
            }
            for c in whole..job.channels {
                gather_channels::<S, R, V, 1>(&mut acc, rows.map(|row| row.add(c)), panel);
                panel = panel.add(V * S::LANES);
            }
        }
        for (r, row) in acc.iter().enumerate() {
            let out = *job.out.add(r);
            for (v, &value) in row.iter().enumerate() {
                let at = out.add(v * S::LANES);
                S::store(at, if job.accumulate { S::add(S::load(at), value) } else { value });
            }
        }
    }
}

#[inline(always)]
unsafe fn outer<S: Simd, const R: usize, const V: usize>(job: &Outer) {
    // SAFETY: `Outer` documents how many values lie at each pointer; the caller runs on a processor with S.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; R];
        for p in 0..job.pixels {
            let row = *job.rows.add(p);
            let grad = job.grads.add(p * job.grad_stride);
            let b: [S::V; V] = std::array::from_fn(|v| S::load(grad.add(v * S::LANES)));
            for (r, acc) in acc.iter_mut().enumerate() {
                let a = S::splat(*row.add(r));
                for v in 0..V {
                    acc[v] = S::mul_add(a, b[v], acc[v]);
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (v, &value) in row.iter().enumerate() {
                let at = job.weight.add(r * job.weight_stride + v * S::LANES);
                S::store(at, S::add(S::load(at), value));
            }
        }
    }
}

/// A compiled gather tile: `rows` pixels by `vectors` vectors.
#[derive(Clone, Copy)]
pub(super) struct GatherTile {
    pub rows: usize,
    pub run: unsafe fn(&Gather),
}

/// A compiled outer-product tile: `rows` input channels.
pub(super) type OuterTile = unsafe fn(&Outer);

/// Compiles `$name` of `$kernel` for one instruction set, and a table of its tiles.
macro_rules! tiles {
    ($module:ident, $simd:ty, $($feature:literal)?, vectors $max:literal, gather [$(($gr:literal, $gv:literal)),*], outer [$(($or:literal, $ov:literal)),*]) => {
        mod $module {
            use super::*;
            pub const MAX_VECTORS: usize = $max;
            pub const LANES: usize = <$simd as Simd>::LANES;
            $(#[target_feature(enable = $feature)])?
            unsafe fn run_gather<const R: usize, const V: usize>(job: &Gather) {
                // SAFETY: the caller upholds the contract of `Gather`; the features are enabled on this function.
                unsafe { gather::<$simd, R, V>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn run_outer<const R: usize, const V: usize>(job: &Outer) {
                // SAFETY: the caller upholds the contract of `Outer`; the features are enabled on this function.
                unsafe { outer::<$simd, R, V>(job) }
            }
            pub fn gather_tile(vectors: usize) -> GatherTile {
                match vectors {
                    $($gv => GatherTile { rows: $gr, run: run_gather::<$gr, $gv> },)*
                    _ => unreachable!("a tile has between 1 and MAX_VECTORS vectors"),
                }
            }
            pub fn outer_tile(rows: usize, vectors: usize) -> OuterTile {
                match (rows, vectors) {
                    $(($or, $ov) => run_outer::<$or, $ov>,)*
                    _ => unreachable!("outer tiles have up to 6 rows and MAX_VECTORS vectors"),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(avx512, Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", vectors 4,
    gather [(12, 1), (12, 2), (8, 3), (6, 4)],
    outer [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
           (1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4)]);
#[cfg(target_arch = "x86_64")]
tiles!(avx2, Avx2, "avx2,fma", vectors 2,
    gather [(8, 1), (6, 2)],
    outer [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2)]);
tiles!(portable, Portable, , vectors 3,
    gather [(8, 1), (6, 2), (4, 3)],
    outer [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3)]);

/// Calls `$f` of the module that holds this processor's tiles.
macro_rules! on_level {
    ($item:ident $(($($arg:expr),*))?) => {
        {
            #[cfg(target_arch = "x86_64")]
            match level() {
                Level::Avx512 => avx512::$item $(($($arg),*))?,
                Level::Avx2 => avx2::$item $(($($arg),*))?,
                Level::Portable => portable::$item $(($($arg),*))?,
            }
            #[cfg(not(target_arch = "x86_64"))]
            portable::$item $(($($arg),*))?
        }
    };
}

/// Values in one vector.
pub(super) fn lanes() -> usize {
    on_level!(LANES)
}

/// The most vectors that a tile holds.
pub(super) fn max_vectors() -> usize {
    on_level!(MAX_VECTORS)
}

/// The gather tile of this many vectors, from 1 to [`max_vectors`].
pub(super) fn gather_tile(vectors: usize) -> GatherTile {
    on_level!(gather_tile(vectors))
}

/// The outer-product tile of this many input channels, from 1 to 6, and vectors.
pub(super) fn outer_tile(rows: usize, vectors: usize) -> OuterTile {
    on_level!(outer_tile(rows, vectors))
}
