//! Steps whose losses are still on their way: a GPU is asked for them now and then, not at every step.

use crate::{
    loss::{Loss, LossOutput},
    Result,
};

/// Steps after which a GPU is waited for.
const INTERVAL: usize = 32;

/// A step that was done, whose loss is an `L`.
pub(super) struct Step<L> {
    pub loss: L,
    /// Images it saw.
    pub images: usize,
    /// Steps of the epoch before it.
    pub before: usize,
}

/// Steps in order, and the last loss that is known.
#[derive(Default)]
pub(super) struct Pending {
    steps: Vec<Step<Loss>>,
    known: Option<f32>,
}

impl Pending {
    /// Adds a step.
    pub(super) fn push(&mut self, step: Step<Loss>) {
        self.steps.push(step);
    }

    /// Whether to ask: at once where nothing is awaited or nothing is known yet, else once an interval.
    pub(super) fn is_due(&self) -> bool {
        self.known.is_none() || self.steps.len() >= INTERVAL || self.steps.iter().all(|step| matches!(step.loss, Loss::Known(_)))
    }

    /// Every step with its loss, in order; waits for the device where one has them.
    pub(super) fn settle(&mut self) -> Result<Vec<Step<LossOutput>>> {
        let settle = |step: Step<Loss>| Ok(Step { loss: step.loss.settle()?, images: step.images, before: step.before });
        let steps = std::mem::take(&mut self.steps).into_iter().map(settle).collect::<Result<Vec<_>>>()?;
        self.known = steps.last().map(|step| step.loss.loss).or(self.known);
        Ok(steps)
    }

    /// The last loss that is known.
    pub(super) fn known(&self) -> f32 {
        self.known.unwrap_or(f32::NAN)
    }
}
