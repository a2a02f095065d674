//! Settings that follow from the number of training images.

use super::{Ir, Monitor, TrainConfig};
use crate::{error::bail, kmeans::check_agreement, Result};

/// Training images of ImageNet, for which the published counts were chosen.
pub const PUBLISHED_NUM_IMAGES: usize = 1_281_167;

const PUBLISHED_NUM_BACKGROUND: usize = 4096;
const PUBLISHED_NUM_CLUSTERS: usize = 30_000;
const PUBLISHED_NUM_CLUSTERINGS: usize = 10;

/// Background neighbours as a share of the images, until the published number is reached.
///
/// The published share (1/313) would leave a few dozen on small sets, fewer than an image has of its kind.
const IMAGES_PER_BACKGROUND: usize = 15;
/// Images of a cluster on small sets: neither half nor twice as many clusters of the sample end higher, by the mean of
/// three seeds (weights/README.md).
const IMAGES_PER_CLUSTER: usize = 18;
/// Below [`MANY_IMAGES`], clusters grow with the data from this number on, until the published share is reached.
const MOST_CLUSTERS_OF_FEW: usize = 1000;
/// Runs of k-means below [`MANY_IMAGES`]; clusters are larger and vary less there.
const FEW_CLUSTERINGS: usize = 3;
/// From here on: noise-contrastive estimation, a monitor on the running bank, and as many clusterings as published.
const MANY_IMAGES: usize = 200_000;

/// Images below this side, in pixels, are evaluated whole.
const SMALL_SIZE: usize = 96;

/// A configuration with nothing left open.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The settings, every automatic one replaced by what was chosen.
    pub config: TrainConfig,
    /// What was chosen and why, one sentence each.
    pub notes: Vec<String>,
}

/// Why the counts of a [`Fit`] are there.
const FITTED: &str = "fitted settings have every count";

impl Fit {
    /// Background neighbours of an image, at most the number of images.
    pub fn num_background(&self) -> usize {
        self.config.num_background.expect(FITTED)
    }

    /// Clusters of each k-means run, at most the number of images.
    pub fn num_clusters(&self) -> usize {
        self.config.num_clusters.expect(FITTED)
    }

    /// k-means runs.
    pub fn num_clusterings(&self) -> usize {
        self.config.num_clusterings.expect(FITTED)
    }
}

impl TrainConfig {
    /// Checks every setting and fits the open ones to `num_images` training images.
    ///
    /// - background neighbours: N / 15, at most the published 4096;
    /// - clusters: N / 18, at most 1000 or the published 30,000 of 1,281,167 images scaled to N, at least 2;
    /// - clusterings: 3 below 200,000 images, else the published 10;
    /// - instance recognition: softmax below 200,000 images, else noise-contrastive estimation;
    /// - monitor: both splits re-embedded below 200,000 images, else the running bank.
    ///
    /// Fails where a setting is out of range, an explicit count is larger than `num_images`, or `min_agreement` than the clusterings.
    pub fn fit(&self, num_images: usize) -> Result<Fit> {
        self.validate()?;
        if num_images < 2 {
            bail!("training needs at least 2 images, got {num_images}");
        }
        check_count("num-background", self.num_background, num_images)?;
        check_count("num-clusters", self.num_clusters, num_images)?;
        let mut notes = Vec::new();
        let num_background = self.num_background.unwrap_or_else(|| fit_background(num_images, &mut notes));
        let num_clusters = self.num_clusters.unwrap_or_else(|| fit_clusters(num_images, &mut notes));
        let num_clusterings = self.num_clusterings.unwrap_or_else(|| fit_clusterings(num_images, &mut notes));
        check_agreement(self.min_agreement, num_clusterings)?;
        if self.views == 2 {
            notes.push("views 2: their agreement is instance recognition; ir and num-noise have no effect".into());
        }
        let mut config = self.clone();
        config.num_background = Some(num_background);
        config.num_clusters = Some(num_clusters);
        config.num_clusterings = Some(num_clusterings);
        config.ir = fit_ir(self, num_images, &mut notes);
        config.monitor = fit_monitor(self, num_images, &mut notes);
        config.batch_size = fit_batch(self, num_images, &mut notes);
        config.crop_fraction = Some(self.crop_fraction.unwrap_or_else(|| fit_crop(self.size)));
        Ok(Fit { config, notes })
    }
}

fn check_count(name: &str, count: Option<usize>, most: usize) -> Result<()> {
    match count {
        Some(0) => bail!("{name} must be at least 1, got 0"),
        Some(count) if count > most => bail!("{name} must be at most {most}, the number of training images, got {count}"),
        _ => Ok(()),
    }
}

fn fit_background(num_images: usize, notes: &mut Vec<String>) -> usize {
    let k = (num_images / IMAGES_PER_BACKGROUND).clamp(2, PUBLISHED_NUM_BACKGROUND);
    notes.push(format!("num-background {k}: {num_images} images / {IMAGES_PER_BACKGROUND}, at most {PUBLISHED_NUM_BACKGROUND}"));
    k
}

fn fit_clusters(num_images: usize, notes: &mut Vec<String>) -> usize {
    let published = num_images * PUBLISHED_NUM_CLUSTERS / PUBLISHED_NUM_IMAGES;
    if num_images < MANY_IMAGES {
        let m = (num_images / IMAGES_PER_CLUSTER).clamp(2, MOST_CLUSTERS_OF_FEW);
        if m >= published {
            notes.push(format!("num-clusters {m}: {num_images} images / {IMAGES_PER_CLUSTER}, at most {MOST_CLUSTERS_OF_FEW}"));
            return m;
        }
    }
    notes.push(format!("num-clusters {published}: the published {PUBLISHED_NUM_CLUSTERS} scaled to {num_images} images"));
    published
}

fn fit_clusterings(num_images: usize, notes: &mut Vec<String>) -> usize {
    let (h, why) = if num_images < MANY_IMAGES { (FEW_CLUSTERINGS, "below") } else { (PUBLISHED_NUM_CLUSTERINGS, "at least") };
    notes.push(format!("num-clusterings {h}: {num_images} images are {why} {MANY_IMAGES}"));
    h
}

fn fit_ir(config: &TrainConfig, num_images: usize, notes: &mut Vec<String>) -> Ir {
    if config.ir != Ir::Auto {
        return config.ir;
    }
    let (ir, why) = if num_images < MANY_IMAGES { (Ir::Softmax, "below") } else { (Ir::Nce, "at least") };
    if config.ir_epochs > 0 && config.views == 1 {
        notes.push(format!("ir {ir}: {num_images} images are {why} {MANY_IMAGES}"));
    }
    ir
}

fn fit_monitor(config: &TrainConfig, num_images: usize, notes: &mut Vec<String>) -> Monitor {
    match config.monitor {
        Monitor::Auto if num_images < MANY_IMAGES => Monitor::Reembed,
        Monitor::Auto => {
            notes.push(format!("monitor bank: re-embedding {num_images} images each epoch would cost a large share of the time"));
            Monitor::Bank
        }
        chosen => chosen,
    }
}

/// Small pictures fill their frame; a border of larger photographs is cut off, as published.
fn fit_crop(size: usize) -> f64 {
    if size < SMALL_SIZE {
        1.0
    } else {
        0.875
    }
}

fn fit_batch(config: &TrainConfig, num_images: usize, notes: &mut Vec<String>) -> usize {
    if config.batch_size > num_images {
        notes.push(format!("batch-size {num_images}: all the images there are"));
    }
    config.batch_size.min(num_images)
}
