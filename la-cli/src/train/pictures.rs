//! The pictures of a run, drawn from what its folder holds.

use crate::report::{draw_curves, draw_neighbors, neighbor_panel, CurvePoint, Curves, PanelConfig};
use crate::run::RunFolder;
use crate::source::Embedded;
use crate::weights::Encoder;
use candle_core::{Device, Tensor};
use la_core::data::{Source, Splits, Subset};
use la_core::eval::knn;
use la_core::rng::{Rng, Stream};
use la_core::train::{EpochMetrics, Phase};
use std::sync::Arc;

/// Rows and columns of `neighbors.png`.
const PANEL_ROWS: usize = 10;
const PANEL_NEIGHBORS: usize = 10;

/// A finished network, its read-out fitted to the training images, and their embeddings.
pub struct Embedder {
    /// The network.
    pub encoder: Encoder,
    /// The training images.
    pub bank: Embedded,
}

/// Draws `curves.png` and `neighbors.png`; what drew them, for others to measure by.
pub fn draw(run: &RunFolder, splits: &Splits, device: &Device) -> anyhow::Result<Embedder> {
    draw_learning(run)?;
    let found = embed(run, splits, device)?;
    draw_found(run, splits, &found)?;
    Ok(found)
}

/// Draws `curves.png`.
pub fn draw_learning(run: &RunFolder) -> anyhow::Result<()> {
    Ok(draw_curves(&curves(run)?, &run.file("curves.png"))?)
}

/// What `curves.png` of a run shows.
pub fn curves(run: &RunFolder) -> anyhow::Result<Curves> {
    let recorded = run.read_config()?;
    let (config, baseline) = (&recorded.train, run.read_baseline());
    let points: Vec<CurvePoint> = run.read_metrics()?.iter().map(point).collect();
    let knn = super::outcome::knn_config(config, recorded.num_images);
    let is_measured = points.iter().any(|point| point.knn_top1.is_some());
    Ok(Curves {
        title: format!("Local Aggregation on {}: {}, width {}, {} px", config.data, config.arch, config.width, config.size),
        knn_protocol: if is_measured { format!("K = {}, τ = {}", knn.k, knn.temperature) } else { String::new() },
        points,
        raw_pixels: baseline.and_then(|baseline| baseline.raw_pixels).map(f64::from),
        random_init: baseline.and_then(|baseline| baseline.random_init).map(f64::from),
        beside: None,
    })
}

fn point(epoch: &EpochMetrics) -> CurvePoint {
    CurvePoint {
        epoch: epoch.epoch,
        is_local_aggregation: epoch.phase == Phase::La,
        loss: epoch.loss,
        knn_top1: epoch.knn_top1.map(f64::from),
    }
}

fn embed(run: &RunFolder, splits: &Splits, device: &Device) -> anyhow::Result<Embedder> {
    let mut encoder = Encoder::open(&run.path().to_string_lossy(), device)?;
    let features = encoder.features(&splits.train, "embedding training images")?;
    encoder.set_readout(encoder.fit(&features.rows)?);
    let bank = Embedded { rows: encoder.embed_features(&features.rows)?, ..features };
    Ok(Embedder { encoder, bank })
}

fn draw_found(run: &RunFolder, splits: &Splits, Embedder { encoder, bank }: &Embedder) -> anyhow::Result<()> {
    let seed = run.read_config()?.train.seed;
    let (asked, neighbors) = match &splits.test {
        Some(test) => {
            let asked: Arc<dyn Source> = Arc::new(Subset::new(test.clone(), chosen_queries(test.as_ref(), seed))?);
            let asked = encoder.embed(&asked, "neighbors.png")?;
            (asked.images, knn::nearest(&bank.rows, &asked.rows, PANEL_NEIGHBORS.min(bank.images.len()))?)
        }
        // The queries are in the bank: each one's nearest is itself, and is left out.
        None => {
            let own = chosen_queries(bank.images.as_ref(), seed);
            let rows = bank.rows.index_select(&Tensor::new(&own[..], &Device::Cpu)?, 0)?;
            let found = knn::nearest(&bank.rows, &rows, (PANEL_NEIGHBORS + 1).min(bank.images.len()))?;
            let neighbors = knn::without(&found, &own);
            (Arc::new(Subset::new(bank.images.clone(), own)?) as Arc<dyn Source>, neighbors)
        }
    };
    let kind = if splits.test.is_some() { "unseen pictures (left)" } else { "pictures (left)" };
    let config = PanelConfig {
        title: format!("{}: {kind} and their nearest neighbours, with cosine similarities", splits.name),
        queries: (0..asked.len()).map(|row| (row, row)).collect(),
        num_neighbors: neighbors.k,
    };
    let panel = neighbor_panel(bank.images.as_ref(), asked.as_ref(), &neighbors, &config)?;
    Ok(draw_neighbors(&panel, &run.file("neighbors.png"))?)
}

/// Random queries, one of each class where images have classes; chosen without looking at the result.
fn chosen_queries(queries: &dyn Source, seed: u64) -> Vec<u32> {
    let order = Rng::new(Stream::Subset, &[seed, queries.len() as u64]).permutation(queries.len());
    let of_class = |class: usize| order.iter().copied().find(|&index| queries.label(index as usize) == Some(class as u32));
    let of_classes: Vec<u32> = (0..queries.class_names().len()).filter_map(of_class).take(PANEL_ROWS).collect();
    if of_classes.is_empty() {
        return order.into_iter().take(PANEL_ROWS).collect();
    }
    of_classes
}
