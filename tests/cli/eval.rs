//! `la-cli eval`: probes of layers, few labels, retrieval, comparison of two networks, tables, and data that do not serve.

use crate::support::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

fn report(args: &[&str]) -> Value {
    let out = la(folder().path(), &[&["eval", text(shared_run()), "--json"], args].concat()).ok();
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}"))
}

/// The figures of a report by measure and layer.
fn figures(report: &Value) -> HashMap<(String, String), &Value> {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_string();
    report["figures"].as_array().unwrap().iter().map(|row| ((word(row, "measure"), word(row, "layer")), row)).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, got {value}"))
}

const LAYERS: [&str; 8] = ["pixels", "stem", "layer1", "layer2", "layer3", "layer4", "pooled", "embedding"];

#[test]
fn every_layer_is_probed_with_its_protocol_beside() {
    let out = la(folder().path(), &["eval", text(shared_run()), "--layers"]).ok();
    assert_holds(
        &out,
        &["kNN top-1", "kNN top-5", "by the same", "fast: logistic regression", "penalty chosen on 20 % of 200 training images"],
    );
    for layer in LAYERS {
        let line = out.lines().find(|line| line.trim_start().starts_with(layer)).unwrap_or_else(|| panic!("{layer} is not in {out}"));
        assert_holds(line, &[" % (", " on the training images, penalty "]);
    }
    assert_holds(&out, &["32x32x3 ", "1x1x64 ", "1x1x128 ", "95 % of 1,000 bootstraps over the images classified"]);
}

#[test]
fn figures_of_layers_lie_within_their_intervals_and_repeat() {
    let first = report(&["--layers"]);
    let figures = figures(&first);
    for layer in LAYERS {
        let row = figures[&("probe_top1".to_string(), layer.to_string())];
        let [value, low, high] = ["value", "low", "high"].map(|key| number(&row[key]));
        assert!(low < value && value < high && value > 0.2, "{row}");
        assert_holds(row["protocol"].as_str().unwrap(), &["fast: penalty ", "of at most 9,216 values", "200 training images"]);
        assert_eq!((&row["num_train"], &row["num_test"]), (&200.into(), &1000.into()));
    }
    assert_eq!(report(&["--layers", "--threads", "1"])["figures"], first["figures"]);
}

#[test]
fn few_labels_are_drawn_of_each_class_and_named() {
    let five = report(&["--labels", "5", "--layers"]);
    assert_eq!((&five["num_train"], &five["knn_k"]), (&50.into(), &50.into()));
    let row = figures(&five)[&("probe_top1".to_string(), "layer2".to_string())];
    assert_holds(row["protocol"].as_str().unwrap(), &["20 % of 50 of 200 training images (5 labels a class, seed 0)"]);
    let tenth = report(&["--labels", "10%"]);
    assert!((15..=25).contains(&tenth["num_train"].as_u64().unwrap()), "{tenth}");
    let other = report(&["--labels", "5", "--seed", "2"]);
    assert_ne!(other["knn_top1"], five["knn_top1"]);
    let linear = report(&["--labels", "5", "--linear"]);
    assert_eq!((&linear["knn_top1"], &linear["linear_epochs"]), (&five["knn_top1"], &70.into()));
    let one = la(folder().path(), &["eval", text(shared_run()), "--labels", "1", "--layers"]).ok();
    assert_holds(&one, &["10 of 200 images (1 label a class, seed 0) re-embedded", "penalty 0.1, not chosen: each class has one image"]);
    let error = la(folder().path(), &["eval", text(shared_run()), "--labels", "0"]).error();
    assert_holds(&error, &["--labels", "expected a share of the labels such as 1% or 10%, or a number for each class such as 5, got 0"]);
}

#[test]
fn retrieval_is_told_at_ranks_below_the_number_of_images() {
    let all = report(&["--retrieval"]);
    let all = figures(&all);
    let value = |measure: &str| number(&all[&(measure.to_string(), String::new())]["value"]);
    let recalls = [1, 5, 10].map(|k| value(&format!("recall_at_{k}")));
    assert!(recalls[0] > 0.3 && recalls.windows(2).all(|pair| pair[0] <= pair[1]), "{recalls:?}");
    assert!(value("mean_average_precision") > 0.1 && value("mean_average_precision") < recalls[2]);
    let few = la(folder().path(), &["eval", text(shared_run()), "--leave-one-out", "--limit", "8", "--retrieval"]).ok();
    assert_holds(&few, &["recall@1 ", "recall@5 ", "mAP ", "8 images ranked by cosine similarity, each by all others"]);
    assert!(!few.contains("recall@10"), "{few}");
}

