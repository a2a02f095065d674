//! The part of cuDNN that convolutions need, found at run time.

use super::library;
use crate::{error::bail, Error, Result};
use libloading::os::unix::Library;
use std::{
    collections::HashMap,
    ffi::{c_char, c_void, CStr},
    time::{Duration, Instant},
};

/// What cuDNN calls a handle or a descriptor.
type Opaque = *mut c_void;

/// What a search for algorithms found of one.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub algorithm: i32,
    pub status: i32,
    pub time: f32,
    pub memory: usize,
    pub determinism: i32,
    pub math: i32,
    reserved: [i32; 3],
}

impl Found {
    const NONE: Self = Self { algorithm: 0, status: -1, time: 0.0, memory: 0, determinism: 0, math: 0, reserved: [0; 3] };
}

/// Declares the functions that are looked up.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*);)*) => {
        #[allow(non_snake_case)]
        struct Functions { $($name: unsafe extern "C" fn($($argument),*) -> i32,)* }

        impl Functions {
            /// Looks every function up; fails with the first that is missing.
            #[allow(non_snake_case)]
            fn load(library: &Library) -> Result<Self> {
                $(
                    // SAFETY: cuDNN 9 declares the function with this signature.
                    let found = unsafe { library.get::<unsafe extern "C" fn($($argument),*) -> i32>(concat!(stringify!($name), "\0").as_bytes()) };
                    let $name = *found.map_err(|error| Error::invalid(format!("libcudnn.so.9 is not cuDNN 9: {error}")))?;
                )*
                Ok(Self { $($name,)* })
            }
        }
    };
}

type Search = unsafe extern "C" fn(
    Opaque,
    Opaque,
    *const c_void,
    Opaque,
    *const c_void,
    Opaque,
    Opaque,
    *mut c_void,
    i32,
    *mut i32,
    *mut Found,
    *mut c_void,
    usize,
) -> i32;
type Run = unsafe extern "C" fn(
    Opaque,
    *const c_void,
    Opaque,
    *const c_void,
    Opaque,
    *const c_void,
    Opaque,
    i32,
    *mut c_void,
    usize,
    *const c_void,
    Opaque,
    *mut c_void,
) -> i32;

functions! {
    cudnnCreate: fn(*mut Opaque);
    cudnnSetStream: fn(Opaque, *mut c_void);
    cudnnCreateTensorDescriptor: fn(*mut Opaque);
    cudnnSetTensor4dDescriptor: fn(Opaque, i32, i32, i32, i32, i32, i32);
    cudnnCreateFilterDescriptor: fn(*mut Opaque);
    cudnnSetFilter4dDescriptor: fn(Opaque, i32, i32, i32, i32, i32, i32);
    cudnnCreateConvolutionDescriptor: fn(*mut Opaque);
    cudnnSetConvolution2dDescriptor: fn(Opaque, i32, i32, i32, i32, i32, i32, i32, i32);
    cudnnSetConvolutionMathType: fn(Opaque, i32);
    cudnnFindConvolutionForwardAlgorithmEx: fn(Opaque, Opaque, *const c_void, Opaque, *const c_void, Opaque, Opaque, *mut c_void, i32, *mut i32, *mut Found, *mut c_void, usize);
    cudnnFindConvolutionBackwardDataAlgorithmEx: fn(Opaque, Opaque, *const c_void, Opaque, *const c_void, Opaque, Opaque, *mut c_void, i32, *mut i32, *mut Found, *mut c_void, usize);
    cudnnFindConvolutionBackwardFilterAlgorithmEx: fn(Opaque, Opaque, *const c_void, Opaque, *const c_void, Opaque, Opaque, *mut c_void, i32, *mut i32, *mut Found, *mut c_void, usize);
    cudnnConvolutionForward: fn(Opaque, *const c_void, Opaque, *const c_void, Opaque, *const c_void, Opaque, i32, *mut c_void, usize, *const c_void, Opaque, *mut c_void);
    cudnnConvolutionBackwardData: fn(Opaque, *const c_void, Opaque, *const c_void, Opaque, *const c_void, Opaque, i32, *mut c_void, usize, *const c_void, Opaque, *mut c_void);
    cudnnConvolutionBackwardFilter: fn(Opaque, *const c_void, Opaque, *const c_void, Opaque, *const c_void, Opaque, i32, *mut c_void, usize, *const c_void, Opaque, *mut c_void);
}

/// The three products of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Forward,
    BackwardInput,
    BackwardWeight,
}

/// What an algorithm is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    pub way: Way,
    /// (B, C, H, W) and (B, O, H', W').
    pub input: [usize; 4],
    pub output: [usize; 4],
    pub kernel: (usize, usize),
    pub stride: usize,
    pub padding: usize,
    /// Activations and weights in bf16, not f32.
    pub is_bf16: bool,
    /// Products may go to tensor cores.
    pub is_tensor: bool,
}

