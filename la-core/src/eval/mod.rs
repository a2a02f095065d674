//! Measures of how good embeddings are; labels enter here and nowhere else.
//!
//! [`agreement`] compares clusters with classes. Classifiers are [`knn`] and [`linear`] (SGD on pooled features); [`outcomes`] is what they say of each image.

#[doc(hidden)]
pub mod agreement;
#[cfg(feature = "train")]
pub mod embed;
pub mod knn;
#[cfg(feature = "train")]
pub mod linear;
#[cfg(feature = "train")]
pub mod outcomes;
#[cfg(feature = "train")]
pub mod readout;
