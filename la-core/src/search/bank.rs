//! The rows that are searched: a pass over 8-bit codes bounds every score, and what may be among the best is scored exactly.

use super::bounds::{length, shrink, Bounds, Candidate};
use super::{BankEntry, Precision};
use crate::{
    error::bail,
    ops::{
        parallel,
        scan::{encode, Query},
    },
    Result,
};
use half::f16;
use std::ops::Range;

/// The largest magnitude of a stored value: embeddings have unit length, and bounds must stay finite.
const MAX_VALUE: f32 = 1e6;
/// The largest code of a row.
const LIMIT: f32 = 127.0;
/// Rows whose products are looked at together.
const BLOCK: usize = 256;
/// Codes worth a thread of their own: reading as many takes longer than waking it.
const PART: usize = 1 << 21;
/// The most values of a row: products of codes are summed in 32 bits.
const MAX_DIM: usize = 1 << 16;

/// A found row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Its number.
    pub row: u32,
    /// Its product with the query.
    pub score: f32,
}

/// Embeddings as stored, with a code of 8 bits for each value; for i8 the codes are the values.
pub struct SearchBank {
    dim: usize,
    values: Values,
    codes: Vec<i8>,
    coded: Coded,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    I8,
}

/// What each row's codes stand for: `code * scale`, the row's length, that of what coding lost, and the codes' sum.
#[derive(Default)]
struct Coded {
    scale: Vec<f32>,
    norm: Vec<f32>,
    error: Vec<f32>,
    sum: Vec<i32>,
}

impl Coded {
    fn reserve(&mut self, rows: usize) {
        self.scale.reserve_exact(rows);
        self.norm.reserve_exact(rows);
        self.error.reserve_exact(rows);
        self.sum.reserve_exact(rows);
    }

    fn push(&mut self, scale: f32, norm: f32, error: f32, codes: &[i8]) {
        self.scale.push(scale);
        self.norm.push(norm);
        self.error.push(error);
        self.sum.push(codes.iter().map(|&code| i32::from(code)).sum());
    }
}

impl SearchBank {
    /// Reads a bank's file as [`BankEntry`] lays it out; every length is checked before anything is allocated.
    pub fn read(entry: &BankEntry, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != entry.num_bytes() {
            bail!("bank: {} must have {} bytes, got {}: export it again", entry.file.path, entry.num_bytes(), bytes.len());
        }
        let mut bank = Self::empty(entry.dim, entry.precision)?;
        match entry.precision {
            Precision::F32 => bank.append(&mut bytes.chunks_exact(4 * entry.dim).map(|row| row.chunks_exact(4).map(float).collect()))?,
            Precision::F16 => bank.append(&mut bytes.chunks_exact(2 * entry.dim).map(|row| row.chunks_exact(2).map(half).collect()))?,
            Precision::I8 => bank.append_codes(entry.rows, bytes)?,
        }
        Ok(bank)
    }

    /// A bank of `rows` `(N, dim)`, rounded to `precision`.
    pub fn from_rows(rows: &[f32], dim: usize, precision: Precision) -> Result<Self> {
        let mut bank = Self::empty(dim, precision)?;
        if !rows.len().is_multiple_of(dim) {
            bail!("bank: expected whole rows of {dim} values, got {} values", rows.len());
        }
        bank.append(&mut rows.chunks_exact(dim).map(<[f32]>::to_vec))?;
        Ok(bank)
    }

    fn empty(dim: usize, precision: Precision) -> Result<Self> {
        if !(1..=MAX_DIM).contains(&dim) {
            bail!("bank: expected rows of 1 to {MAX_DIM} values, got {dim}");
        }
        let values = match precision {
            Precision::F32 => Values::F32(Vec::new()),
            Precision::F16 => Values::F16(Vec::new()),
            Precision::I8 => Values::I8,
        };
        Ok(Self { dim, values, codes: Vec::new(), coded: Coded::default() })
    }

    fn append(&mut self, rows: &mut dyn ExactSizeIterator<Item = Vec<f32>>) -> Result<()> {
        self.codes.reserve_exact(rows.len() * self.dim);
        self.coded.reserve(rows.len());
        match &mut self.values {
            Values::F32(values) => values.reserve_exact(rows.len() * self.dim),
            Values::F16(values) => values.reserve_exact(rows.len() * self.dim),
            Values::I8 => {}
        }
        for row in rows {
            self.push(&row)?;
        }
        Ok(())
    }

    fn append_codes(&mut self, rows: usize, bytes: &[u8]) -> Result<()> {
        let (scales, codes) = bytes.split_at(4 * rows);
        self.codes = codes.iter().map(|&code| code as i8).collect();
        self.coded.reserve(rows);
        for (scale, codes) in scales.chunks_exact(4).map(float).zip(self.codes.chunks_exact(self.dim)) {
            if !(0.0..=MAX_VALUE).contains(&scale) {
                bail!("bank: expected scales in 0 to {MAX_VALUE}, got {scale} at row {}", self.coded.scale.len());
            }
            self.coded.push(scale, length(codes.iter().map(|&code| f64::from(code) * f64::from(scale))), 0.0, codes);
        }
        Ok(())
    }

