//! Matrix products by cuBLAS, row-major as everything here.

use super::{
    context::{precision, timed},
    tensors::{device, pointer},
};
use crate::{ops::precision::Precision, Error, Result};
use candle_core::{
    cuda_backend::cudarc::cublas::{
        result::gemm_ex,
        sys::{cublasComputeType_t as Compute, cublasGemmAlgo_t, cublasOperation_t as Operation, cudaDataType},
    },
    Tensor,
};

/// One side of a product: a row-major matrix, as it lies in memory or transposed.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    values: &'a Tensor,
    /// Values that come before the first.
    offset: usize,
    /// Columns as it lies in memory.
    columns: usize,
    is_transposed: bool,
}

impl<'a> Side<'a> {
    /// The matrix with this many columns.
    pub fn new(values: &'a Tensor, columns: usize) -> Self {
        Self { values, offset: 0, columns, is_transposed: false }
    }

    /// The same, transposed.
    pub fn transposed(self) -> Self {
        Self { is_transposed: true, ..self }
    }

    /// The rows from this one on.
    pub fn rows_from(self, row: usize) -> Self {
        Self { offset: row * self.columns, ..self }
    }

    fn operation(self) -> Operation {
        if self.is_transposed {
            Operation::CUBLAS_OP_T
        } else {
            Operation::CUBLAS_OP_N
        }
    }

    fn address(self) -> Result<*const std::ffi::c_void> {
        Ok((pointer(self.values)? + 4 * self.offset as u64) as *const _)
    }
}

/// `out` `(m, n)` becomes `a · b`, with `a` `(m, k)` and `b` `(k, n)` after their transpositions; all f32 in memory, with
/// products as exact as the device's precision says.
pub(super) fn product(a: Side, b: Side, sizes: (usize, usize, usize), out: &Tensor) -> Result<()> {
    let compute = match precision(&device(out)?) {
        Precision::F32 => Compute::CUBLAS_COMPUTE_32F,
        Precision::Tf32 | Precision::Bf16 => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
    };
    multiply(a, b, sizes, out, compute)
}

/// The same in f32 whatever the precision: for losses.
pub(super) fn exact_product(a: Side, b: Side, sizes: (usize, usize, usize), out: &Tensor) -> Result<()> {
    multiply(a, b, sizes, out, Compute::CUBLAS_COMPUTE_32F)
}

fn multiply(a: Side, b: Side, (m, n, k): (usize, usize, usize), out: &Tensor, compute: Compute) -> Result<()> {
    let gpu = device(out)?;
    let (one, zero, real) = (1f32, 0f32, cudaDataType::CUDA_R_32F);
    let (scale, keep) = (std::ptr::from_ref(&one).cast(), std::ptr::from_ref(&zero).cast());
    let (a_at, b_at, to) = (a.address()?, b.address()?, pointer(out)? as *mut _);
    let (ta, tb, size) = (a.operation(), b.operation(), |n: usize| n as i32);
    let default = cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
    let blas = gpu.cublas_handle();
    // cuBLAS counts columns first: a row-major product is that of the transposed sides, in the other order.
    timed(&gpu, "products", || {
        // SAFETY: the caller gives matrices of these sizes; they live on the stream's device until the product is queued.
        unsafe {
            gemm_ex(
                *blas.handle(),
                tb,
                ta,
                size(n),
                size(m),
                size(k),
                scale,
                b_at,
                real,
                size(b.columns),
                a_at,
                real,
                size(a.columns),
                keep,
                to,
                real,
                size(n),
                compute,
                default,
            )
        }
        .map_err(|error| Error::invalid(format!("cuBLAS: product of ({m}, {k}) and ({k}, {n}): {error}")))
    })
}
