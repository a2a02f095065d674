//! The codes of rows, 8 bits for each value, and what they stand for.

use super::bounds::root;
use crate::ops::scan::code;

/// The largest code of a row.
const LIMIT: f32 = 127.0;
/// Sums are made of as many, which vectors hold.
const LANES: usize = 8;

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
        let scale = code(row, LIMIT, codes);
        let norm = squares(row, codes, |x, _| f64::from(x));
        let lost = squares(row, codes, |x, code| f64::from(x) - f64::from(code) * f64::from(scale));
        self.note(scale, root(norm), root(lost), codes);
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

/// `Σ f(value, code)²`, in lanes.
fn squares(row: &[f32], codes: &[i8], f: impl Fn(f32, i8) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (rows, codes) = (row.chunks_exact(LANES), codes.chunks_exact(LANES));
    let rest = rows.remainder().iter().zip(codes.remainder()).map(|(&x, &code)| f(x, code).powi(2)).sum::<f64>();
    for (row, codes) in rows.zip(codes) {
        for lane in 0..LANES {
            let value = f(row[lane], codes[lane]);
            sums[lane] += value * value;
        }
    }
    sums.iter().sum::<f64>() + rest
}
