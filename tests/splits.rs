//! Splits and classes by the names of folders and files, and what is read where several kinds of files lie side by side.

use la_cli::data::file_splits::{divide, FileSplits, Wanted};
use la_cli::data::split_names::{of_file, parse, Kind};
use la_cli::data::{list, open, OpenConfig};
use la_core::data::{Source, Splits};
use std::fs;
use std::path::Path;
use tempfile::{tempdir, TempDir};

/// A folder of one-pixel pictures.
fn folder(paths: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for path in paths {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(1, 1).save_with_format(path, image::ImageFormat::Png).unwrap();
    }
    dir
}

fn opened(dir: &Path) -> Splits {
    open(dir.to_str().unwrap(), &OpenConfig::default()).unwrap()
}

/// Each image as `class/name`, by split.
fn images(source: &dyn Source) -> Vec<String> {
    let class = |index| source.label(index).map_or("-", |label| source.class_names()[label as usize].as_str());
    (0..source.len()).map(|index| format!("{}:{}", class(index), source.name(index))).collect()
}

fn both(paths: &[&str]) -> (Vec<String>, Vec<String>, String) {
    let splits = opened(folder(paths).path());
    let test = splits.test.map(|test| images(&*test)).unwrap_or_default();
    (images(&*splits.train), test, splits.notes.join("; "))
}

#[test]
fn names_of_splits_are_words_between_delimiters_in_any_case() {
    let train =
        ["train", "Training", "TRAIN", "seg_train", "mnist-train", "train_000", "train2017", "split=train", "trainA", "images.train"];
    let test = ["test", "Testing", "eval", "EVALUATION", "x_test", "test-00000-of-00001", "train_test"];
    let validation = ["val", "valid", "Validation", "dev", "0000_val"];
    for (names, kind) in [(&train[..], Kind::Train), (&test, Kind::Test), (&validation, Kind::Validation)] {
        for name in names {
            assert_eq!(parse(name).unwrap().kind, kind, "{name}");
        }
    }
    for name in ["trains", "contest", "latest", "strain", "device", "valley", "t10k", ""] {
        assert_eq!(parse(name), None, "{name}");
    }
}

#[test]
fn a_file_belongs_to_the_split_that_its_name_or_its_folder_says() {
    let cases = [
        ("data/train-00000-of-00002.parquet", Some(Kind::Train)),
        ("data/partial-train/0000.parquet", Some(Kind::Train)),
        ("mnist_test.parquet", Some(Kind::Test)),
        ("data.val.parquet", Some(Kind::Validation)),
        ("test_config/train-0.parquet", Some(Kind::Train)),
        ("test/0000.parquet", Some(Kind::Test)),
        ("latest.parquet", None),
    ];
    for (path, kind) in cases {
        assert_eq!(of_file(path), kind, "{path}");
    }
}

