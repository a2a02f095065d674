//! SGD on the GPU: every parameter in one launch, or a few.

use super::{
    arg::{Arg, Tensors, MAX_TENSORS},
    context::{timed, with},
    launch::{Launch, THREADS},
    tensors::{device, pointer},
};
use crate::{ops::update::Update, Result};

/// Values that one block takes.
const CHUNK: usize = 4096;

/// Moves every parameter against its gradient.
pub(crate) fn step(updates: &[Update], momentum: f32, rate: f32) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    let gpu = device(first.weight)?;
    // A step that is recorded reads its rate when it is replayed.
    let rate_at = with(&gpu, |context| Ok(context.recording.as_ref().map(|inputs| inputs.rate.clone())))?;
    timed(&gpu, "optimiser", || {
        for updates in updates.chunks(MAX_TENSORS) {
            let (tensors, blocks) = tensors(updates)?;
            let args = [
                Arg::Tensors(Box::new(tensors)),
                Arg::int(updates.len()),
                Arg::F32(momentum),
                Arg::F32(rate),
                Arg::maybe(rate_at.as_ref())?,
            ];
            Launch::blocks("sgd", blocks, THREADS).run(&gpu, &args)?;
        }
        Ok(())
    })
}

fn tensors(updates: &[Update]) -> Result<(Tensors, usize)> {
    const NONE: [u64; MAX_TENSORS] = [0; MAX_TENSORS];
    let zeros = ([0; MAX_TENSORS], [0.0; MAX_TENSORS], [0; MAX_TENSORS]);
    let mut all = Tensors { weight: NONE, velocity: NONE, grad: NONE, len: zeros.0, decay: zeros.1, first: zeros.2 };
    let mut blocks = 0;
    for (i, update) in updates.iter().enumerate() {
        let len = update.weight.elem_count();
        (all.weight[i], all.velocity[i], all.grad[i]) = (pointer(update.weight)?, pointer(update.velocity)?, pointer(update.grad)?);
        (all.len[i], all.decay[i], all.first[i]) = (len as i64, update.decay, blocks as u32);
        blocks += len.div_ceil(CHUNK);
    }
    Ok((all, blocks))
}
