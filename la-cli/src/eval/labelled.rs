//! Data sources with labels to evaluate by, and what keeps others from it.

use super::compared::Compared;
use crate::output::{one_line, remark, thousands};
use crate::source::{Embedded, Split};
use crate::weights::Encoder;
use anyhow::{bail, Context};
use la_core::data::{self, Source, Splits};
use la_core::eval::knn::KnnConfig;
use la_core::eval::linear::{linear_probe, LabelledFeatures, LinearConfig, LinearResult};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names that a note lists.
const SHOWN: usize = 8;

/// Images with labels, and those that they classify.
pub struct Labelled {
    /// The images.
    pub splits: Splits,
    is_leaving_one_out: bool,
}

/// What was measured; accuracies in 0–1.
pub struct Measured {
    /// kNN accuracy of the embeddings.
    pub knn_top1: f32,
    /// That of a softmax layer on the pooled features, where wanted.
    pub linear: Option<LinearResult>,
}

/// Embeddings, and pooled features where a probe wants them: those of training images, then those of test images.
pub struct Both {
    /// What neighbours are found by.
    pub compared: Compared,
    /// What a probe sees.
    pub pooled: Vec<LabelledFeatures>,
}

impl Labelled {
    /// Opened data; fails where a training image has no label, or no test image has a class of theirs.
    pub fn new(splits: Splits, name: &str) -> anyhow::Result<Self> {
        let test = splits.test.clone().with_context(|| {
            format!(
                "{name} has no test images; name some with --test SRC, or classify each training image by the others with --leave-one-out"
            )
        })?;
        let labelled = Self { is_leaving_one_out: false, ..Self::leaving_one_out(splits)? };
        check_classifiable(test.as_ref())?;
        Ok(labelled)
    }

    /// Opened data whose training images classify each other; fails where one has no label.
    pub fn leaving_one_out(splits: Splits) -> anyhow::Result<Self> {
        if data::labels(splits.train.as_ref()).is_none() {
            let lack = lack_of_labels(&splits).unwrap_or_default();
            bail!("{lack}; evaluation needs labels: put each class, at least two, into a sub-folder of its own");
        }
        Ok(Self { splits, is_leaving_one_out: true })
    }

    /// Numbers of training images and of those that are classified.
    pub fn num_images(&self) -> (usize, usize) {
        let num_train = self.splits.train.len();
        match self.splits.test.as_ref().filter(|_| !self.is_leaving_one_out) {
            Some(test) => (num_train, (0..test.len()).filter(|&index| test.label(index).is_some()).count()),
            None => (num_train, num_train),
        }
    }

    /// The usual vote: K = 200, or all training images where there are fewer.
    pub fn usual_knn(&self) -> KnnConfig {
        let usual = KnnConfig::default();
        KnnConfig { k: usual.k.min(self.splits.train.len()), ..usual }
    }

    /// The embeddings that `embed` gives, with their classes.
    pub fn compared(&self, embed: &mut dyn FnMut(Split) -> anyhow::Result<Embedded>) -> anyhow::Result<Compared> {
        let mut labelled = |split| {
            let (features, labels) = embed(split)?.labelled()?;
            anyhow::Ok(LabelledFeatures { features, labels })
        };
        let train = labelled(Split::Train)?;
        Ok(Compared { train, test: if self.is_leaving_one_out { None } else { Some(labelled(Split::Test)?) } })
    }

    /// Embeddings, their read-out fitted to the training images, and pooled features where they are wanted; each image goes
    /// through the network once.
    pub fn embed(&self, encoder: &Encoder, with_pooled: bool) -> anyhow::Result<Both> {
        let (mut pooled, mut fitted) = (Vec::new(), None);
        let mut embed = |split| {
            let (images, what) = self.images(split)?;
            let features = if with_pooled {
                let (means, features) = encoder.pooled_and_features(images, what)?;
                let (features_of, labels) = Embedded { rows: means, ..features.clone() }.labelled()?;
                pooled.push(LabelledFeatures { features: features_of, labels });
                features
            } else {
                encoder.features(images, what)?
            };
            if split == Split::Train {
                fitted = encoder.fit(&features.rows)?;
            }
            let rows = fitted.as_ref().map_or(Ok(features.rows.clone()), |readout| readout.apply(&features.rows))?;
            Ok(Embedded { rows, ..features })
        };
        let compared = self.compared(&mut embed)?;
        Ok(Both { compared, pooled })
    }

