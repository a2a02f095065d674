//! Access to the `f32` values of tensors that live on the CPU.

use super::device::on_gpu;
use crate::{error::bail, Result};
use candle_core::{op::BackpropOp, CpuStorage, Device, InplaceOp1, Layout, Shape, Storage, Tensor};
use half::bf16;
use std::{cell::RefCell, marker::PhantomData};

/// A type that activations are stored in.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Its name in errors.
    const NAME: &'static str;
    /// The values of a storage of this type.
    fn values(storage: &CpuStorage) -> Option<&[Self]>;
    /// The same, to change them.
    fn values_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// A storage of these values.
    fn storage(values: Vec<Self>) -> CpuStorage;
    /// The value in f32.
    fn wide(self) -> f32;
    /// The nearest value.
    fn narrow(x: f32) -> Self;
}

macro_rules! element {
    ($type:ty, $variant:ident, $name:literal, $narrow:expr) => {
        impl Element for $type {
            const NAME: &'static str = $name;
            fn values(storage: &CpuStorage) -> Option<&[Self]> {
                match storage {
                    CpuStorage::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn values_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn storage(values: Vec<Self>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
            #[inline(always)]
            fn wide(self) -> f32 {
                f32::from(self)
            }
            #[inline(always)]
            fn narrow(x: f32) -> Self {
                ($narrow)(x)
            }
        }
    };
}
element!(f32, F32, "f32", |x| x);
element!(bf16, BF16, "bf16", bf16::from_f32);

/// Evaluates `$body` with `$E` the type of a CPU tensor's values: bf16, or else f32.
macro_rules! by_type {
    ($x:expr, $E:ident => $body:expr) => {{
        #[cfg(target_arch = "x86_64")]
        if $x.dtype() == candle_core::DType::BF16 {
            type $E = half::bf16;
            $crate::ops::bf16::require()?;
            return $body;
        }
        type $E = f32;
        $body
    }};
}
pub(crate) use by_type;

/// Calls `f` with the values of a contiguous CPU tensor of f32.
pub fn read<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    read_as(tensor, f)
}

/// Calls `f` with the values of a contiguous CPU tensor of `E`.
pub(crate) fn read_as<E: Element, T>(tensor: &Tensor, f: impl FnOnce(&[E]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, got strides {:?}", layout.stride());
    };
    let values = match &*storage {
        Storage::Cpu(storage) => E::values(storage),
        _ => None,
    };
    match values {
        Some(values) => Ok(f(&values[start..end])),
        None => bail!("expected {} on the CPU, got {:?} on {:?}", E::NAME, tensor.dtype(), tensor.device().location()),
    }
}

/// Calls `f` with the values of a contiguous CPU tensor of f32, to change them in place.
pub(crate) fn write<T>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
    write_as(tensor, f)
}

/// Calls `f` with the values of a contiguous CPU tensor of `E`, to change them in place.
pub(crate) fn write_as<E: Element, T>(tensor: &Tensor, f: impl FnOnce(&mut [E]) -> T) -> Result<T> {
    let op = Write { f: RefCell::new(Some(f)), out: RefCell::new(None), of: PhantomData };
    tensor.inplace_op1(&op)?;
    Ok(op.out.into_inner().expect("candle ran the operation, or returned an error above"))
}

/// Replaces the values of a contiguous f32 tensor, wherever it lives, by as many others.
pub(crate) fn overwrite(tensor: &Tensor, values: &[f32]) -> Result<()> {
    on_gpu!(tensor, super::cuda::overwrite(tensor, values));
    write(tensor, |to| to.copy_from_slice(values))
}

/// The tensor on the CPU, the same where it lives there.
pub fn local(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.contiguous()?)
}

/// A CPU tensor over `values`, without copying them.
pub(crate) fn tensor<E: Element>(values: Vec<E>, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cpu(E::storage(values)), shape, BackpropOp::none(), false)
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

struct Write<E, F, T> {
    f: RefCell<Option<F>>,
    out: RefCell<Option<T>>,
    of: PhantomData<E>,
}

impl<E: Element, T, F: FnOnce(&mut [E]) -> T> InplaceOp1 for Write<E, F, T> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some(values) = E::values_mut(storage) else { candle_core::bail!("expected {} on the CPU", E::NAME) };
        let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("expected a contiguous tensor") };
        if let Some(f) = self.f.borrow_mut().take() {
            *self.out.borrow_mut() = Some(f(&mut values[start..end]));
        }
        Ok(())
    }
}
