//! What a classifier says of test images, and the figures made of it.

use crate::{error::bail, Result};

/// What a classifier says of each of some images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcomes {
    /// How many classes there are.
    pub num_classes: usize,
    /// The class of each image.
    pub labels: Vec<u32>,
    /// The class that is said to be most likely, the lowest of several.
    pub predicted: Vec<u32>,
    /// How many classes are said to be likelier than the image's own; `num_classes` where its own got no score.
    pub ranks: Vec<u32>,
}

impl Outcomes {
    /// Of one score for each class of each image, row by row: `(Q, num_classes)`. Infinity below 0 means no score.
    ///
    /// Fails where numbers do not fit, there is no image, or a score is NaN.
    pub fn of_scores(scores: &[f64], labels: &[u32], num_classes: usize) -> Result<Self> {
        if labels.is_empty() || scores.len() != labels.len() * num_classes {
            bail!("expected {num_classes} scores for each of {} images, at least one, got {}", labels.len(), scores.len());
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= num_classes) {
            bail!("labels must be below the number of classes {num_classes}, got {label}");
        }
        if scores.iter().any(|score| score.is_nan()) {
            bail!("scores of classes must be numbers, got NaN");
        }
        let rows = scores.chunks_exact(num_classes);
        let predicted = rows.clone().map(best).collect();
        let ranks = rows.zip(labels).map(|(row, &label)| rank(row, label as usize)).collect();
        Ok(Self { num_classes, labels: labels.to_vec(), predicted, ranks })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether each image's own class is among the `k` likeliest.
    pub fn is_in_top(&self, k: usize) -> Vec<bool> {
        self.ranks.iter().map(|&rank| (rank as usize) < k).collect()
    }

    /// The share of images whose own class is among the `k` likeliest, in 0–1.
    pub fn top(&self, k: usize) -> f64 {
        self.ranks.iter().filter(|&&rank| (rank as usize) < k).count() as f64 / self.len().max(1) as f64
    }

    /// For each class the share of its images that are classified right, in 0–1; none where it has no image.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let confusion = self.confusion();
        let share = |(class, row): (usize, &[u32])| {
            let total: u32 = row.iter().sum();
            (total > 0).then(|| f64::from(row[class]) / f64::from(total))
        };
        confusion.chunks_exact(self.num_classes).enumerate().map(share).collect()
    }

    /// How many images of each class (row) are said to be of each class (column): `(num_classes, num_classes)`.
    pub fn confusion(&self) -> Vec<u32> {
        let mut counts = vec![0; self.num_classes * self.num_classes];
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            counts[label as usize * self.num_classes + predicted as usize] += 1;
        }
        counts
    }
}

fn best(row: &[f64]) -> u32 {
    let larger = |best: usize, class: usize| if row[class] > row[best] { class } else { best };
    (0..row.len()).fold(0, larger) as u32
}

/// Classes before `label` when sorted by score, equal scores by index.
fn rank(row: &[f64], label: usize) -> u32 {
    let own = row[label];
    if own == f64::NEG_INFINITY {
        return row.len() as u32;
    }
    row.iter().enumerate().filter(|&(class, &score)| score > own || (score == own && class < label)).count() as u32
}
