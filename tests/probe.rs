//! The linear probes. Protocol `fast`: its minimum, its choice of a penalty, what it sees of each layer, and what it refuses. Protocol `paper`: its crops,
//! what it learns, and that threads change nothing.

mod support;

use candle_core::{Device, Tensor};
use la_cli::probe::fast::{probe, LabelledRows, ProbeConfig, Probed};
use la_cli::probe::half_rows::{HalfRows, Standardization};
use la_cli::probe::layer_probes::{probe_layers, Labelled, LayerProbes};
use la_cli::probe::layers::{layer_rows, shapes, Layer};
use la_cli::probe::logistic::{fit, LogisticConfig};
use la_cli::probe::paper::{self, PaperConfig};
use la_cli::probe::ten_crops::{cropped, NUM_CROPS};
use la_core::data::{array::Array, sample, BatchConfig, Picture, Source};
use la_core::eval::linear::LinearConfig;
use la_core::eval::outcomes::Outcomes;
use la_core::preprocess::Preprocessing;
use la_core::resnet::{ResNet, ResNetConfig, Stem};
use la_core::rng::{Rng, Stream};
use std::sync::Arc;
use support::clouds::on_threads;
use support::golden;

#[test]
fn golden_logistic_regressions_have_the_same_loss_and_accuracy() {
    let golden = golden("probe");
    let rows = |name| HalfRows::of(golden.get(name)).unwrap();
    let (train, test) = (rows("train"), rows("test"));
    let expected = golden.values("losses").into_iter().zip(golden.values("top1"));
    for (&penalty, (loss, top1)) in golden.values("penalties").iter().zip(expected) {
        let config = LogisticConfig { penalty: f64::from(penalty), tolerance: 1e-6, max_iters: 2000 };
        let layer = fit(&train, &golden.indices("labels"), 5, &config).unwrap();
        let got = Outcomes::of_scores(&layer.scores(&test).unwrap(), &golden.indices("test_labels"), 5).unwrap().top(1);
        assert!((layer.loss / f64::from(loss) - 1.0).abs() < 1e-6, "penalty {penalty}: loss {}, expected {loss}", layer.loss);
        assert!((got - f64::from(top1)).abs() <= 1e-3, "penalty {penalty}: top-1 {got}, expected {top1}");
    }
}

/// `n` rows of `width` values around one corner for each class.
fn clouds(n: usize, (num_classes, width): (usize, usize), spread: f32, seed: u64) -> (HalfRows, Vec<u32>) {
    let mut centers = Rng::new(Stream::Probe, &[99]);
    let centers: Vec<f32> = (0..num_classes * width).map(|_| centers.normal()).collect();
    let (mut rng, mut rows) = (Rng::new(Stream::Probe, &[seed]), HalfRows::new(width, n));
    let labels: Vec<u32> = (0..n).map(|i| (i % num_classes) as u32).collect();
    for &label in &labels {
        let center = &centers[label as usize * width..][..width];
        rows.push(&center.iter().map(|c| c + spread * rng.normal()).collect::<Vec<f32>>());
    }
    (rows, labels)
}

fn run(train: &(HalfRows, Vec<u32>), test: &(HalfRows, Vec<u32>), num_classes: usize, config: &ProbeConfig) -> la_core::Result<Probed> {
    let [train, test] = [train, test].map(|(rows, labels)| LabelledRows { rows, labels });
    probe(train, test, num_classes, config, &mut |_, _| ())
}

#[test]
fn clouds_apart_are_told_apart_and_noise_is_not() {
    let usual = ProbeConfig::default();
    let probed = run(&clouds(300, (7, 20), 0.2, 1), &clouds(140, (7, 20), 0.2, 2), 7, &usual).unwrap();
    assert_eq!((probed.outcomes.top(1), probed.train_top1), (1.0, 1.0));
    let noise = run(&clouds(300, (4, 20), 1e3, 3), &clouds(400, (4, 20), 1e3, 4), 4, &usual).unwrap();
    assert!((noise.outcomes.top(1) - 0.25).abs() < 0.08, "{}", noise.outcomes.top(1));
}

