//! A linear probe of each layer of a network, by protocol `fast`; what either protocol finds.

use super::fast::{probe, LabelledRows, ProbeConfig, Probed};
use super::half_rows::HalfRows;
use super::layers::{layer_rows, shapes, Layer, Shape};
use crate::error::{bail, Result};
use la_core::{
    data::{BatchConfig, Source, Subset, Unreadable},
    eval::outcomes::Outcomes,
    resnet::ResNet,
};
use std::{ops::Range, sync::Arc};

/// Bytes of features that are held at once; layers beyond them wait for another pass over the images.
const MEMORY: usize = 3 << 30;

/// A labelled source, its images split into those to fit and those to measure.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    /// Images to fit; those without a label are left out.
    pub train: &'a Arc<dyn Source>,
    /// Images to measure, with the same classes.
    pub test: &'a Arc<dyn Source>,
}

/// The probe of one layer.
#[derive(Debug, Clone)]
pub struct LayerProbe {
    /// Which layer.
    pub layer: Layer,
    /// What the probe saw of it.
    pub shape: Shape,
    /// What it says of the test images.
    pub outcomes: Outcomes,
    /// How protocol `fast` fitted it.
    pub fitted: Option<Fitted>,
}

/// How a probe was fitted by protocol `fast`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// See [`Probed::penalty`].
    pub penalty: f64,
    /// Whether held-out training images chose it.
    pub is_chosen: bool,
    /// See [`Probed::train_top1`].
    pub train_top1: f64,
}

impl LayerProbe {
    fn new(layer: Layer, shape: Shape, Probed { penalty, held_out_top1, train_top1, outcomes }: Probed) -> Self {
        Self { layer, shape, outcomes, fitted: Some(Fitted { penalty, is_chosen: held_out_top1.is_some(), train_top1 }) }
    }
}

/// Probes of several layers of one network.
#[derive(Debug, Clone)]
pub struct LayerProbes {
    /// In the order asked for.
    pub layers: Vec<LayerProbe>,
    /// Images that were fitted.
    pub num_train: usize,
    /// Which test images were measured: the order of all [`LayerProbe::outcomes`].
    pub test_indices: Vec<u32>,
    /// Images that could not be read and were left out.
    pub unreadable: Vec<Unreadable>,
}

/// Told what is done: the work in words, units done, units in all.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Fits a softmax layer to each of `layers` of a frozen network.
///
/// Each image goes through the network once, or again where features would take more than 3 GiB. Fails where a side has no
/// labelled image that can be read, and as [`layer_rows`] and [`probe`] do.
pub fn probe_layers(
    (net, layers): (&ResNet, &[Layer]),
    data: Labelled,
    batches: &BatchConfig,
    config: &ProbeConfig,
    progress: &mut Progress,
) -> Result<LayerProbes> {
    let shapes = shapes(net, layers, batches.input.size)?;
    let (train, test) = (Images::labelled(data.train, "training")?, Images::labelled(data.test, "test")?);
    let num_classes = data.train.class_names().len();
    let mut found = LayerProbes { layers: vec![], num_train: 0, test_indices: vec![], unreadable: vec![] };
    for group in groups(&shapes, train.indices.len() + test.indices.len()) {
        let network = (net, &layers[group.clone()]);
        let train = train.rows(network, batches, &mut |done, total| progress("features of training images", done, total))?;
        let test = test.rows(network, batches, &mut |done, total| progress("features of test images", done, total))?;
        for (i, at) in group.enumerate() {
            let what = format!("probing {}", layers[at]);
            let probed = probe(train.of(i), test.of(i), num_classes, config, &mut |done, total| progress(&what, done, total))?;
            found.layers.push(LayerProbe::new(layers[at], shapes[at], probed));
        }
        (found.num_train, found.test_indices) = (train.labels.len(), test.indices);
        found.unreadable = [train.unreadable, test.unreadable].concat();
    }
    Ok(found)
}

/// Layers one after another whose features are held at once.
fn groups(shapes: &[Shape], num_images: usize) -> Vec<Range<usize>> {
    let most = MEMORY / 2 / num_images.max(1);
    let (mut groups, mut first, mut width) = (Vec::new(), 0, 0);
    for (i, shape) in shapes.iter().enumerate() {
        if i > first && width + shape.width() > most {
            groups.push(first..i);
            (first, width) = (i, 0);
        }
        width += shape.width();
    }
    if first < shapes.len() {
        groups.push(first..shapes.len());
    }
    groups
}

/// Those images of a source that have a label.
pub(super) struct Images {
    pub images: Arc<dyn Source>,
    /// Which of the source's these are.
    pub indices: Vec<u32>,
}

/// What a network makes of them.
struct Set {
    rows: Vec<HalfRows>,
    labels: Vec<u32>,
    indices: Vec<u32>,
    unreadable: Vec<Unreadable>,
}

impl Images {
    pub fn labelled(source: &Arc<dyn Source>, name: &str) -> Result<Self> {
        let indices: Vec<u32> = (0..source.len()).filter(|&index| source.label(index).is_some()).map(|index| index as u32).collect();
        if indices.is_empty() {
            bail!("a probe needs labels: expected {name} images with a class, got none among {}", source.len());
        }
        Ok(Self { images: Arc::new(Subset::new(source.clone(), indices.clone())?), indices })
    }

    fn rows(&self, network: (&ResNet, &[Layer]), batches: &BatchConfig, progress: &mut dyn FnMut(usize, usize)) -> Result<Set> {
        let total = self.images.len();
        let found = layer_rows(network.0, network.1, &self.images, batches, &mut |done| progress(done, total))?;
        let labels = found.indices.iter().filter_map(|&index| self.images.label(index as usize)).collect();
        let indices = found.indices.iter().map(|&index| self.indices[index as usize]).collect();
        Ok(Set { rows: found.rows, labels, indices, unreadable: found.unreadable })
    }
}

impl Set {
    /// Layer `i` of those asked for.
    fn of(&self, i: usize) -> LabelledRows<'_> {
        LabelledRows { rows: &self.rows[i], labels: &self.labels }
    }
}
