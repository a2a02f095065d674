//! The small matrices of F(4×4, 3×3), applied to vectors of channels.

use super::{IN, OUT, POINTS};
use crate::ops::simd::{over_lanes, Simd};

/// A small expression language over vectors: sums of constants times values.
#[inline(always)]
unsafe fn combine<S: Simd, const N: usize>(terms: [(f32, S::V); N]) -> S::V {
    // SAFETY: the caller runs on a processor with S.
    unsafe {
        let mut sum = if terms[0].0 == 1.0 { terms[0].1 } else { S::mul(S::splat(terms[0].0), terms[0].1) };
        for &(factor, value) in &terms[1..] {
            sum = match factor {
                1.0 => S::add(sum, value),
                -1.0 => S::sub(sum, value),
                f => S::mul_add(S::splat(f), value, sum),
            };
        }
        sum
    }
}

/// `Bᵀ` along one dimension.
#[inline(always)]
unsafe fn input_row<S: Simd>(d: [S::V; IN]) -> [S::V; IN] {
    // SAFETY: the caller runs on a processor with S.
    unsafe {
        let even = combine::<S, 2>([(1.0, d[4]), (-4.0, d[2])]);
        let odd = combine::<S, 2>([(1.0, d[3]), (-4.0, d[1])]);
        let even2 = S::sub(d[4], d[2]);
        let odd2 = S::mul(S::splat(2.0), S::sub(d[3], d[1]));
        [
            combine::<S, 3>([(4.0, d[0]), (-5.0, d[2]), (1.0, d[4])]),
            S::add(even, odd),
            S::sub(even, odd),
            S::add(even2, odd2),
            S::sub(even2, odd2),
            combine::<S, 3>([(4.0, d[1]), (-5.0, d[3]), (1.0, d[5])]),
        ]
    }
}

/// `Aᵀ` along one dimension.
#[inline(always)]
unsafe fn output_row<S: Simd>(m: [S::V; IN]) -> [S::V; OUT] {
    // SAFETY: the caller runs on a processor with S.
    unsafe {
        let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum2, difference2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum), sum2),
            combine::<S, 2>([(1.0, difference), (2.0, difference2)]),
            combine::<S, 2>([(1.0, sum), (4.0, sum2)]),
            S::add(combine::<S, 2>([(1.0, difference), (8.0, difference2)]), m[5]),
        ]
    }
}

/// `A` along one dimension.
#[inline(always)]
unsafe fn grad_row<S: Simd>(y: [S::V; OUT]) -> [S::V; IN] {
    // SAFETY: the caller runs on a processor with S.
    unsafe {
        let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
        let even2 = combine::<S, 2>([(1.0, y[0]), (4.0, y[2])]);
        let odd2 = combine::<S, 2>([(2.0, y[1]), (8.0, y[3])]);
        [y[0], S::add(even, odd), S::sub(even, odd), S::add(even2, odd2), S::sub(even2, odd2), y[3]]
    }
}

/// `G` along one dimension.
#[inline(always)]
unsafe fn weight_row<S: Simd>(g: [S::V; 3]) -> [S::V; IN] {
    // SAFETY: the caller runs on a processor with S.
    unsafe {
        let outer = combine::<S, 2>([(-1.0 / 6.0, g[0]), (-1.0 / 6.0, g[2])]);
        let inner = S::mul(S::splat(1.0 / 6.0), g[1]);
        let outer2 = combine::<S, 2>([(1.0 / 24.0, g[0]), (1.0 / 6.0, g[2])]);
        let inner2 = S::mul(S::splat(1.0 / 12.0), g[1]);
        [S::mul(S::splat(0.25), g[0]), S::sub(outer, inner), S::add(outer, inner), S::add(outer2, inner2), S::sub(outer2, inner2), g[2]]
    }
}

/// `Gᵀ` along one dimension.
#[inline(always)]
unsafe fn tap_row<S: Simd>(u: [S::V; IN]) -> [S::V; 3] {
    // SAFETY: the caller runs on a processor with S.
    unsafe {
        let (sum, difference) = (S::add(u[1], u[2]), S::sub(u[2], u[1]));
        let (sum2, difference2) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
        [
            combine::<S, 3>([(0.25, u[0]), (-1.0 / 6.0, sum), (1.0 / 24.0, sum2)]),
            combine::<S, 2>([(1.0 / 6.0, difference), (1.0 / 12.0, difference2)]),
            combine::<S, 3>([(-1.0 / 6.0, sum), (1.0 / 6.0, sum2), (1.0, u[5])]),
        ]
    }
}

/// Applies `$row` to the columns, then to the rows, of a `$from × $from` block: `$to × $to` values.
///
/// Loops and no closures: a closure has not the instruction set of the function around it, and where the compiler leaves it a
/// function of its own, every operation in it becomes a call.
macro_rules! both_ways {
    ($s:ident, $row:ident, $from:expr, $to:expr, |$y:ident, $x:ident| $load:expr) => {{
        let mut half = [[$s::splat(0.0); $from]; $to];
        for $x in 0..$from {
            let mut column = [$s::splat(0.0); $from];
            for $y in 0..$from {
                column[$y] = $load;
            }
            for (half, value) in half.iter_mut().zip($row::<$s>(column)) {
                half[$x] = value;
            }
        }
        let mut whole = [[$s::splat(0.0); $to]; $to];
        for (whole, &half) in whole.iter_mut().zip(&half) {
            *whole = $row::<$s>(half);
        }
        whole
    }};
}