    /// kNN accuracy, and the linear probe's on the pooled features where it is wanted.
    pub fn measure(&self, encoder: &Encoder, config: &KnnConfig, with_linear: bool) -> anyhow::Result<Measured> {
        let Both { compared, pooled } = self.embed(encoder, with_linear)?;
        let knn_top1 = compared.knn(config)?.1.top(1) as f32;
        let linear = if with_linear { Some(self.linear(&pooled)?) } else { None };
        Ok(Measured { knn_top1, linear })
    }

    /// kNN accuracy by a network whose read-out is fitted to the training images, of which `bank` are the embeddings.
    pub fn measure_embedded(&self, encoder: &Encoder, bank: &Embedded, config: &KnnConfig) -> anyhow::Result<f32> {
        let compared = self.compared(&mut |split| match self.images(split)? {
            (images, what) if split == Split::Test => encoder.embed(images, what),
            _ => Ok(bank.clone()),
        })?;
        Ok(compared.knn(config)?.1.top(1) as f32)
    }

    /// A softmax layer on pooled features, by SGD.
    pub fn linear(&self, pooled: &[LabelledFeatures]) -> anyhow::Result<LinearResult> {
        let [train, test] = pooled else { bail!("a linear probe needs test images") };
        Ok(linear_probe(train, test, self.splits.train.class_names().len(), &LinearConfig::default())?)
    }

    fn images(&self, split: Split) -> anyhow::Result<(&Arc<dyn Source>, &'static str)> {
        match split {
            Split::Test => Ok((self.splits.test.as_ref().context("there are no test images")?, "embedding test images")),
            _ => Ok((&self.splits.train, "embedding training images")),
        }
    }

    /// Fails where all training images are of one class.
    pub fn check_num_classes(&self) -> anyhow::Result<()> {
        let found = classes_of(self.splits.train.as_ref());
        match (found.len(), found.first()) {
            (1, Some(&class)) => bail!(
                "evaluation tells classes apart: expected training images of at least 2 classes, got 1 ({}); \
                 name images of others with --data, or raise --limit",
                self.splits.train.class_names()[class as usize]
            ),
            _ => Ok(()),
        }
    }

    /// Says which classes only the training images or only the test images have.
    pub fn note_other_classes(&self) {
        let Some(test) = self.splits.test.as_ref().filter(|_| !self.is_leaving_one_out) else { return };
        let (train, test) = (classes_of(self.splits.train.as_ref()), classes_of(test.as_ref()));
        let names =
            |classes: Vec<&u32>| classes.into_iter().map(|&class| self.splits.train.class_names()[class as usize].as_str()).collect();
        note_classes("classes only among the training images", names(train.difference(&test).collect()));
        note_classes("classes only among the test images, whose images count as wrong", names(test.difference(&train).collect()));
    }
}

/// Lists the first of these classes, if there are any.
pub fn note_classes(what: &str, names: Vec<&str>) {
    if names.is_empty() {
        return;
    }
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    remark!("note: {what}: {}{more}", one_line(&names[..names.len().min(SHOWN)].join(", ")));
}

fn classes_of(source: &dyn Source) -> BTreeSet<u32> {
    (0..source.len()).filter_map(|index| source.label(index)).collect()
}

/// Says how many test images are left out for lack of a class of the training images; fails where all are.
fn check_classifiable(test: &dyn Source) -> anyhow::Result<()> {
    let Some(lack) = lack_of_classes(test) else { return Ok(()) };
    if (0..test.len()).all(|index| test.label(index).is_none()) {
        bail!("{lack}; put each class into a sub-folder of its own, named as among the training images");
    }
    remark!("note: {lack}; they are left out of the accuracy");
    Ok(())
}

/// Which images keep the data from being evaluated as a whole, in words.
pub fn lack_of_labels(splits: &Splits) -> Option<String> {
    let of_train = lack(splits.train.as_ref(), "training images without a label");
    of_train.or_else(|| lack_of_classes(splits.test.as_deref()?))
}

fn lack_of_classes(test: &dyn Source) -> Option<String> {
    lack(test, "test images without a class of the training images")
}

fn lack(source: &dyn Source, what: &str) -> Option<String> {
    let without: Vec<usize> = (0..source.len()).filter(|&index| source.label(index).is_none()).collect();
    let first = source.name(*without.first()?);
    Some(format!("{what}: {} of {}, such as {first}", thousands(without.len()), thousands(source.len())))
}
