//! The codes of rows, 8 bits for each value, and what they stand for.

use super::bounds::root;
use crate::ops::scan::{code, largest};

/// The largest code of a row.
const LIMIT: f32 = 127.0;
/// Sums are made of as many, which vectors hold.
const LANES: usize = 8;
/// Values that are summed in 32 bits.
const BLOCK: usize = 512;
/// 1.5 * 2^23: added to a small number it leaves the nearest whole one.
const ROUND: f32 = 12_582_912.0;

/// What each row's codes stand for: `code * scale`, the row's length, that of what coding lost, and the codes' sum.
#[derive(Default)]
pub(super) struct Coded {
    pub scale: Vec<f32>,
    pub norm: Vec<f32>,
    pub error: Vec<f32>,
    pub sum: Vec<i32>,
}

impl Coded {
    /// With room for so many rows.
    pub fn reserve(&mut self, rows: usize) {
        self.scale.reserve_exact(rows);
        self.norm.reserve_exact(rows);
        self.error.reserve_exact(rows);
        self.sum.reserve_exact(rows);
    }

    /// Writes the codes of a row.
    pub fn push(&mut self, row: &[f32], codes: &mut [i8]) {
        let (scale, norm, error) = encode(row, codes);
        self.note(scale, norm, error, codes);
    }

    /// Writes the codes of a row that is kept as its codes.
    pub fn push_rounded(&mut self, row: &[f32], codes: &mut [i8]) {
        let scale = code(row, LIMIT, codes);
        self.push_codes(scale, codes);
    }

    /// A row whose codes are its values.
    pub fn push_codes(&mut self, scale: f32, codes: &[i8]) {
        let norm = codes.iter().map(|&code| (f64::from(code) * f64::from(scale)).powi(2)).sum();
        self.note(scale, root(norm), 0.0, codes);
    }

    fn note(&mut self, scale: f32, norm: f32, error: f32, codes: &[i8]) {
        self.scale.push(scale);
        self.norm.push(norm);
        self.error.push(error);
        self.sum.push(codes.iter().map(|&code| i32::from(code)).sum());
    }

    /// Adds the rows of another.
    pub fn append(&mut self, mut other: Coded) {
        self.scale.append(&mut other.scale);
        self.norm.append(&mut other.norm);
        self.error.append(&mut other.error);
        self.sum.append(&mut other.sum);
    }
}

/// Writes the codes of a row; gives what a step stands for, and bounds of the row's length and of that of what coding lost.
///
/// Sums are made in steps: what they round is known there, however small the values are.
fn encode(row: &[f32], codes: &mut [i8]) -> (f32, f32, f32) {
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
