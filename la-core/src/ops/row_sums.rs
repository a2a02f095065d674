//! Weighted sums of rows and products with chosen rows: what gradients and exact scores are made of.

use super::simd::{dispatch, Simd};

/// The widest vector, for buffers that hold one.
const MAX_LANES: usize = 16;

/// Chosen rows lie anywhere in memory: this many ahead are asked for, so that they arrive in time.
const AHEAD: usize = 4;

/// Asks for the memory of a row of `dim` values that is read soon.
#[inline(always)]
fn prefetch(row: *const f32, dim: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..dim.min(256)).step_by(16) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(line).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (row, dim);
}

/// Writes `out[i] = x · rows[indices[i]]`.
pub(crate) fn dots(x: &[f32], rows: &[f32], indices: &[u32], out: &mut Vec<f32>) {
    let (dim, len) = (x.len(), indices.len());
    let num_rows = rows.len() / dim;
    assert!(indices.iter().all(|&i| (i as usize) < num_rows));
    out.clear();
    out.resize(len, 0.0);
    let chosen = Chosen { weights: x.as_ptr(), rows: rows.as_ptr(), indices: indices.as_ptr(), len, dim };
    let to = out.as_mut_ptr();
    // SAFETY: every index names a row of `dim` values; `x` holds `dim`, `out` holds `len`.
    unsafe { dispatch!(dots_kernel(chosen: Chosen, to: *mut f32)) }
}

#[inline(always)]
unsafe fn dots_kernel<S: Simd>(chosen: Chosen, out: *mut f32) {
    // SAFETY: the caller gives `dim` values of `x` in the place of weights, `len` indices of rows and room for `len` products.
    unsafe {
        let row = |i: usize| chosen.rows.add(*chosen.indices.add(i) as usize * chosen.dim);
        for i in 0..chosen.len {
            if i + AHEAD < chosen.len {
                prefetch(row(i + AHEAD), chosen.dim);
            }
            out.add(i).write(dot_kernel::<S>(chosen.weights, row(i), chosen.dim));
        }
    }
}

/// `x · y`, summed in an order that depends on the length and the instruction set alone.
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    let (a, b, len) = (x.as_ptr(), y.as_ptr(), x.len());
    // SAFETY: both slices hold `len` values.
    unsafe { dispatch!(dot_kernel(a: *const f32, b: *const f32, len: usize) -> f32) }
}

#[inline(always)]
unsafe fn dot_kernel<S: Simd>(x: *const f32, y: *const f32, len: usize) -> f32 {
    let mut lanes = [0.0f32; MAX_LANES];
    let mut at = 0;
    // SAFETY: `at` plus the values read stays within `len`; `lanes` holds the widest vector.
    unsafe {
        let mut sums = [S::splat(0.0); 4];
        while at + 4 * S::LANES <= len {
            for (i, sum) in sums.iter_mut().enumerate() {
                let from = at + i * S::LANES;
                *sum = S::mul_add(S::load(x.add(from)), S::load(y.add(from)), *sum);
            }
            at += 4 * S::LANES;
        }
        while at + S::LANES <= len {
            sums[0] = S::mul_add(S::load(x.add(at)), S::load(y.add(at)), sums[0]);
            at += S::LANES;
        }
        S::store(lanes.as_mut_ptr(), S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
        let mut total = halve(&mut lanes[..S::LANES]);
        while at < len {
            total += *x.add(at) * *y.add(at);
            at += 1;
        }
        total
    }
}

/// The sum of a power of two of values, halves added to halves.
#[inline(always)]
fn halve(lanes: &mut [f32]) -> f32 {
    let mut len = lanes.len();
    while len > 1 {
        len /= 2;
        for i in 0..len {
            lanes[i] += lanes[i + len];
        }
    }
    lanes[0]
}

/// Adds `Σ weights[i] · rows[indices[i]]` to `sum`.
pub(crate) fn add_chosen_rows(weights: &[f32], rows: &[f32], indices: &[u32], sum: &mut [f32]) {
    let (dim, len) = (sum.len(), indices.len());
    let num_rows = rows.len() / dim;
    assert!(weights.len() == len && indices.iter().all(|&i| (i as usize) < num_rows));
    let chosen = Chosen { weights: weights.as_ptr(), rows: rows.as_ptr(), indices: indices.as_ptr(), len, dim };
    let out = sum.as_mut_ptr();
    // SAFETY: every index names a row of `dim` values; `weights` and `indices` hold `len` values, `sum` holds `dim`.
    unsafe { dispatch!(chosen_kernel(chosen: Chosen, out: *mut f32)) }
}

#[derive(Clone, Copy)]
struct Chosen {
    /// One weight a chosen row, or what each is multiplied with.
    weights: *const f32,
    rows: *const f32,
    indices: *const u32,
    len: usize,
    dim: usize,
}

#[inline(always)]
unsafe fn chosen_kernel<S: Simd>(chosen: Chosen, out: *mut f32) {
    let mut at = 0;
    // SAFETY: `at` plus the values touched stays within `dim`.
    unsafe {
        while at + 8 * S::LANES <= chosen.dim {
            chosen_columns::<S, 8>(chosen, at, out);
            at += 8 * S::LANES;
        }
        while at + S::LANES <= chosen.dim {
            chosen_columns::<S, 1>(chosen, at, out);
            at += S::LANES;
        }
        for d in at..chosen.dim {
            for i in 0..chosen.len {
                *out.add(d) += *chosen.weights.add(i) * *chosen.rows.add(*chosen.indices.add(i) as usize * chosen.dim + d);
            }
        }
    }
}

#[inline(always)]
unsafe fn chosen_columns<S: Simd, const V: usize>(chosen: Chosen, at: usize, out: *mut f32) {
    // SAFETY: the caller gives `V` vectors of columns from `at`.
    unsafe {
        let mut sums = [S::splat(0.0); V];
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = S::load(out.add(at + v * S::LANES));
        }
        for i in 0..chosen.len {
            if i + AHEAD < chosen.len {
                prefetch(chosen.rows.add(*chosen.indices.add(i + AHEAD) as usize * chosen.dim + at), V * S::LANES);
            }
            let row = chosen.rows.add(*chosen.indices.add(i) as usize * chosen.dim + at);
            let weight = S::splat(*chosen.weights.add(i));
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::mul_add(weight, S::load(row.add(v * S::LANES)), *sum);
            }
        }
        for (v, sum) in sums.iter().enumerate() {
            S::store(out.add(at + v * S::LANES), *sum);
        }
    }
}