/// Descriptors of a problem, and the algorithm that was fastest.
#[derive(Clone, Copy)]
struct Plan {
    input: Opaque,
    weight: Opaque,
    output: Opaque,
    convolution: Opaque,
    algorithm: i32,
    workspace: usize,
}

/// Where the operands lie: the two that are read, in the order of cuDNN's call, and the one that is written.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub first: u64,
    pub second: u64,
    pub out: u64,
}

/// A handle with the plans made so far.
pub(super) struct Cudnn {
    functions: Functions,
    handle: Opaque,
    plans: HashMap<Problem, Plan>,
    _library: Library,
}

// SAFETY: one thread at a time reaches the handle, through the lock on the contexts; cuDNN's handles may change threads.
unsafe impl Send for Cudnn {}

const NHWC: i32 = 1;
const CROSS_CORRELATION: i32 = 1;
const FLOAT: i32 = 0;
const BFLOAT16: i32 = 9;
const TENSOR_MATH: i32 = 1;
const PLAIN_MATH: i32 = 3;
/// Algorithms that a search times.
const MOST: usize = 10;
/// Searches of one problem: what else the GPU works on can slow any algorithm while it is timed, but hardly the same one each time.
const SEARCHES: usize = 3;
/// Where they take longer than this, no more follow.
const LONG_SEARCH: Duration = Duration::from_millis(500);

/// Adds what a search found of an algorithm, or its time where that is less than an earlier search's.
fn keep_fastest(known: &mut Vec<Found>, found: &Found) {
    match known.iter_mut().find(|known| (known.algorithm, known.math) == (found.algorithm, found.math)) {
        Some(known) => known.time = known.time.min(found.time),
        None => known.push(*found),
    }
}

impl Cudnn {
    /// A handle whose work goes to `stream`.
    pub fn new(stream: *mut c_void) -> Result<Self> {
        let library = library::load("libcudnn.so.9").map_err(|error| Error::invalid(format!("libcudnn.so.9 cannot be loaded: {error}")))?;
        let mut cudnn =
            Self { functions: Functions::load(&library)?, handle: std::ptr::null_mut(), plans: HashMap::new(), _library: library };
        let functions = &cudnn.functions;
        // SAFETY: the handle is written before it is used.
        let codes = unsafe { [(functions.cudnnCreate)(&mut cudnn.handle), (functions.cudnnSetStream)(cudnn.handle, stream)] };
        codes.into_iter().try_for_each(|code| cudnn.check(code, "the handle"))?;
        Ok(cudnn)
    }

    /// The workspace that `problem` needs, where its algorithm is chosen.
    pub fn workspace(&self, problem: &Problem) -> Option<usize> {
        self.plans.get(problem).map(|plan| plan.workspace)
    }

    /// Times the algorithms for `problem` and keeps the fastest; `out` of the operands is overwritten.
    pub fn choose(&mut self, problem: &Problem, operands: Operands, (workspace, size): (u64, usize)) -> Result<()> {
        let mut plan = self.describe(problem)?;
        let usable = |found: &&Found| {
            found.status == 0 && found.memory <= size && (problem.is_tensor || found.math == PLAIN_MATH || found.math == 0)
        };
        let (started, mut known) = (Instant::now(), Vec::new());
        for _ in 0..SEARCHES {
            let found = self.search(problem, &plan, operands, (workspace, size))?;
            found.iter().filter(usable).for_each(|found| keep_fastest(&mut known, found));
            if started.elapsed() > LONG_SEARCH {
                break;
            }
        }
        let Some(best) = known.into_iter().min_by(|a, b| a.time.total_cmp(&b.time)) else {
            bail!("cuDNN has no algorithm for {problem:?}");
        };
        let math = if problem.is_tensor { best.math } else { PLAIN_MATH };
        // SAFETY: the descriptor is a convolution's.
        let code = unsafe { (self.functions.cudnnSetConvolutionMathType)(plan.convolution, math) };
        self.check(code, "the math type")?;
        (plan.algorithm, plan.workspace) = (best.algorithm, best.memory);
        self.plans.insert(*problem, plan);
        Ok(())
    }

