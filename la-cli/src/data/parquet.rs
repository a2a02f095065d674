//! Parquet files with a column of encoded images, as the Hugging Face Hub keeps its image datasets.

use super::{
    classes::Classes,
    file_splits::{divide, Wanted},
    files::{open_regular, Files, Item, Origin, Store},
    walk::slashed,
    OpenConfig,
};
use crate::error::{bail, Error, Result};
use la_core::data::{none_readable, Source, Splits, Unreadable};
use parquet::basic::{ConvertedType, Type as PhysicalType};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Sets with more bytes of images than this are unpacked into a temporary file, smaller ones into memory.
const MEMORY_BYTES: u64 = 1 << 30;
/// Images are compressed already: a file that unpacks to more than this, and to more than `MOST_TIMES` its own size, holds no
/// pictures.
const LEAST_MOST_BYTES: u64 = 64 << 20;
const MOST_TIMES: u64 = 64;
const IMAGE_COLUMNS: [&str; 2] = ["image", "img"];
const LABEL_COLUMNS: [&str; 6] = ["label", "labels", "fine_label", "target", "class", "category"];

/// Whether the file's name says that it is a Parquet file.
pub fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Why not one of the files below `dir` has images: what is wrong with the first; none where one has.
pub fn lack_of_images(dir: &Path, files: &[PathBuf]) -> Option<Error> {
    let mut first = None;
    for path in files {
        match Table::open(&dir.join(path)) {
            Ok(_) => return None,
            Err(error) => first = first.or(Some(error)),
        }
    }
    first
}

/// The Parquet files `paths` of the folder `dir`, called `name`, whose names tell the splits (`train-00000-of-00001.parquet`, `test/0000.parquet`).
pub fn open(name: &str, (dir, paths): (&Path, &[PathBuf]), wanted: Wanted, config: &OpenConfig) -> Result<Splits> {
    // A link to a file that is here too adds nothing.
    let mut seen = HashSet::new();
    let is_new = |path: &&PathBuf| dir.join(path).canonicalize().is_ok_and(|real| seen.insert(real));
    let paths: BTreeMap<String, &PathBuf> = paths.iter().filter(is_new).map(|path| (slashed(path), path)).collect();
    let divided = divide(name, &paths.keys().cloned().collect::<Vec<_>>(), wanted)?;
    let full = |names: &[String]| names.iter().map(|name| dir.join(paths[name])).collect::<Vec<_>>();
    let mut splits = open_files(name, &full(&divided.train), &full(&divided.test), config)?;
    splits.notes.extend(divided.note.map(|note| format!("{name}: {note}")));
    Ok(splits)
}

/// Parquet files of a training and, where given, a test split.
pub fn open_files(name: &str, train: &[PathBuf], test: &[PathBuf], config: &OpenConfig) -> Result<Splits> {
    let has_test = !test.is_empty();
    let tables = [read(train)?, read(test)?];
    let named = tables.iter().find_map(|table| table.names.clone());
    let mut notes: Vec<String> = tables.iter().find_map(|table| table.note.clone()).into_iter().collect();
    let labels = tables.iter().flat_map(|table| &table.entries).filter_map(|entry| entry.label.as_ref());
    let classes = Classes::of(labels.clone(), named);
    if classes.names.is_empty() && labels.clone().any(|label| *label != Field::Null) {
        notes.push("the column of labels holds neither words nor whole numbers, so there are no labels".into());
    }
    let [train, test] = tables.map(|table| table.into_items(&classes));
    let mut unreadable = vec![];
    let mut open = |(items, left_out): (Vec<Item>, Vec<Unreadable>), limit| {
        let opened = match items.is_empty() {
            true => Err(none_readable(left_out.len(), &left_out)),
            false => Files::open(items, classes.names.clone(), config, limit),
        };
        let opened = opened.map_err(|err| Error::invalid(format!("{name}: {err}")))?;
        unreadable.extend(left_out);
        unreadable.extend(opened.1);
        Ok::<_, Error>(Arc::new(opened.0) as Arc<dyn Source>)
    };
    let train = open(train, config.limit)?;
    let test = if has_test { Some(open(test, None)?) } else { None };
    let notes = notes.into_iter().map(|note| format!("{name}: {note}")).collect();
    Ok(Splits { name: name.into(), train, test, unreadable, notes })
}

