//! The guard of operations that have no place in candle's graph.

use crate::{error::bail, Result};
use candle_core::Tensor;

/// Fails where `tensor` tracks gradients, which `operation` would drop without a word.
pub(crate) fn refuse_tracked(tensor: &Tensor, operation: &str) -> Result<()> {
    if tensor.track_op() {
        bail!(
            "{operation} carries no gradients, got a tensor that tracks them; detach it, or use la_core::autograd for a loss or normalize"
        );
    }
    Ok(())
}
