//! `la-cli report`: a page that needs nothing else, its figures, and what is left out without labels.

use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn report(folder: &Path, args: &[&str]) -> Ended {
    la(folder, &[&["report"], args].concat())
}

fn page(folder: &Path) -> String {
    fs::read_to_string(folder.join("report/index.html")).unwrap()
}

/// Twelve pictures in two classes of a split.
fn labelled() -> tempfile::TempDir {
    let folder = folder();
    for (part, first) in [("train/cats", 0), ("train/<b>dogs", 6), ("test/cats", 12), ("test/<b>dogs", 15)] {
        let part = folder.path().join("set").join(part);
        fs::create_dir_all(&part).unwrap();
        (first..first + 6).for_each(|i| write_picture(&part.join(format!("{i}.png")), i));
    }
    folder
}

/// Asserts that a page asks nobody for anything.
fn assert_alone(page: &str) {
    for part in ["src=\"http", "href=\"http", "src=\"//", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!page.contains(part), "{part}");
    }
    let sources = page.match_indices("src=\"").map(|(at, _)| &page[at + 5..]);
    assert!(sources.clone().count() >= 2 && sources.into_iter().all(|source| source.starts_with("data:image/jpeg;base64,")));
    assert_holds(page, &["default-src 'none'", "<meta name=\"viewport\"", "prefers-color-scheme: dark", "@media print"]);
}

#[test]
fn a_page_is_self_contained_and_each_figure_has_its_files_command_and_protocol() {
    let folder = labelled();
    let run = text(shared_run());
    bash(folder.path(), &format!("cp -r '{run}' other")).ok();
    let said = report(folder.path(), &[run, "other", "--data", "set", "--layers", "--out", "report"]).ok();
    assert_holds(&said, &["report/index.html: 13 figures"]);
    let page = page(folder.path());
    assert_alone(&page);
    assert_holds(
        &page,
        &[
            "12 training images, 12 test images, 2 classes",
            "K = 12",
            "Protocol: ",
            "<code class=\"command\">la-cli report",
            "ranks scaled to the 11 others",
        ],
    );
    assert!(page.contains("&lt;b&gt;dogs") && !page.contains("<b>dogs"), "names of classes are text");
    assert_eq!(page.matches("<figure").count(), page.matches("</svg>").count() + page.matches("<img").count());
    assert_eq!(page.matches("<figcaption>").count(), 13);
    let at = folder.path().join("report");
    for name in ["loss", "knn", "local-density", "background-density", "layers", "mds-best", "map"] {
        let svg = fs::read_to_string(at.join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("xmlns"), "{name}");
        assert!(fs::read_to_string(at.join(format!("{name}.csv"))).unwrap().lines().count() > 2, "{name}");
    }
    for name in ["most-confident.jpg", "least-confident.jpg"] {
        assert!(image::open(at.join(name)).unwrap().height() > 100, "{name}");
    }
    let plane = fs::read_to_string(at.join("mds-best.svg")).unwrap();
    assert!(plane.contains("&lt;b&gt;dogs") && !plane.contains("<b>dogs"), "names of classes are text in charts too");
    let layers = fs::read_to_string(at.join("layers.csv")).unwrap();
    assert_holds(&layers, &["raw pixels,pixels,", "run,layer4,", "run before training,embedding,"]);
    let densities = fs::read_to_string(at.join("local-density.csv")).unwrap();
    assert_eq!(densities.lines().count(), 1 + 2 * 12, "an image a line, of both runs");
    let map = fs::read_to_string(at.join("map.csv")).unwrap();
    let places: Vec<f64> =
        map.lines().skip(1).flat_map(|line| line.rsplit(',').take(2)).map(|value| value.parse().expect("a number")).collect();
    assert!(places.len() == 2 * 12 && places.iter().any(|&place| place < 0.0), "{map}");
    let kept: Value = serde_json::from_slice(&bytes(at.join("report.json"))).unwrap();
    let knn = &kept["figures"]["knn"]["runs"];
    assert_eq!(knn[0]["knn_top1"], knn[1]["knn_top1"], "the same weights");
    let measured = la(folder.path(), &["eval", run, "--data", "set", "--embedding", "output", "--json"]).ok();
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert!((measured["knn_top1"].as_f64().unwrap() - knn[0]["knn_top1"].as_f64().unwrap()).abs() < 1e-6);
}

#[test]
fn the_embedding_of_each_network_is_named_where_they_differ() {
    let folder = labelled();
    report(folder.path(), &["photos", text(shared_run()), "--data", "set", "--out", "report"]).ok();
    let name = shared_run().file_name().unwrap().to_string_lossy();
    let named = format!("embedding: photos by the read-out, fitted to these images; {name} by the network's output");
    assert_holds(&page(folder.path()).replace("&#39;", "'"), &[&named]);
}

#[test]
fn without_labels_what_needs_them_is_left_out_by_name() {
    let folder = folder();
    write_pictures(&folder.path().join("photos"), 12);
    report(folder.path(), &[text(shared_run()), "--data", "photos", "--out", "report"]).ok();
    let page = page(folder.path());
    assert_alone(&page);
    assert_holds(
        &page,
        &[
            "no test images, no labels",
            "Left out: it needs a class for every training image",
            "most-confident",
            "similarity to the nearest, without labels",
            "The images that are most similar to others.",
        ],
    );
    let at = folder.path().join("report");
    assert!(at.join("map.svg").is_file() && at.join("local-density.svg").is_file());
    assert!(!page.contains("of the same class") && !page.contains("classified"), "nothing has a class");
    assert!(!at.join("accuracy.csv").exists() && !at.join("mds-best.svg").exists());
}

#[test]
fn a_report_of_a_run_is_about_its_own_images() {
    let folder = folder();
    report(folder.path(), &[text(shared_run()), "--out", "report"]).ok();
    assert_holds(&page(folder.path()), &["Local Aggregation on sample", "200 training images", "raw pixels", "before training"]);
}

#[test]
fn what_cannot_be_reported_is_refused_and_only_reports_are_replaced() {
    let folder = folder();
    let path = folder.path();
    let run = text(shared_run());
    write_pictures(&path.join("photos"), 9);
    write_pictures(&path.join("one"), 1);
    assert_holds(&report(path, &[run, "--data", "one", "--out", "report"]).error(), &["at least 2 training images, got 1"]);
    assert_holds(&report(path, &[run, "nothing", "--data", "photos", "--out", "report"]).error(), &["nothing"]);
    assert_holds(&report(path, &[run, "--data", "photos", "--out", "photos/report"]).error(), &["--out", "among the pictures of photos"]);
    assert_holds(&report(path, &["photos", "--out", "report"]).error(), &["--data SRC"]);
    la(path, &["embed", run, "--data", "photos", "--out", "e.safetensors", "--embedding", "output"]).ok();
    assert_holds(&report(path, &[run, "--data", "e.safetensors", "--out", "report"]).error(), &["holds embeddings"]);
    assert!(!path.join("report").exists(), "a refused report leaves a folder behind");
    let good = [run, "--data", "photos", "--out", "report"];
    report(path, &good).ok();
    assert_holds(&report(path, &good).error(), &["--out report", "an earlier report is there", "--force"]);
    report(path, &[&good[..], &["--force"]].concat()).ok();
    fs::write(path.join("report/notes.txt"), "mine").unwrap();
    assert_holds(&report(path, &[&good[..], &["--force"]].concat()).error(), &["notes.txt"]);
}
