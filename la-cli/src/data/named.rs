//! Sources known by name: Fashion-MNIST, CIFAR.

use super::{file_splits::Wanted, hub, idx, open_dir, OpenConfig};
use crate::error::{bail, Result};
use la_core::data::{array::Array, garments, Splits};
use std::path::PathBuf;
use std::sync::Arc;

/// Where Debian's package `dataset-fashion-mnist` puts its files.
const DEBIAN_DIR: &str = "/usr/share/datasets/fashion-mnist";

/// Fashion-MNIST from Debian's package, `$LA_DATA/fashion-mnist`, or the Hub.
pub fn fashion_mnist() -> Result<Splits> {
    let dirs: Vec<PathBuf> = [Some(PathBuf::from(DEBIAN_DIR)), data_dir("fashion-mnist")].into_iter().flatten().collect();
    let (train, test) = match dirs.iter().find_map(|dir| idx::find(dir).transpose()) {
        Some(set) => set?.read()?,
        None => downloaded_fashion_mnist(&dirs)?,
    };
    let named = |array: Array| Arc::new(Array { class_names: garments(), ..array });
    Ok(Splits {
        name: "fashion-mnist".into(),
        train: named(train),
        test: test.map(|test| named(test) as Arc<_>),
        unreadable: vec![],
        notes: vec![],
    })
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
        Some(dir) => open_dir(dir, Wanted::default(), config)?,
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
