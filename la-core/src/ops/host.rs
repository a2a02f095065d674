//! Access to the `f32` values of tensors that live on the CPU.

use super::device::on_gpu;
use crate::{error::bail, Result};
use candle_core::{op::BackpropOp, CpuStorage, Device, InplaceOp1, Layout, Shape, Storage, Tensor};
use std::cell::RefCell;

/// Calls `f` with the values of a contiguous CPU tensor.
pub(crate) fn read<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, got strides {:?}", layout.stride());
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(f(&values[start..end])),
        _ => bail!("expected f32 on the CPU, got {:?} on {:?}", tensor.dtype(), tensor.device().location()),
    }
}

/// Calls `f` with the values of a contiguous CPU tensor, to change them in place.
pub(crate) fn write<T>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
    let op = Write { f: RefCell::new(Some(f)), out: RefCell::new(None) };
    tensor.inplace_op1(&op)?;
    Ok(op.out.into_inner().expect("candle ran the operation, or returned an error above"))
}

/// Replaces the values of a contiguous f32 tensor, wherever it lives, by as many others.
pub(crate) fn overwrite(tensor: &Tensor, values: &[f32]) -> Result<()> {
    on_gpu!(tensor, super::cuda::overwrite(tensor, values));
    write(tensor, |to| to.copy_from_slice(values))
}

/// The tensor on the CPU, the same where it lives there.
pub(crate) fn local(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.contiguous()?)
}

/// A CPU tensor over `values`, without copying them.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cpu(CpuStorage::F32(values)), shape, BackpropOp::none(), false)
}

/// A buffer of `len` values that the caller overwrites before reading.
pub(crate) fn scratch(len: usize) -> Vec<f32> {
    scratch_of(len)
}

/// [`scratch`] of other numbers.
pub(crate) fn scratch_of<T: Copy>(len: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`; every caller writes each value before it reads any, and what is `Copy` has no drop.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len)
    };
    values
}

struct Write<F, T> {
    f: RefCell<Option<F>>,
    out: RefCell<Option<T>>,
}

impl<T, F: FnOnce(&mut [f32]) -> T> InplaceOp1 for Write<F, T> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("expected f32 on the CPU") };
        let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("expected a contiguous tensor") };
        if let Some(f) = self.f.borrow_mut().take() {
            *self.out.borrow_mut() = Some(f(&mut values[start..end]));
        }
        Ok(())
    }
}
