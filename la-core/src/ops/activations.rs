//! Images in the type that a network computes in.

use super::device::on_gpu;
use crate::Result;
use candle_core::{Device, Tensor};

/// Images on `device`, in the type that its precision gives activations.
pub(crate) fn activations(x: Tensor, device: &Device) -> Result<Tensor> {
    on_gpu!(x, super::cuda::activations(x));
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::cuda::send(&x, device);
    }
    let x = x.to_device(device)?;
    #[cfg(target_arch = "x86_64")]
    if super::device::is_bf16_on_cpu() && x.dtype() == candle_core::DType::F32 {
        let values = super::host::read(&x, super::bf16::cast::rounded)?;
        return Ok(super::host::tensor(values, x.shape()));
    }
    Ok(x)
}
