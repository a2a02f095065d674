//! A network as one ONNX graph: prepared images in, unit-length embeddings out.

mod proto;

use crate::weights::Encoder;
use anyhow::Context;
use candle_core::Tensor;
use la_core::files::write_atomically;
use la_core::ops::pool::split;
use la_core::pca::Whitening;
use la_core::preprocess::Normalization;
use la_core::resnet::Stem;
use proto::{integer, model, node, tensor, value, Attribute, Message};
use std::collections::HashMap;
use std::path::Path;

/// Version of the operations.
const OPSET: u64 = 17;
/// What batch norm adds to a variance.
const EPSILON: f32 = 1e-5;

/// Writes the network of an encoder, with its read-out where it has one, to `out`; gives the bytes.
pub fn write(encoder: &Encoder, out: &Path) -> anyhow::Result<usize> {
    let mut tensors: HashMap<String, Tensor> = encoder.net().tensors()?.into_iter().collect();
    tensors.extend(encoder.readout().into_iter().flat_map(Whitening::tensors));
    let mut graph = Graph { tensors, nodes: vec![], weights: vec![] };
    let side = encoder.size();
    graph.network(encoder)?;
    let message = Message::default().each(1, &graph.nodes).bytes(2, "encoder").each(5, &graph.weights);
    let message = message.bytes(11, value("images", &[3, side, side])).bytes(12, value("embeddings", &[encoder.dim()]));
    let bytes = model(&message, OPSET, &entries(encoder));
    write_atomically(out, |file| file.write_all(bytes.as_ref()))?;
    Ok(bytes.as_ref().len())
}

/// How images are prepared for the graph, for those who feed it.
fn entries(encoder: &Encoder) -> Vec<(&'static str, String)> {
    let how = encoder.preprocessing();
    let Normalization { mean, std } = how.normalization;
    vec![
        ("title", encoder.describe_to_others()),
        ("input", "RGB in 0 to 1; the shorter side resized to `resized`, the middle cropped to `size`, (value - mean) / std".into()),
        ("size", how.size.to_string()),
        ("resized", how.resized_side().to_string()),
        ("interpolation", format!("{:?}", how.interpolation).to_lowercase()),
        ("mean", format!("{mean:?}")),
        ("std", format!("{std:?}")),
        ("output", "embeddings of length 1: their product is the cosine similarity".into()),
    ]
}

/// A graph in the making; a value has the name of the operation that gives it.
struct Graph {
    tensors: HashMap<String, Tensor>,
    nodes: Vec<Message>,
    weights: Vec<Message>,
}

impl Graph {
    fn network(&mut self, encoder: &Encoder) -> anyhow::Result<()> {
        let mut x = match encoder.net().config().stem {
            Stem::Small => self.unit("images", ("conv1", "bn1"), (3, 1), true)?,
            Stem::Imagenet => {
                let x = self.unit("images", ("conv1", "bn1"), (7, 2), true)?;
                let pool = [Attribute::Ints("kernel_shape", vec![3; 2]), Attribute::Ints("strides", vec![2; 2]), padding(1)];
                self.add("MaxPool", "maxpool", &[&x], &pool)
            }
        };
        let config = encoder.net().config();
        let bands = encoder.readout().map(|readout| config.readout_bands(readout.num_features())).transpose()?;
        let (mut means, mut side) = (vec![], stem_side(config.stem, encoder.size()));
        for stage in 1..=4 {
            let mut number = 0;
            while self.has(&format!("layer{stage}.{number}.conv1.weight")) {
                let stride = if stage > 1 && number == 0 { 2 } else { 1 };
                x = self.block(&x, &format!("layer{stage}.{number}"), stride)?;
                number += 1;
            }
            side = if stage > 1 { side.div_ceil(2) } else { side };
            if let (3, Some(bands)) = (stage, bands) {
                means = self.band_means(&x, side, bands);
            }
        }
        let mean = self.add("GlobalAveragePool", "mean4", &[&x], &[]);
        means.push(self.add("Flatten", "pooled4", &[&mean], &[Attribute::Int("axis", 1)]));
        let (features, last) = match bands {
            Some(_) => {
                let means: Vec<&str> = means.iter().map(String::as_str).collect();
                (self.add("Concat", "features", &means, &[Attribute::Int("axis", 1)]), "readout")
            }
            None => (means[0].clone(), "fc"),
        };
        let (weight, bias) = (format!("{last}.weight"), format!("{last}.bias"));
        self.weight(&weight)?;
        self.weight(&bias)?;
        let outputs = self.add("Gemm", last, &[&features, &weight, &bias], &[Attribute::Int("transB", 1)]);
        self.add("LpNormalization", "embeddings", &[&outputs], &[Attribute::Int("axis", 1), Attribute::Int("p", 2)]);
        Ok(())
    }

