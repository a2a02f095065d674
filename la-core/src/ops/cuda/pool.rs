//! Pooling on the GPU.

use super::{
    arg::{arg, Arg, Window},
    context::{precision, timed},
    launch::Launch,
    tensors::{device, empty},
};
use crate::{
    ops::{precision::Precision, shape::Conv2d},
    Result,
};
use candle_core::{DType, Tensor};

fn geometry(window: &Conv2d, (height, width): (usize, usize), (out_height, out_width): (usize, usize), channels: usize) -> Window {
    let int = |n: usize| n as i32;
    Window {
        height: int(height),
        width: int(width),
        out_height: int(out_height),
        out_width: int(out_width),
        channels: int(channels),
        kernel_height: int(window.kernel.0),
        kernel_width: int(window.kernel.1),
        stride: int(window.stride),
        padding: int(window.padding),
    }
}

/// The largest value of each window, and which tap it came from, u8.
pub(crate) fn max(x: &Tensor, window: &Conv2d, out_size: (usize, usize)) -> Result<(Tensor, Tensor)> {
    let (gpu, (batch, height, width, channels)) = (device(x)?, x.dims4()?);
    let shape = (batch, out_size.0, out_size.1, channels);
    let (out, taps) = (empty(&gpu, shape, x.dtype())?, empty(&gpu, shape, DType::U8)?);
    let (n, window) = (out.elem_count(), geometry(window, (height, width), out_size, channels));
    let args = [arg(x)?, arg(&out)?, arg(&taps)?, Arg::Window(window), Arg::long(n)];
    timed(&gpu, "pooling", || Launch::over("max_pool", n).of(x.dtype()).run(&gpu, &args))?;
    Ok((out, taps))
}

/// The gradient to the input of [`max`], whose shape is `input`.
pub(crate) fn max_backward(grad: &Tensor, taps: &Tensor, input: (usize, usize, usize, usize), window: &Conv2d) -> Result<Tensor> {
    let (gpu, (_, oh, ow, channels)) = (device(grad)?, grad.dims4()?);
    let out = empty(&gpu, input, grad.dtype())?;
    let (n, window) = (out.elem_count(), geometry(window, (input.1, input.2), (oh, ow), channels));
    let args = [arg(grad)?, arg(taps)?, arg(&out)?, Arg::Window(window), Arg::long(n)];
    timed(&gpu, "pooling", || Launch::over("max_pool_backward", n).of(grad.dtype()).run(&gpu, &args))?;
    Ok(out)
}

/// The mean over pixels, in f32 whatever the activations are.
pub(crate) fn mean(x: &Tensor) -> Result<Tensor> {
    let (gpu, (batch, height, width, channels)) = (device(x)?, x.dims4()?);
    let (n, out) = (batch * channels, empty(&gpu, (batch, channels), DType::F32)?);
    let args = [arg(x)?, arg(&out)?, Arg::int(height * width), Arg::int(channels), Arg::long(n)];
    timed(&gpu, "pooling", || Launch::over("mean_pool", n).of(x.dtype()).run(&gpu, &args))?;
    Ok(out)
}

/// The gradient to the input of [`mean`], in the activations' type.
pub(crate) fn mean_backward(grad: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (gpu, (batch, channels)) = (device(grad)?, grad.dims2()?);
    let dtype = if precision(&gpu) == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    let out = empty(&gpu, (batch, height, width, channels), dtype)?;
    let n = out.elem_count();
    let args = [arg(grad)?, arg(&out)?, Arg::int(height * width), Arg::int(channels), Arg::long(n)];
    timed(&gpu, "pooling", || Launch::over("mean_pool_backward", n).of(dtype).run(&gpu, &args))?;
    Ok(out)
}
