//! L2 normalisation of rows, forward and backward.

use super::host::{read, scratch, tensor};
use crate::Result;
use candle_core::Tensor;

/// Rows of `x` `(B, D)` at unit length, and their lengths `B`.
pub fn normalize(x: &Tensor) -> Result<(Tensor, Vec<f32>)> {
    let (rows, dim) = x.dims2()?;
    let (mut out, mut norms) = (scratch(rows * dim), vec![0f32; rows]);
    read(x, |x| {
        for ((from, to), norm) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).zip(&mut norms) {
            *norm = from.iter().map(|&v| v as f64 * v as f64).sum::<f64>().sqrt().max(1e-12) as f32;
            to.iter_mut().zip(from).for_each(|(t, f)| *t = f / *norm);
        }
    })?;
    Ok((tensor(out, (rows, dim)), norms))
}