    /// The means of layer3, whose maps have this side, over each band of rows.
    fn band_means(&mut self, x: &str, side: usize, bands: usize) -> Vec<String> {
        let mut means = vec![];
        for (band, rows) in split(side, bands).enumerate() {
            let name = |part: &str| format!("{part}3.{band}");
            let bounds = [("start", rows.start as i64), ("end", rows.end as i64), ("axis", 2)];
            let bounds = bounds.map(|(part, value)| self.integer(&name(part), value));
            let rows = self.add("Slice", &name("rows"), &[x, &bounds[0], &bounds[1], &bounds[2]], &[]);
            let mean = self.add("GlobalAveragePool", &name("mean"), &[&rows], &[]);
            means.push(self.add("Flatten", &name("pooled"), &[&mean], &[Attribute::Int("axis", 1)]));
        }
        means
    }

    /// A residual block: two convolutions, or three of which the middle one strides.
    fn block(&mut self, x: &str, name: &str, stride: u64) -> anyhow::Result<String> {
        let part = |kind: &str, number: usize| format!("{name}.{kind}{number}");
        let is_bottleneck = self.has(&format!("{name}.conv3.weight"));
        let shapes: &[(u64, u64)] = if is_bottleneck { &[(1, 1), (3, stride), (1, 1)] } else { &[(3, stride), (3, 1)] };
        let mut y = x.to_string();
        for (i, &shape) in shapes.iter().enumerate() {
            y = self.unit(&y, (&part("conv", i + 1), &part("bn", i + 1)), shape, i + 1 < shapes.len())?;
        }
        let shortcut = match self.has(&format!("{name}.downsample.0.weight")) {
            true => self.unit(x, (&format!("{name}.downsample.0"), &format!("{name}.downsample.1")), (1, stride), false)?,
            false => x.to_string(),
        };
        let sum = self.add("Add", &format!("{name}.sum"), &[&y, &shortcut], &[]);
        Ok(self.add("Relu", name, &[&sum], &[]))
    }

    /// Convolution of a square kernel, batch norm and, if asked for, ReLU.
    fn unit(&mut self, x: &str, (conv, norm): (&str, &str), (side, stride): (u64, u64), has_relu: bool) -> anyhow::Result<String> {
        let weight = format!("{conv}.weight");
        self.weight(&weight)?;
        let shape = [Attribute::Ints("kernel_shape", vec![side; 2]), Attribute::Ints("strides", vec![stride; 2]), padding(side / 2)];
        let y = self.add("Conv", conv, &[x, &weight], &shape);
        let names = ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{norm}.{part}"));
        names.iter().try_for_each(|name| self.weight(name))?;
        let inputs = [&y, &names[0], &names[1], &names[2], &names[3]].map(String::as_str);
        let y = self.add("BatchNormalization", norm, &inputs, &[Attribute::Float("epsilon", EPSILON)]);
        Ok(if has_relu { self.add("Relu", &format!("{norm}.relu"), &[&y], &[]) } else { y })
    }

    fn add(&mut self, operation: &str, name: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        self.nodes.push(node(operation, name, inputs, attributes));
        name.to_string()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn integer(&mut self, name: &str, value: i64) -> String {
        self.weights.push(integer(name, value));
        name.to_string()
    }

    fn weight(&mut self, name: &str) -> anyhow::Result<()> {
        let values = self.tensors.get(name).with_context(|| format!("weights: tensor {name} is missing"))?;
        let dims = values.dims().to_vec();
        self.weights.push(tensor(name, &dims, &values.flatten_all()?.to_vec1()?));
        Ok(())
    }
}

/// The side of what the stem gives for images of this side.
fn stem_side(stem: Stem, size: usize) -> usize {
    match stem {
        Stem::Small => size,
        Stem::Imagenet => size.div_ceil(2).div_ceil(2),
    }
}

fn padding(count: u64) -> Attribute {
    Attribute::Ints("pads", vec![count; 4])
}
