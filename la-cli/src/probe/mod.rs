//! Linear probes of every layer of a frozen network.
//!
//! A network's layers become rows in half precision ([`layers`], [`half_rows`]). Protocol [`fast`] fits a multinomial
//! [logistic] regression to each by L-BFGS; [`layer_probes`] does both for all layers, [`few_labels`] for few labels. [`paper`] is the paper's protocol, with [`ten_crops`] to test.

pub mod fast;
pub mod few_labels;
pub mod half_rows;
pub mod layer_probes;
pub mod layers;
mod lbfgs;
pub mod logistic;
pub mod paper;
pub mod ten_crops;

/// How the probes of layers are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// L-BFGS on features that are computed once
    Fast,
    /// as in the paper: 70 epochs of SGD on new crops, ten crops to test
    Paper,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fast => fast::PROTOCOL,
            Self::Paper => paper::PROTOCOL,
        })
    }
}
