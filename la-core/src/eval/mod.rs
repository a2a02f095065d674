//! Measures of how good embeddings are; labels enter here and nowhere else.
//!
//! - Classifiers: [`knn`], [`linear`] (SGD on pooled features).
//! - What they say of each image, and figures of it: [`outcomes`], with [`intervals`] and a paired test of two networks.
//! - [`retrieval`]: recall and average precision. [`agreement`]: clusters against classes.

#[cfg(feature = "train")]
pub mod agreement;
#[cfg(feature = "train")]
pub mod embed;
#[cfg(feature = "train")]
pub mod few_labels;
#[cfg(feature = "train")]
pub mod intervals;
pub mod knn;
#[cfg(feature = "train")]
pub mod linear;
#[cfg(feature = "train")]
pub mod outcomes;
#[cfg(feature = "train")]
pub mod readout;
#[cfg(feature = "train")]
pub mod retrieval;
