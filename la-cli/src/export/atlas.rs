//! One Parquet file for Embedding Atlas: id, name, label, place on the map, thumbnail and embedding of each image.

use super::rows::Rows;
use super::thumbnails::{jpeg, tile};
use crate::map::{map, MapConfig};
use crate::progress::Progress;
use anyhow::Context;
use image::RgbImage;
use la_core::files::write_atomically;
use la_core::search::{Precision, SearchBank};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

const SCHEMA: &str = "message schema {
    required int64 id;
    required binary name (STRING);
    optional binary label (STRING);
    required float x;
    required float y;
    required group image { required binary bytes; }
    required group embedding (LIST) { repeated group list { required float element; } }
}";

/// Writes the file at `path`.
pub fn write(rows: &Rows, path: &Path) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    encode(rows, &mut bytes).with_context(|| path.display().to_string())?;
    Ok(write_atomically(path, |file| file.write_all(&bytes))?)
}

fn encode(rows: &Rows, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut file = SerializedFileWriter::new(bytes, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let points = map(&SearchBank::from_rows(&rows.embeddings, rows.dim, Precision::F32)?, &MapConfig::default())?;
    let axis = |axis: usize| points.iter().map(|point| point[axis]).collect::<Vec<_>>();
    column::<Int64Type>(&mut group, &(0..rows.len() as i64).collect::<Vec<_>>(), None, None)?;
    column::<ByteArrayType>(&mut group, &text(rows.names()), None, None)?;
    let classes: Vec<Option<String>> =
        (0..rows.len()).map(|i| crate::source::class_name(rows.images.as_ref(), i).map(str::to_string)).collect();
    let known: Vec<i16> = classes.iter().map(|class| i16::from(class.is_some())).collect();
    column::<ByteArrayType>(&mut group, &text(classes.into_iter().flatten().collect()), Some(&known), None)?;
    column::<FloatType>(&mut group, &axis(0), None, None)?;
    column::<FloatType>(&mut group, &axis(1), None, None)?;
    column::<ByteArrayType>(&mut group, &pictures(rows)?, None, None)?;
    let repeated: Vec<i16> = (0..rows.embeddings.len()).map(|i| i16::from(i % rows.dim > 0)).collect();
    column::<FloatType>(&mut group, &rows.embeddings, Some(&vec![1; rows.embeddings.len()]), Some(&repeated))?;
    group.close()?;
    file.close()?;
    Ok(())
}

/// The next column, with the levels that say what is there and what begins a list.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<&mut Vec<u8>>,
    values: &[T::T],
    defined: Option<&[i16]>,
    repeated: Option<&[i16]>,
) -> anyhow::Result<()> {
    let mut column = group.next_column()?.context("the schema has a column for each call")?;
    column.typed::<T>().write_batch(values, defined, repeated)?;
    Ok(column.close()?)
}

fn text(lines: Vec<String>) -> Vec<ByteArray> {
    lines.into_iter().map(|line| ByteArray::from(line.into_bytes())).collect()
}

fn pictures(rows: &Rows) -> anyhow::Result<Vec<ByteArray>> {
    let mut progress = Progress::new("thumbnails", rows.len(), "images");
    let side = rows.thumb as u32;
    let mut pictures = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let picture = RgbImage::from_raw(side, side, tile(rows, row)).context("a thumbnail has side x side pixels")?;
        pictures.push(ByteArray::from(jpeg(&picture)?));
        progress.set(row + 1);
    }
    Ok(pictures)
}
