//! On a GPU, steps after the first of their kind are recorded once and replayed: the host could not queue them as fast.

use super::{metrics::Phase, objective::Objective, step::step};
use crate::{
    checkpoint::TrainState,
    data::Batch,
    error::bail,
    loss::{Loss, PendingLoss},
    ops::replay::{Recording, Replay},
    Result,
};
use candle_core::Tensor;

/// The step of the phase under way, where it was recorded.
#[derive(Default)]
pub(super) struct Replays {
    seen: Seen,
    shape: Vec<usize>,
    phase: Option<Phase>,
    refusal: Option<String>,
}

/// How far a step of one kind has come.
#[derive(Default)]
enum Seen {
    /// Not yet: the first runs as it is, which chooses algorithms and sends labels ahead.
    #[default]
    Never,
    /// Once: the next is recorded.
    Once,
    /// Recorded.
    Recorded(Replay),
    /// It cannot be.
    Refused,
}

impl Replays {
    /// What was recorded does not hold any more: the clusters are new.
    pub(super) fn forget(&mut self) {
        if !matches!(self.seen, Seen::Refused) {
            self.seen = Seen::Never;
        }
    }

    /// Why the device does not record the step under way; once.
    pub(super) fn take_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    /// Does the step by replaying it; none where it must run as it is.
    pub(super) fn run(&mut self, objective: &Objective, state: &mut TrainState, batch: &Batch, learning_rate: f64) -> Result<Option<Loss>> {
        if !state.bank.rows().device().is_cuda() || !objective.depends_on_indices_alone() {
            return Ok(None);
        }
        if self.phase != Some(objective.phase()) || self.shape != batch.images.dims() {
            (self.phase, self.shape) = (Some(objective.phase()), batch.images.dims().to_vec());
            self.seen = Seen::Never;
        }
        match &self.seen {
            Seen::Refused => return Ok(None),
            Seen::Never => {
                self.seen = Seen::Once;
                return Ok(None);
            }
            Seen::Once => match record(objective, state, &batch.images, &batch.indices)? {
                Recording::Done(replay) => self.seen = Seen::Recorded(replay),
                Recording::Refused(why) => (self.seen, self.refusal) = (Seen::Refused, Some(why)),
            },
            Seen::Recorded(_) => (),
        }
        let Seen::Recorded(replay) = &self.seen else { return Ok(None) };
        let indices = batch.indices.repeat(objective.views());
        Ok(Some(Loss::Pending(PendingLoss::of_figures(replay.run(&batch.images, &indices, learning_rate)?))))
    }
}

/// Records a step on a GPU without doing it.
pub fn record(objective: &Objective, state: &mut TrainState, images: &Tensor, indices: &[u32]) -> Result<Recording> {
    let device = state.bank.rows().device().clone();
    let num_indices = indices.len() * objective.views();
    Replay::record(&device, images, num_indices, |images| match step(objective, state, images, indices, 0.0, &mut |_| ())? {
        Loss::Pending(loss) => Ok(loss.figures),
        Loss::Known(_) => bail!("a step on a GPU gave its loss at once"),
    })
}
