//! How dense the neighbourhoods of an embedding are: figure 2 of Zhuang et al. 2019 (<https://arxiv.org/abs/1903.12355>).

use crate::error::{bail, Result};
use candle_core::Tensor;
use la_core::eval::knn::nearest;

/// As published: neighbours whose similarity is the local density, and the ranks of those that are the background.
const LOCAL: usize = 30;
const BACKGROUND: (usize, usize) = (1000, 4096);
/// The fewest rows that have both.
const FEWEST: usize = 8;
/// Queries of one search: each keeps up to 4096 neighbours.
const QUERIES: usize = 256;

/// Which neighbours are averaged, counted from 1 without the row itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// The nearest ones, for the local density.
    pub local: usize,
    /// The first and the last one of the background.
    pub background: (usize, usize),
    /// Whether these are the published ranks: 30, and 1000 to 4096.
    pub is_published: bool,
}

impl Ranks {
    /// The published ranks where there are so many rows; else those of the background shrink as much as 4096 does to N - 1.
    pub fn of(num_rows: usize) -> Self {
        let others = num_rows.saturating_sub(1);
        if others >= BACKGROUND.1 {
            return Self { local: LOCAL, background: BACKGROUND, is_published: true };
        }
        let first = (BACKGROUND.0 * others / BACKGROUND.1).max(2);
        Self { local: LOCAL.min(first - 1), background: (first, others.max(first)), is_published: false }
    }
}

/// Mean similarities of some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Densities {
    /// To the nearest others.
    pub local: Vec<f32>,
    /// To others farther away.
    pub background: Vec<f32>,
    /// Which ones these are.
    pub ranks: Ranks,
}

/// The densities at the rows `queries` of `bank` `(N, D)`, unit rows.
///
/// `progress` is told how many queries are done. Fails where there are fewer than 8 rows, a query is not one of them, or a value is
/// not finite.
pub fn densities(bank: &Tensor, queries: &[u32], progress: &mut dyn FnMut(usize)) -> Result<Densities> {
    let num_rows = bank.dim(0)?;
    if num_rows < FEWEST {
        bail!("densities need at least {FEWEST} rows, got {num_rows}");
    }
    if let Some(row) = queries.iter().find(|&&row| row as usize >= num_rows) {
        bail!("densities are asked for of row {row}, and there are {num_rows}");
    }
    let ranks = Ranks::of(num_rows);
    let k = ranks.background.1 + 1;
    let mut found = Densities { local: Vec::new(), background: Vec::new(), ranks };
    for part in queries.chunks(QUERIES) {
        let asked = bank.index_select(&Tensor::new(part, bank.device())?, 0)?;
        let nearest = nearest(bank, &asked, k)?;
        for ((indices, scores), &row) in nearest.indices.chunks(k).zip(nearest.scores.chunks(k)).zip(part) {
            // Among more copies of a row than neighbours it may not be one of them: then the last goes.
            let own = indices.iter().position(|&index| index == row).unwrap_or(k - 1);
            let others: Vec<f32> = scores[..own].iter().chain(&scores[own + 1..]).copied().collect();
            found.local.push(mean(&others[..ranks.local]));
            found.background.push(mean(&others[ranks.background.0 - 1..ranks.background.1]));
        }
        progress(found.local.len());
    }
    Ok(found)
}

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64) as f32
}
