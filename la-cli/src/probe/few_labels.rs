//! A few of the training images with labels, drawn class by class: what a probe learns where labels are scarce.

use crate::error::{bail, Error, Result};
use la_core::rng::{Rng, Stream};
use std::{fmt, str::FromStr};

/// How many labelled images of each class are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FewLabels {
    /// A share of those of each class, in (0, 1]; at least one image.
    Share(f64),
    /// So many of each class; all where it has fewer.
    PerClass(usize),
}

impl FromStr for FewLabels {
    type Err = Error;

    /// Reads `1%`, `0.5%` or `5`.
    fn from_str(text: &str) -> Result<Self> {
        let few = match text.strip_suffix('%') {
            Some(number) => number.trim().parse().ok().map(|percent: f64| Self::Share(percent / 100.0)),
            None => text.parse().ok().map(Self::PerClass),
        };
        match few {
            Some(Self::Share(share)) if share > 0.0 && share <= 1.0 => Ok(Self::Share(share)),
            Some(Self::PerClass(count)) if count > 0 => Ok(Self::PerClass(count)),
            _ => bail!("expected a share of the labels such as 1% or 10%, or a number for each class such as 5, got {text}"),
        }
    }
}

impl fmt::Display for FewLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Rounded, because 0.07 times a hundred is not 7.
            Self::Share(share) => write!(f, "{}%", (share * 1e8).round() / 1e6),
            Self::PerClass(count) => write!(f, "{count}"),
        }
    }
}

impl FewLabels {
    /// Which images, by increasing index, `seed` draws among these labels.
    pub fn draw(&self, labels: &[u32], seed: u64) -> Vec<u32> {
        let count = |total: usize| match *self {
            Self::Share(share) => ((share * total as f64).round() as usize).max(1),
            Self::PerClass(count) => count,
        };
        draw_by_class(labels, |class| Rng::new(Stream::Subset, &[seed, u64::from(class)]), count).0
    }
}

/// For each class the images that come first in an order that its generator draws, `count` of how many there are, and the others;
/// both by increasing index.
pub(super) fn draw_by_class(labels: &[u32], rng: impl Fn(u32) -> Rng, count: impl Fn(usize) -> usize) -> (Vec<u32>, Vec<u32>) {
    let num_classes = labels.iter().max().map_or(0, |&label| label + 1);
    let mut members = vec![Vec::new(); num_classes as usize];
    labels.iter().enumerate().for_each(|(index, &label)| members[label as usize].push(index as u32));
    let (mut drawn, mut others) = (Vec::new(), Vec::new());
    for (class, mut of_class) in members.into_iter().enumerate() {
        rng(class as u32).shuffle(&mut of_class);
        let (first, rest) = of_class.split_at(count(of_class.len()).min(of_class.len()));
        drawn.extend_from_slice(first);
        others.extend_from_slice(rest);
    }
    drawn.sort_unstable();
    others.sort_unstable();
    (drawn, others)
}
