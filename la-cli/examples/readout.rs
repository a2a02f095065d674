//! Learns the whitened read-out of a folder of weights from pictures, and writes it into that folder.
//!
//! cargo run --release -p la-cli --example readout -- weights/imagenette imagenette-160/train 192

use candle_core::Device;
use la_cli::data::{self, OpenConfig};
use la_cli::digests::sha256;
use la_core::data::BatchConfig;
use la_core::preprocess::Preprocessing;
use la_core::resnet::{decode, ResNet};
use la_core::tensor_files::write_tensors;
use la_core::{eval::readout, Error, Result};
use std::path::Path;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, pictures, size] = &arguments[..] else { return Err(Error::invalid("expected WEIGHTS_FOLDER PICTURES SIZE")) };
    let size = size.parse().map_err(|error| Error::invalid(format!("SIZE {size}: {error}")))?;
    let model = Path::new(folder).join("model.safetensors");
    let net = ResNet::from_tensors(&decode(&std::fs::read(&model).map_err(Error::io(&model))?, &Device::Cpu)?, &Device::Cpu)?;
    let images = data::open(pictures, &OpenConfig { size, ..OpenConfig::default() })?.train;
    let defaults = BatchConfig::default();
    let config = BatchConfig { input: Preprocessing { size, ..defaults.input }, ..defaults };
    let Some(map) = readout::learn((&net, None), &images, &config, &mut |_| ())? else { return Err(Error::invalid("too few pictures")) };
    let path = Path::new(folder).join("readout.safetensors");
    write_tensors(&path, &map.tensors(), Some(("weights_sha256", sha256(&model)?)))?;
    println!("{}: {} dimensions, learned from {} images", path.display(), map.dim(), readout::num_images(images.as_ref()));
    Ok(())
}
