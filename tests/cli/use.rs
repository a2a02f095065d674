//! What each subcommand does when all is well.

use crate::support::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn config(run: &std::path::Path) -> Value {
    json(&String::from_utf8(bytes(run.join("config.json"))).unwrap())
}

#[test]
fn a_run_leaves_everything_in_its_folder() {
    let run = shared_run();
    let files = ["config.json", "metrics.jsonl", "model.safetensors", "bank.safetensors", "curves.png", "neighbors.png", "unreadable.tsv"];
    for file in files {
        assert!(run.join(file).metadata().is_ok_and(|meta| meta.len() > 0), "{file} is missing");
    }
    assert!(run.join("checkpoint").read_dir().unwrap().count() > 0, "there is no checkpoint");
    let is_events = |name: &str| name.contains("tfevents");
    assert!(
        run.read_dir().unwrap().any(|entry| is_events(&entry.unwrap().file_name().to_string_lossy())),
        "there are no TensorBoard events"
    );
}

#[test]
fn each_epoch_is_a_line_of_metrics() {
    let lines: Vec<Value> = String::from_utf8(bytes(shared_run().join("metrics.jsonl"))).unwrap().lines().map(json).collect();
    assert_eq!(lines.iter().map(|line| line["epoch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(lines.iter().map(|line| line["phase"].as_str().unwrap()).collect::<Vec<_>>(), ["ir", "la"]);
    for key in ["loss", "lr", "images_per_s", "knn_top1", "seconds", "peak_rss_mb"] {
        assert!(lines.iter().all(|line| line[key].is_number()), "{key} is missing");
    }
}

#[test]
fn weights_have_torchvision_names_and_nothing_else() {
    let file = bytes(shared_run().join("model.safetensors"));
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let is_torchvision =
        |name: &str| ["conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.", "fc."].iter().any(|start| name.starts_with(start));
    assert!(tensors.names().iter().all(|name| is_torchvision(name)), "{:?}", tensors.names());
    assert_eq!(tensors.tensor("fc.weight").unwrap().shape(), [128, 64]);
    assert_eq!(tensors.tensor("layer2.0.downsample.0.weight").unwrap().shape(), [16, 8, 1, 1]);
}

#[test]
fn a_run_says_what_it_was_made_of() {
    let config = config(shared_run());
    assert_eq!(config["train"]["width"], 8);
    assert!(config["train"]["num_clusters"].is_number(), "the number of clusters is not resolved");
    assert!(config["versions"].is_object());
    let command: Vec<&str> = config["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command, [&["la-cli", "train", "--out", "run"], &TINY[..]].concat());
    assert_holds(config["machine"].as_str().unwrap(), &["thread"]);
}

#[test]
fn no_argument_means_the_quick_preset_in_a_folder_of_its_own() {
    let folder = folder();
    let few = ["--limit", "32", "--width", "8", "--size", "8", "--epochs", "1"];
    let first = la(folder.path(), &[&["train"], &few[..]].concat()).ok();
    assert_holds(&first, &["preset quick", "runs/sample-1"]);
    let second = la(folder.path(), &[&["train", "--preset", "quick"], &few[..]].concat()).ok();
    assert_holds(&second, &["preset quick", "runs/sample-2"]);
    let configs = ["runs/sample-1", "runs/sample-2"].map(|run| config(&folder.path().join(run)));
    assert_eq!(configs[0]["train"], configs[1]["train"]);
    let is_faster = la_core::ops::device::bf16_instructions().is_some();
    assert_eq!(configs[0]["train"]["precision"], if is_faster { "bf16" } else { "f32" });
    let third = la(folder.path(), &[&["train", "--precision", "f32"], &few[..]].concat());
    assert!(third.code == Some(0) && !third.stderr.contains("bf16"), "{}", third.stderr);
}

#[test]
fn printed_commands_can_be_copied_to_a_shell() {
    let folder = folder();
    let next = train_tiny(folder.path(), "my run", &[]).ok();
    assert_holds(&next, &["`la-cli train --resume 'my run'`", "la-cli serve 'my run' --open", "search 'my run' --data sample"]);
    let eval = next.lines().find(|line| line.trim().starts_with("la-cli eval ")).expect("evaluation is named").trim();
    assert_holds(&bash(folder.path(), &format!("la-cli() {{ $LA \"$@\"; }}; {eval}")).ok(), &["my run: resnet18", "linear top-1"]);
    let packed = la(folder.path(), &["pack", "my run", "--out", "its weights"]).ok();
    assert_holds(&packed, &["la-cli search 'its weights' --data FOLDER"]);
    let card = String::from_utf8(bytes(folder.path().join("its weights/README.md"))).unwrap();
    assert_holds(&card, &["la-cli serve  'its weights' --data FOLDER", "la-cli eval 'its weights' --data sample"]);
}

#[test]
fn a_program_that_cargo_runs_is_named_as_cargo_runs_it() {
    let folder = folder();
    let few = ["train", "--limit", "32", "--width", "8", "--size", "8", "--epochs", "1"];
    let out = ended(command(folder.path()).args(few).env("CARGO", "cargo").output().unwrap()).ok();
    assert_holds(&out, &["next       cargo run --release -p la-cli -- serve runs/sample-1 --open"]);
}

#[test]
fn a_flag_over_a_preset_is_reported_with_both_values() {
    let folder = folder();
    let out = train_tiny(folder.path(), "run", &["--epochs=1", "--preset", "quick"]);
    assert_eq!(out.code, Some(1), "clap takes a flag once");
    let out = la(
        folder.path(),
        &["train", "--preset", "quick", "--width", "8", "--size", "16", "--limit", "40", "--epochs", "1", "--monitor", "none"],
    )
    .ok();
    assert_holds(&out, &["preset quick with", "width 8 (not 32)", "limit 40 (not unset)", "monitor none (not auto)"]);
}

#[test]
fn settings_for_ones_own_images_follow_their_number_and_what_training_begins_from() {
    let folder = folder();
    write_pictures(&folder.path().join("photos-of-mine"), 24);
    let few = ["train", "--data", "photos-of-mine", "--epochs", "1", "--size", "8", "--monitor", "none"];
    let scratch = la(folder.path(), &[&few[..], &["--from-scratch", "--width", "8", "--out", "scratch"]].concat());
    assert_holds(&scratch.stderr, &["warning: 24 images are few to learn from", "`la-cli serve --data photos-of-mine`"]);
    assert_holds(&scratch.ok(), &["chosen for 24 images, which ask for ", "from random weights", "width 8 (not 32)"]);
    let train = config(&folder.path().join("scratch"))["train"].clone();
    assert_eq!((train["views"].as_u64(), train["init"].as_str(), train["epochs"].as_u64()), (Some(2), None, Some(1)));
    let other = la(folder.path(), &[&few[..], &["--width", "8", "--out", "other"]].concat()).ok();
    assert_holds(&other, &["from random weights"]);
    let given = la(folder.path(), &[&few[..], &["--init", "scratch", "--out", "given"]].concat()).ok();
    assert_holds(&given, &["from scratch with ", "width 8,"]);
    assert_eq!(config(&folder.path().join("given"))["train"]["init"], "scratch");
}

#[test]
fn weights_with_another_last_layer_are_begun_from_and_said_to_get_a_new_one() {
    let folder = folder();
    let out = train_tiny(folder.path(), "run", &["--init", text(shared_run()), "--embedding-dim", "32"]).ok();
    assert_holds(&out, &["embedding-dim 32: the weights to begin with have 128"]);
}

#[test]
fn epochs_that_end_before_local_aggregation_are_warned_of_unless_they_were_asked_for() {
    let folder = folder();
    let few = ["train", "--limit", "40", "--width", "8", "--size", "8", "--epochs", "2"];
    let warned = la(folder.path(), &few);
    assert_holds(&warned.stderr, &["warning: local aggregation is never reached: 5 epochs", "--ir-epochs 1"]);
    warned.ok();
    let asked = la(folder.path(), &[&few[..], &["--ir-epochs", "2"]].concat());
    assert!(!asked.stderr.contains("never reached"), "{}", asked.stderr);
}

#[test]
fn a_run_shows_accuracy_beside_raw_pixels_and_the_network_before_training() {
    let folder = folder();
    let out = train_tiny(folder.path(), "run", &[]).ok();
    assert_holds(&out, &["raw pixels", "whitened pixels", "before training", "K = ", "temperature 0.07", "epoch 1/2 ir", "epoch 2/2 la"]);
}

#[test]
fn training_starts_from_given_weights() {
    let folder = folder();
    train_tiny(folder.path(), "next", &["--init", text(shared_run())]).ok();
    assert_ne!(bytes(folder.path().join("next/model.safetensors")), bytes(shared_run().join("model.safetensors")));
    la(folder.path(), &["pack", "next", "--beside", "next", "--out", "packed"]).ok();
    let card = String::from_utf8(bytes(folder.path().join("packed/README.md"))).unwrap();
    assert_eq!(card.matches("It began from weights that had been trained before, `").count(), 2, "{card}");
    assert_holds(&card, &["/run`; the epochs behind those are not counted here"]);
}

#[test]
fn evaluation_says_k_and_temperature_and_changes_no_weight() {
    let before = bytes(shared_run().join("model.safetensors"));
    let out = la(folder().path(), &["eval", text(shared_run()), "--linear"]).ok();
    assert_holds(&out, &["kNN top-1", "K = 200, temperature 0.07", "linear top-1", "70 epochs"]);
    assert_eq!(bytes(shared_run().join("model.safetensors")), before);
}

#[test]
fn evaluation_of_a_run_repeats_its_last_figure() {
    let out = la(folder().path(), &["eval", text(shared_run()), "--embedding", "output", "--json"]);
    let report = json(&out.ok());
    let metrics = String::from_utf8(bytes(shared_run().join("metrics.jsonl"))).unwrap();
    assert_eq!(report["knn_top1"], json(metrics.lines().last().unwrap())["knn_top1"]);
    assert_eq!((&report["knn_k"], &report["num_train"], &report["num_test"]), (&200.into(), &200.into(), &1000.into()));
}

#[test]
fn more_neighbours_and_another_temperature_can_vote() {
    let args = ["eval", text(shared_run()), "--knn-k", "5", "--knn-temperature", "0.2", "--json"];
    let report = json(&la(folder().path(), &args).ok());
    assert_eq!((&report["knn_k"], &report["knn_temperature"]), (&5.into(), &0.2.into()));
}

#[test]
fn training_images_can_be_classified_by_each_other() {
    let report = json(&la(folder().path(), &["eval", text(shared_run()), "--leave-one-out", "--json"]).ok());
    assert_eq!((&report["leave_one_out"], &report["knn_k"], &report["num_test"]), (&true.into(), &199.into(), &200.into()));
    let folder = folder();
    for (class, first) in [("a", 0), ("b", 20)] {
        write_pictures(&folder.path().join("data").join(class), 3);
        write_picture(&folder.path().join("data").join(class).join("more.png"), first);
    }
    let out = la(folder.path(), &["eval", text(shared_run()), "--data", "data", "--leave-one-out"]).ok();
    assert_holds(&out, &["8 images re-embedded un-augmented, each classified by the others", "K = 7"]);
    let error = la(folder.path(), &["eval", text(shared_run()), "--leave-one-out", "--linear"]).error();
    assert_holds(&error, &["--leave-one-out", "--linear"]);
}

#[test]
fn embeddings_are_unit_rows_with_labels_and_names() {
    let folder = folder();
    let args = ["embed", text(shared_run()), "--data", "sample", "--limit", "50", "--out", "e.safetensors"];
    la(folder.path(), &args).ok();
    let file = bytes(folder.path().join("e.safetensors"));
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let about = json(&header.metadata().as_ref().unwrap()["images"]);
    let names = about["names"].as_array().unwrap();
    assert_eq!((&about["class_names"][1], about["encoder"].as_str().map(str::len)), (&"trouser".into(), Some(64)));
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let (embeddings, labels) = (tensors.tensor("embeddings").unwrap(), tensors.tensor("labels").unwrap());
    assert_eq!((embeddings.dtype(), embeddings.shape()), (Dtype::F32, &[50, TINY_DIM][..]));
    assert_eq!((labels.dtype(), labels.shape(), names.len()), (Dtype::I64, &[50][..], 50));
    let values: Vec<f32> = embeddings.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    for row in values.chunks(TINY_DIM) {
        assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-4);
    }
}

#[test]
fn embeddings_of_unlabelled_pictures_carry_no_labels() {
    let folder = folder();
    write_pictures(&folder.path().join("pictures"), 5);
    la(folder.path(), &["embed", text(shared_run()), "--data", "pictures", "--out", "e.safetensors"]).ok();
    let file = bytes(folder.path().join("e.safetensors"));
    assert_eq!(SafeTensors::deserialize(&file).unwrap().names(), ["embeddings"]);
}

#[test]
fn info_tells_runs_weights_and_sources_apart() {
    let folder = folder();
    let run = text(shared_run());
    assert_holds(&la(folder.path(), &["info", run]).ok(), &["2 of 2", "width 8", "kNN top-1", "raw pixels"]);
    let weights = format!("{run}/model.safetensors");
    assert_holds(&la(folder.path(), &["info", &weights]).ok(), &["resnet18", "imagenet stem", "fc.weight", "128 × 64"]);
    assert_holds(&la(folder.path(), &["info", "sample"]).ok(), &["9,000 training images", "1,000 test images", "trouser"]);
    write_pictures(&folder.path().join("plain"), 3);
    assert_holds(&la(folder.path(), &["info", "plain"]).ok(), &["3 training images", "no labels", "20×20"]);
}

#[test]
fn info_says_what_a_run_lacks() {
    let folder = folder();
    for file in ["config.json", "metrics.jsonl", "curves.png"] {
        std::fs::copy(shared_run().join(file), folder.path().join(file)).unwrap();
    }
    let info = || la(folder.path(), &["info", "."]).ok();
    assert_holds(&info(), &["run        .", "missing    model.safetensors\n", "2 of 2"]);
    std::fs::remove_file(folder.path().join("metrics.jsonl")).unwrap();
    assert_holds(&info(), &["run        .", "missing    metrics.jsonl, model.safetensors\n"]);
}

#[test]
fn fashion_mnist_of_the_system_has_its_splits_and_classes() {
    if !std::path::Path::new("/usr/share/datasets/fashion-mnist").exists() {
        eprintln!("passed over: Debian's package dataset-fashion-mnist is not installed");
        return;
    }
    let out = la(folder().path(), &["info", "fashion-mnist"]).ok();
    assert_holds(&out, &["60,000 training images, 10,000 test images, 10 classes", "6,000  trouser", "28×28"]);
}

#[test]
fn help_is_an_answer_and_not_an_error() {
    for args in [&["--help"][..], &["train", "--help"], &["--version"]] {
        la(folder().path(), args).ok();
    }
    assert_holds(&la(folder().path(), &["train", "--help"]).ok(), &["Presets:", "quick", "imagenet-paper"]);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let out = bash(folder().path(), "$LA info sample | head -n 1; echo ${PIPESTATUS[0]}");
    assert_holds(&out.stdout, &["training images", "\n0\n"]);
    assert_eq!(out.stderr, "");
}

#[test]
fn a_run_outlives_the_reader_of_its_output() {
    let folder = folder();
    let line = format!("$LA train --out run {} | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}", TINY.join(" "));
    assert_eq!(bash(folder.path(), &line).stdout, "0\n");
    assert!(folder.path().join("run/neighbors.png").exists());
}

#[test]
fn embeddings_in_bf16_point_where_those_of_f32_do() {
    let folder = folder();
    let embed = |precision: &str| {
        let out = format!("{precision}.safetensors");
        la(folder.path(), &["embed", "--data", "sample", "--limit", "40", "--precision", precision, "--out", &out])
    };
    embed("f32").ok();
    let narrow = embed("bf16");
    if la_core::ops::device::bf16_instructions().is_none() {
        return assert_holds(&narrow.error(), &["--precision", "AVX512-BF16"]);
    }
    narrow.ok();
    let [wide, narrow] = ["f32", "bf16"].map(|precision| embeddings(&folder.path().join(format!("{precision}.safetensors"))));
    assert_eq!(wide.len(), 40);
    assert_ne!(wide, narrow, "rows that were kept in f32 are not those of bf16");
    for (wide, narrow) in wide.iter().zip(&narrow) {
        let cosine: f32 = wide.iter().zip(narrow).map(|(a, b)| a * b).sum();
        assert!(cosine >= 0.999, "{cosine}");
    }
}

/// The rows of a file that `embed` wrote.
fn embeddings(path: &std::path::Path) -> Vec<Vec<f32>> {
    let (tensors, _) = la_core::tensor_files::read_tensors(path, &candle_core::Device::Cpu).unwrap();
    tensors["embeddings"].to_vec2().unwrap()
}
