//! Sources known by name: the embedded sample, Fashion-MNIST, CIFAR.

use super::{array::Array, hub, idx, open_dir, OpenConfig, Splits};
use crate::{error::bail, Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

// Fashion-MNIST's test set, MIT licence: the text is beside the files.
const SAMPLE_IMAGES: &[u8] = include_bytes!("sample/t10k-images-idx3-ubyte.gz");
const SAMPLE_LABELS: &[u8] = include_bytes!("sample/t10k-labels-idx1-ubyte.gz");

const GARMENTS: [&str; 10] = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"];

/// Where Debian's package `dataset-fashion-mnist` puts its files.
const DEBIAN_DIR: &str = "/usr/share/datasets/fashion-mnist";

/// The embedded sample: of each class, nine images in ten to learn from and the tenth to test.
pub fn sample() -> Result<Splits> {
    let unpack = |bytes: &[u8]| idx::gunzip(bytes.to_vec()).map_err(Error::io("embedded sample"));
    let labels = idx::parse_labels(&unpack(SAMPLE_LABELS)?, "embedded sample")?;
    let mut all = idx::parse(&unpack(SAMPLE_IMAGES)?, labels, "embedded sample")?;
    all.class_names = garments();
    let mut seen = vec![0; all.class_names.len()];
    let (test, train): (Vec<usize>, Vec<usize>) = (0..all.labels.len()).partition(|&i| {
        let count = &mut seen[all.labels[i] as usize];
        *count += 1;
        *count % 10 == 0
    });
    Ok(Splits { name: "sample".into(), train: Arc::new(all.take(&train)), test: Some(Arc::new(all.take(&test))), unreadable: vec![] })
}

fn garments() -> Vec<String> {
    GARMENTS.map(String::from).to_vec()
}

/// Fashion-MNIST from Debian's package, `$LA_DATA/fashion-mnist`, or the Hub.
pub fn fashion_mnist() -> Result<Splits> {
    let dirs: Vec<PathBuf> = [Some(PathBuf::from(DEBIAN_DIR)), data_dir("fashion-mnist")].into_iter().flatten().collect();
    let (train, test) = match dirs.iter().find(|dir| idx::is_idx_dir(dir)) {
        Some(dir) => idx::read_dir(dir)?,
        None => downloaded_fashion_mnist(&dirs)?,
    };
    let named = |array: Array| Arc::new(Array { class_names: garments(), ..array });
    Ok(Splits { name: "fashion-mnist".into(), train: named(train), test: test.map(|test| named(test) as Arc<_>), unreadable: vec![] })
}

fn downloaded_fashion_mnist(dirs: &[PathBuf]) -> Result<(Array, Option<Array>)> {
    let dataset = match candle_datasets::vision::fashion_mnist::load() {
        Ok(dataset) => dataset,
        Err(err) => bail!("fashion-mnist: not in {dirs:?} and not downloaded ({err}); `apt install dataset-fashion-mnist` provides it"),
    };
    let train = from_tensors(&dataset.train_images, &dataset.train_labels)?;
    Ok((train, Some(from_tensors(&dataset.test_images, &dataset.test_labels)?)))
}

/// candle-datasets' images, (N, 784) in 0 to 1, back to the bytes that they were.
fn from_tensors(images: &candle_core::Tensor, labels: &candle_core::Tensor) -> Result<Array> {
    let pixels = images.flatten_all()?.to_vec1::<f32>()?.iter().map(|x| (x * 255.0).round() as u8).collect();
    let labels = labels.to_vec1::<u8>()?.into_iter().map(u32::from).collect();
    Array { width: 28, height: 28, channels: 1, pixels, labels, class_names: garments() }.checked("fashion-mnist")
}

/// CIFAR-10 or CIFAR-100 (`name`) from `$LA_DATA/name`, as image folders, binary or Parquet files, or from the Hub.
pub fn cifar(name: &str, config: &OpenConfig) -> Result<Splits> {
    let dir = data_dir(name);
    let splits = match dir.as_ref().filter(|dir| dir.is_dir()) {
        Some(dir) => open_dir(dir, config)?,
        None => match hub::open(&format!("uoft-cs/{name}"), config) {
            Ok(splits) => splits,
            Err(err) => bail!(
                "{name}: not downloaded ({err}); put its folders or binary files in a folder {name} and set LA_DATA to the folder above"
            ),
        },
    };
    Ok(Splits { name: name.into(), ..splits })
}

fn data_dir(name: &str) -> Option<PathBuf> {
    std::env::var_os("LA_DATA").map(|dir| PathBuf::from(dir).join(name))
}
