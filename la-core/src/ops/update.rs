//! What SGD takes, on every device.

use candle_core::Tensor;

/// What one parameter brings; all of one shape.
pub(crate) struct Update<'a> {
    pub weight: &'a Tensor,
    pub velocity: &'a Tensor,
    pub grad: &'a Tensor,
    /// Weight decay.
    pub decay: f32,
}
