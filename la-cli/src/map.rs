//! The bank on a plane: rows that are near in the embedding are near there too.
//!
//! UMAP (McInnes, Healy, Melville 2018, <https://arxiv.org/abs/1802.03426>) with the kernel 1 / (1 + d²), from the principal
//! components. One thread moves the points, so the same bank gives the same map, whatever the number of threads.

mod graph;
mod layout;
mod principal;

use crate::error::{bail, Result};
use graph::{neighbors, Graph, Neighbors};
use la_core::rng::{Rng, Stream};
use la_core::search::{Precision, SearchBank};
use layout::layout;
use principal::principal_components;
use rayon::prelude::*;

/// How a map is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapConfig {
    /// Neighbours that a row is kept near.
    pub num_neighbors: usize,
    /// Rounds of moving the points.
    pub epochs: usize,
    /// The most rows that are laid out; of a larger bank the others go among their nearest of these.
    pub max_laid_out: usize,
}

impl Default for MapConfig {
    fn default() -> Self {
        Self { num_neighbors: 15, epochs: 300, max_laid_out: 20_000 }
    }
}

/// A point for each row, each axis in -1 to 1. The same bank gives the same points.
///
/// - `bank`: rows of unit length. Where no more than `num_neighbors` would be laid out, the principal components are the map.
///
/// Fails where a count of `config` is 0.
pub fn map(bank: &SearchBank, config: &MapConfig) -> Result<Vec<[f32; 2]>> {
    let MapConfig { num_neighbors, epochs, max_laid_out } = *config;
    if num_neighbors == 0 || epochs == 0 || max_laid_out == 0 {
        bail!("map: expected counts of at least 1, got {config:?}");
    }
    if bank.len().min(max_laid_out) <= num_neighbors {
        return Ok(scaled(principal_components(bank)?, 1.0));
    }
    let points = if bank.len() <= max_laid_out { lay_out(bank, config)? } else { lay_out_some(bank, config)? };
    Ok(scaled(points, 1.0))
}

fn lay_out(bank: &SearchBank, config: &MapConfig) -> Result<Vec<[f32; 2]>> {
    let graph = Graph::new(&neighbors(bank, config.num_neighbors)?);
    // Wide beside the steps, which are of the order of 1, so that the components shape what comes of it.
    let mut points = scaled(principal_components(bank)?, 10.0);
    layout(&mut points, &graph, config.epochs);
    Ok(points)
}

/// Lays out rows drawn at random; each other row goes to the mean of its nearest of them, weighed as edges are.
fn lay_out_some(bank: &SearchBank, config: &MapConfig) -> Result<Vec<[f32; 2]>> {
    let mut chosen = Rng::new(Stream::Map, &[bank.len() as u64]).permutation(bank.len());
    chosen.truncate(config.max_laid_out);
    let mut rows = Vec::with_capacity(chosen.len() * bank.dim());
    for &row in &chosen {
        rows.extend(bank.row(row as usize)?);
    }
    let some = SearchBank::from_rows(&rows, bank.dim(), Precision::F32)?;
    let laid_out = lay_out(&some, config)?;
    let mut known = vec![None; bank.len()];
    chosen.iter().zip(&laid_out).for_each(|(&row, &point)| known[row as usize] = Some(point));
    let place = |row: usize| match known[row] {
        Some(point) => Ok(point),
        None => Ok(mean_of(&Neighbors::of(&some.search(&bank.row(row)?, config.num_neighbors)?), &laid_out)),
    };
    (0..bank.len()).into_par_iter().map(place).collect()
}

fn mean_of(neighbors: &Neighbors, points: &[[f32; 2]]) -> [f32; 2] {
    let total: f32 = neighbors.weights.iter().sum();
    let pairs = || neighbors.rows.iter().zip(&neighbors.weights);
    [0, 1].map(|axis| pairs().map(|(&row, weight)| weight * points[row as usize][axis]).sum::<f32>() / total)
}

/// Moved and stretched so that each axis goes from `-largest` to `largest`; an axis without width becomes 0.
fn scaled(mut points: Vec<[f32; 2]>, largest: f32) -> Vec<[f32; 2]> {
    for axis in 0..2 {
        let (low, high) = points.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), p| (low.min(p[axis]), high.max(p[axis])));
        let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
        let factor = if half > 1e-12 { largest / half } else { 0.0 };
        points.iter_mut().for_each(|point| point[axis] = ((point[axis] - middle) * factor).clamp(-largest, largest));
    }
    points
}