#[test]
fn two_networks_are_compared_image_by_image() {
    let run = text(shared_run());
    let same = report(&["--against", run, "--retrieval", "--layers"]);
    for row in same["figures"].as_array().unwrap().iter().filter(|row| !row["difference"].is_null()) {
        let zero = serde_json::json!(0.0);
        assert_eq!((&row["difference"], &row["difference_low"], &row["difference_high"]), (&zero, &zero, &zero), "{row}");
        assert!(row["measure"] == "mean_average_precision" || row["p_value"] == 1.0, "{row}");
    }
    let out = la(folder().path(), &["eval", run, "--against", "untrained", "--embedding", "output"]).ok();
    assert_holds(&out, &["against       untrained: resnet18", "  kNN top-1 ", " points (", "), p ", "p by McNemar's exact test"]);
    let both = la(folder().path(), &["eval", run, "--against", "untrained"]).ok();
    let dims: Vec<&str> = both.split_whitespace().filter(|word| word.ends_with("-dimensional")).collect();
    assert!(dims.len() == 2 && dims[0] == dims[1] && dims[0] != "128-dimensional", "read-out against read-out: {both}");
    assert_holds(&la(folder().path(), &["eval", run, "--against", "nowhere"]).error(), &["--against", "nowhere"]);
}

#[test]
fn all_figures_go_to_a_table() {
    let folder = folder();
    let args = ["eval", text(shared_run()), "--per-class", "--retrieval", "--against", "untrained", "--csv", "figures.csv"];
    let out = la(folder.path(), &args).ok();
    assert_holds(&out, &["classes       kNN top-1, and what others of the class are taken for", "  trouser ", " % of "]);
    let table = String::from_utf8(bytes(folder.path().join("figures.csv"))).unwrap();
    assert!(table.starts_with("weights,data,measure,layer,class,predicted,value,low,high,"), "{table}");
    assert_holds(
        &table,
        &[",knn_top1,,,,0.", ",knn_top1,,trouser,,", ",knn_confusion,,trouser,trouser,", ",mean_average_precision,", "untrained,sample,"],
    );
    // The protocol holds commas.
    assert!(table.lines().skip(1).all(|line| line.ends_with('"') && line.split('"').next().unwrap().matches(',').count() == 16), "{table}");
    assert_holds(&la(folder.path(), &args).error(), &["--csv figures.csv: this file exists", "--force"]);
    la(folder.path(), &[&args[..], &["--force"]].concat()).ok();
    let counts: f64 = table
        .lines()
        .filter(|line| line.contains("knn_confusion") && !line.starts_with("untrained"))
        .map(|line| line.split(',').nth(6).unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(counts, 1000.0);
}

#[test]
fn a_probe_needs_test_images_pictures_and_classes() {
    let folder = folder();
    let run = text(shared_run());
    let error = |args: &[&str]| la(folder.path(), &[&["eval", run], args].concat()).error();
    assert_holds(&error(&["--layers", "--leave-one-out"]), &["--layers", "--leave-one-out"]);
    for class in ["two/a", "two/b"] {
        write_pictures(&folder.path().join(class), 3);
    }
    la(folder.path(), &["embed", run, "--data", "two", "--out", "e.safetensors"]).ok();
    assert_holds(&error(&["--data", "e.safetensors", "--test", "two", "--layers"]), &["--layers", "e.safetensors holds embeddings"]);
    let expected = ["expected training images of at least 2 classes, got 1 (", "--data", "--limit"];
    assert_holds(&error(&["--data", "two", "--test", "two", "--limit", "1"]), &expected);
}

#[test]
fn classes_that_differ_are_listed() {
    let folder = folder();
    for class in ["train/a", "train/b", "train/only here", "test/a", "test/b", "test/only there"] {
        write_pictures(&folder.path().join(class), 3);
    }
    let said = la(folder.path(), &["eval", text(shared_run()), "--data", "train", "--test", "test"]);
    let notes = [
        "note: classes only among the test images, whose images are left out: only there",
        "note: classes only among the training images: only here",
        "note: test images without a class of the training images: 3 of 9",
    ];
    assert_holds(&said.stderr, &notes);
    said.ok();
    // One source with both splits: its classes are those of either.
    let within = la(folder.path(), &["eval", text(shared_run()), "--data", ".", "--layers"]);
    let note = "note: classes only among the test images, whose images count as wrong: only there";
    assert_holds(&within.stderr, &[note, notes[1]]);
    within.ok();
}

/// The run's network with one tensor multiplied.
fn scaled(folder: &Path, tensor: &str, factor: f64) {
    let mut tensors = candle_core::safetensors::load(shared_run().join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    let larger = tensors[tensor].affine(factor, 0.0).unwrap();
    tensors.insert(tensor.to_string(), larger);
    candle_core::safetensors::save(&tensors, folder.join("scaled.safetensors")).unwrap();
}

#[test]
fn values_that_no_probe_can_see_are_named_with_their_layer() {
    let folder = folder();
    let args = ["eval", "scaled.safetensors", "--size", "16", "--data", "sample", "--limit", "50", "--layers"];
    scaled(folder.path(), "bn1.weight", 1e6);
    let error = la(folder.path(), &args).error();
    assert_holds(&error, &["stem gives NaN, infinity or a value above 65,504 for image", "use other weights or other images"]);
    scaled(folder.path(), "layer3.0.conv1.weight", 1e38);
    let error = la(folder.path(), &args).error();
    assert_holds(&error, &["scaled.safetensors: gives NaN or infinity for these images; use other weights or other images"]);
}
