//! Parquet sources: the fixtures, which fixtures/data/make.py wrote, and files written here.

use la_cli::data::{open, OpenConfig};
use la_core::data::{Source, Splits};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
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
fn a_column_of_images_is_the_one_that_says_so() {
    let dir = tempdir().unwrap();
    // Bytes that are no picture stand before those of the picture.
    let write = |name: &str, before: &str| {
        let schema = Arc::new(parse_message_type(&format!("message rows {{ required binary {before}; required binary image; }}")).unwrap());
        let path = dir.path().join(name);
        let mut file =
            SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
        let mut group = file.next_row_group().unwrap();
        for bytes in [b"no picture".to_vec(), fs::read(fixtures().join("images/rgb.png")).unwrap()] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(bytes)], None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        file.close().unwrap();
        path
    };
    assert_eq!(opened(&write("md5.parquet", "md5")).train.len(), 1);
    assert_eq!(opened(&write("json.parquet", "meta (JSON)")).train.len(), 1);
}

#[test]
fn labels_that_pandas_made_fractions_are_classes() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    write_file::<DoubleType>(&path, "double label", &[0.0, f64::NAN, 1.0, 1.0]);
    let splits = opened(&path);
    assert_eq!(
        (splits.train.class_names(), labels(&*splits.train)),
        (&["0".to_string(), "1".into()][..], vec![Some(0), None, Some(1), Some(1)])
    );
    write_file::<DoubleType>(&path, "double label", &[0.25, 0.5]);
    let splits = opened(&path);
    assert!(splits.train.class_names().is_empty() && splits.notes[0].contains("neither words nor whole numbers"), "{:?}", splits.notes);
}

#[test]
fn links_to_files_that_are_there_add_no_rows() {
    let dir = tempdir().unwrap();
    write_file::<Int64Type>(&dir.path().join("train-0.parquet"), "int64 label", &[0, 1]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(".", dir.path().join("latest")).unwrap();
        std::os::unix::fs::symlink("train-0.parquet", dir.path().join("train-1.parquet")).unwrap();
    }
    assert_eq!(opened(dir.path()).train.len(), 2);
}

#[test]
fn a_small_file_that_unpacks_to_more_than_pictures_do_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    let schema = Arc::new(parse_message_type("message rows { required binary image; }").unwrap());
    // One dictionary entry of a megabyte, two hundred times.
    let properties = Arc::new(WriterProperties::builder().set_dictionary_page_size_limit(4 << 20).build());
    let mut file = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&vec![ByteArray::from(vec![7; 1 << 20]); 200], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    let len = fs::metadata(&path).unwrap().len();
    assert!(len < 2 << 20, "{len}");
    let err = open(path.to_str().unwrap(), &OpenConfig::default()).err().unwrap().to_string();
    assert!(err.contains("unpack to images of 2097") && err.contains("train.parquet"), "{err}");
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
