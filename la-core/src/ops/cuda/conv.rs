//! Convolution on the GPU by cuDNN, channels last; 1×1 images are plain products.

use super::{
    arg::{arg, Arg},
    blas::{product, Side},
    context::{forget_peak, precision, timed, with},
    cudnn::{Cudnn, Operands, Problem, Way},
    launch::Launch,
    tensors::{device, empty, pointer},
};
use crate::{
    ops::{precision::Precision, shape::Shape},
    Result,
};
use candle_core::{cuda_backend::CudaDevice, DType, Tensor};

/// Memory that algorithms may take while they are timed: the first of these that there is.
const SEARCH_WORKSPACES: [usize; 3] = [1 << 30, 1 << 28, 1 << 26];
/// Side of the tiles that weights are transposed in.
const TILE: usize = 32;

impl Shape {
    fn problem(&self, way: Way, dtype: DType, precision: Precision) -> Problem {
        Problem {
            way,
            input: [self.batch, self.channels, self.input.0, self.input.1],
            output: [self.batch, self.out_channels, self.output.0, self.output.1],
            kernel: self.conv.kernel,
            stride: self.conv.stride,
            padding: self.conv.padding,
            is_bf16: dtype == DType::BF16,
            is_tensor: dtype == DType::BF16 || precision != Precision::F32,
        }
    }

    /// Whether this is a fully connected layer.
    fn is_product(&self, dtype: DType) -> bool {
        self.conv.kernel == (1, 1) && self.input == (1, 1) && self.conv.padding == 0 && dtype == DType::F32
    }

    /// Rows of the weights as a matrix: taps times channels.
    fn weight_rows(&self) -> usize {
        self.conv.kernel.0 * self.conv.kernel.1 * self.channels
    }
}

/// `x` `(B, H, W, C)` through `weight` `(KH, KW, C, O)`, to `(B, H', W', O)` of the type of `x`.
pub(crate) fn forward(x: &Tensor, weight: &Tensor, shape: &Shape) -> Result<Tensor> {
    let gpu = device(x)?;
    let out = empty(&gpu, (shape.batch, shape.output.0, shape.output.1, shape.out_channels), x.dtype())?;
    if shape.is_product(x.dtype()) {
        let (b, c, o) = (shape.batch, shape.channels, shape.out_channels);
        product(Side::new(x, c), Side::new(weight, o), (b, o, c), &out)?;
        return Ok(out);
    }
    let weight = weights_in(&gpu, weight, shape, x.dtype())?;
    let problem = shape.problem(Way::Forward, x.dtype(), precision(&gpu));
    run(&gpu, &problem, [x, &weight, &out], 0.0)?;
    Ok(out)
}

/// The gradient to the input, written over `out` or added to it.
pub(crate) fn backward_input(grad: &Tensor, weight: &Tensor, shape: &Shape, add_to: Option<Tensor>) -> Result<Tensor> {
    let gpu = device(grad)?;
    let keep = if add_to.is_some() { 1.0 } else { 0.0 };
    let out = match add_to {
        Some(out) => out,
        None => empty(&gpu, (shape.batch, shape.input.0, shape.input.1, shape.channels), grad.dtype())?,
    };
    if shape.is_product(grad.dtype()) && keep == 0.0 {
        let (b, c, o) = (shape.batch, shape.channels, shape.out_channels);
        product(Side::new(grad, o), Side::new(weight, o).transposed(), (b, c, o), &out)?;
        return Ok(out);
    }
    let weight = weights_in(&gpu, weight, shape, grad.dtype())?;
    let problem = shape.problem(Way::BackwardInput, grad.dtype(), precision(&gpu));
    run(&gpu, &problem, [&weight, grad, &out], keep)?;
    Ok(out)
}

/// The gradient to the weights, written over `out` `(KH, KW, C, O)` f32.
pub(crate) fn backward_weight(x: &Tensor, grad: &Tensor, shape: &Shape, out: &Tensor) -> Result<()> {
    let gpu = device(x)?;
    if shape.is_product(x.dtype()) {
        let (b, c, o) = (shape.batch, shape.channels, shape.out_channels);
        return product(Side::new(x, c).transposed(), Side::new(grad, o), (c, o, b), out);
    }
    let (rows, columns) = (shape.out_channels, shape.weight_rows());
    let found = empty(&gpu, (rows, columns), x.dtype())?;
    let problem = shape.problem(Way::BackwardWeight, x.dtype(), precision(&gpu));
    run(&gpu, &problem, [x, grad, &found], 0.0)?;
    transpose("weights_out", &found, out, (rows, columns), x.dtype())
}