/// `Bᵀ d B` of a tile of inputs, to 36 rows that lie `stride` apart.
#[inline(always)]
pub(super) unsafe fn inputs_to_points<S: Simd>(from: &[*const f32; POINTS], to: *mut f32, stride: usize, channels: usize) {
    // SAFETY: the caller gives `channels` values at each pointer and 36 output rows.
    unsafe { over_lanes!(S, channels, c, inputs_column(from, to, stride, c)) }
}

#[inline(always)]
unsafe fn inputs_column<S: Simd>(from: &[*const f32; POINTS], to: *mut f32, stride: usize, c: usize) {
    // SAFETY: as in `inputs_to_points`.
    unsafe {
        let points = both_ways!(S, input_row, IN, IN, |y, x| S::load(from[y * IN + x].add(c)));
        for (i, &value) in points.iter().flatten().enumerate() {
            S::store(to.add(i * stride + c), value);
        }
    }
}

/// `A dY Aᵀ` of a tile of output gradients.
#[inline(always)]
pub(super) unsafe fn grads_to_points<S: Simd>(from: &[*const f32; OUT * OUT], to: *mut f32, stride: usize, columns: usize) {
    // SAFETY: the caller gives `columns` values at each pointer and 36 output rows.
    unsafe { over_lanes!(S, columns, c, grads_column(from, to, stride, c)) }
}

#[inline(always)]
unsafe fn grads_column<S: Simd>(from: &[*const f32; OUT * OUT], to: *mut f32, stride: usize, c: usize) {
    // SAFETY: as in `grads_to_points`.
    unsafe {
        let points = both_ways!(S, grad_row, OUT, IN, |y, x| S::load(from[y * OUT + x].add(c)));
        for (i, &value) in points.iter().flatten().enumerate() {
            S::store(to.add(i * stride + c), value);
        }
    }
}

/// `G g Gᵀ` of nine rows of weights.
#[inline(always)]
pub(super) unsafe fn weights_to_points<S: Simd>(from: *const f32, to: *mut f32, stride: usize, width: usize) {
    // SAFETY: the caller gives nine rows to read and 36 to write, `width` values each, `stride` apart.
    unsafe { over_lanes!(S, width, c, weights_column(from, to, stride, c)) }
}

#[inline(always)]
unsafe fn weights_column<S: Simd>(from: *const f32, to: *mut f32, stride: usize, c: usize) {
    // SAFETY: as in `weights_to_points`.
    unsafe {
        let points = both_ways!(S, weight_row, 3, IN, |y, x| S::load(from.add((y * 3 + x) * stride + c)));
        for (i, &value) in points.iter().flatten().enumerate() {
            S::store(to.add(i * stride + c), value);
        }
    }
}

/// `Gᵀ u G`: 36 rows of sums to nine rows of weight gradients.
#[inline(always)]
pub(super) unsafe fn points_to_taps<S: Simd>(from: *const f32, to: *mut f32, stride: usize, count: usize) {
    // SAFETY: the caller gives 36 rows to read and nine to write, `count` values each, `stride` apart.
    unsafe { over_lanes!(S, count, c, taps_column(from, to, stride, c)) }
}

#[inline(always)]
unsafe fn taps_column<S: Simd>(from: *const f32, to: *mut f32, stride: usize, c: usize) {
    // SAFETY: as in `points_to_taps`.
    unsafe {
        let taps = both_ways!(S, tap_row, IN, 3, |y, x| S::load(from.add((y * IN + x) * stride + c)));
        for (i, &value) in taps.iter().flatten().enumerate() {
            S::store(to.add(i * stride + c), value);
        }
    }
}

/// `Aᵀ m A` of a tile of products, to the outputs that are not null.
#[inline(always)]
pub(super) unsafe fn points_to_outputs<S: Simd>(
    from: *const f32,
    stride: usize,
    to: &[*mut f32; OUT * OUT],
    columns: usize,
    accumulate: bool,
) {
    // SAFETY: the caller gives 36 rows to read and `columns` values at each pointer that is not null.
    unsafe { over_lanes!(S, columns, c, outputs_column(from, stride, to, c, accumulate)) }
}

#[inline(always)]
unsafe fn outputs_column<S: Simd>(from: *const f32, stride: usize, to: &[*mut f32; OUT * OUT], c: usize, accumulate: bool) {
    // SAFETY: as in `points_to_outputs`.
    unsafe {
        let outputs = both_ways!(S, output_row, IN, OUT, |y, x| S::load(from.add((y * IN + x) * stride + c)));
        for (&to, &value) in to.iter().zip(outputs.iter().flatten()) {
            if !to.is_null() {
                let at = to.add(c);
                S::store(at, if accumulate { S::add(S::load(at), value) } else { value });
            }
        }
    }
}
