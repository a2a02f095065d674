//! Local Aggregation (Zhuang, Zhai, Yamins, ICCV 2019, <https://arxiv.org/abs/1903.12355>) on candle: embeddings of images
//! that form clusters without labels.
//!
//! # The method
//!
//! Each training image *i* has a row `V_i` of unit length in a [memory bank](memory_bank). For an embedding `v` of image *i*,
//! `P(A | v)` is the sum of `exp(V_j · v / τ)` over the rows *j* of a set `A`. A training step has five parts:
//!
//! 1. A network, such as a [ResNet](resnet), embeds a batch of images; [`autograd::normalize`] gives the rows unit length.
//! 2. The *background neighbours* `B` of an image are the rows of the bank that are nearest to its embedding.
//! 3. Its *close neighbours* `C` are the rows that share a cluster with it; [k-means](kmeans) clusters the bank now and then.
//! 4. The [loss] is `-ln(P(C ∩ B | v) / P(B | v))`: close neighbours attract, the other background neighbours repel.
//! 5. The weights move by gradient descent, and the bank by `V_i ← normalise(m V_i + (1 - m) v)`.
//!
//! The first epochs use instance recognition instead, where each image is a class of its own, until clusters mean something.
//!
//! # In a candle program
//!
//! [`autograd`] has the losses as scalars on which `backward()` works, for any network and any optimiser:
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use la_core::{autograd, kmeans::{cluster, KmeansConfig}, loss::LaConfig, memory_bank::MemoryBank};
//!
//! # fn main() -> la_core::Result<()> {
//! let mut bank = MemoryBank::random(40, 8, 0, &Device::Cpu)?; // (N, D): 40 images
//! let clusters = cluster(bank.rows(), 3, &KmeansConfig { num_clusters: 5, ..KmeansConfig::default() })?;
//!
//! let weight = Var::randn(0f32, 1f32, (6, 8), &Device::Cpu)?; // a network of one layer
//! let images = Tensor::randn(0f32, 1f32, (4, 6), &Device::Cpu)?; // a batch of 4 images
//! let indices = [3, 14, 15, 9]; // their rows of the bank
//! let embeddings = autograd::normalize(&images.matmul(&weight)?)?;
//! let config = LaConfig { num_background: 20, temperature: 0.07 };
//! let loss = autograd::local_aggregation(&embeddings, &bank, &indices, &clusters, &config)?;
//! let grads = loss.backward()?;
//! assert_eq!(grads.get(&weight).map(Tensor::dims), Some(&[6, 8][..]));
//!
//! bank.update(&indices, &embeddings.detach(), 0.5)?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/custom_backbone.rs` trains a network of candle-nn layers so. `examples/train_la.rs` has the same loop on this
//! crate's own [`resnet::ResNet`], whose passes in both directions are explicit functions, several times as fast on a CPU; it is
//! also a candle `Module`. Every other operation computes outside candle's graph, and fails on a tensor that tracks gradients.
//!
//! What is hidden in this documentation is for la-cli alone, and may change.
//!
//! # Features
//!
//! - `train` (default): threads, batches of images, training, checkpoints, evaluation and the sample; also what needs
//!   candle-nn: `ResNet::from_var_builder` and `optim::VarSgd`.
//! - `cuda`: NVIDIA GPUs. Kernels are compiled by NVRTC when they are first used.
//! - none (`default-features = false`): network, bank, k-means, losses, SGD and search alone; this compiles for the browser.

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
mod error;
pub mod eval;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod files;
pub mod kmeans;
pub mod loss;
pub mod memory_bank;
#[doc(hidden)]
pub mod ops;
pub mod optim;
#[cfg(feature = "train")]
pub mod pca;
pub mod preprocess;
#[doc(hidden)]
pub mod resize;
pub mod resnet;
#[doc(hidden)]
pub mod rng;
pub mod search;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod tensor_files;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};

/// This crate's version.
#[doc(hidden)]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
