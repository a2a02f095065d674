//! Weights to publish: what the folder holds, that it is used as the run was, and that changes are noticed.

use crate::support::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn read(path: impl AsRef<Path>) -> String {
    String::from_utf8(bytes(path)).unwrap()
}

/// The shared run packed beside a run of instance recognition, in `weights/tiny` of a folder that no test changes.
fn shared_weights() -> &'static Path {
    static WEIGHTS: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = WEIGHTS.get_or_init(|| {
        let folder = folder();
        let ir = ["--limit", "200", "--width", "8", "--size", "16", "--epochs", "2", "--ir-epochs", "2"];
        la(folder.path(), &[&["train", "--out", "ir"], &ir[..]].concat()).ok();
        let args = ["pack", text(shared_run()), "--out", "weights/tiny", "--beside", "ir", "--linear", "--machine", "a test's machine"];
        let out = la(folder.path(), &args).ok();
        assert_holds(&out, &["weights/tiny", "these weights", "instance recognition, 2 epochs", "raw pixels", "linear"]);
        let path = folder.path().join("weights/tiny");
        (folder, path)
    });
    path
}

/// A copy that a test may change.
fn copied_weights() -> TempDir {
    copy_of(shared_weights())
}

fn knn(args: &[&str]) -> f64 {
    json(&la(folder().path(), args).ok())["knn_top1"].as_f64().unwrap()
}

#[test]
fn a_packed_run_is_a_folder_to_upload() {
    let files = [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "curves.png",
        "metrics-beside.jsonl",
        "metrics.jsonl",
        "model.safetensors",
        "readout.safetensors",
    ];
    let mut found: Vec<String> =
        shared_weights().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, files);
    assert_eq!(bytes(shared_weights().join("metrics.jsonl")), bytes(shared_run().join("metrics.jsonl")));
    assert_eq!(read(shared_weights().join("metrics-beside.jsonl")).lines().count(), 2);
    assert!(image::open(shared_weights().join("curves.png")).is_ok());
}

#[test]
fn sha256sum_passes_every_file() {
    let out = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(shared_weights()).output().expect("coreutils are there");
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{said}");
    assert_eq!(said.matches(": OK").count(), 7, "{said}");
}

#[test]
fn weights_are_halved_where_they_are_many_and_have_no_other_names() {
    let (run, packed) = (bytes(shared_run().join("model.safetensors")), bytes(shared_weights().join("model.safetensors")));
    let (run, packed) = (SafeTensors::deserialize(&run).unwrap(), SafeTensors::deserialize(&packed).unwrap());
    let names = |tensors: &SafeTensors| {
        let mut names: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names(&run), names(&packed));
    for (name, tensor) in packed.tensors() {
        let whole = run.tensor(&name).unwrap();
        assert_eq!(tensor.shape(), whole.shape(), "{name}");
        let expected = if tensor.shape().len() > 1 { Dtype::F16 } else { Dtype::F32 };
        assert_eq!(tensor.dtype(), expected, "{name}");
        if expected == Dtype::F32 {
            assert_eq!(tensor.data(), whole.data(), "{name}");
        }
    }
}

#[test]
fn config_has_timms_shape_and_every_setting_of_the_run() {
    let (config, run) = (json(&read(shared_weights().join("config.json"))), json(&read(shared_run().join("config.json"))));
    assert_eq!((&config["architecture"], &config["num_classes"], &config["num_features"]), (&"resnet18".into(), &128.into(), &64.into()));
    let timm = &config["pretrained_cfg"];
    assert_eq!(timm["input_size"], serde_json::json!([3, 32, 32]));
    assert_eq!((&timm["first_conv"], &timm["classifier"], &timm["crop_pct"]), (&"conv1".into(), &"fc".into(), &1.0.into()));
    assert_eq!(timm["mean"], run["train"]["normalization"]["mean"]);
    assert_eq!(timm["std"], run["train"]["normalization"]["std"]);
    let ours = &config["local_aggregation"];
    for key in ["train", "num_images", "class_names", "device", "versions", "git_commit"] {
        assert_eq!(ours["run"][key], run[key], "{key}");
    }
    assert_eq!(ours["run"]["machine"], "a test's machine");
    assert!(ours["sample"]["knn_top1"].is_number() && ours["figures"]["random_init"]["linear_top1"].is_number());
}

