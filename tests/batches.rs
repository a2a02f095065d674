//! Batches: order, determinism, resuming, files that fail late, and threads that end.

use candle_core::{Device, IndexOp, Tensor};
use la_core::data::{array::Array, epoch_batches, eval_batches, num_batches, sample, Batch, BatchConfig, Picture, Source};
use la_core::eval::embed::embed_source;
use la_core::preprocess::{Normalization, Preprocessing};
use la_core::resnet::{ResNet, ResNetConfig, Stem};
use la_core::{augment::AugmentConfig, Error, Result};
use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `n` flat pictures of 6 by 5, each with its index as gray value.
fn flat(n: usize) -> Arc<Array> {
    let pixels = (0..n).flat_map(|i| [i as u8; 90]).collect();
    Arc::new(Array { width: 6, height: 5, channels: 3, pixels, labels: vec![], class_names: vec![] })
}

fn seen(normalization: Normalization) -> Preprocessing {
    Preprocessing::of(8, 0.875, normalization)
}

fn config(threads: usize) -> BatchConfig {
    BatchConfig { input: seen(Normalization::default()), batch_size: 4, threads, seed: 7, ..BatchConfig::default() }
}

fn untouched() -> AugmentConfig {
    AugmentConfig { gray_probability: 0.0, brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0, ..AugmentConfig::default() }
}

fn collect(batches: impl Iterator<Item = Result<Batch>>) -> Vec<Batch> {
    batches.map(|batch| batch.unwrap()).collect()
}

fn values(images: &Tensor) -> Vec<f32> {
    images.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn an_epoch_sees_each_image_at_most_once_and_drops_the_short_batch() {
    let batches = collect(epoch_batches(flat(23), &config(2), 0, 0));
    assert_eq!((batches.len(), num_batches(23, 4)), (5, 5));
    let mut seen: Vec<u32> = batches.iter().flat_map(|batch| batch.indices.clone()).collect();
    assert_eq!(seen.len(), 20);
    let ordered = seen.is_sorted();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() == 20 && !ordered && seen.iter().all(|&i| i < 23));
    assert_eq!(batches[0].images.dims(), [4, 3, 8, 8]);
    // Fewer images than a batch make one short batch.
    assert_eq!(collect(epoch_batches(flat(3), &config(1), 0, 0))[0].indices.len(), 3);
}

#[test]
fn indices_belong_to_their_pictures_in_every_view() {
    let config = BatchConfig { views: 2, augment: untouched(), input: seen(Normalization::identity()), ..config(2) };
    for batch in epoch_batches(flat(23), &config, 3, 0) {
        let batch = batch.unwrap();
        assert_eq!(batch.images.dims(), [8, 3, 8, 8]);
        for (row, &index) in batch.indices.iter().chain(&batch.indices).enumerate() {
            let view = values(&batch.images.i(row).unwrap());
            assert!(view.iter().all(|x| (x * 255.0 - index as f32).abs() < 1e-3), "{index}: {view:?}");
        }
    }
}

#[test]
fn threads_change_nothing_and_epochs_and_seeds_do() {
    let source = sample().unwrap().limited(Some(50), 0).train;
    let run = |threads, epoch, seed| {
        let config = BatchConfig { views: 2, seed, ..config(threads) };
        collect(epoch_batches(source.clone(), &config, epoch, 0)).iter().flat_map(|b| values(&b.images)).collect::<Vec<_>>()
    };
    let one = run(1, 0, 0);
    assert_eq!(one, run(3, 0, 0));
    assert_ne!(one, run(1, 1, 0));
    assert_ne!(one, run(1, 0, 1));
}

#[test]
fn an_epoch_resumed_at_a_batch_goes_on_as_if_never_interrupted() {
    let source = sample().unwrap().limited(Some(50), 0).train;
    let whole = collect(epoch_batches(source.clone(), &config(2), 4, 0));
    let rest = collect(epoch_batches(source.clone(), &config(1), 4, 9));
    assert_eq!(rest.len(), whole.len() - 9);
    for (a, b) in whole[9..].iter().zip(&rest) {
        assert_eq!((&a.indices, values(&a.images)), (&b.indices, values(&b.images)));
    }
    assert_eq!(epoch_batches(source, &config(1), 4, 12).len(), 0);
}