/// Adds `weightsᵀ · rows` to `sums`.
///
/// - `weights` `(n, width)`: one weight for each row and each sum.
/// - `rows` `(n, dim)`.
/// - `sums` `(width, dim)`.
pub(crate) fn add_weighted_rows(weights: &[f32], rows: &[f32], dim: usize, sums: &mut [f32]) {
    let (num_rows, width) = (rows.len() / dim, sums.len() / dim);
    assert!(weights.len() >= num_rows * width && rows.len() == num_rows * dim && sums.len() == width * dim);
    let job = Weighted { weights: weights.as_ptr(), rows: rows.as_ptr(), sums: sums.as_mut_ptr(), num_rows, width, dim };
    // SAFETY: the assertion above bounds every access.
    unsafe { dispatch!(weighted_kernel(job: Weighted)) }
}

#[derive(Clone, Copy)]
struct Weighted {
    weights: *const f32,
    rows: *const f32,
    sums: *mut f32,
    num_rows: usize,
    width: usize,
    dim: usize,
}

#[inline(always)]
unsafe fn weighted_kernel<S: Simd>(job: Weighted) {
    let mut at = 0;
    // SAFETY: column and sum ranges stay within `dim` and `width`.
    unsafe {
        while at + 4 * S::LANES <= job.dim {
            weighted_columns::<S, 4>(job, at);
            at += 4 * S::LANES;
        }
        while at + S::LANES <= job.dim {
            weighted_columns::<S, 1>(job, at);
            at += S::LANES;
        }
        for d in at..job.dim {
            for i in 0..job.num_rows {
                let value = *job.rows.add(i * job.dim + d);
                for c in 0..job.width {
                    *job.sums.add(c * job.dim + d) += *job.weights.add(i * job.width + c) * value;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn weighted_columns<S: Simd, const V: usize>(job: Weighted, at: usize) {
    let mut first = 0;
    // SAFETY: sums stay below `width`; the caller gives `V` vectors of columns from `at`.
    unsafe {
        while S::LANES == 16 && first + 6 <= job.width {
            weighted_tile::<S, V, 6>(job, at, first);
            first += 6;
        }
        while first + 3 <= job.width {
            weighted_tile::<S, V, 3>(job, at, first);
            first += 3;
        }
        while first < job.width {
            weighted_tile::<S, V, 1>(job, at, first);
            first += 1;
        }
    }
}

#[inline(always)]
unsafe fn weighted_tile<S: Simd, const V: usize, const R: usize>(job: Weighted, at: usize, first: usize) {
    // SAFETY: `R` sums from `first` and `V` vectors of columns from `at` exist.
    unsafe {
        let out = job.sums.add(first * job.dim + at);
        let mut sums = [[S::splat(0.0); V]; R];
        for i in 0..job.num_rows {
            let row = job.rows.add(i * job.dim + at);
            let weights = job.weights.add(i * job.width + first);
            let mut values = [S::splat(0.0); V];
            for (v, value) in values.iter_mut().enumerate() {
                *value = S::load(row.add(v * S::LANES));
            }
            for (r, sum) in sums.iter_mut().enumerate() {
                let weight = S::splat(*weights.add(r));
                for v in 0..V {
                    sum[v] = S::mul_add(weight, values[v], sum[v]);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            for (v, &value) in sum.iter().enumerate() {
                let to = out.add(r * job.dim + v * S::LANES);
                S::store(to, S::add(S::load(to), value));
            }
        }
    }
}
