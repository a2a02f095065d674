//! Duplicates, leaks, outliers and clusters of embedded images.

use super::same;
use crate::measures::duplicates::{nearby, Linkage, Nearby};
use crate::progress::Progress;
use candle_core::{Device, Tensor};
use la_core::data::Source;
use la_core::kmeans::typical::{best_of, typical_first, usual_num_clusters};
use std::collections::BTreeMap;

/// Thresholds of the curve.
const CURVE: [f32; 7] = [0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98];
/// Neighbours whose mean similarity says how far out a picture lies.
pub const NUM_NEAREST: usize = 5;
/// Clusterings from different starts, the best of which is kept.
const STARTS: u64 = 4;

/// What is looked for.
pub struct Options {
    /// How alike near-duplicates are at least.
    pub threshold: f32,
    pub num_clusters: Option<usize>,
    /// How many images, the first ones, are to train on, where others are not.
    pub num_train: Option<usize>,
}

/// Images of one group.
pub struct Twins {
    /// At least two, by increasing index.
    pub images: Vec<u32>,
    /// The similarity of the two that are least alike; 1 where all are the same.
    pub least: f32,
    /// Whether they lie on both sides of the split.
    pub is_leak: bool,
    /// Whether their classes differ.
    pub is_contradiction: bool,
}

/// Images that belong together.
pub struct Cluster {
    /// The most typical first: the nearest to the centroid.
    pub images: Vec<u32>,
}

/// What was found; groups that leak first, then the largest.
pub struct Findings {
    /// Images that are the same.
    pub identical: Vec<Twins>,
    /// Images that are nearly the same, some of them not only copies.
    pub near: Vec<Twins>,
    /// Images in groups, copies too, by threshold.
    pub curve: Vec<(f32, usize)>,
    /// Below this similarity pairs are missing, so that groups may be too small.
    pub complete_from: f32,
    /// Images by rising mean similarity to their nearest others, with it; one of each set of copies.
    pub outliers: Vec<(u32, f32)>,
    /// The largest first.
    pub clusters: Vec<Cluster>,
}

/// Looks through `images` with their embeddings `rows` `(N, D)`.
pub fn find(images: &dyn Source, rows: &Tensor, options: &Options) -> anyhow::Result<Findings> {
    let mut firsts = same::firsts(images);
    let shown: Vec<u32> = (0..).zip(&firsts).filter(|(index, first)| index == *first).map(|(index, _)| index).collect();
    let rows = rows.index_select(&Tensor::new(&shown[..], &Device::Cpu)?, 0)?;
    let floor = CURVE[0].min(options.threshold);
    let mut progress = Progress::new("comparing", shown.len(), "images");
    let near = nearby(&rows, floor, NUM_NEAREST, &mut |done| progress.set(done))?;
    drop(progress);
    same::join_equal_pixels(images, (&shown, &near.pairs), &mut firsts);
    let linkage = Linkage::complete(shown.len(), &near.pairs)?;
    let grouping = Grouping { images, options, shown: &shown, copies: copies(&firsts) };
    Ok(Findings {
        identical: grouping.identical(),
        near: grouping.near(&linkage, options.threshold, true),
        curve: grouping.curve(&linkage, near.complete_from),
        complete_from: near.complete_from,
        outliers: outliers(&near, &shown, &firsts),
        clusters: grouping.clusters(&rows)?,
    })
}

/// The images of each content, by the first of them.
fn copies(firsts: &[u32]) -> BTreeMap<u32, Vec<u32>> {
    let mut copies = BTreeMap::<u32, Vec<u32>>::new();
    (0..).zip(firsts).for_each(|(index, &first)| copies.entry(first).or_default().push(index));
    copies
}

fn outliers(near: &Nearby, shown: &[u32], firsts: &[u32]) -> Vec<(u32, f32)> {
    let of_content = shown.iter().zip(&near.mean_nearest).filter(|(&index, _)| firsts[index as usize] == index);
    let mut outliers: Vec<(u32, f32)> = of_content.map(|(&index, &similarity)| (index, similarity)).collect();
    outliers.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    outliers
}

