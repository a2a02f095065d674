//! Parquet files with a column of encoded images, as the Hugging Face Hub keeps its image datasets.

use super::{
    classes::Classes,
    files::{Files, Item, Origin, Store},
    OpenConfig,
};
use crate::error::{bail, Error, Result};
use la_core::data::{Source, Splits, Unreadable};
use parquet::basic::Type as PhysicalType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Sets whose files are larger than this are unpacked into a temporary file, smaller ones into memory.
const MEMORY_BYTES: u64 = 1 << 30;
const LABEL_COLUMNS: [&str; 6] = ["label", "labels", "fine_label", "target", "class", "category"];
const TEST_NAMES: [&str; 5] = ["test", "validation", "val", "valid", "dev"];

/// Whether the folder, or one right below it, holds Parquet files.
pub fn holds_parquet(dir: &Path) -> bool {
    let has = |dir: &Path| entries(dir).iter().any(|path| is_parquet(path));
    has(dir) || entries(dir).iter().any(|path| path.is_dir() && has(path))
}

/// One Parquet file, or a folder of them whose names tell the splits (`train-00000-of-00001.parquet`, `test/0000.parquet`).
///
/// With `split`, that split alone, as training images.
pub fn open(path: &Path, split: Option<&str>, config: &OpenConfig) -> Result<Splits> {
    let name = path.display().to_string();
    if path.is_file() {
        return open_files(&name, &[path.to_path_buf()], &[], config);
    }
    let mut paths = vec![];
    let mut waiting = vec![path.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in entries(&dir) {
            match entry.is_dir() {
                true => waiting.push(entry),
                false => paths.extend(is_parquet(&entry).then_some(entry)),
            }
        }
    }
    let relative = |path: &PathBuf| path.strip_prefix(&name).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let paths: Vec<String> = paths.iter().map(relative).collect();
    let (train, test) = by_split(&paths, split);
    if train.is_empty() {
        bail!("{name}: expected Parquet files of split {:?}, got {paths:?}", split.unwrap_or("train"));
    }
    let full = |names: Vec<String>| names.into_iter().map(|below| path.join(below)).collect::<Vec<_>>();
    open_files(&name, &full(train), &full(test), config)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    entries.unwrap_or_default()
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// The files of the training and of the test split among `paths`, sorted.
///
/// A path belongs to a split where a folder in it, its stem, or its stem up to the first `-` is the split's name. With
/// `wanted`, only that split is taken, as training images. Of several configurations (first folders), `default` or the
/// first is taken.
pub fn by_split(paths: &[String], wanted: Option<&str>) -> (Vec<String>, Vec<String>) {
    let in_split = |path: &&String, name: &str| split_names(path).any(|n| n == name || n.strip_prefix("partial-") == Some(name));
    let pick = |name: &str| paths.iter().filter(|path| in_split(path, name)).cloned().collect::<Vec<_>>();
    let test = TEST_NAMES.iter().map(|name| pick(name)).find(|files| !files.is_empty()).unwrap_or_default();
    let (mut train, mut test) = match wanted {
        Some(name) => (pick(name), vec![]),
        None => (pick("train"), test),
    };
    if wanted.is_none() && train.is_empty() {
        train = paths.iter().filter(|path| !TEST_NAMES.iter().any(|name| in_split(path, name))).cloned().collect();
    }
    if wanted.is_none() && train.is_empty() {
        (train, test) = (test, vec![]);
    }
    let configs: BTreeSet<String> = train.iter().map(|path| config_of(path)).collect();
    let config = configs.get("default").or(configs.first()).cloned().unwrap_or_default();
    for files in [&mut train, &mut test] {
        files.retain(|path| config_of(path) == config);
        files.sort();
    }
    (train, test)
}

fn split_names(path: &str) -> impl Iterator<Item = &str> {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    folders.split('/').chain([stem, stem.split('-').next().unwrap_or(stem)])
}

/// The first folder, where it is neither `data` nor a split.
fn config_of(path: &str) -> String {
    match path.split_once('/') {
        Some((first, _)) if first != "data" && first != "train" && !TEST_NAMES.contains(&first) => first.into(),
        _ => String::new(),
    }
}

/// Parquet files of a training and, where given, a test split.
pub fn open_files(name: &str, train: &[PathBuf], test: &[PathBuf], config: &OpenConfig) -> Result<Splits> {
    let has_test = !test.is_empty();
    let tables = [read(train)?, read(test)?];
    let named = tables.iter().find_map(|table| table.names.clone());
    let classes = Classes::of(tables.iter().flat_map(|table| &table.entries).filter_map(|entry| entry.label.as_ref()), named);
    let [train, test] = tables.map(|table| table.into_items(&classes));
    let mut unreadable = vec![];
    let mut open = |(items, left_out): (Vec<Item>, Vec<Unreadable>), limit| {
        let opened = Files::open(items, classes.names.clone(), config, limit).map_err(|err| Error::invalid(format!("{name}: {err}")))?;
        unreadable.extend(left_out);
        unreadable.extend(opened.1);
        Ok::<_, Error>(Arc::new(opened.0) as Arc<dyn Source>)
    };
    let train = open(train, config.limit)?;
    let test = if has_test { Some(open(test, None)?) } else { None };
    Ok(Splits { name: name.into(), train, test, unreadable })
}

/// The images and labels of some files.
fn read(paths: &[PathBuf]) -> Result<Unpacked> {
    let bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum();
    let mut out = Unpacked::new(bytes > MEMORY_BYTES)?;
    for path in paths {
        let names = out.add_file(path).map_err(|err| Error::invalid(format!("{}: {err}", path.display())))?;
        out.names = out.names.take().or(names);
    }
    Ok(out)
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
    unreadable: Vec<Unreadable>,
}

impl Unpacked {
    fn new(to_file: bool) -> Result<Self> {
        let file = if to_file { Some(tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?) } else { None };
        Ok(Self { memory: vec![], file, end: 0, entries: vec![], names: None, unreadable: vec![] })
    }

    /// Adds every row; returns the class names, where the file tells them.
    fn add_file(&mut self, path: &Path) -> Result<Option<Vec<String>>> {
        let failed = |err: parquet::errors::ParquetError| Error::invalid(format!("not readable as Parquet: {err}"));
        let reader = SerializedFileReader::new(File::open(path).map_err(|err| Error::invalid(err.to_string()))?).map_err(failed)?;
        let meta = reader.metadata().file_metadata();
        let (image, label) = columns(meta.schema())?;
        let names = label.as_ref().and_then(|label| class_names(meta.key_value_metadata()?, label.name()));
        let fields = [Some(image.clone()), label].into_iter().flatten().collect();
        let projection = Type::group_type_builder(meta.schema().name()).with_fields(fields).build().map_err(failed)?;
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        for (i, row) in reader.get_row_iter(Some(projection)).map_err(failed)?.enumerate() {
            self.add_row(row.map_err(failed)?, image.name(), format!("{file_name}#{i}"))?;
        }
        Ok(names)
    }

    fn add_row(&mut self, row: Row, image: &str, mut name: String) -> Result<()> {
        let (mut bytes, mut label) = (None, None);
        for (column, field) in row.into_columns() {
            match field {
                field if column != image => label = Some(field),
                Field::Bytes(data) => bytes = Some(data),
                Field::Group(group) => {
                    for (child, field) in group.into_columns() {
                        match field {
                            Field::Bytes(data) => bytes = Some(data),
                            Field::Str(path) if child == "path" => name = format!("{name} {path}"),
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

/// The column of images, binary or a struct with `bytes`, and the one of labels, where there is one.
fn columns(schema: &Type) -> Result<(TypePtr, Option<TypePtr>)> {
    let fields = schema.get_fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    let Some(image) = fields.iter().find(|field| holds_bytes(field)) else {
        bail!("expected a column of image bytes or of structs with bytes, got columns {names:?}");
    };
    let label = LABEL_COLUMNS.iter().find_map(|name| fields.iter().find(|field| field.name() == *name && field.is_primitive()));
    Ok((image.clone(), label.cloned()))
}

fn holds_bytes(field: &Type) -> bool {
    if field.is_group() {
        return field.get_fields().iter().any(|child| child.name() == "bytes" && child.is_primitive());
    }
    let is_text = field.get_basic_info().converted_type() == parquet::basic::ConvertedType::UTF8;
    field.get_physical_type() == PhysicalType::BYTE_ARRAY && !is_text
}

/// `info.features.<column>.names` of the JSON that the datasets library writes into its files.
fn class_names(metadata: &[parquet::file::metadata::KeyValue], column: &str) -> Option<Vec<String>> {
    let text = metadata.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let names = json.pointer(&format!("/info/features/{column}/names"))?.as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}
