//! What is kept for each GPU: compiled kernels, the cuDNN handle with its choices, the precision, the profile.

use super::{compile, cudnn::Cudnn, pinned::Buffer, tensors::driver};
use crate::{
    error::bail,
    ops::precision::{Precision, Share},
    Result,
};
use candle_core::{
    backend::BackendDevice,
    cuda_backend::{
        cudarc::driver::{result, sys, CudaFunction, CudaModule},
        CudaDevice,
    },
    DType, Device, DeviceLocation, Tensor,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

/// The kernels' source, after what surrounds them.
const KERNELS: &str = concat!(
    include_str!("kernels/device.cuh"),
    include_str!("kernels/common.cuh"),
    include_str!("kernels/layout.cu"),
    include_str!("kernels/norm.cu"),
    include_str!("kernels/views.cu"),
    include_str!("kernels/pool.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/sgd.cu"),
    include_str!("kernels/select.cu"),
    include_str!("kernels/loss.cu"),
    include_str!("kernels/kmeans.cu"),
    include_str!("kernels/nearest.cu"),
);

/// What changes from step to step, each at its place on the GPU.
#[derive(Clone)]
pub(super) struct Inputs {
    /// `(B, H, W, 3)` in the type of activations.
    pub images: Tensor,
    /// `(views * B,)` u32.
    pub indices: Tensor,
    /// `(1,)` f32.
    pub rate: Tensor,
}

/// What one GPU holds.
#[derive(Default)]
pub(super) struct Context {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<(&'static str, &'static str), CudaFunction>,
    /// Buffers that are filled in turn, the longest unused first.
    pub staging: VecDeque<Buffer>,
    /// Where a step that is being recorded takes its indices and its learning rate from.
    pub recording: Option<Inputs>,
    /// What convolutions work in, one after the other.
    pub workspace: Option<Tensor>,
    pub cudnn: Option<Cudnn>,
    pub precision: Precision,
    profile: Option<Vec<Share>>,
}

static CONTEXTS: OnceLock<Mutex<HashMap<usize, Context>>> = OnceLock::new();

/// Every GPU's context; one thread works on them at a time.
fn contexts() -> MutexGuard<'static, HashMap<usize, Context>> {
    CONTEXTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` with the context of `device`.
pub(super) fn with<T>(device: &CudaDevice, f: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
    f(contexts().entry(ordinal(device)).or_default())
}

fn ordinal(device: &CudaDevice) -> usize {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => gpu_id,
        _ => 0,
    }
}

/// Lets freed memory stay with the process, so that each step finds the last one's.
pub(super) fn prepare(device: &CudaDevice) -> Result<()> {
    check_capability(device)?;
    // SAFETY: all work of a thread goes to its one stream in order, and no tensor changes threads while work on it is queued;
    // events would be made and thrown away with every tensor.
    unsafe { device.disable_event_tracking() };
    let mut keep = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's own, and the attribute a 64-bit number.
    unsafe {
        let pool = result::device::get_default_mem_pool(device.cuda_stream().context().cu_device()).map_err(driver)?;
        result::mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut keep).cast()).map_err(driver)
    }
}

/// candle's kernels are compiled for one generation, which this build names.
fn check_capability(device: &CudaDevice) -> Result<()> {
    let (major, minor) = device.cuda_stream().context().compute_capability().map_err(driver)?;
    let built = option_env!("CUDA_COMPUTE_CAP").and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    if major * 10 + minor < built {
        bail!("the GPU has compute capability {major}.{minor}, this program was built for {}.{} and later", built / 10, built % 10);
    }
    Ok(())
}

/// The kernel of this name for activations of `dtype`.
pub(super) fn function(device: &CudaDevice, dtype: DType, name: &'static str) -> Result<CudaFunction> {
    let value = if dtype == DType::BF16 { "bf16" } else { "float" };
    if let Some(function) = with(device, |context| Ok(context.functions.get(&(value, name)).cloned()))? {
        return Ok(function);
    }
    let function = module(device, value)?.load_function(name).map_err(driver)?;
    with(device, |context| Ok(context.functions.entry((value, name)).or_insert(function).clone()))
}

/// The module of the kernels for activations of type `value`, loaded at first use.
fn module(device: &CudaDevice, value: &'static str) -> Result<Arc<CudaModule>> {
    if let Some(module) = with(device, |context| Ok(context.modules.get(value).cloned()))? {
        return Ok(module);
    }
    let module = compile::load(device, KERNELS, value)?;
    with(device, |context| Ok(context.modules.entry(value).or_insert(module).clone()))
}

/// What the convolutions and products of `device` compute in from here on.
pub(crate) fn set_precision(device: &CudaDevice, precision: Precision) -> Result<()> {
    with(device, |context| {
        context.precision = precision;
        Ok(())
    })
}

pub(super) fn precision(device: &CudaDevice) -> Precision {
    with(device, |context| Ok(context.precision)).unwrap_or_default()
}

/// Starts the profile anew, or ends it and gives it.
pub(crate) fn profile(device: &CudaDevice, is_on: bool) -> Result<Vec<Share>> {
    device.synchronize()?;
    with(device, |context| Ok(std::mem::replace(&mut context.profile, is_on.then(Vec::new)).unwrap_or_default()))
}

/// Runs `f`, and adds what it takes to the profile of `part` where there is one.
pub(super) fn timed<T>(device: &CudaDevice, part: &'static str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    if !with(device, |context| Ok(context.profile.is_some()))? {
        return f();
    }
    device.synchronize()?;
    let started = Instant::now();
    let out = f()?;
    device.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    with(device, |context| {
        let shares = context.profile.get_or_insert_default();
        match shares.iter_mut().find(|share| share.part == part) {
            Some(share) => share.seconds += seconds,
            None => shares.push(Share { part, seconds }),
        }
        Ok(out)
    })
}

/// Bytes that are free on a GPU.
pub(crate) fn free_memory(device: &Device) -> Result<usize> {
    device.as_cuda_device()?.cuda_stream().context().bind_to_thread().map_err(driver)?;
    Ok(result::mem_get_info().map_err(driver)?.0)
}

/// Counts the high-water mark of memory anew from what is held now.
pub(super) fn forget_peak(device: &CudaDevice) -> Result<()> {
    device.synchronize()?;
    let mut zero = 0u64;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the pool is the device's own, and the attribute a 64-bit number that may be set to 0.
    unsafe {
        let pool = result::device::get_default_mem_pool(device.cuda_stream().context().cu_device()).map_err(driver)?;
        result::mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut zero).cast()).map_err(driver)
    }
}

/// The high-water mark of the memory pool in MiB, and the GPU's name.
pub(crate) fn memory(device: &CudaDevice) -> Result<(f64, String)> {
    let stream = device.cuda_stream();
    let card = stream.context().cu_device();
    let pool_holds = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: the pool is the device's own, and the attribute a 64-bit number.
        let code = unsafe {
            let pool = result::device::get_default_mem_pool(card).map_err(driver)?;
            sys::cuMemPoolGetAttribute(pool, attribute, std::ptr::from_mut(&mut bytes).cast())
        };
        code.result().map(|()| bytes).map_err(driver)
    };
    let mut recorded = 0u64;
    let attribute = sys::CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH;
    // SAFETY: the attribute is a 64-bit number.
    unsafe { sys::cuDeviceGetGraphMemAttribute(card, attribute, std::ptr::from_mut(&mut recorded).cast()) }.result().map_err(driver)?;
    // What recorded steps take comes on top of what lies in the pool while they run.
    let most = pool_holds(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?;
    let with_recorded = pool_holds(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)? + recorded;
    Ok((most.max(with_recorded) as f64 / f64::from(1 << 20), stream.context().name().map_err(driver)?))
}
