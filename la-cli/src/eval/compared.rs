//! Embeddings with classes, and what nearest neighbours say of them.

use crate::measures::retrieval::{retrieve, retrieve_others, Retrieval};
use crate::probe::few_labels::FewLabels;
use candle_core::Tensor;
use la_core::eval::knn::{self, KnnConfig};
use la_core::eval::linear::LabelledFeatures;
use la_core::eval::outcomes::Outcomes;

/// Embeddings that vote, and those that they classify.
pub struct Compared {
    /// Those of training images.
    pub train: LabelledFeatures,
    /// Those of test images; none where training images classify each other.
    pub test: Option<LabelledFeatures>,
}

impl Compared {
    /// The same with few of the labels.
    pub fn with_few(self, few: Option<FewLabels>, seed: u64) -> anyhow::Result<Self> {
        Ok(Self { train: some_of(&self.train, few, seed)?, ..self })
    }

    /// What at most `config.k` neighbours say, and how many voted.
    pub fn knn(&self, config: &KnnConfig) -> anyhow::Result<(KnnConfig, Outcomes)> {
        let LabelledFeatures { features, labels } = &self.train;
        let num_voters = labels.len() - usize::from(self.test.is_none());
        let config = KnnConfig { k: config.k.min(num_voters), ..*config };
        let (found, of) = match &self.test {
            Some(test) => (knn::nearest(features, &test.features, config.k)?, &test.labels),
            None => (knn::nearest_others(features, config.k)?, labels),
        };
        let num_classes = labels.iter().chain(of).max().map_or(1, |&label| label as usize + 1);
        Ok((config, knn::outcomes(&found, labels, of, num_classes, config.temperature)?))
    }

    /// How well each image finds those of its class.
    pub fn retrieval(&self) -> anyhow::Result<Retrieval> {
        let LabelledFeatures { features, labels } = &self.train;
        Ok(match &self.test {
            Some(test) => retrieve(features, labels, &test.features, &test.labels)?,
            None => retrieve_others(features, labels)?,
        })
    }
}

/// Those rows whose labels are used.
pub fn some_of(set: &LabelledFeatures, few: Option<FewLabels>, seed: u64) -> anyhow::Result<LabelledFeatures> {
    let Some(few) = few else { return Ok(set.clone()) };
    let drawn = few.draw(&set.labels, seed);
    let labels = drawn.iter().map(|&row| set.labels[row as usize]).collect();
    let rows = Tensor::new(drawn, set.features.device())?;
    Ok(LabelledFeatures { features: set.features.index_select(&rows, 0)?, labels })
}
