//! The class that a picture's neighbours speak for.

use super::Neighbor;

/// The share of each class: the sum over its neighbours of `exp(score / temperature)`, over the sum of all.
///
/// `labels[row]` is a row's class. Rows without one of the `num_classes` have no vote; where none votes, all are 0.
pub fn vote(neighbors: &[Neighbor], labels: &[u32], num_classes: usize, temperature: f32) -> Vec<f32> {
    let label = |row: u32| labels.get(row as usize).copied().unwrap_or(u32::MAX);
    let mut weights = vec![0.0; num_classes];
    add_votes(neighbors.iter().map(|neighbor| (label(neighbor.row), neighbor.score)), f64::from(temperature), &mut weights);
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| if sum > 0.0 { (weight / sum) as f32 } else { 0.0 }).collect()
}

/// Adds `exp(score / temperature)` of each neighbour, a label and a score, to its class; all divided by that of the largest score.
pub(crate) fn add_votes(neighbors: impl Iterator<Item = (u32, f32)> + Clone, temperature: f64, weights: &mut [f64]) {
    // Taking the largest from every exponent leaves the shares as they are and keeps them finite.
    let best = neighbors.clone().map(|(_, score)| score).fold(f32::NEG_INFINITY, f32::max);
    for (label, score) in neighbors {
        if let Some(weight) = weights.get_mut(label as usize) {
            *weight += (f64::from(score - best) / temperature).exp();
        }
    }
}
