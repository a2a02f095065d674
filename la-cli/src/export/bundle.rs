//! The bundle of a page: the files that `manifest.json` names, as `la_core::search` documents them.

use super::rows::Rows;
use super::thumbnails::{jpeg, sheets};
use crate::map::{map, MapConfig};
use anyhow::Context;
use la_core::pca::Whitening;
use la_core::resnet::encode;
use la_core::search::{
    BankEntry, FileEntry, LabelsEntry, Manifest, MapEntry, ModelEntry, Precision, SearchBank, ThumbnailsEntry, FORMAT, VERSION,
};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// Side of a full sheet of thumbnails, which is decoded as a whole: few requests, and none of many megabytes.
const SHEET: usize = 1280;
/// Most thumbnails next to each other in a sheet.
const MOST_COLUMNS: usize = 32;
/// The label of an image without a class.
const NO_LABEL: u32 = u32::MAX;
/// Every file but the sheets of thumbnails.
const FILES: [&str; 6] = ["manifest.json", "model.safetensors", "bank.bin", "labels.bin", "names.txt", "map.bin"];

/// Writes the bundle into `folder`; gives the bytes of each part.
pub fn write(rows: &Rows, (weights, bank): (Precision, Precision), folder: &Path) -> anyhow::Result<Vec<(&'static str, usize)>> {
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    let files = Files { folder };
    let net = rows.encoder.net();
    let readout = rows.encoder.readout();
    let mut tensors = net.tensors()?;
    tensors.extend(readout.into_iter().flat_map(Whitening::tensors));
    let model = ModelEntry {
        config: net.config().clone(),
        precision: weights,
        readout_dim: readout.map(Whitening::dim),
        file: files.add("model.safetensors", &encode(&tensors, weights)?)?,
    };
    let stored = SearchBank::from_rows(&rows.embeddings, rows.dim, bank)?;
    let file = files.add("bank.bin", &stored.to_bytes())?;
    let points = map(&stored, &MapConfig::default())?.into_iter().flatten().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let manifest = Manifest {
        format: FORMAT.into(),
        version: VERSION,
        created_by: format!("la-cli {}", env!("CARGO_PKG_VERSION")),
        title: rows.title.clone(),
        model,
        preprocessing: rows.encoder.preprocessing(),
        bank: BankEntry { rows: rows.len(), dim: rows.dim, precision: bank, made: rows.made(), file },
        labels: labels(rows, &files)?,
        names: files.add("names.txt", Rows::names_file(&rows.images).as_bytes())?,
        thumbnails: Some(thumbnails(rows, &files)?),
        map: Some(MapEntry { method: "umap".into(), file: files.add("map.bin", &points)? }),
    };
    manifest.check()?;
    files.add("manifest.json", &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(sizes(&manifest))
}

/// Whether one of its files may have this name.
pub fn writes(name: &str) -> bool {
    let sheet = name.strip_prefix("thumbs-").and_then(|rest| rest.strip_suffix(".jpg"));
    FILES.contains(&name) || sheet.is_some_and(|number| number.parse::<usize>().is_ok())
}

fn sizes(manifest: &Manifest) -> Vec<(&'static str, usize)> {
    let thumbnails = manifest.thumbnails.iter().flat_map(|thumbnails| &thumbnails.sheets).map(|sheet| sheet.bytes).sum::<usize>();
    let all: usize = manifest.files().iter().map(|file| file.bytes).sum();
    let (weights, bank) = (manifest.model.file.bytes, manifest.bank.file.bytes);
    vec![("weights", weights), ("bank", bank), ("thumbnails", thumbnails), ("the rest", all - weights - bank - thumbnails)]
}

fn labels(rows: &Rows, files: &Files) -> anyhow::Result<Option<LabelsEntry>> {
    let Some(labels) = rows.labels() else { return Ok(None) };
    let bytes: Vec<u8> = labels.iter().flat_map(|label| label.unwrap_or(NO_LABEL).to_le_bytes()).collect();
    Ok(Some(LabelsEntry { classes: rows.images.class_names().to_vec(), file: files.add("labels.bin", &bytes)? }))
}

fn thumbnails(rows: &Rows, files: &Files) -> anyhow::Result<ThumbnailsEntry> {
    let columns = (SHEET / rows.thumb).clamp(1, MOST_COLUMNS);
    let per_sheet = columns * columns;
    let sheets = sheets(rows, columns, per_sheet)?;
    let file = |(i, sheet)| files.add(&format!("thumbs-{i}.jpg"), &jpeg(sheet)?);
    let sheets = sheets.iter().enumerate().map(file).collect::<anyhow::Result<_>>()?;
    Ok(ThumbnailsEntry { size: rows.thumb, columns, per_sheet, sheets })
}

/// The folder that the bundle's files go to.
struct Files<'a> {
    folder: &'a Path,
}

impl Files<'_> {
    fn add(&self, name: &str, bytes: &[u8]) -> anyhow::Result<FileEntry> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(FileEntry { path: name.into(), bytes: bytes.len(), sha256 })
    }
}
