//! Linear probes by the paper's protocol: a softmax layer on each layer's whole maps, by SGD on new crops in each epoch, ten crops to test.
//!
//! 70 epochs, batch 128, learning rate 0.01, divided by ten after 30 and 60, momentum 0.9, weight decay 1e-4. Pictures of the
//! training set are changed as in training, others are cropped and flipped alone
//! (<https://github.com/neuroailab/LocalAggregation>).

use super::layer_probes::{Images, Labelled, LayerProbe, LayerProbes, Progress};
use super::layers::{Layer, Maps, Shape};
use super::ten_crops::{OneCrop, NUM_CROPS};
use crate::error::{bail, Result};
use candle_core::{DType, Tensor, D};
use la_core::{
    augment::AugmentConfig,
    data::{epoch_batches, none_readable, num_batches, BatchConfig, Source, Unreadable},
    eval::{
        embed::collect,
        linear::{LinearConfig, SoftmaxLayer},
        outcomes::Outcomes,
    },
    ops::host,
    preprocess::Preprocessing,
    resnet::ResNet,
};
use std::sync::Arc;

/// The name of this protocol, to be printed beside its figures.
pub const PROTOCOL: &str = "paper";
/// The layers that the paper probes.
pub const LAYERS: [Layer; 5] = [Layer::Stem, Layer::Layer1, Layer::Layer2, Layer::Layer3, Layer::Layer4];
/// Values of an image's maps above which they are averaged over 2 × 2 places, and again.
const MOST_VALUES: usize = 200_000;
/// The share of the area that the crops of other pictures keep at least: 224² of 256².
const OTHER_CROP_AREA: f32 = 0.765_625;

/// How a probe is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct PaperConfig {
    /// SGD.
    pub sgd: LinearConfig,
    /// How training pictures are changed.
    pub augment: AugmentConfig,
}

impl PaperConfig {
    /// For pictures of the set that the network learned from, which are changed as it saw them, or for others.
    pub fn new(own: Option<AugmentConfig>, seed: u64) -> Self {
        let colours =
            AugmentConfig { gray_probability: 0.0, brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0, ..AugmentConfig::default() };
        let augment = own.unwrap_or(AugmentConfig { crop_min_area: OTHER_CROP_AREA, ..colours });
        Self { sgd: LinearConfig { seed, ..LinearConfig::default() }, augment }
    }
}

/// Trains a softmax layer on each of [`LAYERS`] of a frozen network.
///
/// All see the same crops, so each goes through the network once. Fails where a side has no labelled image that can be read.
pub fn probe_layers(
    net: &ResNet,
    data: Labelled,
    batches: &BatchConfig,
    config: &PaperConfig,
    progress: &mut Progress,
) -> Result<LayerProbes> {
    let (train, test) = (Images::labelled(data.train, "training")?, Images::labelled(data.test, "test")?);
    let num_classes = data.train.class_names().len();
    let batches =
        BatchConfig { batch_size: config.sgd.batch_size, views: 1, augment: config.augment, seed: config.sgd.seed, ..batches.clone() };
    let mut layers = Vec::new();
    let mut unreadable: Vec<Unreadable> = Vec::new();
    let shapes = shapes(net, batches.input.size)?;
    let steps = num_batches(train.images.len(), batches.batch_size);
    for epoch in 0..config.sgd.epochs {
        for (step, batch) in epoch_batches(train.images.clone(), &batches, epoch, 0).enumerate() {
            let batch = batch?;
            let classes: Vec<u32> = batch.indices.iter().filter_map(|&index| train.images.label(index as usize)).collect();
            let maps = flat_maps(net, &batch.images)?;
            if layers.is_empty() {
                layers = maps.iter().map(|x| SoftmaxLayer::zeros(num_classes, x.dim(1)?)).collect::<la_core::Result<_>>()?;
            }
            for (layer, x) in layers.iter_mut().zip(&maps) {
                layer.step(x, &classes, config.sgd.learning_rate_of(epoch), &config.sgd)?;
            }
            let is_new = |file: &Unreadable| !unreadable.contains(file);
            let failed: Vec<Unreadable> = batch.failed.into_iter().filter(is_new).collect();
            unreadable.extend(failed);
            progress("training probes", epoch * steps + step + 1, config.sgd.epochs * steps);
        }
    }
    let tested = ten_crops(net, &layers, &test.images, &batches, progress)?;
    unreadable.extend(tested.unreadable);
    let labels: Vec<u32> = tested.indices.iter().filter_map(|&index| test.images.label(index as usize)).collect();
    let probe = |((&layer, shape), scores): ((&Layer, Shape), Vec<f64>)| {
        if scores.iter().any(|score| score.is_nan()) {
            bail!("the probe of {layer} became NaN or infinite; use --protocol fast");
        }
        Ok(LayerProbe { layer, shape, outcomes: Outcomes::of_scores(&scores, &labels, num_classes)?, fitted: None })
    };
    let layers = LAYERS.iter().zip(shapes).zip(tested.scores).map(probe).collect::<Result<_>>()?;
    let test_indices = tested.indices.iter().map(|&index| test.indices[index as usize]).collect();
    Ok(LayerProbes { layers, num_train: train.images.len(), test_indices, unreadable })
}

