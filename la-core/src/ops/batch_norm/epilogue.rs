//! What the normalisation on either device takes.

use candle_core::Tensor;

/// Added to the variance.
pub const EPSILON: f64 = 1e-5;

/// What follows the normalisation: `relu(norm(x) + residual)`, each part optional.
#[derive(Default, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Added before the ReLU; the shape of the input.
    pub residual: Option<&'a Tensor>,
    /// Whether negative results become 0.
    pub relu: bool,
}