#[test]
fn the_card_says_what_was_done_and_what_came_of_it() {
    let card = read(shared_weights().join("README.md"));
    let (front, body) = card.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    assert_holds(
        front,
        &["license: unknown", "pipeline_tag: image-feature-extraction", "- local-aggregation", "- \"zalando-datasets/fashion_mnist\""],
    );
    assert_holds(front, &["model-index:\n- name: \"tiny\"", "kNN top-1 (K = 200, temperature 0.07)", "linear probe top-1"]);
    assert!(!front.contains("library_name"), "timm builds no network of width 8");
    let figures = json(&read(shared_weights().join("config.json")))["local_aggregation"]["figures"].clone();
    let percent = |of: &str, figure: &str| format!("{:.1} %", 100.0 * figures[of][figure].as_f64().unwrap());
    let row = |name: &str, of: &str| format!("| {name} at 16 px | {} | {} |", percent(of, "knn_top1"), percent(of, "linear_top1"));
    let rows = [("these weights", "weights"), ("instance recognition, 2 epochs", "beside"), ("random initialisation", "random_init")];
    rows.iter().for_each(|(name, of)| assert_holds(body, &[&row(name, of)]));
    assert_holds(
        body,
        &["raw pixels", "K = 200, τ = 0.07", "curves.png", "a test's machine", "| seed | 0 |", "| images | 200 |", "L2 normalisation"],
    );
    assert_holds(
        body,
        &["la-cli train --out ", "--ir-epochs 2", "weights/tiny --data FOLDER --query PHOTO", "of width 8", "@inproceedings"],
    );
    let sums = read(shared_weights().join("SHA256SUMS"));
    let digest = sums.lines().find_map(|line| line.strip_suffix("  model.safetensors")).unwrap();
    assert_holds(body, &[digest]);
}

#[test]
fn weights_can_be_packed_for_pictures_larger_than_those_of_training() {
    let folder = folder();
    la(folder.path(), &["pack", text(shared_run()), "--out", "w", "--size", "24", "--beside", text(shared_run())]).ok();
    let config = json(&read(folder.path().join("w/config.json")));
    assert_eq!(config["pretrained_cfg"]["input_size"], serde_json::json!([3, 24, 24]));
    let (ours, trained) = (&config["local_aggregation"], json(&read(shared_weights().join("config.json"))));
    assert_eq!((&ours["size"], &ours["run"]["train"]["size"]), (&24.into(), &16.into()));
    let (figures, at) = (&ours["figures"], &ours["figures"]["resized"]);
    // By a read-out that was learned at another side.
    let reached = |figures: &Value| figures["weights"]["knn_top1"].as_f64().unwrap();
    assert!((reached(figures) - reached(&trained["local_aggregation"]["figures"])).abs() < 0.05);
    let packed = folder.path().join("w");
    for (of, size) in [(at, &[][..]), (figures, &["--size", "16"])] {
        let args = [&["eval", text(&packed), "--json"], size].concat();
        assert_eq!(knn(&args) as f32, of["weights"]["knn_top1"].as_f64().unwrap() as f32, "{args:?}");
    }
    let beside = knn(&["eval", text(shared_run()), "--size", "24", "--json"]);
    assert!((beside - at["beside"]["knn_top1"].as_f64().unwrap()).abs() < 1e-6);
    let card = read(packed.join("README.md"));
    let row =
        |of: &Value, px: usize| format!("| these weights at {px} px | {:.1} % |", 100.0 * of["weights"]["knn_top1"].as_f64().unwrap());
    assert_holds(
        &card,
        &[&row(at, 24), &row(figures, 16), "random initialisation at 16 px", "24 × 24 pixels", "a part of Fashion-MNIST at 16 × 16 for"],
    );
    assert_holds(&card, &[&format!("value: {:.2}", 100.0 * at["weights"]["knn_top1"].as_f64().unwrap())]);
    assert_holds(&la(folder.path(), &["info", "w"]).ok(), &["24 px", "these weights at 16 px"]);
    write_pictures(&folder.path().join("pictures"), 3);
    la(folder.path(), &["export", "w", "--data", "pictures", "--out", "site"]).ok();
    let manifest = json(&read(folder.path().join("site/bundle/manifest.json")));
    assert_eq!(manifest["preprocessing"]["size"], 24);
    let error = la(folder.path(), &["pack", text(shared_run()), "--out", "x", "--size", "0"]).error();
    assert_holds(&error, &["--size must be in 1 to 4096, got 0"]);
}

#[test]
fn nothing_that_is_written_says_where_on_this_machine_it_was() {
    for file in ["README.md", "config.json"] {
        let written = read(shared_weights().join(file));
        assert!(!written.contains(text(&std::env::temp_dir())), "{file}: {written}");
    }
}

#[test]
fn packed_weights_reach_what_the_run_reached() {
    let (run, packed) = (knn(&["eval", text(shared_run()), "--json"]), knn(&["eval", text(shared_weights()), "--json"]));
    assert!((run - packed).abs() <= 0.005, "{run} as f32, {packed} as f16");
    let config = json(&read(shared_weights().join("config.json")));
    let stated = config["local_aggregation"]["figures"]["resized"]["weights"]["knn_top1"].as_f64().unwrap();
    assert_eq!(packed as f32, stated as f32);
    let sample = knn(&["eval", text(shared_weights()), "--data", "sample", "--limit", "1000", "--json"]);
    assert_eq!(sample as f32, config["local_aggregation"]["sample"]["knn_top1"].as_f64().unwrap() as f32);
}

