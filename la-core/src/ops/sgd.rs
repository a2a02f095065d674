//! Stochastic gradient descent over many tensors in place.

use super::{
    device::on_gpu,
    host::{read, write},
    parallel::for_each_chunk,
    update::Update,
};
use crate::Result;

/// Values updated by one piece of work.
const CHUNK: usize = 64 * 1024;

/// `v ← momentum · v + (g + decay · w)`, `w ← w − rate · v` for every parameter.
pub(crate) fn sgd(updates: &[Update], momentum: f32, rate: f32) -> Result<()> {
    let Some(_first) = updates.first() else { return Ok(()) };
    on_gpu!(_first.weight, super::cuda::sgd::step(updates, momentum, rate));
    updates.iter().try_for_each(|update| step(update, momentum, rate))
}

fn step(update: &Update, momentum: f32, rate: f32) -> Result<()> {
    let decay = update.decay;
    write(update.weight, |weight| {
        write(update.velocity, |velocity| {
            read(update.grad, |grad| {
                let mut pairs: Vec<_> = weight.chunks_mut(CHUNK).zip(velocity.chunks_mut(CHUNK)).zip(grad.chunks(CHUNK)).collect();
                for_each_chunk(&mut pairs, 1, |_, pair| {
                    for ((weight, velocity), grad) in pair {
                        for ((w, v), g) in weight.iter_mut().zip(velocity.iter_mut()).zip(grad.iter()) {
                            *v = momentum * *v + (g + decay * *w);
                            *w -= rate * *v;
                        }
                    }
                });
            })
        })
    })??
}
