//! The class that a picture's neighbours speak for.

use super::Neighbor;

/// The share of each class: the sum over its neighbours of `exp(score / temperature)`, over the sum of all.
///
/// `labels[row]` is a row's class. Rows without one of the `num_classes` have no vote; where none votes, all are 0.
pub fn vote(neighbors: &[Neighbor], labels: &[u32], num_classes: usize, temperature: f32) -> Vec<f32> {
    let mut shares = vec![0.0; num_classes];
    // Taking the largest from every exponent leaves the shares as they are and keeps them finite.
    let best = neighbors.iter().map(|n| n.score).fold(f32::NEG_INFINITY, f32::max);
    for neighbor in neighbors {
        let class = labels.get(neighbor.row as usize).map(|&label| label as usize);
        if let Some(share) = class.and_then(|class| shares.get_mut(class)) {
            *share += ((neighbor.score - best) / temperature).exp();
        }
    }
    let sum: f32 = shares.iter().sum();
    if sum > 0.0 {
        shares.iter_mut().for_each(|share| *share /= sum);
    }
    shares
}