fn paths(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn divided(names: &[&str], wanted: Wanted) -> FileSplits {
    divide("set", &paths(names), wanted).unwrap()
}

#[test]
fn files_are_never_learned_from_where_their_names_say_that_they_are_held_out() {
    let all = Wanted::default();
    let found = divided(&["b_test.parquet", "a_train.parquet", "b_val.parquet", "notes.parquet"], all);
    assert_eq!((found.train, found.test), (paths(&["a_train.parquet"]), paths(&["b_test.parquet"])));
    assert!(found.note.unwrap().starts_with("b_val.parquet and 1 more left aside"));
    let found = divided(&["x-eval.parquet", "images.parquet"], all);
    assert_eq!((found.train, found.test), (paths(&["images.parquet"]), paths(&["x-eval.parquet"])));
    let found = divided(&["test.parquet", "val.parquet"], all);
    assert_eq!((found.train.len(), found.test.len()), (2, 0));
    assert!(found.note.unwrap().contains("no file is named as one for training"));
}

#[test]
fn a_set_with_several_configurations_asks_which_one() {
    let names = ["big/train-0.parquet", "small/train-0.parquet", "small/test-0.parquet"];
    let err = divide("hf:a/b", &paths(&names), Wanted::default()).unwrap_err().to_string();
    assert_eq!(err, "hf:a/b: holds several configurations, big, small; which one? Name it as hf:a/b/big");
    let small = divided(&names, Wanted { config: Some("small"), split: None });
    assert_eq!((small.train, small.test), (paths(&["small/train-0.parquet"]), paths(&["small/test-0.parquet"])));
    assert_eq!(divided(&names, Wanted { config: None, split: Some("small") }).test.len(), 1, "a configuration in place of a split");
    assert_eq!(divided(&names, Wanted { config: Some("small"), split: Some("test") }).train, paths(&["small/test-0.parquet"]));
    assert!(divide("set", &paths(&names), Wanted { config: Some("none"), split: None }).unwrap_err().to_string().contains("big, small"));
    assert_eq!(divided(&["default/train/0.parquet", "b/train/0.parquet"], Wanted::default()).train, paths(&["default/train/0.parquet"]));
    // Folders without splits are no configurations.
    assert_eq!(divided(&["2019/a.parquet", "2020/b.parquet"], Wanted::default()).train.len(), 2);
    let one = Wanted { config: None, split: Some("validation") };
    assert_eq!(divided(&["x/train/0.parquet", "x/validation/0.parquet"], one).train, paths(&["x/validation/0.parquet"]));
    assert_eq!(divided(&["train.parquet", "dev.parquet"], one).train, paths(&["dev.parquet"]));
    assert!(divide("set", &paths(&["train.parquet"]), Wanted { config: None, split: Some("x") })
        .unwrap_err()
        .to_string()
        .contains("got \"x\""));
}

#[test]
fn folders_are_splits_under_every_usual_name() {
    let names = [
        ("Training", "Testing"),
        ("TRAIN", "VAL"),
        ("seg_train", "seg_test"),
        ("train", "dev"),
        ("training", "validation"),
        ("trainA", "testA"),
    ];
    for (train, test) in names {
        let files = [format!("{train}/cat/1.png"), format!("{train}/dog/2.png"), format!("{test}/cat/3.png"), format!("{test}/dog/4.png")];
        let found = both(&files.each_ref().map(String::as_str));
        assert_eq!(found.0, ["cat:cat/1.png", "dog:dog/2.png"], "{train}");
        assert_eq!(found.1, ["cat:cat/3.png", "dog:dog/4.png"], "{test}");
        assert_eq!(found.2, "");
    }
}

#[test]
fn what_lies_beside_splits_is_left_aside_and_told() {
    let (train, test, note) =
        both(&["train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png", "val/a/5.png", "extra/6.png", "7.png"]);
    assert_eq!((train.len(), test.len()), (2, 2));
    assert!(
        note.ends_with("left aside, because other folders are the splits: val (1 image), extra (1 image), what lies beside them (1 image)"),
        "{note}"
    );
}

#[test]
fn a_class_may_be_called_train() {
    let (images, test, note) = both(&["bus/1.png", "train/2.png", "tram/3.png"]);
    assert_eq!((images, test.len()), (paths(&["bus:bus/1.png", "train:train/2.png", "tram:tram/3.png"]), 0));
    assert!(note.ends_with("train is taken for a class, as the folders beside it are"), "{note}");
    assert_eq!(both(&["train_station/1.png", "test_tube/2.png", "dog/3.png"]).0.len(), 3);
    // It has classes of its own, and what lies beside it has none.
    let (images, test, note) = both(&["train/a/1.png", "train/b/2.png", "unlabelled/3.png"]);
    assert_eq!((images, test.len()), (paths(&["a:a/1.png", "b:b/2.png"]), 0));
    assert!(note.contains("unlabelled (1 image)"), "{note}");
}

#[test]
fn splits_are_found_in_the_only_folder_and_in_every_folder() {
    let (train, test, _) = both(&["set/train/a/1.png", "set/train/b/2.png", "set/val/a/3.png"]);
    assert_eq!((train, test.len()), (paths(&["a:a/1.png", "b:b/2.png"]), 1));
    let (train, test, _) =
        both(&["nut/train/good/1.png", "nut/test/bad/2.png", "nut/masks/3.png", "bolt/train/good/4.png", "bolt/test/bad/5.png"]);
    assert_eq!(train, ["bolt:bolt/train/good/4.png", "nut:nut/train/good/1.png"]);
    assert_eq!(test, ["bolt:bolt/test/bad/5.png", "nut:nut/test/bad/2.png"]);
}

#[test]
fn where_nothing_is_for_training_all_is_taken_and_splits_are_no_classes() {
    let (train, test, note) = both(&["test/a/1.png", "test/b/2.png", "val/a/3.png"]);
    assert_eq!((train, test.len()), (paths(&["a:test/a/1.png", "b:test/b/2.png", "a:val/a/3.png"]), 0));
    assert!(note.ends_with("no folder is named as one for training, so all images are taken"), "{note}");
    let (train, test, _) = both(&["1.png", "2.png", "test/3.png"]);
    assert_eq!((train, test), (paths(&["-:1.png", "-:2.png"]), paths(&["-:3.png"])));
}

#[test]
fn folders_of_systems_are_passed_over() {
    let (train, _, note) = both(&[
        "1.png",
        "@eaDir/1.png/SYNOPHOTO_THUMB_M.png",
        "#recycle/2.png",
        "__MACOSX/._1.png",
        "$RECYCLE.BIN/3.png",
        ".ipynb_checkpoints/1-checkpoint.png",
        "._1.png",
    ]);
    assert_eq!((train, note), (paths(&["-:1.png"]), String::new()));
}

#[cfg(target_os = "linux")]
#[test]
fn names_are_told_apart_by_their_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempdir().unwrap();
    for class in [&b"M\xe4dchen"[..], b"M\xf6dchen"] {
        let class = dir.path().join(OsStr::from_bytes(class));
        fs::create_dir(&class).unwrap();
        image::RgbImage::new(1, 1).save(class.join("1.png")).unwrap();
    }
    let splits = opened(dir.path());
    assert_eq!(images(&*splits.train), [r"M\xE4dchen:M\xE4dchen/1.png", r"M\xF6dchen:M\xF6dchen/1.png"]);
}

