//! Random views made on the GPU against those of the data threads.

use super::{gpu, here, precisions};
use crate::support::close;
use la_core::{
    data::{epoch_batches, resident::ResidentViews, Batch, BatchConfig, Picture, Source},
    preprocess::{Normalization, Preprocessing},
    rng::{Rng, Stream},
    Result,
};
use std::{borrow::Cow, sync::Arc};

/// Pictures of many sizes: some gray, some that are enlarged, some that are reduced; two cannot be read.
struct Album(Vec<Picture>);

const UNREADABLE: [usize; 2] = [3, 4];

impl Album {
    fn new() -> Self {
        let sizes = [(32, 32), (7, 9), (50, 31), (4, 4), (4, 4), (90, 20), (16, 16), (33, 70), (20, 11)];
        let mut rng = Rng::new(Stream::Bench, &[1]);
        let picture = |(i, &(width, height)): (usize, &(usize, usize))| {
            let pixels = (0..width * height).flat_map(|_| {
                let rgb = [0; 3].map(|_: u8| rng.below(256) as u8);
                if i % 4 == 2 {
                    [rgb[0]; 3]
                } else {
                    rgb
                }
            });
            Picture::new(width, height, pixels.collect()).unwrap()
        };
        Self(sizes.iter().enumerate().map(picture).collect())
    }
}

impl Source for Album {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn picture(&self, index: usize) -> Result<Cow<'_, Picture>> {
        match UNREADABLE.contains(&index) {
            true => Err(la_core::Error::invalid("broken")),
            false => Ok(Cow::Borrowed(&self.0[index])),
        }
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn class_names(&self) -> &[String] {
        &[]
    }
}

#[test]
fn views_equal_the_cpu() {
    for (precision, dtype, tolerance) in precisions() {
        let (device, _guard) = gpu(precision);
        for (size, views) in [(16, 1), (9, 2)] {
            let normalization = Normalization { mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] };
            let config = BatchConfig {
                input: Preprocessing { normalization, ..Preprocessing::plain(size) },
                views,
                batch_size: 4,
                seed: 5,
                ..BatchConfig::default()
            };
            let album = Arc::new(Album::new());
            let there = ResidentViews::new(&*album, &config, &device).unwrap().expect("a few pictures fit");
            for (epoch, first_batch) in [(0, 0), (7, 1)] {
                let here_batches: Vec<Batch> = epoch_batches(album.clone(), &config, epoch, first_batch).map(Result::unwrap).collect();
                let batches: Vec<Batch> = there.clone().epoch(epoch, first_batch).map(Result::unwrap).collect();
                assert_eq!(batches.len(), 2 - first_batch);
                for (batch, expected) in batches.iter().zip(&here_batches) {
                    assert_eq!(batch.indices, expected.indices);
                    assert_eq!(batch.images.dtype(), dtype);
                    close(&here(&batch.images), &expected.images, tolerance, "views");
                }
            }
            let names: Vec<String> = there.epoch(0, 0).next().unwrap().unwrap().failed.into_iter().map(|failed| failed.name).collect();
            assert_eq!(names, ["3", "4"]);
        }
    }
}

#[test]
fn a_source_that_cannot_be_read_is_refused() {
    let (device, _guard) = gpu(la_core::ops::device::Precision::F32);
    let config = BatchConfig { input: Preprocessing::plain(8), ..BatchConfig::default() };
    let broken = Album(Album::new().0[3..5].iter().cycle().take(1).cloned().collect());
    assert!(ResidentViews::new(&broken, &config, &device).is_err_and(|error| error.to_string().contains("at least 2 images")));
}
