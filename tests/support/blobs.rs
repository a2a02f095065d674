//! A small set of images in three classes, and a configuration that trains on it in seconds.
#![allow(dead_code)] // Each test program uses a part of it.

use la_cli::run::{train, RunFolder};
use la_core::{
    config::{Monitor, ScheduleKind, TrainConfig},
    data::{Picture, Source, Splits},
    optim::SgdConfig,
    preprocess::Normalization,
    resnet::Stem,
    rng::{Rng, Stream},
    train::{Event, Start, Summary},
    Result,
};
use std::{borrow::Cow, ops::ControlFlow, path::Path, sync::Arc};

pub const SIDE: usize = 8;

/// Images of a class share a bright corner; each has noise of its own.
pub struct Blobs {
    pub pictures: Vec<Picture>,
    pub labels: Option<Vec<u32>>,
    pub class_names: Vec<String>,
}

impl Blobs {
    pub fn new(count: usize, seed: u64) -> Self {
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
        let pictures =
            labels.iter().enumerate().map(|(i, &label)| picture(label, &mut Rng::new(Stream::Subset, &[seed, i as u64]))).collect();
        Self { pictures, labels: Some(labels), class_names: ["red", "green", "blue"].map(String::from).to_vec() }
    }
}

fn picture(label: u32, rng: &mut Rng) -> Picture {
    let mut pixels = vec![0; SIDE * SIDE * 3];
    for (at, value) in pixels.iter_mut().enumerate() {
        let (row, channel) = (at / 3 / SIDE, at % 3);
        let is_bright = channel == label as usize && (row < SIDE / 2) == label.is_multiple_of(2);
        *value = (rng.below(120) + if is_bright { 130 } else { 0 }) as u8;
    }
    Picture { width: SIDE, height: SIDE, pixels }
}

impl Source for Blobs {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        Ok(Cow::Borrowed(&self.pictures[index]))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.as_ref().map(|labels| labels[index])
    }

    fn name(&self, index: usize) -> String {
        index.to_string()
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

/// `count` training images and a third as many to test on.
pub fn splits(count: usize) -> Splits {
    splits_of(Blobs::new(count, 0), Some(Blobs::new(count / 3, 1)))
}

pub fn splits_of(train: Blobs, test: Option<Blobs>) -> Splits {
    Splits {
        name: "blobs".into(),
        train: Arc::new(train),
        test: test.map(|test| Arc::new(test) as Arc<dyn Source>),
        unreadable: Vec::new(),
        notes: Vec::new(),
    }
}

/// Two epochs of instance recognition and two of local aggregation, four steps each.
pub fn config() -> TrainConfig {
    TrainConfig {
        data: "blobs".into(),
        size: SIDE,
        crop_fraction: Some(1.0),
        normalization: Some(Normalization { mean: [0.3; 3], std: [0.25; 3] }),
        stem: Stem::Small,
        width: 4,
        embedding_dim: 16,
        epochs: 4,
        ir_epochs: 2,
        batch_size: 12,
        lr: 0.03,
        schedule: ScheduleKind::Cosine,
        sgd: SgdConfig { momentum: 0.9, weight_decay: 1e-4 },
        temperature: 0.2,
        num_background: Some(12),
        num_clusters: Some(6),
        num_clusterings: Some(2),
        monitor: Monitor::Reembed,
        knn_k: 5,
        threads: 1,
        checkpoint_minutes: None,
        ..TrainConfig::default()
    }
}

/// What a listener answers that does not ask to stop.
pub const ON: ControlFlow<()> = ControlFlow::Continue(());

/// Trains in a new folder and gives what came out.
pub fn run(config: &TrainConfig, splits: &Splits, folder: &Path) -> Result<Summary> {
    train(config, splits, &RunFolder::create(folder)?, Start::New, &mut |_| ON)
}

/// Trains in a new folder and gives every event too.
pub fn run_with_events(config: &TrainConfig, splits: &Splits, folder: &Path) -> (Result<Summary>, Vec<Event>) {
    let mut events = Vec::new();
    let run = RunFolder::create(folder).expect("the folder is new");
    let summary = train(config, splits, &run, Start::New, &mut |event| {
        events.push(event);
        ON
    });
    (summary, events)
}

/// Goes on in a folder.
pub fn resume(config: &TrainConfig, splits: &Splits, folder: &Path) -> Result<Summary> {
    train(config, splits, &RunFolder::open(folder)?, Start::Resume, &mut |_| ON)
}
