//! Signs that a run goes wrong: figures worked by hand, and what is told when.

use candle_core::{Device, Tensor};
use la_core::{
    config::TrainConfig,
    train::{
        health::{of_epochs, of_settings, Spread, Warning},
        EpochMetrics, Phase,
    },
};

fn spread(rows: &[[f32; 2]]) -> Spread {
    let values: Vec<f32> = rows.concat();
    Spread::of(&Tensor::from_vec(values, (rows.len(), 2), &Device::Cpu).unwrap()).unwrap()
}

fn epoch(number: usize, mean_cosine: Option<f64>, empty_close: Option<f64>) -> EpochMetrics {
    EpochMetrics {
        epoch: number,
        phase: Phase::La,
        loss: 1.0,
        lr: 0.03,
        images_per_s: 100.0,
        knn_top1: None,
        seconds: 1.0,
        total_seconds: number as f64,
        cluster_seconds: 0.0,
        wait_seconds: 0.0,
        empty_close,
        clusters: None,
        mean_cosine,
        effective_rank: mean_cosine.map(|_| 20.0),
        peak_rss_mb: None,
        unix_time: 1e9,
    }
}

fn settings(config: TrainConfig, num_images: usize) -> Vec<Warning> {
    of_settings(&config.fit(num_images).unwrap(), num_images)
}

#[test]
fn the_spread_of_a_few_rows_is_that_of_a_hand_calculation() {
    let close = |spread: Spread, mean_cosine: f64, effective_rank: f64| {
        assert!((spread.mean_cosine - mean_cosine).abs() < 1e-6 && (spread.effective_rank - effective_rank).abs() < 1e-6, "{spread:?}");
    };
    // One point; two directions; two rows of three the same: one pair of three, moments 2/3 and 1/3, 1 / (4/9 + 1/9).
    close(spread(&[[1.0, 0.0], [1.0, 0.0]]), 1.0, 1.0);
    close(spread(&[[1.0, 0.0], [0.0, 1.0]]), 0.0, 2.0);
    close(spread(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), 1.0 / 3.0, 1.8);
    // Opposite rows lie on one line.
    close(spread(&[[1.0, 0.0], [-1.0, 0.0]]), -1.0, 1.0);
}

#[test]
fn rows_in_one_place_or_on_one_line_are_collapsed_and_others_are_not() {
    assert!(spread(&[[1.0, 0.0], [0.995, 0.1]]).is_collapsed());
    assert!(spread(&[[1.0, 0.0], [-1.0, 0.0]]).is_collapsed());
    assert!(!spread(&[[1.0, 0.0], [0.0, 1.0]]).is_collapsed());
}

#[test]
fn a_large_bank_is_measured_on_rows_from_all_of_it() {
    // Half of the rows point one way and half the other way, sorted: a look at the first ones would see one point.
    let rows: Vec<[f32; 2]> = (0..20_000).map(|i| if i < 10_000 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
    let spread = spread(&rows);
    assert!((spread.mean_cosine - 0.5).abs() < 0.01 && (spread.effective_rank - 2.0).abs() < 0.01, "{spread:?}");
}

#[test]
fn one_row_has_no_spread() {
    let row = Tensor::from_vec(vec![1.0f32, 0.0], (1, 2), &Device::Cpu).unwrap();
    assert_eq!(Spread::of(&row).unwrap_err().to_string(), "the spread of embeddings needs at least two rows, got 1");
}

#[test]
fn a_collapse_is_told_at_the_second_epoch_that_shows_it_and_not_again() {
    let epochs: Vec<EpochMetrics> =
        [0.95, 0.89, 0.98, 0.99, 0.99].iter().enumerate().map(|(i, &cosine)| epoch(i + 1, Some(cosine), None)).collect();
    let told: Vec<usize> = (1..=5).map(|count| of_epochs(&epochs[..count], 128).len()).collect();
    assert_eq!(told, [0, 0, 0, 1, 0]);
    let Warning::Collapse { spread, dim } = of_epochs(&epochs[..4], 128)[0] else { panic!("expected a collapse") };
    assert_eq!((spread.mean_cosine, dim), (0.99, 128));
}

#[test]
fn random_weights_that_spread_out_are_no_collapse() {
    let epochs: Vec<EpochMetrics> = [0.96, 0.94, 0.92].iter().enumerate().map(|(i, &cosine)| epoch(i + 1, Some(cosine), None)).collect();
    assert_eq!(of_epochs(&epochs, 128), []);
    assert_eq!(of_epochs(&epochs[..2], 128), []);
}

#[test]
fn epochs_of_older_runs_tell_nothing() {
    assert_eq!(of_epochs(&[epoch(1, None, None)], 128), []);
    assert_eq!(of_epochs(&[], 128), []);
}

#[test]
fn a_share_without_close_neighbours_is_told_once_it_has_grown_twice_to_more_than_a_tenth() {
    let told = |shares: &[f64]| {
        let epochs: Vec<EpochMetrics> = shares.iter().enumerate().map(|(i, &share)| epoch(i + 1, None, Some(share))).collect();
        of_epochs(&epochs, 128)
    };
    assert_eq!(told(&[0.05, 0.08, 0.11]), [Warning::WithoutClose { share: 0.11 }]);
    assert_eq!(told(&[0.02, 0.05, 0.09]), [], "few yet");
    assert_eq!(told(&[0.3, 0.2, 0.25]), [], "it fell");
    assert_eq!(told(&[0.2, 0.3]), [], "two epochs are no trend");
    assert_eq!(told(&[0.05, 0.08, 0.11, 0.12]), [], "told before");
}

#[test]
fn counts_out_of_proportion_are_told_with_the_counts() {
    let config = |num_background, num_clusters| TrainConfig {
        num_background: Some(num_background),
        num_clusters: Some(num_clusters),
        ..TrainConfig::default()
    };
    assert_eq!(settings(config(60, 50), 900), []);
    // A cluster holds 45 images: 40 background neighbours may all be of one.
    let few = Warning::Background { num_background: 40, num_images: 900, num_clusters: 20 };
    assert_eq!(settings(config(40, 20), 900), [few]);
    let many = Warning::Background { num_background: 451, num_images: 900, num_clusters: 50 };
    assert_eq!(settings(config(451, 50), 900), [many]);
    assert_eq!(settings(config(60, 226), 900), [Warning::Clusters { num_clusters: 226, num_images: 900 }]);
}

#[test]
fn local_aggregation_that_is_never_reached_is_told_and_its_counts_are_not() {
    let config = TrainConfig { epochs: 4, num_background: Some(899), ..TrainConfig::default() };
    assert_eq!(settings(config, 900), [Warning::NoLocalAggregation { epochs: 4, ir_epochs: 10 }]);
}
