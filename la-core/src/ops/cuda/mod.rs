//! The operations on NVIDIA GPUs: convolutions by cuDNN, products by cuBLAS, everything else by kernels of our own.
//!
//! Kernels are compiled by NVRTC at first use. All work of a thread goes to one stream, in order, and nothing waits for the
//! device but what reads a result. Only what `super` calls is visible outside.

mod arg;
mod blas;
mod compile;
mod context;
pub(crate) mod conv;
mod cudnn;
mod filters;
mod graph;
pub(crate) mod kmeans;
mod launch;
mod library;
pub(crate) mod loss;
pub(crate) mod norm;
mod open;
mod pinned;
pub(crate) mod pool;
pub(crate) mod rows;
pub(crate) mod sgd;
mod staging;
mod tensors;
pub(crate) mod views;

pub(crate) use context::{free_memory, memory, profile, set_precision};
pub(crate) use graph::Graph;
pub(crate) use launch::{activations, overwrite};
pub(crate) use open::open;
pub(crate) use staging::send;
