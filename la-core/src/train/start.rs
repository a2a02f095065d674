//! How a run begins.

use crate::resnet::ResNet;
use std::path::Path;

/// How a run begins.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// From the first step, with random weights.
    New,
    /// From the first step, with these weights, which the configuration names; a run that was stopped before its first checkpoint
    /// begins again so.
    From(&'a ResNet),
    /// From the run's last checkpoint; from the first step where it has none yet.
    Resume,
    /// From the checkpoint in this file, which another run left, under settings of this run's own.
    Branch(&'a Path),
}

/// How a run has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// At its first step.
    Anew,
    /// After so many epochs that another run computed.
    After(usize),
    /// At its first step, perhaps once more: it may have been stopped before its first checkpoint.
    Again,
    /// Where its last checkpoint stands.
    Resumed,
}
