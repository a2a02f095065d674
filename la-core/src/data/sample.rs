//! Real images inside the crate: Fashion-MNIST's test set, under the MIT licence beside the files.

use super::{array::Array, Splits};
use crate::{error::bail, Error, Result};
use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::Arc;

const IMAGES: &[u8] = include_bytes!("sample/t10k-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("sample/t10k-labels-idx1-ubyte.gz");
/// Bytes before the pixels, and before the labels, of these idx files.
const HEADERS: [usize; 2] = [16, 8];
const SIDE: usize = 28;

const GARMENTS: [&str; 10] = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"];

/// The names of Fashion-MNIST's classes.
pub fn garments() -> Vec<String> {
    GARMENTS.map(String::from).to_vec()
}

/// 10,000 gray images of 28 x 28 pixels: of each class, nine in ten to learn from and the tenth to test.
pub fn sample() -> Result<Splits> {
    let (pixels, labels) = (unpacked(IMAGES, HEADERS[0])?, unpacked(LABELS, HEADERS[1])?);
    let labels = labels.into_iter().map(u32::from).collect();
    let all = Array { width: SIDE, height: SIDE, channels: 1, pixels, labels, class_names: garments() }.checked("embedded sample")?;
    let mut seen = vec![0; all.class_names.len()];
    let (test, train): (Vec<usize>, Vec<usize>) = (0..all.labels.len()).partition(|&i| {
        let count = &mut seen[all.labels[i] as usize];
        *count += 1;
        *count % 10 == 0
    });
    Ok(Splits {
        name: "sample".into(),
        train: Arc::new(all.take(&train)),
        test: Some(Arc::new(all.take(&test))),
        unreadable: vec![],
        notes: vec![],
    })
}

fn unpacked(file: &[u8], header: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).map_err(Error::io("embedded sample"))?;
    if bytes.len() < header {
        bail!("embedded sample: expected at least {header} bytes, got {}", bytes.len());
    }
    Ok(bytes.split_off(header))
}
