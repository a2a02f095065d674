//! The tensor operations that candle lacks or does slowly: each file one operation, every device behind one call.

pub mod color;
pub(crate) mod host;
pub mod parallel;
pub mod simd;
