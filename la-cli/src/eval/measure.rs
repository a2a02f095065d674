//! What one network reaches on labelled images.

use super::compared::some_of;
use super::labelled::{Both, Labelled};
use super::opened::{self, Asked};
use super::EvalArgs;
use crate::measures::retrieval::Retrieval;
use crate::output::{counted, thousands};
use crate::probe::fast::ProbeConfig;
use crate::probe::few_labels::FewLabels;
use crate::probe::layer_probes::{self, probe_layers, LayerProbes};
use crate::probe::layers::Layer;
use crate::probe::paper::{self, PaperConfig};
use crate::probe::Protocol;
use crate::progress::Progress;
use crate::source::{self, images, Embedded};
use crate::weights::Encoder;
use la_core::augment::AugmentConfig;
use la_core::data::{labels, Source, Splits, Subset};
use la_core::eval::knn::KnnConfig;
use la_core::eval::linear::{LinearConfig, LinearResult};
use la_core::eval::outcomes::Outcomes;
use la_core::ops::device::Precision;
use std::sync::Arc;

/// What a network reached, and how that was measured.
pub struct Reached {
    /// One line about it.
    pub described: String,
    /// As it was named.
    pub name: String,
    /// The images.
    pub splits: Splits,
    /// How neighbours voted.
    pub knn_config: KnnConfig,
    /// What they say.
    pub knn: Outcomes,
    /// How well images of a class are found.
    pub retrieval: Option<Retrieval>,
    /// A softmax layer on pooled features, by SGD.
    pub linear: Option<LinearResult>,
    /// One on each layer.
    pub layers: Option<LayerProbes>,
    /// How.
    pub protocol: Protocol,
    /// Whether the network learned from the same pictures, which the paper's protocol changes as training did.
    is_own: bool,
    /// Images that could vote, before few of them were drawn.
    pub num_images: usize,
    /// Images whose labels were used.
    pub num_train: usize,
    /// Whether training images classify each other.
    pub is_leaving_one_out: bool,
    /// What the network computed in.
    computing: Precision,
    /// Whether embeddings are by a read-out.
    pub is_by_readout: bool,
    /// How few of the labels were used, in words.
    few: Option<String>,
}

/// Measures a network with what the arguments ask for.
pub fn measure(args: &EvalArgs, asked: &Asked, encoder: &mut Encoder) -> anyhow::Result<Reached> {
    let mut images = opened::open(args, asked, encoder)?;
    let data = opened::labelled(args, &images)?;
    data.note_other_classes();
    let (num_images, _) = data.num_images();
    let knn_config = opened::knn_config(args, num_images - usize::from(args.leave_one_out))?;
    let (compared, linear) = if args.linear {
        source::warn_unreadable(&data.splits);
        let Both { compared, mut pooled } = data.embed(encoder, true)?;
        pooled[0] = some_of(&pooled[0], args.labels, args.seed)?;
        (compared, Some(data.linear(&pooled)?))
    } else {
        let mut embed = |split| {
            let found = images.embed(split, encoder)?;
            Ok(Embedded { images: found.images, rows: found.rows })
        };
        (data.compared(&mut embed)?, None)
    };
    let num_images = compared.train.labels.len();
    let compared = compared.with_few(args.labels, args.seed)?;
    let (knn_config, knn) = compared.knn(&knn_config)?;
    let retrieval = if args.retrieval { Some(compared.retrieval()?) } else { None };
    let layers = if args.layers { Some(layers((args, asked), &data, encoder)?) } else { None };
    let few = args.labels.map(|few| match few {
        FewLabels::Share(_) => format!("{few} of the labels, seed {}", args.seed),
        FewLabels::PerClass(count) => format!("{} a class, seed {}", counted(count, "label"), args.seed),
    });
    Ok(Reached {
        described: encoder.describe(),
        name: encoder.name.clone(),
        splits: images.splits,
        knn_config,
        num_train: compared.train.labels.len(),
        num_images,
        is_leaving_one_out: compared.test.is_none(),
        knn,
        retrieval,
        linear,
        layers,
        protocol: args.protocol,
        is_own: own_augmentation(asked, encoder).is_some(),
        computing: encoder.computing(),
        is_by_readout: encoder.readout().is_some(),
        few,
    })
}

