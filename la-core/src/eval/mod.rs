//! Measures of how good embeddings are; labels enter here and nowhere else.

#[cfg(feature = "train")]
pub mod embed;
pub mod knn;
#[cfg(feature = "train")]
pub mod linear;
#[cfg(feature = "train")]
pub mod readout;