/// For each layer `(B, F)` on the CPU: its maps as they are, averaged only where they are very large.
fn flat_maps(net: &ResNet, images: &Tensor) -> Result<Vec<Tensor>> {
    let flat = |map: Tensor| host::local(&map.flatten_from(1)?.contiguous()?);
    maps(net, images)?.into_iter().map(flat).collect()
}

/// `(B, C, H, W)` of each layer.
fn maps(net: &ResNet, images: &Tensor) -> Result<Vec<Tensor>> {
    let maps = Maps::of(net, images)?;
    let reduced = |&layer: &Layer| {
        let mut map = maps.map(layer)?.permute((0, 3, 1, 2))?.to_dtype(DType::F32)?;
        while map.elem_count() / map.dim(0)? > MOST_VALUES && map.dim(D::Minus1)? > 1 {
            map = map.contiguous()?.avg_pool2d(2)?;
        }
        Ok(map)
    };
    LAYERS.iter().map(reduced).collect()
}

/// What a probe sees of each layer.
fn shapes(net: &ResNet, size: usize) -> Result<Vec<Shape>> {
    let image = Tensor::zeros((1, 3, size, size), DType::F32, net.parameters()[0].value.device())?;
    let shape = |map: &Tensor| {
        let (_, channels, height, width) = map.dims4()?;
        Ok(Shape { grid: (height, width), channels })
    };
    maps(net, &image)?.iter().map(shape).collect()
}

/// The softmax of each row.
fn softmax_rows(logits: &Tensor) -> candle_core::Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(1)?)
}

/// What all layers say of the test images.
struct Tested {
    /// For each layer the mean softmax `(N, C)`, row by row.
    scores: Vec<Vec<f64>>,
    indices: Vec<u32>,
    unreadable: Vec<Unreadable>,
}

fn ten_crops(
    net: &ResNet,
    layers: &[SoftmaxLayer],
    images: &Arc<dyn Source>,
    batches: &BatchConfig,
    progress: &mut Progress,
) -> Result<Tested> {
    let batches = BatchConfig { input: Preprocessing { crop_fraction: 1.0, ..batches.input }, ..batches.clone() };
    let mut all: Option<Tested> = None;
    for crop in 0..NUM_CROPS {
        let source: Arc<dyn Source> = Arc::new(OneCrop::new(images.clone(), crop));
        let softmax = |images: &Tensor| {
            let maps = flat_maps(net, images)?;
            let of = |(layer, x): (&SoftmaxLayer, &Tensor)| Ok(softmax_rows(&layer.logits(x)?)?);
            let rows = layers.iter().zip(&maps).map(of).collect::<la_core::Result<Vec<_>>>()?;
            Ok(Tensor::cat(&rows, 1)?)
        };
        let found = collect(
            &source,
            &batches,
            &mut |done| progress("testing ten crops", crop * images.len() + done, NUM_CROPS * images.len()),
            softmax,
        )?;
        let width = found.values.dim(1)? / layers.len();
        let sums = all.get_or_insert_with(|| Tested {
            scores: vec![vec![0.0; found.indices.len() * width]; layers.len()],
            indices: found.indices.clone(),
            unreadable: found.unreadable.clone(),
        });
        if found.indices != sums.indices {
            bail!("images changed while they were measured; run it again");
        }
        for (i, scores) in sums.scores.iter_mut().enumerate() {
            let part: Vec<f32> = found.values.narrow(1, i * width, width)?.flatten_all()?.to_vec1()?;
            scores.iter_mut().zip(part).for_each(|(sum, score)| *sum += f64::from(score) / NUM_CROPS as f64);
        }
    }
    all.ok_or_else(|| none_readable(images.len(), &[]))
}
