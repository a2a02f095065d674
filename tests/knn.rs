//! Nearest neighbours and the weighted kNN classifier.

mod support;

use candle_core::{Device, Tensor};
use la_core::eval::knn::{classify, knn_accuracy, leave_one_out_accuracy, nearest, without, KnnConfig, Neighbors};
use la_core::rng::{Rng, Stream};
use support::clouds::{on_threads, tensor, unit_rows};
use support::golden;

/// Indices and scores of the `k` largest products, in f64 by full sort.
fn brute_force(bank: &[f32], query: &[f32], k: usize) -> Vec<(u32, f64)> {
    let product = |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut all: Vec<(u32, f64)> = bank.chunks(query.len()).enumerate().map(|(i, row)| (i as u32, product(row))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

#[track_caller]
fn assert_nearest(bank: &[f32], queries: &[f32], dim: usize, k: usize) {
    let found = nearest(&tensor(bank.to_vec(), dim), &tensor(queries.to_vec(), dim), k).unwrap();
    for (q, query) in queries.chunks(dim).enumerate() {
        let expected = brute_force(bank, query, k);
        for (at, &(index, score)) in expected.iter().enumerate() {
            let (found_index, found_score) = (found.indices[q * k + at], found.scores[q * k + at]);
            assert!((f64::from(found_score) - score).abs() < 2e-6, "query {q}, neighbor {at}: {found_score} for {score}");
            // Where the order differs the two scores are one in f32.
            if found_index != index {
                let row = &bank[found_index as usize * dim..][..dim];
                let other = row.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                assert!((other - score).abs() < 2e-6, "query {q}, neighbor {at}: row {found_index} for {index}");
            }
        }
        let mut distinct = found.indices[q * k..(q + 1) * k].to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), k);
    }
}

#[test]
fn golden_knn_holds() {
    for name in ["knn_1", "knn_20", "knn_200"] {
        let golden = golden(name);
        let (k, temperature) = (golden.number("k") as usize, golden.number("temperature"));
        let found = nearest(golden.get("bank"), golden.get("queries"), k).unwrap();
        let scores = golden.values("scores");
        assert!(found.scores.iter().zip(&scores).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs()), "{name}: scores");
        let pairs = found.indices.iter().zip(golden.indices("neighbors")).enumerate();
        for (at, _) in pairs.filter(|(_, (a, b))| **a != *b) {
            // Only neighbours of equal score may stand in another order.
            let is_tied = |other: usize| other < scores.len() && (scores[at] - scores[other]).abs() <= 2e-7;
            assert!(is_tied(at.wrapping_sub(1)) || is_tied(at + 1), "{name}: neighbor {at}");
        }
        let labels = golden.indices("labels");
        let num_classes = *labels.iter().max().unwrap() as usize + 1;
        let votes = classify(&found, &labels, num_classes, temperature).unwrap();
        assert_eq!(votes.iter().map(|vote| vote.predicted).collect::<Vec<_>>(), golden.indices("predicted"), "{name}");
        let confidence = golden.values("confidence");
        assert!(votes.iter().zip(confidence).all(|(vote, c)| (vote.confidence - c).abs() <= 1e-4 * c), "{name}: confidence");
    }
}

#[test]
fn neighbors_are_those_of_a_full_sort() {
    for (n, dim, num_queries, k) in [(1, 1, 1, 1), (50, 3, 7, 50), (1000, 128, 33, 5), (3001, 20, 70, 200), (700, 129, 5, 7)] {
        assert_nearest(&unit_rows(n, dim, n.div_ceil(9), 0.5, 1), &unit_rows(num_queries, dim, num_queries, 0.5, 2), dim, k);
    }
}

#[test]
fn neighbors_are_those_of_a_full_sort_where_a_coarse_pass_comes_first() {
    for (n, dim, k) in [(9000, 128, 100), (5000, 33, 10), (2000, 5, 1)] {
        assert_nearest(&unit_rows(n, dim, 40, 0.4, 3), &unit_rows(40, dim, 40, 0.4, 4), dim, k);
        assert_nearest(&unit_rows(n, dim, n, 1.0, 3), &unit_rows(40, dim, 40, 1.0, 4), dim, k);
    }
}