#[test]
fn more_features_than_images_ask_for_a_strong_penalty() {
    let (train, test) = (clouds(120, (3, 700), 3.5, 5), clouds(600, (3, 700), 3.5, 6));
    let chosen = run(&train, &test, 3, &ProbeConfig::default()).unwrap();
    let weak = run(&train, &test, 3, &ProbeConfig { penalties: vec![1e-6], ..Default::default() }).unwrap();
    assert!(chosen.penalty >= 0.1 && chosen.outcomes.top(1) >= weak.outcomes.top(1), "{chosen:?}");
}

#[test]
fn a_probe_is_the_same_for_any_number_of_threads() {
    let (train, test) = (clouds(500, (5, 333), 2.0, 7), clouds(100, (5, 333), 2.0, 8));
    let run = || {
        let probed = run(&train, &test, 5, &ProbeConfig::default()).unwrap();
        let layer = fit(&train.0, &train.1, 5, &LogisticConfig::default()).unwrap();
        (probed.outcomes, probed.penalty.to_bits(), layer.loss.to_bits(), layer.scores(&test.0).unwrap())
    };
    assert_eq!(on_threads(1, run), on_threads(3, run));
}

#[test]
fn without_images_to_spare_the_usual_penalty_is_taken() {
    let one_each = clouds(4, (4, 10), 0.1, 9);
    let probed = run(&one_each, &clouds(40, (4, 10), 0.1, 10), 4, &ProbeConfig::default()).unwrap();
    assert_eq!((probed.penalty, probed.held_out_top1), (ProbeConfig::default().usual_penalty, None));
    assert_eq!(probed.outcomes.top(1), 1.0);
    let two_each = run(&clouds(8, (4, 10), 0.1, 9), &one_each, 4, &ProbeConfig::default()).unwrap();
    assert_eq!(two_each.held_out_top1, Some(1.0));
}

