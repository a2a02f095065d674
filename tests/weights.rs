//! The weights that this repository publishes: each folder is whole, and one of its figures is reproduced.

#[path = "cli/support.rs"]
#[allow(dead_code)]
mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{bytes, folder, la, text};

/// Votes that another processor's rounding may turn, as a share of the test images.
const TOLERANCE: f64 = 0.01;
/// Bytes of the largest weights file.
const MOST_BYTES: u64 = 25_000_000;

/// Every folder in `weights/`, or a word where there is none.
fn published() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights");
    let entries = root.read_dir().map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_else(|_| Vec::new());
    let mut folders: Vec<PathBuf> = entries.into_iter().filter(|path| path.is_dir()).collect();
    folders.sort();
    if folders.is_empty() {
        eprintln!("passed over: there are no weights in {}", root.display());
    }
    folders
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&bytes(folder.join("config.json"))).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

#[test]
fn every_published_file_is_the_one_that_was_packed() {
    for folder in published() {
        let out =
            Command::new("sha256sum").args(["--strict", "-c", "SHA256SUMS"]).current_dir(&folder).output().expect("coreutils are there");
        assert!(out.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&out.stdout));
        let sums = String::from_utf8(bytes(folder.join("SHA256SUMS"))).unwrap();
        // `photos` is another folder's weights in fewer bits: how they learned lies there.
        let of_run: &[&str] = if folder.ends_with("photos") { &[] } else { &["curves.png", "metrics.jsonl"] };
        for file in ["README.md", "config.json", "model.safetensors"].iter().chain(of_run) {
            assert!(sums.lines().any(|line| line.ends_with(&format!("  {file}"))), "{}: {file} is not listed", folder.display());
        }
        let size = folder.join("model.safetensors").metadata().unwrap().len();
        assert!(size <= MOST_BYTES, "{}: {size} bytes of weights", folder.display());
    }
}

#[test]
fn every_published_network_repeats_its_figure_on_the_sample() {
    for weights in published() {
        let check = &config(&weights)["local_aggregation"]["sample"];
        let limit = check["limit"].to_string();
        let out = la(folder().path(), &["eval", text(&weights), "--data", "sample", "--limit", &limit, "--json"]).ok();
        let measured: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&measured["knn_k"], &measured["knn_temperature"]), (&check["knn"]["k"], &check["knn"]["temperature"]));
        let (got, stated) = (measured["knn_top1"].as_f64().unwrap(), check["knn_top1"].as_f64().unwrap());
        assert!((got - stated).abs() <= TOLERANCE, "{}: expected {stated}, got {got}", weights.display());
    }
}

#[test]
fn every_model_card_states_what_its_config_holds() {
    for folder in published() {
        let card = String::from_utf8(bytes(folder.join("README.md"))).unwrap();
        let ours = &config(&folder)["local_aggregation"];
        let commit = ours["run"]["git_commit"].as_str().unwrap_or("unknown");
        for row in rows(ours) {
            assert!(card.contains(&row), "{}: {row} is not in its README.md", folder.display());
        }
        let parts = [commit, "la-cli train", "curves.png", "raw pixels"];
        for part in parts.into_iter().filter(|part| !folder.ends_with("photos") || *part != "curves.png") {
            assert!(card.contains(part), "{}: {part} is not in its README.md", folder.display());
        }
    }
}

/// The rows of a card's table that are of its weights: at the side they are packed for, where that is another, and at that of training.
fn rows(ours: &Value) -> Vec<String> {
    let row = |name: &str, figure: &Value| Some(format!("| {name} | {:.1} %", 100.0 * figure["knn_top1"].as_f64()?));
    let (figures, at) = (&ours["figures"], &ours["figures"]["resized"]);
    match at["size"].as_u64() {
        None => row("these weights", &figures["weights"]).into_iter().collect(),
        Some(size) => {
            assert_eq!(Some(size), ours["size"].as_u64());
            let of_training = format!("these weights at {} px", ours["run"]["train"]["size"]);
            let rows = [row(&format!("these weights at {size} px"), &at["weights"]), row(&of_training, &figures["weights"])];
            rows.into_iter().flatten().collect()
        }
    }
}

#[test]
fn every_published_folder_is_what_a_push_would_send() {
    for weights in published() {
        let (at, name) = (folder(), weights.file_name().unwrap().to_str().unwrap());
        la(at.path(), &["push", text(&weights), &format!("me/{name}"), "--dry-run", "out"]).ok();
        let out = at.path().join("out");
        let card = String::from_utf8(bytes(out.join("README.md"))).unwrap();
        assert!(!card.contains(&format!("weights/{name} ")) && !card.contains("local-dir:"), "{name}: the card names a folder");
        if card.contains("model-index") {
            assert!(card.contains(&format!("- name: \"me/{name}\"")), "{name}");
        }
        assert_eq!(bytes(out.join("model.safetensors")), bytes(weights.join("model.safetensors")), "{name}");
        let embed = |weights: &str| {
            la(at.path(), &["embed", weights, "--data", "sample", "--limit", "20", "--out", "e.safetensors", "--force"]).ok();
            let file = bytes(at.path().join("e.safetensors"));
            safetensors::SafeTensors::deserialize(&file).unwrap().tensor("embeddings").unwrap().data().to_vec()
        };
        assert!(embed("out") == embed(text(&weights)), "{name}: other embeddings");
    }
}
