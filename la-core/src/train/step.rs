//! One training step, as the paper has it.

use super::objective::Objective;
use crate::{
    checkpoint::TrainState,
    loss::Loss,
    ops::normalize::{normalize, normalize_backward},
    Result,
};
use candle_core::Tensor;

/// Embeds the images, and moves the weights and the bank; a loss that is NaN or infinite moves nothing.
pub(super) fn step(objective: &Objective, state: &mut TrainState, images: &Tensor, indices: &[u32], learning_rate: f64) -> Result<Loss> {
    let (outputs, cache) = state.net.forward_train(images)?;
    let (embeddings, norms) = normalize(&outputs)?;
    let loss = objective.loss(&embeddings, state, indices)?;
    if loss.not_finite().is_some() {
        return Ok(loss);
    }
    state.net.backward(cache, &normalize_backward(&embeddings, &norms, loss.grad_embeddings())?)?;
    state.sgd.step(&mut state.net, learning_rate)?;
    objective.update_bank(&embeddings, state, indices)?;
    Ok(loss)
}