#[test]
fn what_cannot_be_probed_is_refused() {
    let (train, test) = (clouds(40, (4, 6), 0.1, 1), clouds(8, (4, 6), 0.1, 2));
    type Set = (HalfRows, Vec<u32>);
    let error = |train: &Set, test: &Set, classes| run(train, test, classes, &ProbeConfig::default()).unwrap_err().to_string();
    let one_class = (train.0.clone(), vec![2; 40]);
    assert_eq!(error(&one_class, &test, 4), "a probe tells classes apart: expected training images of at least 2 classes, got 1");
    assert_eq!(error(&train, &test, 3), "training labels must be below the number of classes (3), got 3");
    let short = (test.0.clone(), vec![0; 7]);
    assert_eq!(error(&train, &short, 4), "expected one label for each of the test rows, at least one, got 8 rows and 7 labels");
    for value in [f32::NAN, 1e6] {
        let mut bad = HalfRows::new(6, 2);
        bad.push(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, value, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(error(&train, &(bad, vec![0, 1]), 4), "test features must be finite and below 65,504, got others in row 1");
    }
    assert_eq!(error(&train, &clouds(8, (4, 5), 0.1, 2), 4), "test features must be as wide as the training features (6), got 5");
    let without = LogisticConfig { penalty: 0.0, ..Default::default() };
    let refused = fit(&train.0, &train.1, 4, &without).unwrap_err().to_string();
    assert_eq!(refused, "the penalty of a logistic regression must be above 0, got 0");
}

#[test]
fn standardised_features_have_mean_0_and_deviation_1_and_constants_stay() {
    let (mut rows, n) = (HalfRows::new(3, 64), 64);
    (0..n).for_each(|i| rows.push(&[i as f32, 8.0, -2.0 * i as f32 + 5.0]));
    let Standardization { scale, shift } = Standardization::of(&rows);
    let deviation = ((n * n - 1) as f32 / 12.0).sqrt();
    for (got, expected) in scale.iter().zip([1.0 / deviation, 1.0, 0.5 / deviation]) {
        assert!((got / expected - 1.0).abs() < 1e-6, "{got} {expected}");
    }
    assert!((shift[0] + 31.5 / deviation).abs() < 1e-5 && shift[1] == -8.0, "{shift:?}");
}

fn network(stem: Stem) -> ResNet {
    ResNet::new(&ResNetConfig { stem, width: 8, ..ResNetConfig::default() }, 1, &Device::Cpu).unwrap()
}

fn batches(size: usize) -> BatchConfig {
    BatchConfig { input: Preprocessing::plain(size), ..BatchConfig::default() }
}

#[test]
fn a_layer_is_averaged_to_about_9000_values() {
    let net = ResNet::new(&ResNetConfig { width: 64, ..ResNetConfig::default() }, 1, &Device::Cpu).unwrap();
    let of = |size| shapes(&net, &Layer::ALL, size).unwrap().iter().map(|shape| (shape.grid.0, shape.channels)).collect::<Vec<_>>();
    let last = [(1, 512), (1, 128)];
    assert_eq!(of(224), [[(32, 3), (12, 64), (12, 64), (8, 128), (6, 256), (4, 512)].as_slice(), &last].concat());
    assert_eq!(of(64), [[(32, 3), (12, 64), (12, 64), (8, 128), (4, 256), (2, 512)].as_slice(), &last].concat());
}

fn unlabelled(count: usize, size: usize) -> Arc<dyn Source> {
    let pixels = (0..count * size * size * 3).map(|at| (at * 7 % 251 + at / 3 % 5) as u8).collect();
    Arc::new(Array { width: size, height: size, channels: 3, pixels, labels: vec![], class_names: vec![] })
}

/// The mean of places `i * side / places` to `ceil((i + 1) * side / places)`, in each direction.
fn adaptive(map: &Tensor, places: usize) -> Vec<f32> {
    let (channels, height, width) = map.dims3().unwrap();
    let values: Vec<Vec<Vec<f32>>> = map.to_vec3().unwrap();
    let mut out = Vec::new();
    for (y, x) in (0..places * places).map(|at| (at / places, at % places)) {
        let rows = y * height / places..((y + 1) * height).div_ceil(places);
        let columns = x * width / places..((x + 1) * width).div_ceil(places);
        for map in values.iter().take(channels) {
            let all: Vec<f32> = rows.clone().flat_map(|row| map[row][columns.clone()].to_vec()).collect();
            out.push(all.iter().sum::<f32>() / all.len() as f32);
        }
    }
    out
}

#[test]
fn rows_are_the_layers_of_the_network() {
    let (net, size) = (network(Stem::Small), 38);
    let source = unlabelled(3, size);
    let rows = layer_rows(&net, &Layer::ALL, &source, &batches(size), &mut |_| ()).unwrap();
    assert_eq!((rows.indices, rows.unreadable.len()), (vec![0, 1, 2], 0));
    let batch = la_core::data::eval_batches(source, &batches(size), 3).next().unwrap().unwrap();
    let features = net.features(&batch.images).unwrap();
    let check = |layer: Layer, image: usize, expected: Vec<f32>| {
        let at = Layer::ALL.iter().position(|&of| of == layer).unwrap();
        let got = &rows.rows[at].row(image);
        assert_eq!(got.len(), expected.len(), "{layer}");
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs().max(0.1)).fold(0.0, f32::max);
        assert!(worst < 2e-3, "{layer}: {worst}");
    };
    for image in 0..3 {
        check(Layer::Pixels, image, adaptive(&batch.images.get(image).unwrap(), 32));
        check(Layer::Stem, image, adaptive(&features.stem.get(image).unwrap(), 33));
        for (layer, stage) in [Layer::Layer1, Layer::Layer2, Layer::Layer3, Layer::Layer4].into_iter().zip(&features.stages) {
            let (channels, side, _) = stage.get(image).unwrap().dims3().unwrap();
            check(layer, image, adaptive(&stage.get(image).unwrap(), side.min((9216 / channels).isqrt())));
        }
        check(Layer::Pooled, image, features.pooled.get(image).unwrap().to_vec1().unwrap());
        check(Layer::Embedding, image, net.embed(&batch.images).unwrap().get(image).unwrap().to_vec1().unwrap());
    }
}

