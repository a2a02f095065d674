//! Selection of the largest scores.

use la_core::{
    ops::top_k::top_k,
    rng::{Rng, Stream},
};

#[test]
fn the_largest_come_first() {
    assert_eq!(top_k(&[0.5, 3.0, -1.0, 2.0], 2), [(1, 3.0), (3, 2.0)]);
}

#[test]
fn equal_scores_go_to_the_lower_index() {
    assert_eq!(top_k(&[1.0, 2.0, 1.0, 2.0, 1.0], 3), [(1, 2.0), (3, 2.0), (0, 1.0)]);
}

#[test]
fn negative_scores_and_infinities_are_ordered() {
    let scores = [-3.0, f32::NEG_INFINITY, -0.5, f32::INFINITY, -2.0];
    assert_eq!(top_k(&scores, 5).iter().map(|found| found.0).collect::<Vec<_>>(), [3, 2, 4, 0, 1]);
}

#[test]
fn nan_counts_as_absent() {
    assert_eq!(top_k(&[f32::NAN, 1.0, f32::NAN], 2), [(1, 1.0)]);
}

#[test]
fn none_of_nothing() {
    assert_eq!(top_k(&[], 3), []);
    assert_eq!(top_k(&[1.0], 0), []);
}

#[test]
fn selection_equals_a_full_sort() {
    let mut rng = Rng::new(Stream::Subset, &[1]);
    // Few distinct values, so that many are equal.
    let scores: Vec<f32> = (0..5000).map(|_| rng.below(300) as f32 / 7.0).collect();
    let mut sorted: Vec<(u32, f32)> = scores.iter().enumerate().map(|(i, &s)| (i as u32, s)).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    for k in [1, 2, 99, 4999, 5000, 6000] {
        assert_eq!(top_k(&scores, k), sorted[..k.min(5000)]);
    }
}
