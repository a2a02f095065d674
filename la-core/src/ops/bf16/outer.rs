//! The gradient to the weights, over the pixels of pictures or over a grid.

use super::{grid::Grid, outer_grid, outer_pixels};
use crate::ops::shape::Shape;
use half::bf16;

/// The gradient `(KH, KW, C, O)` from `x` `(B, H, W, C)` and `grad` `(B, H', W', O)`, written over `out`.
pub(crate) fn backward_weight(x: &[bf16], grad: &[bf16], shape: &Shape, out: &mut [f32]) {
    let grid = Grid::forward(shape);
    match outer_pixels::work(shape).is_some_and(|work| work <= grid.work()) {
        true => outer_pixels::backward_weight(x, grad, shape, out),
        false => outer_grid::backward_weight(x, grad, shape, &grid, out),
    }
}
