//! Figures with the protocol that each was measured by: what text, CSV and JSON are made of.

use super::measure::Reached;
use crate::measures::intervals::{mean_interval, paired, BootstrapConfig, Interval, Paired};
use la_core::eval::outcomes::Outcomes;
use serde::Serialize;

/// Ranks that retrieval is told at.
const RECALL_AT: [usize; 3] = [1, 5, 10];

/// One figure.
pub struct Figure {
    /// What was measured, such as `knn_top1`.
    pub measure: String,
    /// Of which layer, where a probe has several.
    pub layer: &'static str,
    /// How.
    pub protocol: String,
    /// A fraction in 0–1.
    pub value: f64,
    /// A value for each test image, of which it is the mean; none where they are not known.
    pub of_images: Vec<f64>,
}

/// A figure as CSV and JSON have it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// The weights.
    pub weights: String,
    /// The data.
    pub data: String,
    /// What was measured.
    pub measure: String,
    /// Of which layer, where a probe has several.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub layer: &'static str,
    /// Of the test images of which class; of all where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// The class that those images are taken for, of a confusion.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub predicted: String,
    /// The figure: a fraction in 0–1, or of a confusion a number of images.
    pub value: f64,
    /// The bootstrap over test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Its upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Images with labels that were used.
    pub num_train: usize,
    /// Images that were classified.
    pub num_test: usize,
    /// The other network that it is compared with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub against: String,
    /// This figure less that of the other network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    /// The bootstrap of the difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference_low: Option<f64>,
    /// Its upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference_high: Option<f64>,
    /// McNemar's exact test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// How it was measured.
    pub protocol: String,
}

impl Figure {
    fn of_outcomes(measure: &str, layer: &'static str, protocol: &str, outcomes: &Outcomes) -> Vec<Self> {
        // Among five classes or fewer each is among the likeliest five.
        let tops = if outcomes.num_classes > 5 { &[1, 5][..] } else { &[1] };
        let one = |&k: &usize| Self {
            measure: format!("{measure}_top{k}"),
            layer,
            protocol: protocol.to_string(),
            value: outcomes.top(k),
            of_images: outcomes.is_in_top(k).into_iter().map(f64::from).collect(),
        };
        tops.iter().map(one).collect()
    }

    /// The bootstrap over its test images, where they are known.
    pub fn interval(&self, config: &BootstrapConfig) -> anyhow::Result<Option<Interval>> {
        match self.of_images.is_empty() {
            true => Ok(None),
            false => Ok(Some(mean_interval(&self.of_images, config)?)),
        }
    }

    /// The same figure of another network on the same images, and how they differ.
    pub fn against<'a>(&self, others: &'a [Figure], config: &BootstrapConfig) -> anyhow::Result<Option<(&'a Figure, Paired)>> {
        let same =
            |other: &&Figure| (&other.measure, other.layer) == (&self.measure, self.layer) && other.of_images.len() == self.of_images.len();
        let Some(other) = others.iter().find(same).filter(|_| !self.of_images.is_empty()) else { return Ok(None) };
        Ok(Some((other, paired(&self.of_images, &other.of_images, config)?)))
    }
}

/// All figures of a network.
pub fn figures(reached: &Reached) -> Vec<Figure> {
    let mut found = Figure::of_outcomes("knn", "", &reached.knn_protocol(), &reached.knn);
    if let Some(retrieval) = &reached.retrieval {
        let protocol = reached.retrieval_protocol();
        let figure = |measure: String, of_images: Vec<f64>| {
            let value = of_images.iter().sum::<f64>() / of_images.len() as f64;
            Figure { measure, layer: "", protocol: protocol.clone(), value, of_images }
        };
        let recall = |k: usize| figure(format!("recall_at_{k}"), retrieval.is_found_in(k).into_iter().map(f64::from).collect());
        // Among as many images as there are, something of the class is always found.
        found.extend(RECALL_AT.into_iter().filter(|&k| k < reached.num_found_among()).map(recall));
        found.push(figure("mean_average_precision".into(), retrieval.average_precision.clone()));
    }
    if let Some(linear) = &reached.linear {
        let protocol = reached.linear_protocol();
        found.push(Figure { measure: "linear_top1".into(), layer: "", protocol, value: f64::from(linear.top1), of_images: vec![] });
    }
    for probe in reached.layers.iter().flat_map(|layers| &layers.layers) {
        let penalty = probe.fitted.map_or(String::new(), |fitted| format!("penalty {}, ", fitted.penalty));
        let protocol = format!("{}: {penalty}{}", reached.protocol, reached.layers_protocol());
        found.extend(Figure::of_outcomes("probe", probe.layer.name(), &protocol, &probe.outcomes));
    }
    found
}

/// Of each class, and which images are taken for which class: by neighbours, and by each probe.
pub fn rows_by_class(reached: &Reached, blank: &Row) -> Vec<Row> {
    let mut rows = Vec::new();
    let probes = reached.layers.iter().flat_map(|layers| &layers.layers);
    let protocol = format!("{}: {}", reached.protocol, reached.layers_protocol());
    let probes = probes.map(|probe| ("probe", probe.layer.name(), &probe.outcomes, protocol.clone()));
    for (measure, layer, outcomes, protocol) in std::iter::once(("knn", "", &reached.knn, reached.knn_protocol())).chain(probes) {
        let name = |class: usize| reached.splits.train.class_names().get(class).cloned().unwrap_or_else(|| class.to_string());
        let row = |measure: String, class: usize, value: f64| Row {
            measure,
            layer,
            class: name(class),
            value,
            protocol: protocol.clone(),
            num_test: outcomes.labels.iter().filter(|&&label| label as usize == class).count(),
            ..blank.clone()
        };
        let accuracies = outcomes.per_class().into_iter().enumerate();
        rows.extend(accuracies.filter_map(|(class, accuracy)| Some(row(format!("{measure}_top1"), class, accuracy?))));
        let counts = outcomes.confusion().into_iter().enumerate().filter(|(_, count)| *count > 0);
        rows.extend(counts.map(|(at, count)| Row {
            predicted: name(at % outcomes.num_classes),
            ..row(format!("{measure}_confusion"), at / outcomes.num_classes, f64::from(count))
        }));
    }
    rows
}
