//! What a network computes in, and what a profile of its time tells.

use crate::choices::choices;

choices! {
    /// What the network computes in; weights, statistics and losses are f32 in each.
    #[derive(Default)]
    Precision, "precision" {
        /// 32-bit floating point.
        #[default]
        F32 = "f32",
        /// f32 in memory, products of 10-bit mantissas: tensor cores.
        Tf32 = "tf32",
        /// Activations and their gradients in bf16.
        Bf16 = "bf16",
    }
}

/// A share of the time of profiled work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Which operations.
    pub part: &'static str,
    /// Seconds on the device since profiling began.
    pub seconds: f64,
}
