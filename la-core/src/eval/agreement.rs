//! How far two ways to sort the same items into groups agree, such as clusters and classes: purity, mutual information, Rand index.
//!
//! All are symmetric in the numbering of groups. Values as scikit-learn's.

use crate::{error::bail, Result};
use std::collections::BTreeMap;

/// How many items each pair of groups shares.
struct Contingency {
    shared: BTreeMap<(u32, u32), f64>,
    of_first: BTreeMap<u32, f64>,
    of_second: BTreeMap<u32, f64>,
    total: f64,
}

impl Contingency {
    fn new(first: &[u32], second: &[u32]) -> Result<Self> {
        if first.len() != second.len() || first.is_empty() {
            bail!("expected two groupings of the same items, at least one, got {} and {}", first.len(), second.len());
        }
        let (mut shared, mut of_first, mut of_second) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (&a, &b) in first.iter().zip(second) {
            *shared.entry((a, b)).or_insert(0.0) += 1.0;
            *of_first.entry(a).or_insert(0.0) += 1.0;
            *of_second.entry(b).or_insert(0.0) += 1.0;
        }
        Ok(Self { shared, of_first, of_second, total: first.len() as f64 })
    }

    /// `Σ n_ab / N · ln(N n_ab / (n_a n_b))`
    fn mutual_information(&self) -> f64 {
        let term = |(&(a, b), &n): (&(u32, u32), &f64)| n / self.total * (self.total * n / (self.of_first[&a] * self.of_second[&b])).ln();
        self.shared.iter().map(term).sum()
    }

    fn entropy(&self, sizes: &BTreeMap<u32, f64>) -> f64 {
        -sizes.values().map(|n| n / self.total * (n / self.total).ln()).sum::<f64>()
    }
}

/// The share of items whose class is the most frequent one of their cluster, in 0–1.
///
/// It rises with the number of clusters: one for each item gives 1. Fails where the two differ in length or are empty.
pub fn purity(clusters: &[u32], classes: &[u32]) -> Result<f64> {
    let table = Contingency::new(clusters, classes)?;
    let mut most: BTreeMap<u32, f64> = BTreeMap::new();
    for (&(cluster, _), &n) in &table.shared {
        let largest = most.entry(cluster).or_insert(0.0);
        *largest = largest.max(n);
    }
    Ok(most.values().sum::<f64>() / table.total)
}

/// Normalised mutual information, `I(a; b) / ((H(a) + H(b)) / 2)`, in 0–1; 1 where both are one group.
///
/// Fails where the two differ in length or are empty.
pub fn normalized_mutual_information(first: &[u32], second: &[u32]) -> Result<f64> {
    let table = Contingency::new(first, second)?;
    let mean_entropy = 0.5 * (table.entropy(&table.of_first) + table.entropy(&table.of_second));
    match mean_entropy <= f64::EPSILON {
        true => Ok(1.0),
        false => Ok((table.mutual_information() / mean_entropy).clamp(0.0, 1.0)),
    }
}

/// The adjusted Rand index: the share of pairs that both keep together or both part, such that chance gives 0 and agreement 1
/// (Hubert and Arabie 1985, <https://doi.org/10.1007/BF01908075>). It can be below 0.
///
/// Fails where the two differ in length or are empty.
pub fn adjusted_rand_index(first: &[u32], second: &[u32]) -> Result<f64> {
    let table = Contingency::new(first, second)?;
    let pairs = |n: &f64| n * (n - 1.0) / 2.0;
    let together: f64 = table.shared.values().map(pairs).sum();
    let (in_first, in_second): (f64, f64) = (table.of_first.values().map(pairs).sum(), table.of_second.values().map(pairs).sum());
    let by_chance = in_first * in_second / pairs(&table.total).max(1.0);
    let most = 0.5 * (in_first + in_second);
    match most == by_chance {
        // All in one group, or each alone, in both.
        true => Ok(1.0),
        false => Ok((together - by_chance) / (most - by_chance)),
    }
}