#[test]
fn packed_weights_embed_search_export_and_tell_of_themselves() {
    let folder = folder();
    write_pictures(&folder.path().join("pictures"), 6);
    write_picture(&folder.path().join("query.png"), 3);
    let weights = text(shared_weights());
    la(folder.path(), &["embed", weights, "--data", "pictures", "--out", "e.safetensors"]).ok();
    let found = la(folder.path(), &["search", weights, "--data", "pictures", "--query", "query.png", "--k", "3", "--panel", "p.png"]).ok();
    assert_holds(&found, &["1.0000", "03.png"]);
    assert!(image::open(folder.path().join("p.png")).is_ok());
    la(folder.path(), &["export", weights, "--data", "pictures", "--out", "site"]).ok();
    assert!(folder.path().join("site/index.html").is_file());
    let info = la(folder.path(), &["info", weights]).ok();
    assert_holds(&info, &["200 images of sample", "these weights", "command    la-cli train", "fc.weight"]);
    assert_eq!(shared_weights().read_dir().unwrap().count(), 8, "a command has left something in the folder");
}

#[test]
fn changed_weights_are_named_by_every_command() {
    let packed = copied_weights();
    let path = packed.path().join("model.safetensors");
    let mut content = bytes(&path);
    *content.last_mut().unwrap() ^= 1;
    fs::write(&path, content).unwrap();
    let weights = text(packed.path());
    let elsewhere = folder();
    let commands: [&[&str]; 6] = [
        &["eval", weights],
        &["info", weights],
        &["embed", text(&path), "--data", "sample", "--out", "e.safetensors"],
        &["export", weights, "--out", "site"],
        &["serve", weights],
        &["train", "--init", weights, "--limit", "20", "--width", "8", "--size", "16", "--epochs", "1"],
    ];
    for args in commands {
        let error = la(elsewhere.path(), args).error();
        assert_holds(&error, &[text(&path), "expected sha256", "SHA256SUMS", "got ", "download it again"]);
    }
}

#[test]
fn a_folder_that_exists_is_never_overwritten() {
    let packed = copied_weights();
    let before = bytes(packed.path().join("SHA256SUMS"));
    let error = la(packed.path(), &["pack", text(shared_run()), "--out", text(packed.path())]).error();
    assert_holds(&error, &["--out", text(packed.path()), "never overwritten"]);
    assert_eq!(bytes(packed.path().join("SHA256SUMS")), before);
}

#[test]
fn a_refused_pack_leaves_nothing_behind() {
    let folder = folder();
    let error = la(folder.path(), &["pack", text(shared_run()), "--out", "weights/x", "--data", "nowhere"]).error();
    assert_holds(&error, &["nowhere", "--data"]);
    assert_eq!(folder.path().join("weights").read_dir().unwrap().count(), 0);
    let error = la(folder.path(), &["pack", text(shared_weights()), "--out", "weights/x"]).error();
    assert_holds(&error, &["expected a run folder, got packed weights"]);
    let error = la(folder.path(), &["train", "--resume", text(shared_weights())]).error();
    assert_holds(&error, &["packed weights", "--init"]);
}

#[test]
fn a_data_set_of_the_hub_has_an_owner_and_a_name() {
    for id in ["foo", "foo/", "a/b/c", "hf:a/b", "a/b c"] {
        let error = la(folder().path(), &["pack", text(shared_run()), "--out", "w", "--dataset", id]).error();
        assert_holds(&error, &["--dataset must be OWNER/NAME", &format!("got {id}")]);
    }
}

#[test]
fn pictures_without_labels_are_packed_without_figures() {
    let folder = folder();
    write_pictures(&folder.path().join("set"), 10);
    let tiny = ["--width", "64", "--size", "16", "--epochs", "1", "--batch-size", "4"];
    let data = folder.path().join("set");
    la(folder.path(), &[&["train", "--data", text(&data), "--out", "run"], &tiny[..]].concat()).ok();
    la(folder.path(), &["pack", "run", "--out", "w", "--data-as", "stripes", "--title", "Stripes: a test"]).ok();
    let card = read(folder.path().join("w/README.md"));
    assert_holds(
        &card,
        &["# Stripes: a test", "no labels", "--data stripes", "library_name: timm", "torchvision.models.resnet18", "local-dir:w"],
    );
    assert!(!card.contains("model-index") && !card.contains(text(folder.path())), "{card}");
    assert_eq!(json(&read(folder.path().join("w/config.json")))["local_aggregation"]["run"]["train"]["data"], "stripes");
}

#[test]
fn a_run_that_is_used_with_larger_pictures_is_packed_for_them_unless_told_otherwise() {
    let folder = folder();
    let run = folder.path().join("run");
    assert!(Command::new("cp").arg("-r").arg(shared_run()).arg(&run).status().unwrap().success());
    let mut config = json(&read(run.join("config.json")));
    config["size"] = 24.into();
    fs::write(run.join("config.json"), config.to_string()).unwrap();
    for (out, more, side) in [("large", &[][..], 24), ("small", &["--size", "16"], 16)] {
        la(folder.path(), &[&["pack", "run", "--out", out], more].concat()).ok();
        la(folder.path(), &["export", out, "--limit", "20", "--out", &format!("site-{out}")]).ok();
        let manifest = json(&read(folder.path().join(format!("site-{out}/bundle/manifest.json"))));
        assert_eq!(manifest["preprocessing"]["size"], side, "{out}");
    }
}