    /// The file that [`BankEntry`] describes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.values {
            Values::F32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Values::F16(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Values::I8 => {
                let scales = self.coded.scale.iter().flat_map(|scale| scale.to_le_bytes());
                scales.chain(self.codes.iter().map(|&code| code as u8)).collect()
            }
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.coded.scale.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The stored values of a row.
    pub fn row(&self, row: usize) -> Result<Vec<f32>> {
        if row >= self.len() {
            bail!("bank: expected a row below {}, got {row}", self.len());
        }
        Ok((0..self.dim).map(|i| self.value(row, i)).collect())
    }

    fn value(&self, row: usize, i: usize) -> f32 {
        let at = row * self.dim + i;
        match &self.values {
            Values::F32(values) => values[at],
            Values::F16(values) => values[at].to_f32(),
            Values::I8 => f32::from(self.codes[at]) * self.coded.scale[row],
        }
    }

    /// Adds a row, rounded to the bank's precision; gives its number.
    pub fn push(&mut self, embedding: &[f32]) -> Result<usize> {
        self.check("embedding", embedding)?;
        // Rounded to 16 bits, what is larger would be infinite.
        let limit = if matches!(self.values, Values::F16(_)) { 65504.0 } else { MAX_VALUE };
        if let Some(x) = embedding.iter().find(|x| x.abs() > limit) {
            bail!("bank: expected values within {limit}, got {x} in row {}", self.len());
        }
        let stored: Vec<f32> = match &mut self.values {
            Values::F16(values) => embedding.iter().map(|&x| f16::from_f32(x)).inspect(|&x| values.push(x)).map(f16::to_f32).collect(),
            Values::F32(values) => {
                values.extend_from_slice(embedding);
                embedding.to_vec()
            }
            Values::I8 => embedding.to_vec(),
        };
        let (scale, codes) = encode(&stored, LIMIT);
        let decoded = codes.iter().map(|&code| f64::from(code) * f64::from(scale));
        let (norm, error) = match self.values {
            Values::I8 => (length(decoded), 0.0),
            _ => {
                let lost = stored.iter().zip(decoded).map(|(&x, y)| f64::from(x) - y);
                (length(stored.iter().map(|&x| f64::from(x))), length(lost))
            }
        };
        self.codes.extend(codes.iter().map(|&code| code as i8));
        self.coded.push(scale, norm, error, &self.codes[self.codes.len() - self.dim..]);
        Ok(self.len() - 1)
    }

    fn check(&self, what: &str, values: &[f32]) -> Result<()> {
        if values.len() != self.dim {
            bail!("{what}: expected {} values, as the bank's rows have, got {}", self.dim, values.len());
        }
        match values.iter().find(|x| !x.is_finite()) {
            Some(x) => bail!("{what}: expected finite values, got {x}"),
            None => Ok(()),
        }
    }

    /// The `k` rows with the largest products with `query`, best first; equal scores go to the lower row.
    ///
    /// Exact over the stored values. All rows come back where there are fewer than `k`.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Neighbor>> {
        self.check("query", query)?;
        if let Some(x) = query.iter().find(|x| x.abs() > MAX_VALUE) {
            bail!("query: expected values within {MAX_VALUE}, got {x}");
        }
        let k = k.min(self.len());
        if k == 0 {
            return Ok(Vec::new());
        }
        let candidates = self.candidates(query, k);
        let mut found: Vec<_> = candidates.iter().map(|c| Neighbor { row: c.row, score: self.score(c.row as usize, query) }).collect();
        found.sort_unstable_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal).then(a.row.cmp(&b.row)));
        found.truncate(k);
        Ok(found)
    }

    /// Every row that may be among the `k` best, and few others. Each part gives its own best: how many there are changes nothing.
    fn candidates(&self, values: &[f32], k: usize) -> Vec<Candidate> {
        let query = Query::new(values);
        let bounds = Bounds::new(values, &query);
        let parts = self.codes.len().div_ceil(PART).min(parallel::threads());
        let rows = self.len().div_ceil(parts);
        let mut kept =
            parallel::map(parts, |part| self.candidates_in(part * rows..((part + 1) * rows).min(self.len()), &query, &bounds, k)).concat();
        shrink(&mut kept, k);
        kept
    }

    fn candidates_in(&self, part: Range<usize>, query: &Query, bounds: &Bounds, k: usize) -> Vec<Candidate> {
        let (mut kept, mut floor, mut limit) = (Vec::new(), f32::NEG_INFINITY, 2 * k + 512);
        let (mut dots, mut highs) = ([0; BLOCK], [0.0; BLOCK]);
        for first in part.clone().step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(part.end);
            let (dots, highs) = (&mut dots[..rows.len()], &mut highs[..rows.len()]);
            query.dots(&self.codes[first * self.dim..rows.end * self.dim], &self.coded.sum[rows.clone()], dots);
            let coded = [&self.coded.scale, &self.coded.norm, &self.coded.error].map(|of| &of[rows.clone()]);
            if bounds.highs(dots, coded, highs) < floor {
                continue;
            }
            for (i, row) in rows.enumerate().filter(|&(i, _)| highs[i] >= floor) {
                kept.push(Candidate { row: row as u32, low: bounds.low(highs[i], coded[1][i], coded[2][i]), high: highs[i] });
            }
            if kept.len() > limit {
                floor = shrink(&mut kept, k);
                limit = limit.max(2 * kept.len());
            }
        }
        kept
    }

    /// A row's product with the query, summed in 64 bits.
    fn score(&self, row: usize, query: &[f32]) -> f32 {
        query.iter().enumerate().map(|(i, &q)| f64::from(q) * f64::from(self.value(row, i))).sum::<f64>() as f32
    }
}

fn float(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}
