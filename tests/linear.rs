//! The linear probe: what one layer can and cannot tell apart, and what it refuses.

use candle_core::{Device, Tensor};
use la_core::data::BatchConfig;
use la_core::eval::embed::pooled_features;
use la_core::eval::linear::{linear_probe, LabelledFeatures, LinearConfig};
use la_core::preprocess::Preprocessing;
use la_core::resnet::{ResNet, ResNetConfig, Stem};
use la_core::rng::{Rng, Stream};

fn set(rows: &[Vec<f32>], labels: &[u32]) -> LabelledFeatures {
    let features = Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap();
    LabelledFeatures { features, labels: labels.to_vec() }
}

/// Rows around `num_classes` corners of a cube of side 1, `spread` wide.
fn clouds(n: usize, num_classes: usize, spread: f32, seed: u64) -> LabelledFeatures {
    let mut rng = Rng::new(Stream::Probe, &[seed]);
    let labels: Vec<u32> = (0..n).map(|i| (i % num_classes) as u32).collect();
    let corner = |class: u32| (0..3).map(move |axis| (class >> axis & 1) as f32);
    let rows: Vec<Vec<f32>> = labels.iter().map(|&class| corner(class).map(|v| v + spread * rng.normal()).collect()).collect();
    set(&rows, &labels)
}

fn error(train: &LabelledFeatures, test: &LabelledFeatures, num_classes: usize) -> String {
    linear_probe(train, test, num_classes, &LinearConfig::default()).unwrap_err().to_string()
}

#[test]
fn clouds_apart_are_told_apart() {
    let (train, test) = (clouds(800, 8, 0.1, 1), clouds(200, 8, 0.1, 2));
    let result = linear_probe(&train, &test, 8, &LinearConfig::default()).unwrap();
    assert_eq!((result.top1, result.train_top1), (1.0, 1.0));
}

#[test]
fn overlapping_clouds_reach_the_bayes_rate_and_no_more() {
    // Two unit normals a distance of 2 apart: the best rule is right with probability Φ(1) = 0.8413.
    let draw = |seed| {
        let mut rng = Rng::new(Stream::Probe, &[seed]);
        let labels: Vec<u32> = (0..4000).map(|i| i % 2).collect();
        let rows: Vec<Vec<f32>> = labels.iter().map(|&label| vec![2.0 * label as f32 + rng.normal()]).collect();
        set(&rows, &labels)
    };
    let result = linear_probe(&draw(3), &draw(4), 2, &LinearConfig { epochs: 10, ..Default::default() }).unwrap();
    assert!((result.top1 - 0.8413).abs() < 0.02, "{result:?}");
}

#[test]
fn exclusive_or_stays_out_of_reach() {
    let rows = [vec![0.0, 0.0], vec![1.0, 1.0], vec![0.0, 1.0], vec![1.0, 0.0]];
    let xor = set(&rows, &[0, 0, 1, 1]);
    assert!(linear_probe(&xor, &xor, 2, &LinearConfig::default()).unwrap().top1 <= 0.75);
}

#[test]
fn the_scale_of_the_features_changes_nothing() {
    let (train, test) = (clouds(240, 8, 0.4, 5), clouds(80, 8, 0.4, 6));
    let scaled = |s: &LabelledFeatures| LabelledFeatures { features: s.features.affine(1024.0, 0.0).unwrap(), labels: s.labels.clone() };
    let config = LinearConfig { epochs: 5, ..Default::default() };
    let plain = linear_probe(&train, &test, 8, &config).unwrap();
    assert_eq!(plain, linear_probe(&scaled(&train), &scaled(&test), 8, &config).unwrap());
}

#[test]
fn one_seed_gives_one_result() {
    let (train, test) = (clouds(300, 8, 0.6, 7), clouds(300, 8, 0.6, 8));
    let run = || linear_probe(&train, &test, 8, &LinearConfig { epochs: 3, ..Default::default() }).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn a_constant_feature_does_no_harm() {
    let mut train = clouds(80, 2, 0.1, 9);
    train.features = Tensor::cat(&[&train.features, &Tensor::ones((80, 1), candle_core::DType::F32, &Device::Cpu).unwrap()], 1).unwrap();
    assert_eq!(linear_probe(&train, &train, 2, &LinearConfig::default()).unwrap().top1, 1.0);
}

#[test]
fn a_label_past_the_classes_is_refused() {
    let train = clouds(80, 8, 0.1, 1);
    assert_eq!(error(&train, &train, 4), "training labels must be below the number of classes (4), got 4");
}

#[test]
fn a_missing_label_is_refused() {
    let train = clouds(80, 8, 0.1, 1);
    let short = LabelledFeatures { labels: vec![0; 79], ..train.clone() };
    assert_eq!(error(&train, &short, 8), "expected one label for each of the 80 test rows, got 79");
}

#[test]
fn no_rows_are_refused() {
    let none = LabelledFeatures { features: Tensor::zeros((0, 3), candle_core::DType::F32, &Device::Cpu).unwrap(), labels: vec![] };
    assert!(error(&none, &clouds(8, 8, 0.1, 1), 8).starts_with("training features of a linear probe must not be empty"));
}

#[test]
fn nan_is_refused() {
    let train = clouds(8, 8, 0.1, 1);
    let nan = set(&[vec![0.0, f32::NAN, 0.0]], &[0]);
    assert_eq!(error(&train, &nan, 8), "test features of a linear probe hold NaN or infinite values");
}

#[test]
fn sets_of_two_widths_are_refused() {
    let train = clouds(8, 8, 0.1, 1);
    let wide = set(&[vec![0.0; 4]], &[0]);
    assert_eq!(error(&train, &wide, 8), "test features must be as wide as the training features (3), got 4");
}

#[test]
fn a_linear_probe_changes_no_encoder_weight() {
    let splits = la_core::data::sample().unwrap().limited(Some(60), 0);
    let config = ResNetConfig { stem: Stem::Small, width: 8, ..ResNetConfig::default() };
    let net = ResNet::new(&config, 1, &Device::Cpu).unwrap();
    let values =
        || -> Vec<Vec<f32>> { net.tensors().unwrap().iter().map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect() };
    let before = values();
    let batches = BatchConfig { input: Preprocessing::plain(16), ..BatchConfig::default() };
    let features = pooled_features(&net, &splits.train, &batches, &mut |_| ()).unwrap().values;
    let set = LabelledFeatures { features, labels: la_core::data::labels(splits.train.as_ref()).unwrap() };
    linear_probe(&set, &set, 10, &LinearConfig::default()).unwrap();
    assert_eq!(values(), before);
}