#[test]
fn evaluation_keeps_the_order_and_the_short_batch() {
    let config = BatchConfig { input: seen(Normalization { mean: [0.5; 3], std: [0.5, 0.25, 1.0] }), ..config(2) };
    let batches = collect(eval_batches(flat(10), &config, 4));
    let indices: Vec<Vec<u32>> = batches.iter().map(|batch| batch.indices.clone()).collect();
    assert_eq!(indices, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    let x = values(&batches[1].images.i((2, .., 0, 0)).unwrap());
    let gray = 6.0 / 255.0 - 0.5;
    for (x, expected) in x.iter().zip([gray / 0.5, gray / 0.25, gray]) {
        assert!((x - expected).abs() < 1e-6, "{x} {expected}");
    }
}

#[test]
fn channels_are_innermost_in_memory() {
    let batch = collect(epoch_batches(flat(4), &config(1), 0, 0)).remove(0);
    assert!(batch.images.permute((0, 2, 3, 1)).unwrap().is_contiguous());
}

/// A source whose images at some indices cannot be read; counts what is asked of it.
struct Failing {
    inner: Arc<Array>,
    bad: fn(usize) -> bool,
    asked: Arc<AtomicUsize>,
}

impl Source for Failing {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match (self.bad)(index) {
            true => Err(Error::Invalid(format!("{index}.jpg: gone"))),
            false => self.inner.picture(index),
        }
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn name(&self, index: usize) -> String {
        format!("{index}.jpg")
    }
    fn class_names(&self) -> &[String] {
        &[]
    }
}

fn failing(n: usize, bad: fn(usize) -> bool) -> Arc<Failing> {
    Arc::new(Failing { inner: flat(n), bad, asked: Arc::default() })
}

#[test]
fn an_image_that_fails_late_is_replaced_by_the_next_one_and_reported() {
    let config = BatchConfig { batch_size: 8, views: 2, augment: untouched(), input: seen(Normalization::identity()), ..config(2) };
    let batch = collect(epoch_batches(failing(8, |i| i == 2 || i == 3), &config, 0, 0)).remove(0);
    let mut failed: Vec<&str> = batch.failed.iter().map(|u| u.name.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["2.jpg", "3.jpg"], "each once, for all views");
    assert!(batch.failed.iter().all(|u| u.reason == "gone") && batch.missing.is_empty());
    for (row, &index) in batch.indices.iter().chain(&batch.indices).enumerate() {
        let shown = if index == 2 || index == 3 { 4 } else { index };
        let x = values(&batch.images.i((row, 0, 0, 0)).unwrap().reshape(1).unwrap())[0];
        assert!((x * 255.0 - shown as f32).abs() < 1e-3, "row {row} shows {x}");
    }
}

#[test]
fn nothing_stands_in_for_an_image_that_is_evaluated() {
    let config = BatchConfig { input: seen(Normalization::identity()), ..config(2) };
    let batches = collect(eval_batches(failing(8, |i| i == 2 || i == 3 || i == 4), &config, 4));
    assert_eq!((&batches[0].missing[..], &batches[1].missing[..]), (&[2, 3][..], &[0][..]));
    let failed: Vec<&str> = batches.iter().flat_map(|batch| &batch.failed).map(|u| u.name.as_str()).collect();
    assert_eq!(failed, ["2.jpg", "3.jpg", "4.jpg"]);
    for (row, shown) in [0.0, 1.0, 0.0, 0.0].into_iter().enumerate() {
        let x = values(&batches[0].images.i((row, 0, 0, 0)).unwrap().reshape(1).unwrap())[0];
        assert!((x * 255.0 - shown).abs() < 1e-3, "row {row} shows {x}");
    }
}

#[test]
fn an_image_that_cannot_be_read_has_no_row() {
    let net = ResNet::new(&ResNetConfig { stem: Stem::Small, width: 8, ..ResNetConfig::default() }, 1, &Device::Cpu).unwrap();
    let rows = |source: Arc<dyn Source>| embed_source(&net, &source, &config(2), &mut |_| ());
    let (some, all) = (rows(failing(40, |i| i % 3 == 0)).unwrap(), rows(flat(40)).unwrap());
    assert_eq!(some.indices, (0..40).filter(|i| i % 3 != 0).collect::<Vec<u32>>());
    assert_eq!(some.unreadable.len(), 14);
    let kept = Tensor::new(&some.indices[..], &Device::Cpu).unwrap();
    assert_eq!(values(&some.values), values(&all.values.index_select(&kept, 0).unwrap()), "a row is of another image");
    let none = rows(failing(3, |_| true)).unwrap_err().to_string();
    assert_eq!(none, "none of the 3 images could be read; the first, 0.jpg: gone");
}

#[test]
fn an_epoch_ends_with_an_error_when_nothing_can_be_read() {
    let mut batches = epoch_batches(failing(40, |_| true), &config(2), 0, 0);
    let err = batches.next().unwrap().unwrap_err().to_string();
    assert!(err.contains("gone; nor could any of the 16 images after it be read"), "{err}");
    assert!(batches.next().is_none());
}

#[test]
fn dropping_the_iterator_ends_its_threads() {
    let source = failing(2000, |_| false);
    let asked = source.asked.clone();
    let start = Instant::now();
    let mut batches = epoch_batches(source.clone(), &BatchConfig { input: Preprocessing::plain(64), ..config(2) }, 0, 0);
    batches.next().unwrap().unwrap();
    drop(batches);
    assert_eq!(Arc::strong_count(&source), 1, "a thread still holds the source");
    let seen = asked.load(Ordering::Relaxed);
    assert!(seen <= 4 * 5, "{seen} images were prepared for one batch");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(asked.load(Ordering::Relaxed), seen);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn no_more_than_the_queue_is_prepared_ahead() {
    let source = failing(400, |_| false);
    let mut batches = epoch_batches(source.clone(), &config(1), 0, 0);
    batches.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    // The one taken, one in the queue, one waiting to enter it.
    assert!(source.asked.load(Ordering::Relaxed) <= 3 * 4);
}

#[test]
fn one_image_and_settings_out_of_range_are_refused() {
    let first = |n, config: &BatchConfig| epoch_batches(flat(n), config, 0, 0).next().unwrap().unwrap_err().to_string();
    assert_eq!(first(1, &config(1)), "training needs at least 2 images, got 1");
    assert_eq!(first(9, &BatchConfig { batch_size: 0, ..config(1) }), "batch size must be at least 1, got 0");
    assert_eq!(first(9, &BatchConfig { input: Preprocessing::plain(0), ..config(1) }), "preprocessing: size must be in 1 to 4096, got 0");
    assert_eq!(
        first(9, &BatchConfig { input: Preprocessing { crop_fraction: 0.0, ..Preprocessing::plain(8) }, ..config(1) }),
        "preprocessing: crop_fraction must be in (0, 1], got 0"
    );
    let augment = AugmentConfig { hue: 2.0, ..AugmentConfig::default() };
    assert_eq!(first(9, &BatchConfig { augment, ..config(1) }), "hue must be in [0, 0.5], got 2");
    // One image is enough to embed it.
    assert_eq!(collect(eval_batches(flat(1), &config(1), 4)).len(), 1);
}
