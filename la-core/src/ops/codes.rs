//! Rows as 8-bit codes: `code · scale`, with bounds of what that loses.

use super::scan::largest;

/// The largest code of a row.
pub(crate) const LIMIT: f32 = 127.0;
/// Sums are made of as many, which vectors hold.
const LANES: usize = 8;
/// Values that are summed in 32 bits.
const BLOCK: usize = 512;
/// 1.5 * 2^23: added to a small number it leaves the nearest whole one.
const ROUND: f32 = 12_582_912.0;

/// Writes the codes of a row; gives what a step stands for, and bounds of the row's length and of that of what coding lost.
///
/// Sums are made in steps: what they round is known there, however small the values are.
pub(crate) fn encode(row: &[f32], codes: &mut [i8]) -> (f32, f32, f32) {
    let largest = largest(row);
    let scale = largest / LIMIT;
    if scale < f32::MIN_POSITIVE {
        codes.fill(0);
        let norm = root(row.len() as f64 * f64::from(largest).powi(2));
        return (0.0, norm, norm);
    }
    let (mut squares, mut lost) = (0.0, 0.0);
    for (row, codes) in row.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)) {
        let sums = encode_block(row, scale, codes);
        squares += f64::from(sums[0]);
        lost += f64::from(sums[1]);
    }
    // Each step may be off by 2^-17, as 127 / 2^24 is less, and each of at most 66 additions by 2^-24 of its sum.
    let rounded = (row.len() as f64).sqrt() / 131_072.0;
    let bound = |squares: f64| root((f64::from(scale) * ((squares * (1.0 + 1e-5)).sqrt() + rounded)).powi(2));
    (scale, bound(squares), bound(lost))
}

/// The sums of the squares of the values, and of what coding loses of them, both in steps.
fn encode_block(row: &[f32], scale: f32, codes: &mut [i8]) -> [f32; 2] {
    let (mut squares, mut lost) = ([0.0; LANES], [0.0; LANES]);
    let mut encode = |lane: usize, x: f32, code: &mut i8| {
        let steps = x / scale;
        // Of a float as large as this the lowest bits are the whole number next to what was added.
        let shifted = steps + ROUND;
        *code = shifted.to_bits() as i8;
        let error = steps - (shifted - ROUND);
        squares[lane] += steps * steps;
        lost[lane] += error * error;
    };
    let (mut rows, mut codes) = (row.chunks_exact(LANES), codes.chunks_exact_mut(LANES));
    for (row, codes) in rows.by_ref().zip(codes.by_ref()) {
        for lane in 0..LANES {
            encode(lane, row[lane], &mut codes[lane]);
        }
    }
    for (lane, (&x, code)) in rows.remainder().iter().zip(codes.into_remainder()).enumerate() {
        encode(lane, x, code);
    }
    [squares, lost].map(|sums| sums.iter().sum())
}

/// A vector's length from the sum of its squares, rounded up: bounds are made of it.
pub(crate) fn root(squares: f64) -> f32 {
    ((squares.sqrt() * (1.0 + 1e-9)) as f32).next_up()
}
