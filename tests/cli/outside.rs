//! What comes from elsewhere, and what others do at the same time.

use crate::support::*;
use la_core::search::Manifest;
use la_core::tensor_files::{read_tensors, write_tensors};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A folder with `count` pictures in `data`.
fn with_pictures(count: usize) -> tempfile::TempDir {
    let folder = folder();
    write_pictures(&folder.path().join("data"), count);
    folder
}

#[test]
fn a_pipe_or_a_device_is_no_picture_no_data_and_no_weights() {
    let folder = with_pictures(3);
    let commands = [
        "search --data data --query pipe",
        "search --data data --query /dev/zero",
        "info pipe",
        "info /dev/zero",
        "embed pipe --data data --out e.safetensors",
        "embed /dev/zero --data data --out e.safetensors",
    ];
    for command in commands {
        let line = format!("[ -p pipe ] || mkfifo pipe; ulimit -v 8000000; timeout 20 \"$LA\" {command}");
        let error = bash(folder.path(), &line).error();
        assert!(error.contains("not a regular file") || error.contains("got a pipe, a socket or a device"), "{command}: {error}");
    }
}

#[test]
fn names_of_files_command_no_terminal_and_are_whole_in_json() {
    let folder = with_pictures(3);
    let name = "esc\u{1b}[31m\u{202e}\nnew.png";
    write_picture(&folder.path().join("data").join(name), 5);
    fs::write(folder.path().join("data/bad\u{1b}]0;x\u{7}.png"), "no picture").unwrap();
    let found = la(folder.path(), &["search", "--data", "data", "--query", "data/00.png", "--k", "3"]);
    let shown = found.stdout.clone() + &found.stderr;
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
    assert_eq!(found.ok().lines().count(), 4);
    let json = la(folder.path(), &["search", "--data", "data", "--query", "data/00.png", "--k", "3", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> = json["queries"][0]["neighbors"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert!(names.contains(&name), "{names:?}");
}

/// Whether every file that the manifest names is there as it says.
fn is_whole(site: &Path) -> bool {
    let manifest = Manifest::parse(&bytes(site.join("bundle/manifest.json"))).unwrap();
    let is_whole = |path: &str, sha256: &str| la_cli::digests::sha256(&site.join("bundle").join(path)).unwrap() == sha256;
    manifest.files().iter().all(|file| is_whole(&file.path, &file.sha256)) && site.join("index.html").is_file()
}

#[test]
fn two_exports_of_a_page_at_once_both_leave_a_whole_one() {
    let folder = with_pictures(4);
    la(folder.path(), &["export", "--data", "data", "--out", "site"]).ok();
    for round in 0..10 {
        let export = || command(folder.path()).args(["export", "--data", "data", "--out", "site", "--force", "--quiet"]).spawn().unwrap();
        let mut both = [export(), export()];
        assert!(both.iter_mut().all(|child| child.wait().unwrap().success()), "{round}");
        assert!(is_whole(&folder.path().join("site")), "{round}");
    }
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["data", "site"]);
}

#[test]
fn what_lies_under_a_temporary_name_is_neither_followed_nor_removed() {
    let folder = with_pictures(3);
    let at = |name: &str| folder.path().join(name);
    fs::write(at("letter"), "dear").unwrap();
    symlink("letter", at(".e.safetensors.tmp")).unwrap();
    for name in [".site.tmp", ".site.old", ".site.1-1.tmp"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("letter"), "dear").unwrap();
    }
    let embed =
        || command(folder.path()).args(["embed", "--data", "data", "--out", "e.safetensors", "--force", "--quiet"]).spawn().unwrap();
    let mut both = [embed(), embed()];
    assert!(both.iter_mut().all(|child| child.wait().unwrap().success()));
    read_tensors(&at("e.safetensors"), &candle_core::Device::Cpu).unwrap();
    la(folder.path(), &["export", "--data", "data", "--out", "site"]).ok();
    la(folder.path(), &["export", "--data", "data", "--out", "site", "--force"]).ok();
    assert_eq!(bytes(at("letter")), b"dear");
    for name in [".site.tmp", ".site.old", ".site.1-1.tmp"] {
        assert_eq!(bytes(at(name).join("letter")), b"dear", "{name}");
    }
}

#[test]
fn a_run_whose_checkpoint_is_gone_keeps_its_weights() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let model = bytes(folder.path().join("run/model.safetensors"));
    fs::remove_file(folder.path().join("run/checkpoint/latest.safetensors")).unwrap();
    let error = la(folder.path(), &["train", "--resume", "run"]).error();
    assert_holds(&error, &["latest.safetensors is gone, and 2 epochs would be lost", "train --init run"]);
    assert_eq!(bytes(folder.path().join("run/model.safetensors")), model);
}

