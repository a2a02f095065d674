//! The tensor operations that candle lacks or does slowly: each file one operation, every device behind one call.

pub mod batch_norm;
pub mod color;
pub mod conv2d;
pub(crate) mod host;
pub mod normalize;
pub mod parallel;
pub mod pool;
pub mod simd;
