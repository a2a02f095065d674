//! The codes of rows, 8 bits for each value, and what they stand for.

use crate::ops::{
    codes::{encode, root, LIMIT},
    scan::code,
};

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
