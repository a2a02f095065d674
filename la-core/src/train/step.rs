//! One training step, as the paper has it.

use super::objective::Objective;
use crate::{
    checkpoint::TrainState,
    loss::Loss,
    ops::normalize::{normalize, normalize_backward},
    Result,
};
use candle_core::Tensor;

/// The parts of a step, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepPart {
    /// The network, and unit length.
    Forward,
    /// The loss and its gradient by the embeddings.
    Loss,
    /// The network's gradients.
    Backward,
    /// The new weights.
    Optimiser,
    /// The new rows of the bank.
    Bank,
}

/// Embeds the images, and moves the weights and the bank; a loss that is NaN or infinite moves nothing. `done` is told of each part.
pub fn step(
    objective: &Objective,
    state: &mut TrainState,
    images: &Tensor,
    indices: &[u32],
    learning_rate: f64,
    done: &mut dyn FnMut(StepPart),
) -> Result<Loss> {
    let (outputs, cache) = state.net.forward_train(images)?;
    let (embeddings, norms) = normalize(&outputs)?;
    done(StepPart::Forward);
    let loss = objective.loss(&embeddings, state, indices)?;
    if loss.not_finite().is_some() {
        return Ok(loss);
    }
    let grad_outputs = normalize_backward(&embeddings, &norms, loss.grad_embeddings())?;
    done(StepPart::Loss);
    state.net.backward(cache, &grad_outputs)?;
    done(StepPart::Backward);
    state.sgd.step(&mut state.net, learning_rate)?;
    done(StepPart::Optimiser);
    objective.update_bank(&embeddings, state, indices)?;
    done(StepPart::Bank);
    Ok(loss)
}
