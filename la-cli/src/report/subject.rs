//! What a report measures of one run.

use super::args::Data;
use crate::index::{self, OpenArgs};
use crate::measures::density::{densities, Densities};
use crate::progress::Progress;
use crate::run::RunFolder;
use crate::source::{self, Embedded, Split};
use crate::weights::{Encoder, PHOTOS};
use anyhow::Context;
use candle_core::{Device, Tensor};
use la_core::data::{labels, Source};
use la_core::eval::knn::{self, KnnConfig, Neighbors, Vote};
use la_core::train::{Baseline, EpochMetrics};
use std::path::Path;
use std::sync::Arc;

/// The most images whose densities are measured, evenly spread.
const MOST_DENSITIES: usize = 2000;

/// A run or weights, measured.
pub struct Subject {
    /// What it is called on the page.
    pub name: String,
    /// The network in a line.
    pub about: String,
    pub encoder: Encoder,
    /// Every epoch, where they are recorded.
    pub epochs: Vec<EpochMetrics>,
    pub baseline: Option<Baseline>,
    /// The images that neighbours are looked for among.
    pub bank: Embedded,
    /// Those that are classified: test images, or the bank's own where there are none.
    pub asked: Embedded,
    /// Whether each of these is classified by the others.
    pub is_leaving_one_out: bool,
    pub neighbors: Neighbors,
    /// What the neighbours say, where all of the bank is labelled.
    pub votes: Option<Vec<Vote>>,
    pub densities: Option<Densities>,
}

impl Subject {
    /// Opens a run or weights, whose output is compared: the layer that the loss sees.
    pub fn open(run: &str, device: &Device) -> anyhow::Result<Encoder> {
        let encoder = Encoder::open(run, device)?;
        // Nothing was trained to be compared by the output of the built-in weights.
        Ok(if run == PHOTOS { encoder } else { encoder.by_output() })
    }

    /// Embeds the data and measures what every figure needs.
    pub fn measure(mut encoder: Encoder, (name, path): (String, &Path), data: &Data) -> anyhow::Result<Self> {
        let (bank, test) = embed(&mut encoder, data)?;
        let is_leaving_one_out = test.is_none();
        let asked = test.unwrap_or_else(|| bank.clone());
        let neighbors = neighbors(&bank, &asked, is_leaving_one_out)?;
        let votes = labels(bank.images.as_ref()).map(|labels| {
            let num_classes = bank.images.class_names().len();
            knn::classify(&neighbors, &labels, num_classes, KnnConfig::default().temperature)
        });
        let (votes, densities) = (votes.transpose()?, measure_densities(&bank, &name)?);
        let run = path.is_dir().then(|| RunFolder::of_results(path));
        let epochs = run.as_ref().and_then(|run| run.read_metrics().ok()).unwrap_or_default();
        let baseline = run.and_then(|run| run.read_baseline()).filter(|_| data.is_of_first);
        let about = encoder.describe_to_others();
        Ok(Self { name, about, encoder, epochs, baseline, bank, asked, is_leaving_one_out, neighbors, votes, densities })
    }

    /// kNN accuracy on the labelled images that are classified, in 0–1.
    pub fn knn_top1(&self) -> Option<f64> {
        let (right, all) = self.per_class()?.iter().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
        (all > 0).then(|| right as f64 / all as f64)
    }

    /// For each class how many images are classified right, and how many there are.
    pub fn per_class(&self) -> Option<Vec<(usize, usize)>> {
        let mut counts = vec![(0, 0); self.bank.images.class_names().len()];
        for (index, vote) in self.votes.as_ref()?.iter().enumerate() {
            if let Some(label) = self.asked.images.label(index) {
                let count = &mut counts[label as usize];
                *count = (count.0 + usize::from(vote.predicted == label), count.1 + 1);
            }
        }
        Some(counts)
    }

