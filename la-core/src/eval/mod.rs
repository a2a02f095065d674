//! Measures of how good embeddings are; labels enter here and nowhere else.
//!
//! - Classifiers: [`knn`], [`linear`] (SGD on pooled features), [`layer_probes`] (logistic regression on every layer).
//! - What they say of each image, and figures of it: [`outcomes`], with [`intervals`] and a paired test of two networks.
//! - [`retrieval`]: recall and average precision. [`agreement`]: clusters against classes.
//! - The space itself: [`density`] of neighbourhoods, classes on a plane ([`mds`]), and [`duplicates`].

#[cfg(feature = "train")]
pub mod agreement;
#[cfg(feature = "train")]
pub mod density;
#[cfg(feature = "train")]
pub mod duplicates;
#[cfg(feature = "train")]
pub mod embed;
#[cfg(feature = "train")]
pub mod few_labels;
#[cfg(feature = "train")]
pub mod half_rows;
#[cfg(feature = "train")]
pub mod intervals;
pub mod knn;
#[cfg(feature = "train")]
pub mod layer_probes;
#[cfg(feature = "train")]
pub mod layers;
#[cfg(feature = "train")]
mod lbfgs;
#[cfg(feature = "train")]
pub mod linear;
#[cfg(feature = "train")]
pub mod logistic;
#[cfg(feature = "train")]
pub mod mds;
#[cfg(feature = "train")]
pub mod outcomes;
#[cfg(feature = "train")]
pub mod probe;
pub mod readout;
#[cfg(feature = "train")]
pub mod retrieval;
