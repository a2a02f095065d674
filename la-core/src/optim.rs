//! Stochastic gradient descent with momentum, and learning rates as pure functions of the step.

#[cfg(feature = "train")]
mod vars;

use crate::{
    error::bail,
    ops::{host, sgd::sgd, update::Update},
    resnet::ResNet,
    Result,
};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[cfg(feature = "train")]
pub use vars::{VarSgd, VarSgdConfig};

/// What SGD needs beside the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SgdConfig {
    /// Share of the old velocity kept.
    pub momentum: f64,
    /// Added to the gradient as this times the weight; batch norm and biases are spared.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { momentum: 0.9, weight_decay: 1e-4 }
    }
}

/// SGD as PyTorch computes it: `v ← momentum · v + (g + decay · w)`, `w ← w − lr · v`, over a [`ResNet`]'s parameters.
pub struct Sgd {
    config: SgdConfig,
    velocities: Vec<(String, Tensor)>,
}

impl Sgd {
    /// Zero velocities for every parameter of `net`.
    pub fn new(config: SgdConfig, net: &ResNet) -> Result<Self> {
        let zeros = |p: &crate::resnet::Parameter| Ok((p.name.clone(), p.value.zeros_like()?));
        Ok(Self { config, velocities: net.parameters().into_iter().map(zeros).collect::<Result<_>>()? })
    }

    /// Moves every parameter against its gradient.
    pub fn step(&mut self, net: &mut ResNet, learning_rate: f64) -> Result<()> {
        let parameters = net.parameters();
        let updates: Vec<Update> = parameters
            .iter()
            .zip(&self.velocities)
            .map(|(parameter, (_, velocity))| {
                let decay = if parameter.decays { self.config.weight_decay as f32 } else { 0.0 };
                Update { weight: &parameter.value, velocity, grad: &parameter.grad, decay }
            })
            .collect();
        sgd(&updates, self.config.momentum as f32, learning_rate as f32)
    }

    /// The velocities under their parameters' names, for a checkpoint.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.velocities.clone()
    }

    /// Restores what [`Sgd::state`] gave; fails with the first tensor that is missing or misshapen.
    pub fn load_state(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        for (name, velocity) in &self.velocities {
            let Some(tensor) = tensors.get(name).filter(|t| t.dims() == velocity.dims()) else {
                bail!("optimiser state: tensor {name} of shape {:?} is missing", velocity.dims());
            };
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            host::overwrite(velocity, &values)?;
        }
        Ok(())
    }
}

/// How the learning rate falls.
#[derive(Debug, Clone, PartialEq)]
pub enum Decay {
    /// Multiplied by `factor` at each of these shares of the run.
    Step {
        /// Shares of all steps, in 0–1.
        milestones: Vec<f64>,
        /// What each milestone multiplies by.
        factor: f64,
    },
    /// Half a cosine from the peak to 0 (Loshchilov, Hutter 2017, <https://arxiv.org/abs/1608.03983>).
    Cosine,
}

/// A learning rate for every step.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The rate before it falls.
    pub peak: f64,
    /// How it falls.
    pub decay: Decay,
    /// Steps of linear warm-up from `peak / warmup_steps`.
    pub warmup_steps: usize,
}

impl Schedule {
    /// The rate at `step` of `total`: a pure function, so that a resumed run takes the same rates.
    pub fn learning_rate(&self, step: usize, total: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match &self.decay {
            Decay::Step { milestones, factor } => {
                let passed = milestones.iter().filter(|&&m| step as f64 >= m * total as f64).count();
                self.peak * factor.powi(passed as i32)
            }
            Decay::Cosine => {
                let span = total.saturating_sub(self.warmup_steps).max(1) as f64;
                let share = ((step - self.warmup_steps) as f64 / span).min(1.0);
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
        }
    }
}
