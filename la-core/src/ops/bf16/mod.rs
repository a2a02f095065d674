//! Convolution on the CPU over bf16 activations: products of bf16, summed in f32 by AMX tiles or AVX512-BF16.
//!
//! Everything is one product: 32 rows of activations, which lie a fixed distance apart, times a panel of 32 columns. A
//! zero-padded copy of some rows of an image, small enough for the second-level cache, makes each tap of a kernel such a
//! distance ([`grid`]). Pieces of work follow from shapes alone and each sum has one order, so threads change nothing; the
//! two instruction sets may round differently.

pub(crate) mod cast;
mod copy;
mod gather;
mod grid;
mod outer;
mod outer_grid;
mod outer_pixels;
mod outer_product;
mod panels;
mod path;
mod pixels;
mod rows;
mod tile;
mod transpose;

pub(crate) use gather::{backward_input, forward, forward_eval, Norm};
pub(crate) use outer::backward_weight;
pub(crate) use path::{name, require};