/// A probe of each layer.
fn layers((args, asked): (&EvalArgs, &Asked), data: &Labelled, encoder: &Encoder) -> anyhow::Result<LayerProbes> {
    let Splits { train, test, .. } = &data.splits;
    let train = match (args.labels, labels(train.as_ref())) {
        (Some(few), Some(labels)) => Arc::new(Subset::new(train.clone(), few.draw(&labels, args.seed))?) as Arc<dyn Source>,
        _ => train.clone(),
    };
    let test = test.as_ref().unwrap_or(&train);
    let mut bar: Option<(String, Progress)> = None;
    let mut progress = |what: &str, done: usize, total: usize| {
        if bar.as_ref().is_none_or(|(of, _)| of != what) {
            bar = None; // Taken away before the next is drawn.
            let unit = if what.starts_with("features") || what.starts_with("testing") { "images" } else { "steps" };
            bar = Some((what.to_string(), Progress::new(what, total, unit)));
        }
        bar.iter_mut().for_each(|(_, bar)| bar.set(done));
    };
    let data = layer_probes::Labelled { train: &train, test };
    let found = match args.protocol {
        Protocol::Fast => {
            let config = ProbeConfig { seed: args.seed, ..ProbeConfig::default() };
            probe_layers((encoder.net(), &Layer::ALL), data, &encoder.batches(), &config, &mut progress)?
        }
        Protocol::Paper => {
            let config = PaperConfig::new(own_augmentation(asked, encoder), args.seed);
            paper::probe_layers(encoder.net(), data, &encoder.batches(), &config, &mut progress)?
        }
    };
    drop(bar);
    source::warn_of_files(&found.unreadable, "could not be read any more and had to be left out");
    Ok(found)
}

/// How training changed the pictures, if these are the ones that the network learned from.
fn own_augmentation(asked: &Asked, encoder: &Encoder) -> Option<AugmentConfig> {
    let config = encoder.run.as_ref()?;
    let place = |src: &str| std::fs::canonicalize(src).unwrap_or_else(|_| src.into());
    (place(asked.src()) == place(&config.train.data)).then_some(config.train.augment)
}

impl Reached {
    /// How many were classified.
    pub fn num_test(&self) -> usize {
        self.knn.len()
    }

    /// How many images a query is compared with.
    pub fn num_found_among(&self) -> usize {
        self.num_train - usize::from(self.is_leaving_one_out)
    }

    /// Test images that are not classified, since no training image is of their class.
    pub fn num_left_out(&self) -> usize {
        self.splits.test.as_ref().filter(|_| !self.is_leaving_one_out).map_or(0, |test| test.len() - self.num_test())
    }

    /// How kNN accuracy was measured.
    pub fn knn_protocol(&self) -> String {
        let KnnConfig { k, temperature } = self.knn_config;
        let others = if self.is_leaving_one_out { ", each classified by the others" } else { "" };
        let precision = if self.computing == Precision::F32 { String::new() } else { format!(", in {}", self.computing) };
        let images = self.trained_on("");
        format!("K = {k}, temperature {temperature}; {images} re-embedded un-augmented{others}, batch norm in eval mode{precision}")
    }

    /// How retrieval was measured.
    pub fn retrieval_protocol(&self) -> String {
        let query = if self.is_leaving_one_out { "each by all others" } else { "by each test image" };
        let without = self.retrieval.as_ref().map_or(0, |retrieval| self.num_test() - retrieval.queries.len());
        let left_out = if without > 0 { format!("; {} left out, whose class none of them has", thousands(without)) } else { String::new() };
        format!("{} ranked by cosine similarity, {query}{left_out}", self.trained_on(""))
    }

    /// How the linear probe by SGD was fitted.
    pub fn linear_protocol(&self) -> String {
        let config = LinearConfig::default();
        format!("pooled features, {} epochs of SGD, lr {}, un-augmented, one crop", config.epochs, config.learning_rate)
    }

    /// How the probes of layers were fitted.
    pub fn layers_protocol(&self) -> String {
        if self.protocol == Protocol::Paper {
            let change = if self.is_own { "changed as in training" } else { "cropped to 77 % of the area or more and flipped" };
            return format!(
                "softmax layer on whole maps, 70 epochs of SGD, lr 0.01 divided by ten after 30 and 60; {} {change}; mean of ten test crops",
                self.trained_on("training ")
            );
        }
        "logistic regression by L-BFGS on standardised features of at most 9,216 values, un-augmented, one crop; penalty chosen on 20 % of "
            .to_string()
            + &self.trained_on("training ")
    }

    fn trained_on(&self, kind: &str) -> String {
        let all = images(self.num_images, kind);
        match &self.few {
            Some(few) => format!("{} of {all} ({few})", thousands(self.num_train)),
            None => all,
        }
    }
}
