//! The tensor operations that candle lacks or does slowly: each file one operation, every device behind one call.

pub(crate) mod assign;
pub mod batch_norm;
pub(crate) mod bias;
pub mod color;
pub mod conv2d;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod device;
pub(crate) mod host;
pub(crate) mod mean;
#[cfg(feature = "train")]
pub mod memory;
pub(crate) mod nearest;
pub mod normalize;
pub mod parallel;
pub mod pool;
pub(crate) mod products;
pub(crate) mod quantize;
pub(crate) mod resident;
pub(crate) mod row_sums;
pub(crate) mod scan;
pub(crate) mod scores;
pub(crate) mod sgd;
pub mod simd;
pub(crate) mod softmax;
pub mod top_k;
