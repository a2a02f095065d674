//! Arguments of kernels.

use super::tensors::pointer;
use crate::Result;
use candle_core::{cuda_backend::cudarc::driver::DeviceRepr, Tensor};

/// Tensors of one launch: their addresses fit a kernel's parameters.
pub(super) const MAX_TENSORS: usize = 64;

/// An argument of a kernel.
pub(super) enum Arg {
    Pointer(u64),
    Int(i32),
    Long(i64),
    F32(f32),
    F64(f64),
    Window(Window),
    Tensors(Box<Tensors>),
    Normal(Normal),
}

impl Arg {
    /// A pointer that the kernel checks before use.
    pub const NULL: Self = Self::Pointer(0);

    /// A count that the kernel takes as an int.
    pub fn int(n: usize) -> Self {
        Self::Int(n as i32)
    }

    /// A count that the kernel takes as 64 bits.
    pub fn long(n: usize) -> Self {
        Self::Long(n as i64)
    }

    pub fn flag(is_set: bool) -> Self {
        Self::Int(i32::from(is_set))
    }

    /// The values of a tensor, or null.
    pub fn maybe(x: Option<&Tensor>) -> Result<Self> {
        x.map_or(Ok(Self::NULL), arg)
    }
}

/// A contiguous tensor's values as an argument.
pub(super) fn arg(x: &Tensor) -> Result<Arg> {
    Ok(Arg::Pointer(pointer(x)?))
}

/// The geometry of a max-pool, as the kernels declare it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub height: i32,
    pub width: i32,
    pub out_height: i32,
    pub out_width: i32,
    pub channels: i32,
    pub kernel_height: i32,
    pub kernel_width: i32,
    pub stride: i32,
    pub padding: i32,
}

/// The tensors of a launch, as the kernel declares them.
#[repr(C)]
pub(super) struct Tensors {
    pub weight: [u64; MAX_TENSORS],
    pub velocity: [u64; MAX_TENSORS],
    pub grad: [u64; MAX_TENSORS],
    pub len: [i64; MAX_TENSORS],
    pub decay: [f32; MAX_TENSORS],
    pub first: [u32; MAX_TENSORS],
}

/// `scale x + shift` for each channel, as the kernel declares it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Normal {
    pub scale: [f32; 3],
    pub shift: [f32; 3],
}

// SAFETY: plain numbers in the layout that the kernels declare.
unsafe impl DeviceRepr for Window {}
// SAFETY: as above.
unsafe impl DeviceRepr for Tensors {}
// SAFETY: as above.
unsafe impl DeviceRepr for Normal {}
