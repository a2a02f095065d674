//! Parquet sources: the fixtures, which fixtures/data/make.py wrote, and files written here.

use la_cli::data::{open, OpenConfig};
use la_core::data::{Source, Splits};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::tempdir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/data")
}

fn opened(path: &Path) -> Splits {
    open(path.to_str().unwrap(), &OpenConfig::default()).unwrap()
}

fn labels(source: &dyn Source) -> Vec<Option<u32>> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

/// A file with one picture for each label; `column` is the label's type in the schema's language.
fn write_file<T: DataType>(path: &Path, column: &str, values: &[T::T]) {
    let schema = format!("message rows {{ required binary image; required {column}; }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = file.next_row_group().unwrap();
    let image = ByteArray::from(fs::read(fixtures().join("images/rgb.png")).unwrap());
    let mut images = group.next_column().unwrap().unwrap();
    images.typed::<ByteArrayType>().write_batch(&vec![image; values.len()], None, None).unwrap();
    images.close().unwrap();
    let mut labels = group.next_column().unwrap().unwrap();
    labels.typed::<T>().write_batch(values, None, None).unwrap();
    labels.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
}

#[test]
fn parquet_files_give_images_labels_and_splits() {
    let splits = opened(&fixtures().join("parquet"));
    assert_eq!(splits.train.class_names(), ["cold", "warm"]);
    assert_eq!(labels(&*splits.train), [Some(1), Some(0), Some(0), Some(1)]);
    assert_eq!(labels(&*splits.test.unwrap()), [Some(1), None]);
    assert_eq!(splits.train.picture(3).unwrap().pixels[..3], [240, 230, 220]);
    assert_eq!(splits.train.name(0), "train-00000-of-00002.parquet#0 0.png");
    assert_eq!(splits.unreadable.len(), 1);
    assert_eq!(splits.unreadable[0].reason, "no bytes in column image");

    let words = opened(&fixtures().join("words.parquet"));
    assert_eq!(words.train.class_names(), ["blue", "green", "red"]);
    assert_eq!(labels(&*words.train), [Some(2), Some(1), Some(0), Some(2)]);
}

#[test]
fn a_damaged_parquet_file_is_named() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("train.parquet"), b"PAR1 and then nothing of the kind").unwrap();
    let err = open(dir.path().to_str().unwrap(), &OpenConfig::default()).err().unwrap().to_string();
    assert!(err.contains("train.parquet: not readable as Parquet"), "{err}");
}

#[test]
fn split_names_are_found_in_the_usual_layouts() {
    use la_cli::data::parquet::by_split;
    let paths = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let hub = paths(&["data/test-00000-of-00001.parquet", "data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"]);
    let (train, test) = by_split(&hub, None);
    assert_eq!(train, ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]);
    assert_eq!(test, ["data/test-00000-of-00001.parquet"]);
    let converted = paths(&["a/train/0000.parquet", "b/train/0000.parquet", "a/validation/0000.parquet", "b/validation/0000.parquet"]);
    assert_eq!(by_split(&converted, None), (paths(&["a/train/0000.parquet"]), paths(&["a/validation/0000.parquet"])));
    assert_eq!(by_split(&converted, Some("validation")), (paths(&["a/validation/0000.parquet"]), vec![]));
    assert_eq!(by_split(&converted, Some("nothing")), (vec![], vec![]));
    assert_eq!(by_split(&paths(&["images.parquet"]), None), (paths(&["images.parquet"]), vec![]));
}

#[test]
fn a_class_has_one_index_in_both_splits() {
    let dir = tempdir().unwrap();
    let words = |words: &[&str]| words.iter().map(|&word| ByteArray::from(word)).collect::<Vec<_>>();
    write_file::<ByteArrayType>(&dir.path().join("train.parquet"), "binary label (UTF8)", &words(&["cat", "ant", "bee"]));
    write_file::<ByteArrayType>(&dir.path().join("test.parquet"), "binary label (UTF8)", &words(&["cat", "dog", "bee"]));
    let splits = opened(dir.path());
    assert_eq!(splits.train.class_names(), ["ant", "bee", "cat", "dog"]);
    assert_eq!(labels(&*splits.train), [Some(2), Some(0), Some(1)]);
    let test = splits.test.unwrap();
    assert_eq!((test.class_names(), labels(&*test)), (splits.train.class_names(), vec![Some(2), Some(3), Some(1)]));
}

#[test]
fn numbers_of_any_size_are_classes() {
    let dir = tempdir().unwrap();
    write_file::<Int64Type>(&dir.path().join("train.parquet"), "int64 label", &[3_000_000_000, 7, -1, i64::MAX]);
    write_file::<Int64Type>(&dir.path().join("test.parquet"), "int64 label", &[i64::MAX, 8]);
    let splits = opened(dir.path());
    assert_eq!(splits.train.class_names(), ["7", "8", "3000000000", "9223372036854775807"]);
    assert_eq!(labels(&*splits.train), [Some(2), Some(0), None, Some(3)]);
    assert_eq!(labels(&*splits.test.unwrap()), [Some(3), Some(1)]);
}
