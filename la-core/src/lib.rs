//! Local Aggregation (Zhuang, Zhai, Yamins, ICCV 2019, <https://arxiv.org/abs/1903.12355>) on candle.
//!
//! Each image's embedding is pulled towards its *close* neighbours (bank rows that share a k-means cluster with it)
//! and away from its *background* neighbours (the bank rows nearest to it), so that clusters form without labels.

#[cfg(feature = "train")]
pub mod augment;
pub mod autograd;
#[cfg(feature = "train")]
pub mod checkpoint;
mod choices;
#[cfg(feature = "train")]
pub mod config;
#[cfg(feature = "train")]
pub mod data;
#[cfg(feature = "train")]
pub mod digests;
mod error;
pub mod eval;
#[cfg(feature = "train")]
pub mod files;
#[cfg(feature = "train")]
pub mod hub;
pub mod kmeans;
pub mod loss;
pub mod memory_bank;
pub mod ops;
pub mod optim;
#[cfg(feature = "train")]
pub mod pca;
pub mod preprocess;
mod resize;
pub mod resnet;
pub mod rng;
#[cfg(feature = "train")]
pub mod run_folder;
pub mod search;
#[cfg(feature = "train")]
mod tensorboard;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};
