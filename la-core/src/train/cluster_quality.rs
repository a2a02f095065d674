//! How good the clusters are, for the log: training never looks at it, nor at the labels behind it.

use super::{
    metrics::{rounded, ClusterQuality},
    monitor,
};
use crate::{
    config::Fit,
    data::{labels, BatchConfig, Source, Subset},
    eval::agreement::{adjusted_rand_index, normalized_mutual_information},
    kmeans::ClusterLabels,
    loss::{background_neighbors, close_neighbors, Background},
    memory_bank::MemoryBank,
    resnet::ResNet,
    Result,
};
use std::sync::Arc;

/// Images whose close neighbours are looked at, evenly spread.
const SAMPLE: usize = 500;

/// Clusters against classes, and the close neighbours of a few images as the network in eval mode sees them now.
pub(super) fn measure(
    (net, bank): (&ResNet, &MemoryBank),
    clusters: &ClusterLabels,
    (source, batches): (&Arc<dyn Source>, &BatchConfig),
    fit: &Fit,
) -> Result<ClusterQuality> {
    let classes = labels(&**source);
    let (count, total) = (source.len().min(SAMPLE), source.len());
    let indices: Vec<u32> = (0..count).map(|i| (i * total / count) as u32).collect();
    let sample: Arc<dyn Source> = Arc::new(Subset::new(source.clone(), indices.clone())?);
    let embeddings = monitor::embeddings(net, &sample, batches)?.to_device(bank.rows().device())?;
    let background = background_neighbors(&embeddings, bank, fit.num_background())?;
    let is_close = close_neighbors(&background, &indices, clusters)?;
    let close = Close::of(&background, &is_close, &indices, (classes.as_deref(), fit.config.temperature));
    let mean = |measure: fn(&[u32], &[u32]) -> Result<f64>| -> Result<Option<f64>> {
        let Some(classes) = &classes else { return Ok(None) };
        let each = clusters.labels.chunks_exact(total).map(|labels| measure(labels, classes)).collect::<Result<Vec<_>>>()?;
        Ok(Some(rounded(each.iter().sum::<f64>() / each.len() as f64, 4)))
    };
    Ok(ClusterQuality {
        nmi: mean(normalized_mutual_information)?,
        ari: mean(adjusted_rand_index)?,
        close_size: rounded(close.others as f64 / count as f64, 2),
        close_purity: (classes.is_some() && close.others > 0).then(|| rounded(close.alike as f64 / close.others as f64, 4)),
        own_share: rounded(close.own_share, 4),
    })
}

/// Sums over the close neighbours of some images.
struct Close {
    /// Without the images themselves.
    others: usize,
    /// Those of the image's class.
    alike: usize,
    /// The own row's weight among the close ones, the mean over the images that have any.
    own_share: f64,
}

impl Close {
    fn of(background: &Background, is_close: &[bool], indices: &[u32], (classes, temperature): (Option<&[u32]>, f64)) -> Self {
        let k = background.num_background;
        let (mut others, mut alike, mut shares) = (0, 0, Vec::new());
        for (b, &image) in indices.iter().enumerate() {
            let (mut own, mut all) = (0.0, 0.0);
            for at in (b * k..(b + 1) * k).filter(|&at| is_close[at]) {
                let row = background.indices[at];
                let weight = (f64::from(background.similarities[at] - 1.0) / temperature).exp();
                all += weight;
                if row == image {
                    own = weight;
                    continue;
                }
                others += 1;
                alike += usize::from(classes.is_some_and(|classes| classes[row as usize] == classes[image as usize]));
            }
            if all > 0.0 {
                shares.push(own / all);
            }
        }
        Self { others, alike, own_share: shares.iter().sum::<f64>() / shares.len().max(1) as f64 }
    }
}