fn probed(layers: &[Layer]) -> la_core::Result<LayerProbes> {
    let splits = sample().unwrap().limited(Some(200), 0);
    let test: Arc<dyn Source> = Arc::new(la_core::data::Subset::random(splits.test.unwrap(), 100, 0));
    let data = Labelled { train: &splits.train, test: &test };
    probe_layers((&network(Stem::Small), layers), data, &batches(16), &ProbeConfig::default(), &mut |_, _, _| ())
}

#[test]
fn every_layer_is_probed_and_a_layer_alone_reaches_the_same() {
    let all = probed(&Layer::ALL).unwrap();
    assert_eq!(all.layers.iter().map(|probe| probe.layer).collect::<Vec<_>>(), Layer::ALL);
    assert_eq!((all.num_train, all.test_indices.len(), all.unreadable.len()), (200, 100, 0));
    assert!(all.layers.iter().all(|probe| probe.outcomes.top(1) > 0.3), "{all:?}");
    let alone = probed(&[Layer::Layer2]).unwrap();
    assert_eq!(alone.layers[0].outcomes, all.layers[3].outcomes);
}

#[test]
fn a_source_without_labels_is_refused() {
    let source = unlabelled(3, 8);
    let data = Labelled { train: &source, test: &source };
    let result = probe_layers((&network(Stem::Small), &[Layer::Pooled]), data, &batches(8), &ProbeConfig::default(), &mut |_, _, _| ());
    assert_eq!(result.unwrap_err().to_string(), "a probe needs labels: expected training images with a class, got none among 3");
}

#[test]
fn ten_crops_are_the_corners_and_the_middle_and_their_mirror_images() {
    // Sides of 8 and 16 with margins of 1 and 9; each pixel is its own place.
    let pixel = |y: u8, x: u8| [y, x, 7];
    let picture = Picture::new(16, 8, (0..8).flat_map(|y| (0..16).flat_map(move |x| pixel(y, x))).collect()).unwrap();
    for (crop, (left, top)) in [(0, 0), (9, 0), (0, 1), (9, 1), (4, 0)].into_iter().enumerate() {
        let of = |mirror: bool| -> Vec<u8> {
            (0..7).flat_map(|y| (0..7).flat_map(move |x| pixel(top + y, left + if mirror { 6 - x } else { x }))).collect()
        };
        assert_eq!(cropped(&picture, crop).unwrap(), Picture::new(7, 7, of(false)).unwrap());
        assert_eq!(cropped(&picture, crop + 5).unwrap(), Picture::new(7, 7, of(true)).unwrap());
    }
    assert_eq!(NUM_CROPS, 10);
    let dot = Picture::new(1, 1, vec![1, 2, 3]).unwrap();
    assert!((0..NUM_CROPS).all(|crop| cropped(&dot, crop).unwrap() == dot));
}

#[test]
fn probes_by_the_papers_protocol_learn_on_any_number_of_threads() {
    let splits = sample().unwrap().limited(Some(300), 0);
    let test: Arc<dyn Source> = Arc::new(la_core::data::Subset::random(splits.test.unwrap(), 100, 0));
    let data = Labelled { train: &splits.train, test: &test };
    let config = |epochs| {
        let PaperConfig { sgd, augment } = PaperConfig::new(None, 0);
        PaperConfig { sgd: LinearConfig { epochs, batch_size: 32, ..sgd }, augment }
    };
    let found = |threads, epochs| {
        let probes = || paper::probe_layers(&network(Stem::Small), data, &batches(16), &config(epochs), &mut |_, _, _| ()).unwrap();
        on_threads(threads, probes)
    };
    let probes = found(2, 6);
    assert_eq!(probes.layers.iter().map(|probe| probe.layer).collect::<Vec<_>>(), paper::LAYERS);
    assert_eq!((probes.num_train, probes.test_indices.len(), probes.unreadable.len()), (300, 100, 0));
    for (probe, again) in probes.layers.iter().zip(found(1, 6).layers) {
        assert!(probe.outcomes.top(1) > 0.25, "{}: {}", probe.layer, probe.outcomes.top(1));
        assert_eq!(probe.outcomes, again.outcomes, "{}", probe.layer);
        assert_eq!(probe.fitted, None);
    }
    // The stem's maps are seen whole, not averaged.
    assert_eq!(probes.layers[0].shape.grid, (16, 16));
}
