//! Measurements end with the figures that they promise; what they measured is not tested, because it varies.

use crate::support::*;
use serde_json::Value;

const TINY_NETWORK: [&str; 12] =
    ["--width", "4", "--size", "16", "--stem", "small", "--batch-size", "4", "--embedding-dim", "16", "--rounds", "2"];

/// The figures of `la-cli bench` with `args`, which must be all that it prints.
fn bench(args: &[&str]) -> Value {
    let out = la(folder().path(), &[&["bench"], args, &["--threads", "2", "--json"]].concat()).ok();
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}"))
}

/// Asserts that every one of `names` is a number above 0.
fn assert_measured(figures: &Value, names: &[&str]) {
    for name in names {
        assert!(figures[name].as_f64().is_some_and(|value| value > 0.0), "{name} in {figures}");
    }
}

#[test]
fn the_training_step_is_measured_with_its_parts() {
    let small = ["--num-images", "100", "--num-background", "20", "--num-clusters", "5"];
    let figures = bench(&[&["step"], &TINY_NETWORK[..], &small].concat());
    assert_measured(&figures, &["images_per_s", "median_s", "min_s", "peak_rss_mb"]);
    assert_eq!((&figures["threads"], &figures["batch_size"], &figures["rounds"]), (&2.into(), &4.into(), &2.into()));
    let images_per_s = 4.0 / figures["median_s"].as_f64().unwrap();
    assert!((figures["images_per_s"].as_f64().unwrap() / images_per_s - 1.0).abs() < 1e-9);
    let shares: Vec<f64> =
        ["forward", "loss", "backward", "optimiser", "bank"].map(|part| figures["shares"][part].as_f64().unwrap()).into();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
}

#[test]
fn a_batch_may_be_larger_than_the_bank() {
    let small = ["--num-images", "3", "--num-background", "2", "--num-clusters", "2"];
    assert_measured(&bench(&[&["step"], &TINY_NETWORK[..], &small].concat()), &["images_per_s"]);
}

#[test]
fn embedding_is_measured() {
    assert_measured(&bench(&[&["embed"], &TINY_NETWORK[..]].concat()), &["images_per_s", "median_s", "peak_rss_mb"]);
}

#[test]
fn every_objective_is_measured() {
    let small = ["--num-images", "100", "--batch-size", "4", "--num-background", "20", "--num-noise", "20", "--rounds", "1"];
    for objective in ["la", "nce", "softmax"] {
        let figures = bench(&[&["loss", "--objective", objective], &small[..]].concat());
        assert_measured(&figures, &["median_s", "peak_rss_mb"]);
        assert_eq!((&figures["objective"], &figures["num_images"]), (&objective.into(), &100.into()));
        assert!(figures["step_mb"].is_number());
    }
}

#[test]
fn clustering_and_search_are_measured() {
    let figures = bench(&["kmeans", "--num-points", "200", "--dim", "8", "--num-clusters", "5", "--iters", "3", "--rounds", "1"]);
    assert_measured(&figures, &["median_s", "inertia", "iters"]);
    let figures = bench(&["knn", "--num-queries", "10", "--num-rows", "200", "--dim", "8", "--k", "5", "--rounds", "1"]);
    assert_measured(&figures, &["median_s", "queries_per_s"]);
}

#[test]
fn points_can_come_from_a_file_of_numpy() {
    let folder = folder();
    write_npy(&folder.path().join("two.npy"), &[[0.0, 0.0], [0.0, 2.0], [9.0, 0.0], [9.0, 2.0]]);
    let args = ["bench", "kmeans", "--points", "two.npy", "--num-clusters", "4", "--rounds", "1", "--json"];
    let figures: Value = serde_json::from_str(&la(folder.path(), &args).ok()).unwrap();
    assert_eq!((&figures["num_points"], &figures["dim"], &figures["inertia"]), (&4.into(), &2.into(), &0.0.into()));
    let args = ["bench", "knn", "--rows", "two.npy", "--queries", "two.npy", "--k", "1", "--rounds", "1", "--json"];
    let figures: Value = serde_json::from_str(&la(folder.path(), &args).ok()).unwrap();
    assert_eq!((&figures["num_rows"], &figures["num_queries"]), (&4.into(), &4.into()));
}

/// A file as `numpy.save` writes it (version 1.0 of the format).
fn write_npy(path: &std::path::Path, rows: &[[f32; 2]]) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 2), }}", rows.len());
    let header = format!("{header:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_loader_is_measured_with_and_without_its_cache() {
    let folder = folder();
    write_pictures(&folder.path().join("pictures"), 9);
    for stream in [&[][..], &["--stream"]] {
        let args = ["bench", "loader", "--data", "pictures", "--size", "16", "--batch-size", "4", "--rounds", "2", "--json"];
        let figures: Value = serde_json::from_str(&la(folder.path(), &[&args[..], stream].concat()).ok()).unwrap();
        assert_measured(&figures, &["images_per_s", "median_s"]);
        assert_eq!(figures["num_images"], 8, "two whole batches");
    }
}

#[test]
fn growth_is_a_table_with_the_line_of_best_fit() {
    let args = ["bench", "growth", "--sizes", "100,200,400", "--iters", "1"];
    let out = la(folder().path(), &args).ok();
    assert_holds(&out, &["LA loss", "K = 100", "k-means, k = N/40, 1 iteration\n", "line of best fit: ", "400"]);
    let figures = bench(&args[1..]);
    for work in ["loss", "kmeans"] {
        let points = figures[work]["points"].as_array().unwrap();
        assert_eq!(points.iter().map(|point| point["num_images"].as_u64().unwrap()).collect::<Vec<_>>(), [100, 200, 400]);
        assert!(figures[work]["seconds"]["exponent"].is_number() && figures[work]["peak_mb"]["exponent"].is_number());
    }
}

#[test]
fn text_names_every_figure() {
    let out = la(folder().path(), &[&["bench", "embed"], &TINY_NETWORK[..]].concat()).ok();
    assert_holds(&out, &["images_per_s", "median_s", "peak_rss_mb", "resnet18"]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let cases: [(&[&str], &str); 10] = [
        (&["step", "--size", "0"], "expected a whole number in 1 to 1000000000, got \"0\""),
        (&["step", "--arch", "vgg16"], "vgg16"),
        (&["embed", "--rounds", "0"], "--rounds"),
        (&["embed", "--batch-size", "1000000000"], "more memory than there is"),
        (&["loss", "--num-images", "100"], "--num-background must be at most --num-images 100, got 4096"),
        (&["loss", "--objective", "triplet"], "triplet"),
        (&["kmeans", "--num-points", "10", "--num-clusters", "11"], "number of clusters must be in 1..=10"),
        (&["kmeans", "--points", "none.npy"], "none.npy"),
        (&["knn", "--num-rows", "10", "--k", "11"], "k must be in 1..=10"),
        (&["growth", "--sizes", "100"], "--sizes must be at least two numbers"),
    ];
    for (args, words) in cases {
        assert_holds(&la(folder().path(), &[&["bench"], args].concat()).error(), &[words]);
    }
    assert_holds(&la(folder().path(), &["bench", "loader", "--data", "no/such"]).error(), &["no/such"]);
}