/// Weights as cuDNN takes them, `(O, KH, KW, C)` in the activations' type.
fn weights_in(gpu: &CudaDevice, weight: &Tensor, shape: &Shape, dtype: DType) -> Result<Tensor> {
    let (rows, columns) = (shape.weight_rows(), shape.out_channels);
    let out = empty(gpu, (columns, rows), dtype)?;
    transpose("weights_in", weight, &out, (rows, columns), dtype)?;
    Ok(out)
}

fn transpose(name: &'static str, from: &Tensor, to: &Tensor, (rows, columns): (usize, usize), dtype: DType) -> Result<()> {
    let gpu = device(from)?;
    timed(&gpu, "convolution", || {
        Launch::grid(name, (columns.div_ceil(TILE), rows.div_ceil(TILE)))
            .of(dtype)
            .run(&gpu, &[arg(from)?, arg(to)?, Arg::int(rows), Arg::int(columns)])
    })
}

/// Runs a problem over its three operands, after choosing its algorithm where that was not done.
fn run(gpu: &CudaDevice, problem: &Problem, [first, second, out]: [&Tensor; 3], keep: f32) -> Result<()> {
    let operands = Operands { first: pointer(first)?, second: pointer(second)?, out: pointer(out)? };
    let size = match with_cudnn(gpu, |cudnn| Ok(cudnn.workspace(problem)))? {
        Some(size) => size,
        None => choose(gpu, problem, operands, out)?,
    };
    let at = (pointer(&workspace(gpu, size)?)?, size);
    timed(gpu, "convolution", || with_cudnn(gpu, |cudnn| cudnn.run(problem, operands, at, keep)))
}

/// Memory of at least this many bytes. Convolutions follow each other in the stream, so that one piece serves all.
fn workspace(gpu: &CudaDevice, size: usize) -> Result<Tensor> {
    let kept = with(gpu, |context| Ok(context.workspace.clone()))?;
    if let Some(kept) = kept.filter(|kept| kept.elem_count() >= size) {
        return Ok(kept);
    }
    // The old one goes first, so that both need not fit.
    with(gpu, |context| Ok(context.workspace.take()))?;
    let new = empty(gpu, size.max(1), DType::U8)?;
    with(gpu, |context| Ok(context.workspace.insert(new).clone()))
}

/// Times the algorithms on a copy of the output's shape, so that what is added to stays as it is; gives the workspace's size.
fn choose(gpu: &CudaDevice, problem: &Problem, operands: Operands, out: &Tensor) -> Result<usize> {
    let trial = empty(gpu, out.shape(), out.dtype())?;
    let workspace = search_workspace(gpu)?;
    let (operands, at) = (Operands { out: pointer(&trial)?, ..operands }, (pointer(&workspace)?, workspace.elem_count()));
    let size = with_cudnn(gpu, |cudnn| {
        cudnn.choose(problem, operands, at)?;
        Ok(cudnn.workspace(problem).unwrap_or(0))
    })?;
    drop((trial, workspace));
    // What the search took is not what training takes.
    forget_peak(gpu)?;
    Ok(size)
}

fn search_workspace(gpu: &CudaDevice) -> Result<Tensor> {
    let [most, some, least] = SEARCH_WORKSPACES;
    empty(gpu, most, DType::U8).or_else(|_| empty(gpu, some, DType::U8)).or_else(|_| empty(gpu, least, DType::U8))
}

fn with_cudnn<T>(gpu: &CudaDevice, f: impl FnOnce(&mut Cudnn) -> Result<T>) -> Result<T> {
    with(gpu, |context| {
        if context.cudnn.is_none() {
            context.cudnn = Some(Cudnn::new(gpu.cuda_stream().cu_stream().cast())?);
        }
        f(context.cudnn.as_mut().expect("made just above"))
    })
}