    /// How neighbours are found, and how they vote where there are classes.
    pub fn protocol(&self) -> String {
        let found = format!("among {} re-embedded un-augmented", source::images(self.bank.images.len(), ""));
        let asked = source::images(self.asked.images.len(), "");
        if self.votes.is_none() {
            return format!("{} nearest {found}, batch norm in eval mode; of {asked}", self.neighbors.k);
        }
        let others = if self.is_leaving_one_out { ", each classified by the others" } else { "" };
        let temperature = KnnConfig::default().temperature;
        format!("kNN, K = {}, τ = {temperature}, {found}{others}, batch norm in eval mode; {asked} classified", self.neighbors.k)
    }

    fn embedding(&self) -> &'static str {
        if self.encoder.readout().is_some() {
            "the read-out, fitted to these images"
        } else {
            "the network's output"
        }
    }
}

/// Which embeddings are compared, each named where they differ.
pub fn embeddings(subjects: &[Subject]) -> String {
    let first = subjects[0].embedding();
    if subjects.iter().all(|subject| subject.embedding() == first) {
        return format!("embedding: {first}");
    }
    let each: Vec<String> = subjects.iter().map(|subject| format!("{} by {}", subject.name, subject.embedding())).collect();
    format!("embedding: {}", each.join("; "))
}

fn embed(encoder: &mut Encoder, data: &Data) -> anyhow::Result<(Embedded, Option<Embedded>)> {
    let open = |src: &str, limit| index::Data::open(&OpenArgs { data: src, limit, use_cache: data.use_cache }, encoder);
    let mut images = open(&data.name, data.limit)?;
    if let Some(test) = &data.test {
        images = images.with_test(open(test, None)?)?;
    }
    if images.is_embeddings() {
        anyhow::bail!("--data: {} holds embeddings, and this needs the pictures; name their folder", data.name);
    }
    let has_test = images.splits.test.is_some();
    let mut part = |split| images.embed(split, encoder).map(|found| Embedded { images: found.images, rows: found.rows });
    let bank = part(Split::Train)?;
    if bank.images.len() < 2 {
        anyhow::bail!("a report compares images, so it needs at least 2 training images, got 1; name more with --data");
    }
    Ok((bank, has_test.then(|| part(Split::Test)).transpose()?))
}

/// The usual number of neighbours, or as many as there are; not the image itself.
fn neighbors(bank: &Embedded, asked: &Embedded, is_leaving_one_out: bool) -> anyhow::Result<Neighbors> {
    let num_voters = bank.images.len() - usize::from(is_leaving_one_out);
    let k = KnnConfig::default().k.min(num_voters);
    if !is_leaving_one_out {
        return Ok(knn::nearest(&bank.rows, &asked.rows, k)?);
    }
    let own: Vec<u32> = (0..bank.images.len() as u32).collect();
    Ok(knn::without(&knn::nearest(&bank.rows, &bank.rows, k + 1)?, &own))
}

fn measure_densities(bank: &Embedded, name: &str) -> anyhow::Result<Option<Densities>> {
    let chosen = spread(bank.images.len(), MOST_DENSITIES);
    let mut progress = Progress::new(&format!("densities of {name}"), chosen.len(), "images");
    // Too few images have no background.
    Ok(densities(&bank.rows, &chosen, &mut |done| progress.set(done)).ok())
}

/// At most `most` of so many images, evenly spread: folders come sorted by class.
pub fn spread(total: usize, most: usize) -> Vec<u32> {
    let count = total.min(most);
    (0..count).map(|i| (i * total / count) as u32).collect()
}

/// The rows at these places.
pub fn select(rows: &Tensor, places: &[u32]) -> anyhow::Result<Tensor> {
    rows.index_select(&Tensor::new(places, &Device::Cpu)?, 0).context("a row that was measured is not there")
}

/// The name of a class.
pub fn class_name(images: &Arc<dyn Source>, class: usize) -> String {
    images.class_names().get(class).map_or_else(|| class.to_string(), |name| crate::output::one_line(name))
}
