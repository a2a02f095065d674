//! Figures of embeddings beyond kNN accuracy.
//!
//! - How sure a figure is: [`intervals`], with a paired test of two networks.
//! - [`retrieval`]: recall and average precision.
//! - The space itself: [`density`] of neighbourhoods, classes on a plane ([`mds`]), and [`duplicates`].

pub mod density;
pub mod duplicates;
pub mod intervals;
pub mod mds;
pub mod retrieval;