struct Grouping<'a> {
    images: &'a dyn Source,
    options: &'a Options,
    /// The images whose embeddings are compared: the first of each file's content.
    shown: &'a [u32],
    copies: BTreeMap<u32, Vec<u32>>,
}

impl Grouping<'_> {
    fn identical(&self) -> Vec<Twins> {
        let groups = self.copies.values().filter(|images| images.len() > 1);
        sorted(groups.map(|images| self.twins(images.clone(), 1.0)).collect())
    }

    /// The groups at a threshold with all copies; those that are nothing but copies only where `is_strict` is not.
    fn near(&self, linkage: &Linkage, threshold: f32, is_strict: bool) -> Vec<Twins> {
        let mut firsts: Vec<u32> = (0..self.images.len() as u32).collect();
        self.copies.iter().for_each(|(&first, images)| images.iter().for_each(|&image| firsts[image as usize] = first));
        let mut found = Vec::new();
        for group in linkage.groups(threshold) {
            let mut contents: Vec<u32> = group.rows.iter().map(|&row| firsts[self.shown[row as usize] as usize]).collect();
            contents.sort_unstable();
            contents.dedup();
            if contents.len() > 1 || !is_strict {
                let mut images: Vec<u32> = contents.iter().flat_map(|first| self.copies[first].iter().copied()).collect();
                images.sort_unstable();
                found.push(self.twins(images, group.least));
            }
        }
        sorted(found)
    }

    /// How many images are in groups or have copies, for each threshold from which all pairs are known.
    fn curve(&self, linkage: &Linkage, complete_from: f32) -> Vec<(f32, usize)> {
        let count = |threshold| {
            let mut is_in = vec![false; self.images.len()];
            let groups = self.near(linkage, threshold, false);
            let copies = self.copies.values().filter(|images| images.len() > 1);
            groups.iter().map(|group| &group.images).chain(copies).flatten().for_each(|&image| is_in[image as usize] = true);
            (threshold, is_in.iter().filter(|&&is_in| is_in).count())
        };
        CURVE.into_iter().filter(|&threshold| threshold >= complete_from).map(count).collect()
    }

    fn twins(&self, images: Vec<u32>, least: f32) -> Twins {
        let num_train = self.options.num_train.map_or(0, |num_train| images.iter().filter(|&&image| (image as usize) < num_train).count());
        let mut classes: Vec<u32> = images.iter().filter_map(|&image| self.images.label(image as usize)).collect();
        classes.sort_unstable();
        classes.dedup();
        let is_leak = self.options.num_train.is_some() && (1..images.len()).contains(&num_train);
        Twins { least, is_leak, is_contradiction: classes.len() > 1, images }
    }

    /// k-means of the images that are no copies; the copies are with the first of them.
    fn clusters(&self, rows: &Tensor) -> anyhow::Result<Vec<Cluster>> {
        let num_clusters = self.options.num_clusters.unwrap_or(usual_num_clusters(self.images.len())).min(self.shown.len());
        let found = typical_first(rows, &best_of(rows, num_clusters, STARTS)?)?;
        let of_cluster = |rows: Vec<u32>| {
            let images = rows.iter().flat_map(|&row| self.copies.get(&self.shown[row as usize]).into_iter().flatten().copied());
            Cluster { images: images.collect() }
        };
        let mut clusters: Vec<Cluster> = found.into_iter().map(of_cluster).filter(|cluster| !cluster.images.is_empty()).collect();
        clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.images.len()), cluster.images[0]));
        Ok(clusters)
    }
}

/// Groups that leak first, then the largest.
fn sorted(mut groups: Vec<Twins>) -> Vec<Twins> {
    groups.sort_by_key(|group| (!group.is_leak, std::cmp::Reverse(group.images.len()), group.images[0]));
    groups
}

/// Images of `wanted` groups with one on the other side of the split, in the test part.
pub fn num_leaked(groups: &[Twins], num_train: usize) -> usize {
    let leaking = groups.iter().filter(|group| group.is_leak).flat_map(|group| &group.images);
    leaking.filter(|&&image| image as usize >= num_train).count()
}
