//! Rows of embeddings and of the bank on the GPU.

use super::{
    arg::{arg, Arg},
    context::timed,
    launch::{step_indices, Launch},
    tensors::{device, empty, upload, zeros},
};
use crate::Result;
use candle_core::{DType, Tensor};

/// Threads that take a row.
const THREADS: usize = 128;

/// Unit rows `(B, D)` and norms `(B,)`.
pub(crate) fn normalize(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (gpu, (n, dim)) = (device(x)?, x.dims2()?);
    let (unit, norms) = (empty(&gpu, (n, dim), DType::F32)?, empty(&gpu, n, DType::F32)?);
    let args = [arg(x)?, arg(&unit)?, arg(&norms)?, Arg::int(dim)];
    Launch::blocks("normalize_rows", n, THREADS).run(&gpu, &args)?;
    Ok((unit, norms))
}

/// The gradient by the rows before they were normalised.
pub(crate) fn normalize_backward(unit: &Tensor, norms: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (gpu, (n, dim)) = (device(unit)?, unit.dims2()?);
    let out = empty(&gpu, (n, dim), DType::F32)?;
    let args = [arg(unit)?, arg(norms)?, arg(grad)?, arg(&out)?, Arg::int(dim)];
    Launch::blocks("normalize_rows_backward", n, THREADS).run(&gpu, &args)?;
    Ok(out)
}

/// Adds `bias` `(O,)` to each row of `y` `(…, O)`, in place.
pub(crate) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
    let (gpu, n) = (device(y)?, y.elem_count());
    Launch::over("add_bias", n).run(&gpu, &[arg(y)?, arg(bias)?, Arg::int(bias.elem_count()), Arg::long(n)])
}

/// The sums over all rows, written over `out` `(columns,)`.
pub(crate) fn sum_rows(x: &Tensor, out: &Tensor) -> Result<()> {
    let (gpu, columns) = (device(x)?, out.elem_count());
    let rows = x.elem_count() / columns;
    Launch::each("sum_rows", columns).run(&gpu, &[arg(x)?, arg(out)?, Arg::int(rows), Arg::int(columns)])
}

/// The rows of these indices.
pub(crate) fn gather(rows: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let (gpu, dim) = (device(rows)?, rows.dims2()?.1);
    let (chosen, n) = (upload(&gpu, indices)?, indices.len() * dim);
    let out = empty(&gpu, (indices.len(), dim), DType::F32)?;
    Launch::over("gather_rows", n).run(&gpu, &[arg(rows)?, arg(&chosen)?, arg(&out)?, Arg::int(dim), Arg::long(n)])?;
    Ok(out)
}

/// `scale · (a + b)`
pub(crate) fn scaled_sum(a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
    let (gpu, n) = (device(a)?, a.elem_count());
    let out = empty(&gpu, a.shape(), DType::F32)?;
    Launch::over("scaled_sum", n).run(&gpu, &[arg(a)?, arg(b)?, arg(&out)?, Arg::F32(scale), Arg::long(n)])?;
    Ok(out)
}

/// Moves bank rows towards embeddings; an embedding that is not finite moves nothing.
pub(crate) fn update_bank(rows: &Tensor, indices: &[u32], embeddings: &Tensor, momentum: f32) -> Result<()> {
    let (gpu, (batch, dim)) = (device(rows)?, embeddings.dims2()?);
    let chosen = step_indices(&gpu, indices)?;
    let args = [arg(rows)?, arg(&chosen)?, arg(embeddings)?, Arg::F32(momentum), Arg::int(batch), Arg::int(dim)];
    timed(&gpu, "bank", || Launch::blocks("update_bank", batch, THREADS).run(&gpu, &args))
}

/// Whether every value is finite; waits for the device.
pub(crate) fn is_finite(x: &Tensor) -> Result<bool> {
    let (gpu, n) = (device(x)?, x.elem_count());
    let count = zeros(&gpu, 1, DType::U32)?;
    Launch::over("count_not_finite", n).run(&gpu, &[arg(x)?, arg(&count)?, Arg::long(n)])?;
    Ok(count.to_vec1::<u32>()? == [0])
}
