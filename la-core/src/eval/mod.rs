//! Measures of how good embeddings are; labels enter here and nowhere else.

pub mod knn;