#[test]
fn a_stray_file_does_not_decide_for_a_folder_of_pictures() {
    for (stray, bytes) in [("train.bin", vec![0; 5000]), ("00000.parquet", b"PAR1 of something else".to_vec())] {
        let dir = folder(&["a/1.png", "b/2.png"]);
        fs::write(dir.path().join(stray), bytes).unwrap();
        let splits = opened(dir.path());
        assert_eq!(images(&*splits.train), ["a:a/1.png", "b:b/2.png"]);
        assert!(splits.notes[0].contains("its 2 pictures are taken") && splits.notes[0].contains(stray), "{:?}", splits.notes);
        let listed = list(dir.path().to_str().unwrap(), &OpenConfig::default()).unwrap().unwrap();
        assert_eq!((listed.len(), listed.lazy(&OpenConfig::default()).unwrap().notes), (2, splits.notes));
    }
}

#[test]
fn formats_that_are_not_read_are_told_and_an_mpo_is_a_jpeg() {
    let dir = folder(&["a.png"]);
    let mut jpeg = std::io::Cursor::new(vec![]);
    image::RgbImage::new(8, 8).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    fs::write(dir.path().join("b.MPO"), jpeg.into_inner()).unwrap();
    for name in ["c.pgm", "d.TGA", "e.jp2", "f.psd", "g.raf", "notes.txt"] {
        fs::write(dir.path().join(name), "P5").unwrap();
    }
    let splits = opened(dir.path());
    assert_eq!(splits.train.len(), 2);
    let told: Vec<&str> = splits.unreadable.iter().map(|file| file.reason.split(' ').next().unwrap()).collect();
    assert_eq!(told, ["PGM", "TGA", "JP2", "PSD", "RAF"]);
}

fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = dims.iter().flat_map(|dim| dim.to_be_bytes());
    [0, 0, 8, dims.len() as u8].into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

#[test]
fn the_mnist_family_is_found_under_its_other_names_and_where_torchvision_puts_it() {
    for (folder, dash, before) in [("", ".", ""), ("MNIST/raw/", "-", ""), ("", "-", "emnist-letters-")] {
        let dir = tempdir().unwrap();
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        for (split, count) in [("train", 2u8), (if before.is_empty() { "t10k" } else { "test" }, 1)] {
            let at = |kind: &str| dir.path().join(format!("{folder}{before}{split}-{kind}"));
            let pixels: Vec<u8> = (0..count).collect();
            fs::write(at(&format!("images{dash}idx3-ubyte")), idx(&[count.into(), 1, 1], &pixels)).unwrap();
            fs::write(at(&format!("labels{dash}idx1-ubyte")), idx(&[count.into()], &pixels)).unwrap();
        }
        let splits = opened(dir.path());
        assert_eq!(images(&*splits.train), ["0:0", "1:1"], "{folder}{before}{dash}");
        assert_eq!(images(&*splits.test.unwrap()), ["0:0"]);
    }
}

#[test]
fn a_gzip_file_unpacks_to_what_its_header_says_and_no_further() {
    use std::io::Write;
    let dir = tempdir().unwrap();
    let path = dir.path().join("train-images-idx3-ubyte.gz");
    let packed = |zeros: usize| {
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        packed.write_all(&idx(&[2, 1, 1], &[1, 2])).unwrap();
        packed.write_all(&vec![0; zeros]).unwrap();
        packed.finish().unwrap()
    };
    fs::write(&path, [&packed(0)[..], &[0; 512]].concat()).unwrap();
    assert_eq!(opened(dir.path()).train.len(), 2, "with padding behind it");
    fs::write(&path, packed(64 << 20)).unwrap();
    let err = open(dir.path().to_str().unwrap(), &OpenConfig::default()).err().unwrap().to_string();
    assert!(err.contains("expected [2, 1, 1] values after the header, got 4"), "{err}");
}

#[test]
fn the_python_version_of_cifar_is_told_from_the_binary_one() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("cifar-10-batches-py")).unwrap();
    fs::write(dir.path().join("cifar-10-batches-py/data_batch_1"), "pickle").unwrap();
    let err = open(dir.path().to_str().unwrap(), &OpenConfig::default()).err().unwrap().to_string();
    assert!(err.contains("cifar-10-binary.tar.gz"), "{err}");
}