/// The images and labels of some files.
fn read(paths: &[PathBuf]) -> Result<Unpacked> {
    let tables = paths.iter().map(|path| Table::open(path)).collect::<Result<Vec<_>>>()?;
    let mut out = Unpacked::new(tables.iter().map(|table| table.num_bytes).sum::<u64>() > MEMORY_BYTES)?;
    for table in tables {
        let shown = table.path.display().to_string();
        out.names = out.names.take().or(table.names.clone());
        out.note = out.note.take().or(table.note.clone());
        out.add(table).map_err(|err| Error::invalid(format!("{shown}: {err}")))?;
    }
    Ok(out)
}

/// A file with a column of images.
struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    columns: Columns,
    /// Of the images, as the file says.
    num_bytes: u64,
    /// The most that they may take.
    most_bytes: u64,
    /// The classes in their order, where the file tells them.
    names: Option<Vec<String>>,
    note: Option<String>,
}

impl Table {
    /// Reads what the file says of itself; fails, with its path, where it has no images, or more than it can have.
    fn open(path: &Path) -> Result<Self> {
        Self::of(path).map_err(|err| Error::invalid(format!("{}: {err}", path.display())))
    }

    fn of(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let len = file.metadata().map_err(|err| Error::invalid(err.to_string()))?.len();
        let reader = SerializedFileReader::new(file).map_err(unreadable)?;
        let meta = reader.metadata().file_metadata();
        let features = features(meta.key_value_metadata());
        let columns = Columns::of(meta.schema(), &features)?;
        let names = columns.label.as_ref().and_then(|label| class_names(&features, label.name()));
        let others = columns.others.join(", ");
        let note = (!others.is_empty()).then(|| format!("the images are those of column {}; left aside: {others}", columns.image.name()));
        let chunks = reader.metadata().row_groups().iter().flat_map(|group| group.columns());
        let of_image = chunks.filter(|chunk| chunk.column_path().parts().first().is_some_and(|part| part == columns.image.name()));
        let size = |chunk: &ColumnChunkMetaData| chunk.uncompressed_size().max(chunk.unencoded_byte_array_data_bytes().unwrap_or(0));
        let num_bytes = of_image.map(|chunk| u64::try_from(size(chunk)).unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
        let most_bytes = len.saturating_mul(MOST_TIMES).saturating_add(LEAST_MOST_BYTES);
        check_bytes(num_bytes, most_bytes, len)?;
        Ok(Self { path: path.to_path_buf(), columns, num_bytes, most_bytes, names, note, reader })
    }
}

fn check_bytes(num_bytes: u64, most_bytes: u64, len: u64) -> Result<()> {
    match num_bytes <= most_bytes {
        true => Ok(()),
        false => {
            bail!("{len} bytes that unpack to images of {num_bytes} or more: no file of pictures does; write it again without repetitions")
        }
    }
}

fn unreadable(err: parquet::errors::ParquetError) -> Error {
    Error::invalid(format!("not readable as Parquet: {err}"))
}

/// One row: where its image lies in the store, and its label as written.
struct Entry {
    name: String,
    start: u64,
    len: usize,
    label: Option<Field>,
}

/// Images on their way from Parquet pages to a store.
struct Unpacked {
    memory: Vec<u8>,
    file: Option<File>,
    end: u64,
    entries: Vec<Entry>,
    /// The classes in their order, where a file tells them.
    names: Option<Vec<String>>,
    note: Option<String>,
    unreadable: Vec<Unreadable>,
}

impl Unpacked {
    fn new(to_file: bool) -> Result<Self> {
        let file = if to_file { Some(tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?) } else { None };
        Ok(Self { memory: vec![], file, end: 0, entries: vec![], names: None, note: None, unreadable: vec![] })
    }

    /// Adds every row.
    fn add(&mut self, table: Table) -> Result<()> {
        let Table { path, reader, columns: Columns { image, label, .. }, most_bytes, .. } = table;
        let image_name = image.name().to_string();
        let schema = reader.metadata().file_metadata().schema().name().to_string();
        let fields = [Some(image), label].into_iter().flatten().collect();
        let projection = Type::group_type_builder(&schema).with_fields(fields).build().map_err(unreadable)?;
        let (file_name, start) = (path.file_name().unwrap_or_default().to_string_lossy(), self.end);
        for (i, row) in reader.get_row_iter(Some(projection)).map_err(unreadable)?.enumerate() {
            self.add_row(row.map_err(unreadable)?, &image_name, format!("{file_name}#{i}"))?;
            let len = || path.metadata().map_or(0, |meta| meta.len());
            if self.end - start > most_bytes {
                check_bytes(self.end - start, most_bytes, len())?;
            }
        }
        Ok(())
    }

