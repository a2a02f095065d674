//! Packs a folder of weights and its read-out as the network inside la-cli: one file, 8-bit codes and a read-out of 16 bits.
//!
//! cargo run --release -p la-cli --example photos -- weights/imagenette weights/photos/model.safetensors

use candle_core::Device;
use la_core::files::write_atomically;
use la_core::resnet::{decode, encode, ResNet};
use la_core::search::Precision;
use la_core::tensor_files::read_tensors;
use la_core::{Error, Result};
use std::path::Path;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out] = &arguments[..] else { return Err(Error::invalid("expected WEIGHTS_FOLDER OUT")) };
    let model = Path::new(folder).join("model.safetensors");
    let net = ResNet::from_tensors(&decode(&std::fs::read(&model).map_err(Error::io(&model))?, &Device::Cpu)?, &Device::Cpu)?;
    let mut tensors = net.tensors()?;
    tensors.extend(read_tensors(&Path::new(folder).join("readout.safetensors"), &Device::Cpu)?.0);
    let bytes = encode(&tensors, Precision::I8)?;
    write_atomically(Path::new(out), |file| file.write_all(&bytes))?;
    println!("{out}: {} bytes", bytes.len());
    Ok(())
}