#[test]
fn a_run_that_goes_on_with_other_instructions_says_so() {
    let config: serde_json::Value = serde_json::from_slice(&bytes(shared_run().join("config.json"))).unwrap();
    let resumed =
        ended(command(Path::new(".")).args(["train", "--resume", text(shared_run())]).env("LA_SIMD", "portable").output().unwrap());
    let note = resumed.stderr.contains("resumes with portable: results will differ a little");
    assert_eq!(note, config["simd"] != "portable", "{}", resumed.stderr);
}

/// The weights of the shared run with some tensors changed, in a file of their own.
fn changed(path: &Path, change: impl FnOnce(&mut HashMap<String, candle_core::Tensor>)) {
    let (mut tensors, _) = read_tensors(&shared_run().join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    change(&mut tensors);
    write_tensors(path, &tensors.into_iter().collect::<Vec<_>>(), None).unwrap();
}

#[test]
fn weights_that_can_give_nothing_are_refused_before_anything_is_made() {
    let folder = with_pictures(3);
    let path = folder.path().join("w.safetensors");
    let embed = || la(folder.path(), &["embed", "w.safetensors", "--data", "data", "--out", "e.safetensors"]).error();
    changed(&path, |tensors| {
        let variance = tensors.get_mut("bn1.running_var").unwrap();
        *variance = (variance.ones_like().unwrap() * -4.0).unwrap();
    });
    assert_holds(&embed(), &["w.safetensors", "expected variances of at least 0, got -4 in tensor bn1.running_var"]);
    changed(&path, |tensors| {
        let conv = candle_core::Tensor::zeros((1024, 3, 3, 3), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        tensors.insert("conv1.weight".into(), conv);
    });
    assert_holds(&embed(), &["w.safetensors", "has shape", "1024"]);
    changed(&path, |tensors| {
        let fc = candle_core::Tensor::zeros((1 << 20, 1), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        tensors.insert("fc.weight".into(), fc);
    });
    assert_holds(&embed(), &["embedding dim must be between 1 and 65536, got 1048576"]);
    assert!(!folder.path().join("e.safetensors").exists());
}

#[test]
fn pictures_that_are_all_black_give_numbers() {
    let folder = folder();
    fs::create_dir(folder.path().join("black")).unwrap();
    for i in 0..6 {
        image::RgbImage::new(16, 16).save(folder.path().join(format!("black/{i}.png"))).unwrap();
    }
    let short = ["--width", "8", "--size", "16", "--epochs", "2", "--ir-epochs", "1"];
    la(folder.path(), &[&["train", "--data", "black", "--out", "run"], &short[..]].concat()).ok();
    for weights in ["run", "photos"] {
        la(folder.path(), &["embed", weights, "--data", "black", "--out", "e.safetensors", "--force"]).ok();
        let (tensors, _) = read_tensors(&folder.path().join("e.safetensors"), &candle_core::Device::Cpu).unwrap();
        let rows = tensors["embeddings"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(rows.iter().all(|value| value.is_finite()), "{weights}");
    }
}

#[test]
fn more_classes_than_a_page_lists_are_told_before_the_work() {
    let folder = folder();
    let picture = folder.path().join("1.png");
    write_picture(&picture, 1);
    for i in 0..2200 {
        let class = folder.path().join(format!("data/{i:0240}"));
        fs::create_dir_all(&class).unwrap();
        fs::hard_link(&picture, class.join("1.png")).unwrap();
    }
    let error = la(folder.path(), &["export", "--data", "data", "--out", "site", "--no-cache"]).error();
    assert_holds(&error, &["2,200 classes", "--format atlas"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something is left of the export");
}

#[test]
fn a_tab_separated_file_holds_no_formula() {
    let folder = folder();
    write_pictures(&folder.path().join("data"), 3);
    write_picture(&folder.path().join("data/=cmd.png"), 4);
    la(folder.path(), &["export", "--data", "data", "--out", "projector", "--format", "projector"]).ok();
    let metadata = String::from_utf8(bytes(folder.path().join("projector/metadata.tsv"))).unwrap();
    assert!(metadata.lines().any(|line| line == "'=cmd.png"), "{metadata}");
}