#[test]
fn a_sample_that_misleads_loses_no_neighbor() {
    // The search looks at one row of each 16 first; here these are the only near ones, and fewer than k.
    let (n, k) = (9000, 600);
    let mut rng = Rng::new(Stream::Subset, &[16]);
    let mut bank = unit_rows(n, 8, n, 1.0, 7);
    for first in (0..n).step_by(16) {
        let chosen = first + rng.below(16.min(n - first));
        bank[chosen * 8..(chosen + 1) * 8].copy_from_slice(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
    let query = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].repeat(2);
    assert_nearest(&bank, &query, 8, k);
    assert_nearest(&bank, &query, 8, 140);
}

#[test]
fn rows_of_very_different_lengths_are_ranked_exactly() {
    let mut bank = unit_rows(3000, 16, 3000, 1.0, 5);
    bank.chunks_mut(16).enumerate().for_each(|(i, row)| row.iter_mut().for_each(|x| *x *= if i % 3 == 0 { 1e-3 } else { 1.0 }));
    bank[16 * 77..16 * 78].fill(0.0);
    assert_nearest(&bank, &unit_rows(9, 16, 9, 1.0, 6), 16, 20);
}

#[test]
fn equal_scores_go_to_the_lower_index() {
    let bank = tensor([1.0, 0.0].repeat(10_000), 2);
    let found = nearest(&bank, &tensor(vec![1.0, 0.0, 0.6, 0.8], 2), 3).unwrap();
    assert_eq!(found.indices, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn neighbors_do_not_depend_on_the_number_of_threads() {
    let (bank, queries) = (tensor(unit_rows(8000, 64, 90, 0.5, 7), 64), tensor(unit_rows(100, 64, 90, 0.5, 8), 64));
    let found = [1, 2, 3].map(|threads| on_threads(threads, || nearest(&bank, &queries, 50).unwrap()));
    assert!(found[0] == found[1] && found[1] == found[2]);
}

#[test]
fn the_vote_is_that_of_the_hand_calculation() {
    let neighbors = Neighbors { indices: vec![0, 1, 2], scores: vec![0.9, 0.8, 0.8], k: 3 };
    // exp(9) against exp(8) + exp(8): 2.718 against 2.
    let vote = classify(&neighbors, &[0, 1, 1], 2, 0.1).unwrap()[0];
    assert_eq!(vote.predicted, 0);
    assert!((vote.confidence - 0.576_116_9).abs() < 1e-6);
    // exp(0.9) against 2 exp(0.8).
    assert_eq!(classify(&neighbors, &[0, 1, 1], 2, 1.0).unwrap()[0].predicted, 1);
}

#[test]
fn no_temperature_overflows() {
    let neighbors = Neighbors { indices: vec![1, 0], scores: vec![1.0, 0.5], k: 2 };
    let vote = classify(&neighbors, &[0, 1], 2, 1e-4).unwrap()[0];
    assert_eq!((vote.predicted, vote.confidence), (1, 1.0));
}

#[test]
fn separated_groups_are_classified_without_error() {
    let labels: Vec<u32> = (0..600).map(|i| i % 6).collect();
    // One draw of centres: the first 600 rows are the bank, the others the queries.
    let rows = unit_rows(660, 32, 6, 0.1, 9);
    let (bank, queries) = (tensor(rows[..600 * 32].to_vec(), 32), tensor(rows[600 * 32..].to_vec(), 32));
    let config = KnnConfig { k: 20, ..KnnConfig::default() };
    assert_eq!(knn_accuracy(&bank, &labels, &queries, &labels[..60], &config).unwrap(), 1.0);
    let wrong: Vec<u32> = labels[..60].iter().map(|label| (label + 1) % 6).collect();
    assert_eq!(knn_accuracy(&bank, &labels, &queries, &wrong, &config).unwrap(), 0.0);
}

#[test]
fn a_row_is_classified_by_the_others_alone() {
    let (n, dim, config) = (500, 8, KnnConfig { k: 7, temperature: 0.1 });
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 5).collect();
    let rows = unit_rows(n, dim, 5, 1.6, 11);
    let right = (0..n).filter(|&left_out| {
        let without = |i: &usize| *i != left_out;
        let others: Vec<f32> = (0..n).filter(without).flat_map(|i| rows[i * dim..][..dim].to_vec()).collect();
        let other_labels: Vec<u32> = (0..n).filter(without).map(|i| labels[i]).collect();
        let query = tensor(rows[left_out * dim..][..dim].to_vec(), dim);
        knn_accuracy(&tensor(others, dim), &other_labels, &query, &labels[left_out..=left_out], &config).unwrap() == 1.0
    });
    let expected = right.count() as f64 / n as f64;
    assert!((0.3..0.95).contains(&expected), "{expected} would not tell");
    assert_eq!(leave_one_out_accuracy(&tensor(rows, dim), &labels, &config).unwrap(), expected as f32);
}

#[test]
fn copies_of_a_row_vote_on_it_where_it_cannot() {
    // Ten copies of one row: the last seven are not among their own nearest three, and each still has two others.
    let bank = tensor([1.0, 0.0].repeat(10), 2);
    let config = KnnConfig { k: 2, temperature: 0.07 };
    assert_eq!(leave_one_out_accuracy(&bank, &[4; 10], &config).unwrap(), 1.0);
    // The first three have the other two of them, and are wrong; to the others speak the first two, of which class 0 wins the draw.
    assert_eq!(leave_one_out_accuracy(&bank, &[0, 1, 1, 0, 0, 0, 0, 0, 0, 0], &config).unwrap(), 0.7);
}

#[test]
fn a_row_is_left_out_of_its_own_neighbours_wherever_it_lies() {
    let found = Neighbors { indices: vec![7, 2, 5, 1, 3, 9, 4, 6, 8], scores: vec![0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], k: 3 };
    let others = without(&found, &[2, 1, 0]);
    assert_eq!(others.indices, [7, 5, 3, 9, 4, 6], "the second, the first, and where it is none of them the last");
    assert_eq!((others.scores, others.k), (vec![0.9, 0.7, 0.5, 0.4, 0.3, 0.2], 2));
}

#[test]
fn the_published_vote_is_the_default() {
    assert_eq!(KnnConfig::default(), KnnConfig { k: 200, temperature: 0.07 });
}

#[track_caller]
fn refused<T>(result: la_core::Result<T>, message: &str) {
    let error = result.err().expect("should be refused").to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (bank, query) = (tensor(vec![1.0, 0.0, 0.0, 1.0], 2), tensor(vec![1.0, 0.0], 2));
    refused(nearest(&bank, &query, 3), "k must be in 1..=2, the number of rows to search, got 3");
    refused(nearest(&bank, &query, 0), "got 0");
    refused(nearest(&bank, &tensor(vec![1.0; 3], 3), 1), "queries must have the bank's dimension 2");
    refused(nearest(&bank, &tensor(vec![1.0, f32::NAN], 2), 1), "queries must be finite, got NaN in row 0");
    refused(nearest(&tensor(vec![1.0, 0.0, f32::INFINITY, 0.0], 2), &query, 1), "bank must be finite, got inf in row 1");
    let found = nearest(&bank, &query, 2).unwrap();
    refused(classify(&found, &[0, 1], 2, 0.0), "kNN temperature must be above 0, got 0");
    refused(classify(&found, &[0, 7], 2, 0.1), "labels must be below the number of classes 2, got 7");
    refused(classify(&found, &[0], 2, 0.1), "neighbour 1 has no label");
    refused(knn_accuracy(&bank, &[0], &query, &[0], &KnnConfig { k: 1, temperature: 0.1 }), "bank labels must be as many as the 2 rows");
    refused(leave_one_out_accuracy(&bank, &[0], &KnnConfig { k: 1, temperature: 0.1 }), "labels must be as many as the 2 rows, got 1");
    refused(leave_one_out_accuracy(&bank, &[0, 1], &KnnConfig { k: 2, temperature: 0.1 }), "k must be in 1..2");
    let none = Tensor::zeros((0, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    refused(knn_accuracy(&bank, &[0, 1], &none, &[], &KnnConfig { k: 1, temperature: 0.1 }), "at least one");
}
