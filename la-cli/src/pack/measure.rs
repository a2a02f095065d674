//! The figures of packed weights, measured on the file that is shipped, beside what they are to be compared with.

use super::args::PackArgs;
use super::settings::{Figure, Figures, Resized, SampleCheck};
use crate::eval::Labelled;
use crate::output::remark;
use crate::run::{RunConfig, RunFolder};
use crate::source;
use crate::weights::Encoder;
use anyhow::Context;
use candle_core::Device;
use la_core::data::{self, Splits};

/// Images of the embedded sample whose embeddings vote in [`SampleCheck`].
const SAMPLE_LIMIT: usize = 1000;

/// Measures the shipped weights on a part of the embedded sample.
pub fn check_on_sample(shipped: &Encoder) -> anyhow::Result<SampleCheck> {
    remark!("measuring on the sample, for a figure that everybody can repeat");
    let sample = Labelled::new(source::open("sample", None, &shipped.open_config(Some(SAMPLE_LIMIT)))?, "sample")?;
    let knn = sample.usual_knn();
    Ok(SampleCheck { limit: SAMPLE_LIMIT, knn, knn_top1: sample.measure(shipped, &knn, false)?.knn_top1 })
}

/// Measures the shipped weights and their rivals; nothing, with a remark, where the data has no labels.
pub fn figures(args: &PackArgs, run: &RunFolder, shipped: Encoder, device: &Device) -> anyhow::Result<Option<Figures>> {
    let (config, size) = (run.read_config()?, shipped.size());
    let shipped = shipped.at(config.train.size);
    let Some(data) = labelled(args, &config, &shipped)? else { return Ok(None) };
    let beside = args.card.beside.as_ref().map(|path| Encoder::open(&path.to_string_lossy(), device)).transpose().context("--beside")?;
    let beside = beside.map(|beside| beside.at(config.train.size));
    let (weights, beside_figure) = both(&data, &shipped, beside.as_ref(), args.card.linear)?;
    let random_init = figure(&data, &shipped.untrained(config.train.seed, device)?, args.card.linear)?;
    let knn = data.usual_knn();
    let baseline = run.read_baseline().filter(|baseline| baseline.knn_k == knn.k && baseline.knn_temperature == knn.temperature);
    let (raw_pixels, whitened_pixels) = baseline.map_or((None, None), |baseline| (baseline.raw_pixels, baseline.whitened_pixels));
    let (num_train, num_test) = data.num_images();
    let resized =
        if size == config.train.size { None } else { resized(args, &config, shipped.at(size), beside.map(|beside| beside.at(size)))? };
    Ok(Some(Figures { num_train, num_test, knn, weights, beside: beside_figure, random_init, raw_pixels, whitened_pixels, resized }))
}

/// The shipped weights and the run beside where images have the side that the weights are packed for.
fn resized(args: &PackArgs, run: &RunConfig, shipped: Encoder, beside: Option<Encoder>) -> anyhow::Result<Option<Resized>> {
    // Opened anew: how far photographs are reduced as they are decoded depends on the side.
    let Some(data) = labelled(args, run, &shipped)? else { return Ok(None) };
    let (weights, beside) = both(&data, &shipped, beside.as_ref(), args.card.linear)?;
    Ok(Some(Resized { size: shipped.size(), weights, beside }))
}

fn both(data: &Labelled, shipped: &Encoder, beside: Option<&Encoder>, linear: bool) -> anyhow::Result<(Figure, Option<Figure>)> {
    let weights = figure(data, shipped, linear)?;
    Ok((weights, beside.map(|beside| figure(data, beside, linear)).transpose().context("--beside")?))
}

fn figure(data: &Labelled, encoder: &Encoder, linear: bool) -> anyhow::Result<Figure> {
    let measured = data.measure(encoder, &data.usual_knn(), linear)?;
    Ok(Figure { knn_top1: measured.knn_top1, linear_top1: measured.linear.map(|linear| linear.top1) })
}

fn source_name<'a>(args: &'a PackArgs, run: &'a RunConfig) -> &'a str {
    args.card.data.as_deref().unwrap_or(&run.train.data)
}

/// The images of the run, or those that `--data` names.
pub fn open(args: &PackArgs, run: &RunConfig, shipped: &Encoder) -> anyhow::Result<Splits> {
    let src = source_name(args, run);
    let test = args.card.test.as_deref().or(if args.card.data.is_none() { run.train.test.as_deref() } else { None });
    source::open(src, test, &shipped.open_config(run.train.limit))
        .with_context(|| format!("{src}: the weights are packed and measured with the images of the run; --data says where they are now"))
}

/// The images of the run, or those that `--data` names, if every one has a label.
fn labelled(args: &PackArgs, run: &RunConfig, shipped: &Encoder) -> anyhow::Result<Option<Labelled>> {
    let splits = open(args, run, shipped)?;
    source::warn_unreadable(&splits);
    let src = source_name(args, run);
    let is_labelled = |part: &dyn data::Source| data::labels(part).is_some();
    if !(is_labelled(splits.train.as_ref()) && splits.test.as_ref().is_some_and(|test| is_labelled(test.as_ref()))) {
        remark!("note: {src} lacks test images or labels of some images, so the weights are packed without figures on it");
        return Ok(None);
    }
    Labelled::new(splits, src).map(Some)
}
