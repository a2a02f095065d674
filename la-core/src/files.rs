//! Files that are never half written: a reader sees the former content or the new one, whenever the process dies.

use crate::{error::bail, ops::host, Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::{
    tensor::{Dtype, Metadata, TensorInfo},
    SafeTensors,
};
use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The longest header that the format allows.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// Replaces the file at `path` in one step: a temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// Others may write the same file meanwhile: the last one stays. Fails with the path and the system's words, for example on a full
/// disk; the former file is then unchanged.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let failed = |source: io::Error, note: &str| {
        let source = io::Error::new(source.kind(), format!("cannot be written: {source}{note}"));
        Error::Io { path: path.to_path_buf(), source }
    };
    let kept = if path.exists() { "; the former file is unchanged" } else { "" };
    remove_abandoned(path, &|left| fs::remove_file(left));
    let (temporary, file) =
        create_temporary(path, &|path| OpenOptions::new().write(true).create_new(true).open(path)).map_err(|error| failed(error, kept))?;
    fill(file, write).and_then(|_file| fs::rename(&temporary, path)).map_err(|source| {
        // What is left of the attempt is useless; that it cannot be removed adds nothing to the error.
        let _ = fs::remove_file(&temporary);
        failed(source, kept)
    })?;
    sync_folder(path).map_err(|source| failed(source, "; it is there, but may be lost if the machine stops now"))
}

/// A name beside that of `path` that nothing has yet; a file or a folder is written under it before it takes its own.
pub fn temporary_path(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Whether a file called `name` is one that [`temporary_path`] of `path` may have given, here or in an earlier version.
pub fn is_temporary(name: &OsStr, path: &Path) -> bool {
    let (name, own) = (name.to_string_lossy(), path.file_name().unwrap_or_default().to_string_lossy());
    let between = name.strip_prefix(&format!(".{own}.")).and_then(|rest| rest.strip_suffix("tmp"));
    between.is_some_and(|between| between.chars().all(|c| c.is_ascii_digit() || "-.".contains(c)))
}

/// Makes what `create` makes under a temporary name of `path`, and holds it: [`remove_abandoned`] leaves it alone while the file lives.
pub fn create_temporary(path: &Path, create: &dyn Fn(&Path) -> io::Result<File>) -> io::Result<(PathBuf, File)> {
    loop {
        let temporary = temporary_path(path);
        match create(&temporary) {
            Ok(file) => {
                // Where there are no locks, nobody removes anything.
                let _ = file.try_lock();
                // Another process may have taken it for abandoned before it was held.
                if temporary.symlink_metadata().is_ok() {
                    return Ok((temporary, file));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
        }
    }
}

/// Removes what was left under temporary names of `path` by processes that were killed.
pub fn remove_abandoned(path: &Path, remove: &dyn Fn(&Path) -> io::Result<()>) {
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return };
    let left =
        entries.flatten().filter(|entry| is_temporary(&entry.file_name(), path) && entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    for entry in left {
        let is_free = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        // What cannot be removed is in nobody's way.
        let _ = if is_free { remove(&entry.path()) } else { Ok(()) };
    }
}

/// The program's folder among the user's caches: `$LA_CACHE`, or where the system has such folders; none where there is no home.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = || match () {
        _ if cfg!(windows) => set("LOCALAPPDATA"),
        _ if cfg!(target_os = "macos") => Some(set("HOME")?.join("Library/Caches")),
        _ => set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))),
    };
    set("LA_CACHE").or_else(|| Some(caches()?.join("la-cli")))
}

fn fill(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    write(&mut file)?;
    let file = file.into_inner()?;
    file.sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix opens folders; elsewhere the rename alone has to do.
    if cfg!(unix) {
        File::open(folder_of(path))?.sync_all()?;
    }
    Ok(())
}

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
