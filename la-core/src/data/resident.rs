//! A training set that lives on a GPU whole: its views are drawn here and made there.

use super::{
    batches::{epoch_parts, readable},
    Batch, BatchConfig, Picture, Source, Unreadable,
};
use crate::{
    augment::draw,
    ops::{
        cuda::{
            free_memory,
            views::{Drawn, Pictures},
        },
        parallel,
    },
    rng::{Rng, Stream},
    Result,
};
use candle_core::Device;
use std::{borrow::Cow, sync::Arc, time::Instant};

/// Pictures that are looked at to tell how large all are.
const SAMPLE: usize = 64;
/// The most bytes of pictures that are kept on a GPU; they pass through this process's memory once.
const MAX_BYTES: usize = 8 << 30;

/// The pictures of a source on a GPU.
pub struct ResidentViews {
    pictures: Pictures,
    config: BatchConfig,
    failed: Vec<Unreadable>,
}

impl ResidentViews {
    /// The pictures of `source` on `device`; none where they would take more than half of the memory that is free there, or
    /// where none of those looked at can be read.
    ///
    /// Fails where `config` is out of range, or more pictures in a row than can be stood in for cannot be read.
    pub fn new(source: &dyn Source, config: &BatchConfig, device: &Device) -> Result<Option<Arc<Self>>> {
        config.check(source)?;
        let n = source.len();
        let sample = (0..SAMPLE.min(n)).map(|i| i * n / SAMPLE.min(n));
        let bytes: Vec<usize> = sample.filter_map(|i| Some(source.picture(i).ok()?.pixels.len())).collect();
        if bytes.is_empty() || bytes.iter().sum::<usize>() / bytes.len() * n > MAX_BYTES.min(free_memory(device)? / 2) {
            return Ok(None);
        }
        let read = parallel::map(n, |index| readable(source, index));
        let (mut pictures, mut failed): (Vec<Cow<Picture>>, _) = (Vec::with_capacity(n), Vec::new());
        for result in read {
            let (picture, unreadable) = result?;
            pictures.push(picture);
            failed.extend(unreadable);
        }
        let pictures = Pictures::new(&pictures, config.input.size, device)?;
        Ok(Some(Arc::new(Self { pictures, config: config.clone(), failed })))
    }

    /// The batches that [`super::epoch_batches`] would give, in the type of the device's activations.
    pub fn epoch(self: Arc<Self>, epoch: usize, first_batch: usize) -> impl Iterator<Item = Result<Batch>> {
        let parts = epoch_parts(self.pictures.len(), &self.config, epoch, first_batch);
        parts.into_iter().map(move |indices| self.batch(indices, epoch as u64))
    }

    fn batch(&self, indices: Vec<u32>, epoch: u64) -> Result<Batch> {
        let (started, n) = (Instant::now(), indices.len());
        let drawn = parallel::map(self.config.views * n, |at| {
            let (index, view) = (indices[at % n], (at / n) as u64);
            let mut rng = Rng::new(Stream::Augment, &[self.config.seed, epoch, u64::from(index), view]);
            let (crop, plan) = draw(self.pictures.size_of(index as usize), &self.config.augment, &mut rng);
            Drawn { index: index as usize, crop, plan }
        });
        let images = self.pictures.views(&drawn, &self.config.input.normalization)?.permute((0, 3, 1, 2))?;
        Ok(Batch { images, indices, waited: started.elapsed(), failed: self.failed.clone(), missing: vec![] })
    }
}
