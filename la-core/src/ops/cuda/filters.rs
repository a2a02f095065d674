//! The antialiased bilinear filters of every crop side, as `resize` uses them, ready for a kernel.
//!
//! Weights as Pillow's: a triangle as wide as the output's pixels, cut at the borders, normalised, then rounded to as many bits
//! as fit 16; what `fast_image_resize` computes for each picture is computed here once for each side.

use super::tensors::upload;
use crate::{ops::parallel, Result};
use candle_core::{cuda_backend::CudaDevice, Tensor};

/// Bits that weights are rounded to at most, and values that must stay below 2 to this.
const MAX_PRECISION: u32 = 21;
const WEIGHT_BITS: u32 = 15;

/// On the GPU.
pub(super) struct Filters {
    /// For each side from 0 on: where its words begin, how many an output pixel takes, and the weights' precision.
    pub sides: Tensor,
    /// For each output pixel: its first input pixel, how many count, and their weights.
    pub words: Tensor,
}

impl Filters {
    /// The filters from every side up to `longest` to `size` pixels.
    pub fn new(longest: usize, size: usize, device: &CudaDevice) -> Result<Self> {
        let filters = parallel::map(longest, |i| filter(i + 1, size));
        let (mut sides, mut words) = (vec![0; 3], Vec::new());
        for filter in filters {
            sides.extend([words.len() as u32, (filter.words.len() / size) as u32, filter.precision]);
            words.extend(filter.words);
        }
        Ok(Self { sides: upload(device, &sides)?, words: upload(device, &words)? })
    }
}

struct Filter {
    words: Vec<u32>,
    precision: u32,
}

/// The weights of one output pixel, from the input pixel `first` on; they sum to 1.
struct Weights {
    first: usize,
    values: Vec<f64>,
}

fn filter(side: usize, size: usize) -> Filter {
    let all: Vec<Weights> = (0..size).map(|x| weights(x, side, size)).collect();
    let largest = all.iter().flat_map(|weights| &weights.values).fold(0.0f64, |a, &b| a.max(b));
    let fits = |bits: u32| (largest * f64::from(1u32 << bits)).round() < f64::from(1u32 << WEIGHT_BITS);
    let precision = (0..MAX_PRECISION).take_while(|&bits| fits(bits)).last().unwrap_or(0);
    let longest = all.iter().map(|weights| weights.values.len()).max().unwrap_or(0);
    let mut words = Vec::with_capacity(size * (2 + longest));
    for Weights { first, values } in all {
        words.extend([first as u32, values.len() as u32]);
        words.extend(values.iter().map(|value| (value * f64::from(1u32 << precision)).round() as u32));
        words.resize(words.len() + longest - values.len(), 0);
    }
    Filter { words, precision }
}

fn weights(x: usize, side: usize, size: usize) -> Weights {
    let scale = side as f64 / size as f64;
    let radius = scale.max(1.0);
    let center = (x as f64 + 0.5) * scale;
    let start = (center - radius).floor().max(0.0) as usize;
    let end = (center + radius).ceil().min(side as f64) as usize;
    let inverse = 1.0 / radius;
    let values: Vec<f64> = (start..end).map(|i| (1.0 - ((i as f64 - (center - 0.5)) * inverse).abs()).max(0.0)).collect();
    let sum: f64 = values.iter().sum();
    let zeros = values.iter().take_while(|&&value| value == 0.0).count();
    let kept = values.iter().rposition(|&value| value != 0.0).map_or(0, |last| last + 1);
    Weights { first: start + zeros, values: values[zeros.min(kept)..kept].iter().map(|value| value / sum).collect() }
}
