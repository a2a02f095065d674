//! SGD for candle's programs, whose weights are variables and whose gradients come from `backward()`.

use super::SgdConfig;
use crate::ops::{sgd::sgd, update::Update};
use candle_core::{backprop::GradStore, bail, DType, Result, Tensor, Var};
use candle_nn::Optimizer;

/// Settings of [`VarSgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarSgdConfig {
    /// The rate of the first steps; [`Optimizer::set_learning_rate`] changes it.
    pub learning_rate: f64,
    /// Momentum and weight decay.
    pub sgd: SgdConfig,
}

impl Default for VarSgdConfig {
    fn default() -> Self {
        Self { learning_rate: 0.03, sgd: SgdConfig::default() }
    }
}

/// [`super::Sgd`] over candle's variables, as a [`candle_nn::Optimizer`]: with momentum and weight decay, which candle-nn's has not.
///
/// Weight decay spares variables of one dimension or none: biases, and the weights of normalisations. A variable without a
/// gradient stays as it is, and so does its velocity.
pub struct VarSgd {
    config: VarSgdConfig,
    slots: Vec<Slot>,
}

struct Slot {
    var: Var,
    velocity: Tensor,
}

impl Optimizer for VarSgd {
    type Config = VarSgdConfig;

    /// Zero velocities for `vars`; fails where one is not f32.
    fn new(vars: Vec<Var>, config: VarSgdConfig) -> Result<Self> {
        if let Some(var) = vars.iter().find(|var| var.dtype() != DType::F32) {
            bail!("VarSgd: expected f32 variables, got {:?} {:?}", var.dtype(), var.dims());
        }
        let slot = |var: Var| Ok(Slot { velocity: var.zeros_like()?, var });
        Ok(Self { config, slots: vars.into_iter().map(slot).collect::<Result<_>>()? })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let found = self.slots.iter().filter_map(|slot| Some((slot, grads.get(&slot.var)?)));
        let found = found.map(|(slot, grad)| Ok((slot, grad.contiguous()?))).collect::<Result<Vec<_>>>()?;
        let updates: Vec<Update> = found
            .iter()
            .map(|(slot, grad)| {
                let decay = if slot.var.rank() > 1 { self.config.sgd.weight_decay as f32 } else { 0.0 };
                Update { weight: slot.var.as_tensor(), velocity: &slot.velocity, grad, decay }
            })
            .collect();
        Ok(sgd(&updates, self.config.sgd.momentum as f32, self.config.learning_rate as f32)?)
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.learning_rate = learning_rate;
    }
}
