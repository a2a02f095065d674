//! What each layer knows of the classes: the paper's table of linear transfer, as bars.

use super::super::page::{csv, row, Page, Words};
use super::super::subject::Subject;
use super::super::svg::{bars, Axes, Bars, COLORS};
use super::super::GRAY;
use crate::output::one_line;
use crate::probe::fast::{ProbeConfig, PROTOCOL};
use crate::probe::layer_probes::{probe_layers, Labelled};
use crate::probe::layers::Layer;
use crate::progress::Progress;
use crate::weights::Encoder;
use candle_core::Device;
use serde_json::json;

/// A linear probe of each layer of all runs, of the first network before training, and of the pixels.
pub fn add(page: &mut Page, subjects: &[Subject], device: &Device) -> anyhow::Result<()> {
    let title = "Layers";
    let first = &subjects[0];
    if first.votes.is_none() || first.is_leaving_one_out {
        page.left_out(title, "probes need classes, and test images to measure them on.");
        return Ok(());
    }
    page.section(title, "How well one softmax layer tells the classes apart by what a layer of the frozen network gives.");
    let seed = first.encoder.run.as_ref().map_or(0, |run| run.train.seed);
    let untrained = first.encoder.untrained(seed, device)?;
    let mut found = vec![probed("raw pixels", &first.encoder, first, &[Layer::Pixels])?];
    for subject in subjects {
        found.push(probed(&one_line(&subject.name), &subject.encoder, subject, &Layer::ALL[1..])?);
    }
    found.push(probed(&format!("{} before training", one_line(&first.name)), &untrained, first, &Layer::ALL[1..])?);
    let color = |place: usize| match place {
        0 => GRAY,
        place => COLORS[(place - 1) % COLORS.len()],
    };
    let series: Vec<Bars> = found
        .iter()
        .enumerate()
        .map(|(place, (name, values))| Bars { name: name.clone(), color: color(place), values: values.clone() })
        .collect();
    let names = Layer::ALL.map(|layer| layer.name().to_string());
    let svg = bars(&Axes { x: "", y: "linear top-1", range: None, is_percent: true }, &names, &series)?;
    let lines = found.iter().flat_map(|(name, values)| {
        let known = names.iter().zip(values).filter_map(|(layer, value)| Some((layer, (*value)?)));
        known.map(move |(layer, value)| vec![name.clone(), layer.clone(), value.to_string()])
    });
    let numbers = csv(std::iter::once(row(["network", "layer", "linear_top1"])).chain(lines));
    let protocol = format!(
        "{PROTOCOL}: un-augmented features of one centre crop in eval mode, pooled to at most about 9,000 values, standardised; softmax by \
         L-BFGS, its penalty chosen on a fifth of the training images; {} training and {} test images",
        first.bank.images.len(),
        first.asked.images.len()
    );
    page.note("layers", json!({"protocol": protocol, "layers": names, "networks": found}));
    page.charts(vec![(Words { name: "layers", caption: "Linear top-1 accuracy by layer.", protocol: &protocol }, svg, numbers)]);
    Ok(())
}

/// Accuracies at the places of all layers.
fn probed(name: &str, encoder: &Encoder, subject: &Subject, layers: &[Layer]) -> anyhow::Result<(String, Vec<Option<f64>>)> {
    let data = Labelled { train: &subject.bank.images, test: &subject.asked.images };
    let mut bar: Option<(String, Progress)> = None;
    let mut progress = |what: &str, done: usize, total: usize| {
        if bar.as_ref().is_none_or(|(shown, _)| shown != what) {
            bar = Some((what.to_string(), Progress::new(&format!("{name}: {what}"), total, "steps")));
        }
        if let Some((_, bar)) = &mut bar {
            bar.set(done);
        }
    };
    let probes = probe_layers((encoder.net(), layers), data, &encoder.batches(), &ProbeConfig::default(), &mut progress)?;
    let top1 = |layer: &Layer| probes.layers.iter().find(|probe| probe.layer == *layer).map(|probe| probe.outcomes.top(1));
    Ok((name.to_string(), Layer::ALL.iter().map(top1).collect()))
}
