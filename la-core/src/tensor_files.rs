//! Files of tensors: safetensors, whose bytes depend on the tensors alone.

use crate::{error::bail, files::write_atomically, ops::host, Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::{
    tensor::{Dtype, Metadata, TensorInfo},
    SafeTensors,
};
use std::{
    collections::HashMap,
    fs,
    io::{self, BufReader, Read, Write},
    path::Path,
};

/// The longest header that the format allows.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// Writes tensors (f32, f16, u32 or i64) as safetensors, atomically, in the order given: equal tensors give equal bytes.
///
/// `metadata` is at most one pair, because the format's map of more would be written in random order.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], metadata: Option<(&str, String)>) -> Result<()> {
    let tensors =
        tensors.iter().map(|(name, tensor)| Ok((name, tensor.contiguous()?.to_device(&Device::Cpu)?))).collect::<Result<Vec<_>>>()?;
    let mut offset = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for (name, tensor) in &tensors {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::U32 => Dtype::U32,
            DType::I64 => Dtype::I64,
            other => bail!("{}: tensor {name} must be f32, f16, u32 or i64, got {other:?}", path.display()),
        };
        let end = offset + tensor.dtype().size_in_bytes() * tensor.elem_count();
        infos.push(((*name).clone(), TensorInfo { dtype, shape: tensor.dims().to_vec(), data_offsets: (offset, end) }));
        offset = end;
    }
    let header = header(metadata, infos).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| write_values(file, tensor))
    })
}

fn header(metadata: Option<(&str, String)>, infos: Vec<(String, TensorInfo)>) -> std::result::Result<Vec<u8>, String> {
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_string(), value)]));
    let metadata = Metadata::new(metadata, infos).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' '); // the format aligns the values
    Ok(header)
}

fn write_values(file: &mut dyn Write, tensor: &Tensor) -> io::Result<()> {
    if tensor.dtype() == DType::F16 {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<half::f16>()).map_err(io::Error::other)?;
        return values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()));
    }
    if tensor.dtype() == DType::U32 {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<u32>()).map_err(io::Error::other)?;
        return values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()));
    }
    if tensor.dtype() == DType::I64 {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<i64>()).map_err(io::Error::other)?;
        return values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()));
    }
    host::read(&host::local(tensor).map_err(io::Error::other)?, |values| {
        let mut bytes = Vec::with_capacity(4 << 12);
        values.chunks(1 << 12).try_for_each(|chunk| {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
            file.write_all(&bytes)
        })
    })
    .map_err(io::Error::other)?
}

/// The name of the first f32 tensor that holds a value that is NaN or infinite, wherever it lives.
pub fn not_finite<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Option<&'a str>> {
    for (name, tensor) in tensors {
        if !host::read(&host::local(tensor)?, |values| values.iter().all(|value| value.is_finite()))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Reads a safetensors file: its tensors by name, and its metadata.
///
/// Fails with the path and what is wrong: a folder, a missing, truncated or foreign file.
pub fn read_tensors(path: &Path, device: &Device) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    parse_tensors(path, &read_bytes(path)?, device)
}

/// The metadata of a safetensors file, whose tensors are not read.
pub fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    let foreign = |error: &dyn std::fmt::Display| Error::invalid(format!("{}: expected a safetensors file: {error}", path.display()));
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| foreign(&error))?;
    let header = BufReader::new(file.take(u64::from_le_bytes(length).min(MOST_HEADER_BYTES)));
    let metadata: Metadata = serde_json::from_reader(header).map_err(|error| foreign(&error))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

/// The bytes of a file of tensors.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        bail!("{}: expected a safetensors file, got a folder", path.display());
    }
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        bail!("{}: expected a safetensors file, got a pipe, a socket or a device", path.display());
    }
    fs::read(path).map_err(Error::io(path))
}

/// What [`read_tensors`] gives, from the `bytes` of the file at `path`.
pub fn parse_tensors(path: &Path, bytes: &[u8], device: &Device) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let foreign = |error| {
        Error::invalid(format!(
            "{}: expected a safetensors file, got {} bytes that are cut off or of another format ({error})",
            path.display(),
            bytes.len()
        ))
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
    let tensors = candle_core::safetensors::load_buffer(bytes, device)?;
    Ok((tensors, metadata.metadata().clone().unwrap_or_default()))
}