    fn add_row(&mut self, row: Row, image: &str, mut name: String) -> Result<()> {
        let (mut bytes, mut label) = (None, None);
        for (column, field) in row.into_columns() {
            match field {
                field if column != image => label = Some(field),
                Field::Bytes(data) => bytes = Some(data),
                Field::Group(group) => {
                    for (child, field) in group.into_columns() {
                        match (child.as_str(), field) {
                            ("bytes", Field::Bytes(data)) => bytes = Some(data),
                            ("path", Field::Str(path)) => name = format!("{name} {path}"),
                            ("path", Field::Bytes(path)) => name = format!("{name} {}", String::from_utf8_lossy(path.data())),
                            _ => (),
                        }
                    }
                }
                _ => (),
            }
        }
        match bytes {
            Some(bytes) => self.push(Entry { name, start: self.end, len: bytes.len(), label }, bytes.data()),
            None => {
                self.unreadable.push(Unreadable { name, reason: format!("no bytes in column {image}") });
                Ok(())
            }
        }
    }

    fn push(&mut self, entry: Entry, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(Error::io(std::env::temp_dir()))?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.end += bytes.len() as u64;
        self.entries.push(entry);
        Ok(())
    }

    fn into_items(self, classes: &Classes) -> (Vec<Item>, Vec<Unreadable>) {
        let store = Arc::new(self.file.map_or(Store::Memory(self.memory), |file| Store::File(Mutex::new(file))));
        let item = |entry: Entry| Item {
            name: entry.name,
            origin: Origin::Slice { store: store.clone(), start: entry.start, len: entry.len },
            label: entry.label.and_then(|label| classes.index(&label)),
        };
        (self.entries.into_iter().map(item).collect(), self.unreadable)
    }
}

/// Which columns are read.
struct Columns {
    /// Binary, or a struct with `bytes`.
    image: TypePtr,
    label: Option<TypePtr>,
    /// Columns of images that are left aside.
    others: Vec<String>,
}

impl Columns {
    /// The images are in the column called so, in one that the Hugging Face features say to be of images, in the only struct with
    /// `bytes`, or in the only column of bytes.
    fn of(schema: &Type, features: &Value) -> Result<Self> {
        let fields = schema.get_fields();
        let is_feature = |field: &&TypePtr| features.get(field.name()).and_then(|feature| feature.get("_type")) == Some(&"Image".into());
        let is_named = |field: &&TypePtr| IMAGE_COLUMNS.contains(&field.name().to_lowercase().as_str());
        let (structs, binaries): (Vec<&TypePtr>, Vec<&TypePtr>) =
            fields.iter().filter(|field| holds_bytes(field)).partition(|field| field.is_group());
        let all = || structs.iter().chain(&binaries).copied();
        let pictures: Vec<&TypePtr> = all().filter(|field| field.is_group() || is_feature(field)).collect();
        let image = all().find(is_named).or_else(|| all().find(is_feature)).or(structs.first().copied());
        let image = match (image, &binaries[..]) {
            (Some(image), _) => image,
            (None, [only]) => only,
            (None, []) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
                bail!("expected a column of image bytes or of structs with bytes, got columns {names:?}");
            }
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|field| field.name()).collect();
                bail!("expected one column of image bytes, got {names:?}; call that of the images \"image\"");
            }
        };
        let others = pictures.into_iter().filter(|field| field.name() != image.name()).map(|field| field.name().to_string()).collect();
        let label = LABEL_COLUMNS.iter().find_map(|name| fields.iter().find(|field| field.name() == *name && field.is_primitive()));
        Ok(Self { image: image.clone(), label: label.cloned(), others })
    }
}

/// Whether a column is of bytes that are no text, or a struct with such as `bytes`.
fn holds_bytes(field: &Type) -> bool {
    if field.is_group() {
        return field.get_fields().iter().any(|child| child.name() == "bytes" && child.is_primitive());
    }
    let info = field.get_basic_info();
    let is_other = info.converted_type() != ConvertedType::NONE || info.logical_type_ref().is_some();
    field.get_physical_type() == PhysicalType::BYTE_ARRAY && !is_other
}

/// `info.features` of the JSON that the datasets library writes into its files.
fn features(metadata: Option<&Vec<parquet::file::metadata::KeyValue>>) -> Value {
    let text = metadata.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref());
    let json: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    json.pointer("/info/features").cloned().unwrap_or_default()
}

/// `<column>.names` of the features.
fn class_names(features: &Value, column: &str) -> Option<Vec<String>> {
    let names = features.get(column)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}
