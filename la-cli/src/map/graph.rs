//! Which rows a map keeps near each other, and how near.

use crate::error::Result;
use la_core::search::{Neighbor, SearchBank};
use rayon::prelude::*;

/// Rounds in which the width of a neighbourhood is found.
const BISECTIONS: usize = 40;

/// The neighbours of a row, nearest first, with weights in 0 to 1.
pub(super) struct Neighbors {
    pub rows: Vec<u32>,
    pub weights: Vec<f32>,
}

impl Neighbors {
    /// `exp(-(d - ρ) / σ)` over distances `d = 1 - score`: `ρ` is the smallest, and `σ` makes the sum `log2(K)`.
    pub fn of(found: &[Neighbor]) -> Self {
        let distances: Vec<f32> = found.iter().map(|neighbor| (found[0].score - neighbor.score).max(0.0)).collect();
        let (target, mut low, mut high) = ((found.len() as f32).log2(), 0.0f32, 4.0f32);
        for _ in 0..BISECTIONS {
            let width = (low + high) / 2.0;
            let sum: f32 = distances.iter().map(|d| (-d / width).exp()).sum();
            (low, high) = if sum > target { (low, width) } else { (width, high) };
        }
        // Where more are equally near than the sum allows, no width is small enough: they weigh 1, and all others nothing.
        let width = high.max(1e-6);
        Self { rows: found.iter().map(|neighbor| neighbor.row).collect(), weights: distances.iter().map(|d| (-d / width).exp()).collect() }
    }
}

/// The `k` nearest other rows of each.
pub(super) fn neighbors(bank: &SearchBank, k: usize) -> Result<Vec<Neighbors>> {
    let of = |row: usize| {
        let mut found = bank.search(&bank.row(row)?, k + 1)?;
        found.retain(|neighbor| neighbor.row as usize != row);
        found.truncate(k);
        Ok(Neighbors::of(&found))
    };
    (0..bank.len()).into_par_iter().map(of).collect()
}

/// Pairs of rows, each in both directions, by the first row.
pub(super) struct Graph {
    pub edges: Vec<Edge>,
}

/// Two rows and how strongly they belong together, in 0 to 1.
pub(super) struct Edge {
    pub from: u32,
    pub to: u32,
    pub weight: f32,
}

impl Graph {
    /// Either of two rows may have named the other: `a + b - a b`.
    pub fn new(neighbors: &[Neighbors]) -> Self {
        let mut edges = Vec::new();
        for (row, of) in neighbors.iter().enumerate() {
            for (&other, &weight) in of.rows.iter().zip(&of.weights) {
                edges.push(Edge { from: row as u32, to: other, weight });
                edges.push(Edge { from: other, to: row as u32, weight });
            }
        }
        edges.sort_by_key(|edge| (edge.from, edge.to));
        edges.dedup_by(|second, first| {
            let is_same = (second.from, second.to) == (first.from, first.to);
            if is_same {
                first.weight += second.weight - first.weight * second.weight;
            }
            is_same
        });
        Self { edges }
    }
}
