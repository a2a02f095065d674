//! Pictures that live on the GPU, and random views of them.

use super::{
    arg::{arg, Arg, Normal},
    filters::Filters,
    launch::Launch,
    staging::send_words,
    tensors::{empty, out_of_memory, wrap},
};
use crate::{
    data::Picture,
    ops::{
        color::{Adjust, ColorPlan},
        precision::Precision,
    },
    preprocess::Normalization,
    resize::CropBox,
    Result,
};
use candle_core::{cuda_backend::CudaDevice, cuda_backend::CudaStorageSlice, DType, Device, Tensor};

/// The words of a view, as the kernel reads them.
const WORDS: usize = 17;

/// 8-bit pictures, one after the other, on the GPU.
pub(crate) struct Pictures {
    device: CudaDevice,
    pixels: Tensor,
    /// For each picture its first byte, width and height.
    places: Vec<(u64, usize, usize)>,
    filters: Filters,
    size: usize,
}

/// What is drawn for a view.
pub(crate) struct Drawn {
    /// Which picture.
    pub index: usize,
    /// What of it.
    pub crop: CropBox,
    /// How its colours change; the normalisation in it is not looked at.
    pub plan: ColorPlan,
}

impl Pictures {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Sends pictures to the GPU; their views will have `size` pixels a side.
    pub fn new(pictures: &[impl std::borrow::Borrow<Picture>], size: usize, device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for picture in pictures.iter().map(std::borrow::Borrow::borrow) {
            places.push((bytes.len() as u64, picture.width, picture.height));
            bytes.extend_from_slice(&picture.pixels);
        }
        let sent = device.clone_htod(&bytes).map_err(|error| out_of_memory(error, bytes.len()))?;
        let pixels = wrap(&device, CudaStorageSlice::U8(sent), bytes.len().into());
        let longest = places.iter().map(|&(_, width, height)| longest_crop(width, height)).max().unwrap_or(1);
        Ok(Self { filters: Filters::new(longest, size, &device)?, device, pixels, places, size })
    }

    /// Width and height of a picture.
    pub fn size_of(&self, index: usize) -> (usize, usize) {
        (self.places[index].1, self.places[index].2)
    }

    /// The views that were drawn, `(n, size, size, 3)` in the type of activations.
    pub fn views(&self, drawn: &[Drawn], normalization: &Normalization) -> Result<Tensor> {
        let words: Vec<u32> = drawn.iter().flat_map(|drawn| self.words(drawn)).collect();
        let views = send_words(&words, &self.device)?;
        let dtype = if super::context::precision(&self.device) == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        let out = empty(&self.device, (drawn.len(), self.size, self.size, 3), dtype)?;
        let scale = normalization.std.map(|deviation| 1.0 / deviation);
        let normal = Normal { scale, shift: std::array::from_fn(|c| -normalization.mean[c] * scale[c]) };
        let operands = [arg(&self.pixels)?, arg(&views)?, arg(&self.filters.sides)?, arg(&self.filters.words)?, arg(&out)?];
        let args: Vec<Arg> = operands.into_iter().chain([Arg::int(self.size), Arg::Normal(normal)]).collect();
        Launch::blocks("augment_views", drawn.len(), 256).of(dtype).run(&self.device, &args)?;
        Ok(out)
    }

    fn words(&self, drawn: &Drawn) -> [u32; WORDS] {
        let (first, width, _) = self.places[drawn.index];
        let CropBox { left, top, width: crop_width, height: crop_height } = drawn.crop;
        let mut words = [0; WORDS];
        words[..2].copy_from_slice(&[first as u32, (first >> 32) as u32]);
        let sides = [width, left, top, crop_width, crop_height].map(|side| side as u32);
        words[2..7].copy_from_slice(&sides);
        words[7] = u32::from(drawn.plan.gray) | u32::from(drawn.plan.flip) << 1;
        words[8] = drawn.plan.adjust.len() as u32;
        for (words, change) in words[9..].chunks_exact_mut(2).zip(&drawn.plan.adjust) {
            let (kind, factor) = match *change {
                Adjust::Brightness(factor) => (0, factor),
                Adjust::Contrast(factor) => (1, factor),
                Adjust::Saturation(factor) => (2, factor),
                Adjust::Hue(turn) => (3, turn),
            };
            words.copy_from_slice(&[kind, factor.to_bits()]);
        }
        words
    }
}

/// The longest side of a crop of such a picture: crops are at most 4/3 as long one way as the other.
fn longest_crop(width: usize, height: usize) -> usize {
    width.max(height).min(width.min(height) * 4 / 3 + 2)
}