    /// Times each algorithm once.
    fn search(&self, problem: &Problem, plan: &Plan, operands: Operands, (workspace, size): (u64, usize)) -> Result<Vec<Found>> {
        let (mut count, mut found) = (0, [Found::NONE; MOST]);
        let (first, second, third) = plan.descriptors(problem.way);
        let search: Search = match problem.way {
            Way::Forward => self.functions.cudnnFindConvolutionForwardAlgorithmEx,
            Way::BackwardInput => self.functions.cudnnFindConvolutionBackwardDataAlgorithmEx,
            Way::BackwardWeight => self.functions.cudnnFindConvolutionBackwardFilterAlgorithmEx,
        };
        // SAFETY: the descriptors are those of the operands, which hold as many values; `found` has room for `MOST`.
        let code = unsafe {
            search(
                self.handle,
                first,
                operands.first as _,
                second,
                operands.second as _,
                plan.convolution,
                third,
                operands.out as _,
                MOST as i32,
                &mut count,
                found.as_mut_ptr(),
                workspace as _,
                size,
            )
        };
        self.check(code, "the search for an algorithm")?;
        Ok(found[..count.clamp(0, MOST as i32) as usize].to_vec())
    }

    /// `out = product + keep · out`, by the algorithm that was chosen.
    pub fn run(&self, problem: &Problem, operands: Operands, workspace: (u64, usize), keep: f32) -> Result<()> {
        let Some(plan) = self.plans.get(problem) else { bail!("cuDNN: no algorithm was chosen for {problem:?}") };
        let (one, (first, second, third)) = (1f32, plan.descriptors(problem.way));
        let run: Run = match problem.way {
            Way::Forward => self.functions.cudnnConvolutionForward,
            Way::BackwardInput => self.functions.cudnnConvolutionBackwardData,
            Way::BackwardWeight => self.functions.cudnnConvolutionBackwardFilter,
        };
        // SAFETY: as in `choose`; the factors are read before the call returns.
        let code = unsafe {
            run(
                self.handle,
                std::ptr::from_ref(&one).cast(),
                first,
                operands.first as _,
                second,
                operands.second as _,
                plan.convolution,
                plan.algorithm,
                workspace.0 as _,
                workspace.1,
                std::ptr::from_ref(&keep).cast(),
                third,
                operands.out as _,
            )
        };
        self.check(code, &format!("{problem:?}"))
    }

    fn describe(&self, problem: &Problem) -> Result<Plan> {
        let functions = &self.functions;
        let make = |create: unsafe extern "C" fn(*mut Opaque) -> i32| {
            let mut descriptor = std::ptr::null_mut();
            // SAFETY: the function writes one pointer.
            let code = unsafe { create(&mut descriptor) };
            self.check(code, "a descriptor").map(|()| descriptor)
        };
        let plan = Plan {
            input: make(functions.cudnnCreateTensorDescriptor)?,
            weight: make(functions.cudnnCreateFilterDescriptor)?,
            output: make(functions.cudnnCreateTensorDescriptor)?,
            convolution: make(functions.cudnnCreateConvolutionDescriptor)?,
            algorithm: 0,
            workspace: 0,
        };
        let dtype = if problem.is_bf16 { BFLOAT16 } else { FLOAT };
        let [b, c, h, w] = problem.input.map(|n| n as i32);
        let [_, o, oh, ow] = problem.output.map(|n| n as i32);
        let (kh, kw, s, p) = (problem.kernel.0 as i32, problem.kernel.1 as i32, problem.stride as i32, problem.padding as i32);
        let math = if problem.is_tensor { TENSOR_MATH } else { PLAIN_MATH };
        // SAFETY: each descriptor is of the kind that its function sets.
        let codes = unsafe {
            [
                (functions.cudnnSetTensor4dDescriptor)(plan.input, NHWC, dtype, b, c, h, w),
                (functions.cudnnSetFilter4dDescriptor)(plan.weight, dtype, NHWC, o, c, kh, kw),
                (functions.cudnnSetTensor4dDescriptor)(plan.output, NHWC, dtype, b, o, oh, ow),
                (functions.cudnnSetConvolution2dDescriptor)(plan.convolution, p, p, s, s, 1, 1, CROSS_CORRELATION, FLOAT),
                (functions.cudnnSetConvolutionMathType)(plan.convolution, math),
            ]
        };
        codes.into_iter().try_for_each(|code| self.check(code, &format!("{problem:?}")))?;
        Ok(plan)
    }

    fn check(&self, code: i32, what: &str) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: cuDNN gives a constant text for every code.
        let text = unsafe {
            let describe = self._library.get::<unsafe extern "C" fn(i32) -> *const c_char>(b"cudnnGetErrorString\0");
            describe.map_or(String::new(), |describe| CStr::from_ptr(describe(code)).to_string_lossy().into_owned())
        };
        bail!("cuDNN fails at {what}: {text} ({code})")
    }
}

impl Plan {
    /// The descriptors of the operands in the order of cuDNN's call.
    fn descriptors(&self, way: Way) -> (Opaque, Opaque, Opaque) {
        match way {
            Way::Forward => (self.input, self.weight, self.output),
            Way::BackwardInput => (self.weight, self.output, self.input),
            Way::BackwardWeight => (self.input, self.output, self.weight),
        }
    }
}
