//! Linear probes of every layer of a frozen network.
//!
//! A network's layers become rows in half precision ([`layers`], [`half_rows`]). Protocol [`fast`] fits a multinomial
//! [logistic] regression to each by L-BFGS; [`layer_probes`] does both for all layers, [`few_labels`] for few labels.

pub mod fast;
pub mod few_labels;
pub mod half_rows;
pub mod layer_probes;
pub mod layers;
mod lbfgs;
pub mod logistic;
