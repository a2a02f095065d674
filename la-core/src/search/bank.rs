//! The rows that are searched: a pass over 8-bit codes bounds every score, and what may be among the best is scored exactly.

use super::bounds::{shrink, Bounds, Candidate};
use super::coded::Coded;
use super::{BankEntry, Precision};
use crate::{
    error::bail,
    ops::{
        parallel,
        scan::{largest, Query},
    },
    Result,
};
use half::f16;
use std::ops::Range;

/// The largest magnitude of a stored value: embeddings have unit length, and bounds must stay finite.
const MAX_VALUE: f32 = 1e6;
/// The largest that fits 16 bits: rounded to them, what is larger would be infinite.
const MAX_HALF: f32 = 65504.0;
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

impl SearchBank {
    /// Reads a bank's file as [`BankEntry`] lays it out; every length is checked before anything is allocated.
    pub fn read(entry: &BankEntry, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != entry.num_bytes() {
            bail!("bank: {} must have {} bytes, got {}: export it again", entry.file.path, entry.num_bytes(), bytes.len());
        }
        let mut bank = Self::for_entry(entry)?;
        bank.read_rows(entry, bytes)?;
        Ok(bank)
    }

    /// An empty bank with room for the rows of `entry`.
    pub(super) fn for_entry(entry: &BankEntry) -> Result<Self> {
        let mut bank = Self::empty(entry.dim, entry.precision)?;
        bank.codes.reserve_exact(entry.rows * entry.dim);
        bank.coded.reserve(entry.rows);
        match &mut bank.values {
            Values::F32(values) => values.reserve_exact(entry.rows * entry.dim),
            Values::F16(values) => values.reserve_exact(entry.rows * entry.dim),
            Values::I8 => {}
        }
        Ok(bank)
    }

    /// Adds rows as they lie in a file; of i8, all of them at once.
    pub(super) fn read_rows(&mut self, entry: &BankEntry, bytes: &[u8]) -> Result<()> {
        match entry.precision {
            Precision::F32 => self.read_floats(bytes),
            Precision::F16 => self.read_halves(bytes),
            Precision::I8 => self.read_codes(entry.rows, bytes),
        }
    }

    /// A bank of `rows` `(N, dim)`, rounded to `precision`.
    pub fn from_rows(rows: &[f32], dim: usize, precision: Precision) -> Result<Self> {
        let mut bank = Self::empty(dim, precision)?;
        if !rows.len().is_multiple_of(dim) {
            bail!("bank: expected whole rows of {dim} values, got {} values", rows.len());
        }
        bank.add(rows)?;
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

    /// Adds rows, rounded to the bank's precision.
    fn add(&mut self, rows: &[f32]) -> Result<()> {
        if let Values::F16(_) = self.values {
            self.check_within(rows, MAX_HALF)?;
            return self.read_halves(&rows.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect::<Vec<_>>());
        }
        self.code(rows.len() / self.dim, &|at, row| row.copy_from_slice(&rows[at..at + row.len()]))?;
        if let Values::F32(values) = &mut self.values {
            values.extend_from_slice(rows);
        }
        Ok(())
    }

    fn read_floats(&mut self, bytes: &[u8]) -> Result<()> {
        let floats = |at: usize| bytes[4 * at..].chunks_exact(4).map(float);
        self.code(bytes.len() / 4 / self.dim, &|at, row| row.iter_mut().zip(floats(at)).for_each(|(x, float)| *x = float))?;
        if let Values::F32(values) = &mut self.values {
            values.extend(floats(0));
        }
        Ok(())
    }

    fn read_halves(&mut self, bytes: &[u8]) -> Result<()> {
        let halves = |at: usize| bytes[2 * at..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        self.code(bytes.len() / 2 / self.dim, &|at, row| row.iter_mut().zip(halves(at)).for_each(|(x, half)| *x = widen(half)))?;
        if let Values::F16(values) = &mut self.values {
            values.extend(halves(0).map(f16::from_bits));
        }
        Ok(())
    }

    /// Adds the codes of rows; `read` gives the values from a place on. Nothing is added where a row is refused.
    fn code(&mut self, rows: usize, read: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Result<()> {
        let most = (PART / self.dim).max(1);
        let parts = parallel::map(rows.div_ceil(most), |part| self.code_part(part * most..((part + 1) * most).min(rows), read));
        for (codes, coded) in parts.into_iter().collect::<Result<Vec<_>>>()? {
            self.codes.extend(codes);
            self.coded.append(coded);
        }
        Ok(())
    }

    fn code_part(&self, rows: Range<usize>, read: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Result<(Vec<i8>, Coded)> {
        let (mut codes, mut coded, mut values) = (vec![0; rows.len() * self.dim], Coded::default(), vec![0.0; self.dim]);
        coded.reserve(rows.len());
        for (row, codes) in rows.zip(codes.chunks_exact_mut(self.dim)) {
            read(row * self.dim, &mut values);
            self.check_within(&values, MAX_VALUE)?;
            match self.values {
                Values::I8 => coded.push_rounded(&values, codes),
                _ => coded.push(&values, codes),
            }
        }
        Ok((codes, coded))
    }

    fn read_codes(&mut self, rows: usize, bytes: &[u8]) -> Result<()> {
        let (scales, codes) = bytes.split_at(4 * rows);
        self.codes.extend(codes.iter().map(|&code| code as i8));
        for (scale, codes) in scales.chunks_exact(4).map(float).zip(self.codes.chunks_exact(self.dim)) {
            if !(0.0..=MAX_VALUE).contains(&scale) {
                bail!("bank: expected scales in 0 to {MAX_VALUE}, got {scale} at row {}", self.coded.scale.len());
            }
            self.coded.push_codes(scale, codes);
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
        self.add(embedding)?;
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

    fn check_within(&self, values: &[f32], limit: f32) -> Result<()> {
        if largest(values) <= limit {
            return Ok(());
        }
        match values.iter().find(|x| !x.is_finite() || x.abs() > limit) {
            Some(x) => bail!("bank: expected finite values within {limit}, got {x}"),
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

/// A float of 16 bits, without a branch, so that vectors do it: 2^112 is what its exponent lacks.
fn widen(half: u16) -> f32 {
    let endless = if half & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | endless | u32::from(half & 0x8000) << 16)
}
