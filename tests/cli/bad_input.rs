//! What goes wrong is said once, with its name and the way out; nothing is lost.

use crate::support::*;
use std::fs;
use std::path::Path;

/// Trains on folder `data` for one short epoch.
fn train_on(folder: &Path, data: &str, more: &[&str]) -> Ended {
    let short =
        ["train", "--data", data, "--out", "run", "--stem", "small", "--width", "8", "--size", "16", "--epochs", "1", "--batch-size", "4"];
    la(folder, &[&short[..], more].concat())
}

/// A folder with ten good pictures in `data`.
fn with_pictures() -> tempfile::TempDir {
    let folder = folder();
    write_pictures(&folder.path().join("data"), 10);
    folder
}

fn jpeg() -> Vec<u8> {
    let mut out = Vec::new();
    let picture = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([(4 * x) as u8, (4 * y) as u8, (x * y) as u8]));
    picture.write_to(&mut std::io::Cursor::new(&mut out), image::ImageFormat::Jpeg).unwrap();
    out
}

/// The header of a bitmap of 10,000 × 10,000 pixels, and no pixels.
fn huge_bitmap() -> Vec<u8> {
    let mut header = b"BM".to_vec();
    header.extend([300_000_054u32, 0, 54, 40, 10_000, 10_000].iter().flat_map(|v| v.to_le_bytes()));
    header.extend([1u16, 24].iter().flat_map(|v| v.to_le_bytes()));
    header.extend([0u8; 24]);
    header
}

#[test]
fn an_empty_folder_is_refused() {
    let folder = folder();
    fs::create_dir(folder.path().join("data")).unwrap();
    assert_holds(&train_on(folder.path(), "data", &[]).error(), &["data", "image"]);
    assert!(!folder.path().join("run").exists(), "a refused run leaves a folder behind");
}

#[test]
fn one_image_is_refused() {
    let folder = folder();
    write_pictures(&folder.path().join("data"), 1);
    assert_holds(&train_on(folder.path(), "data", &[]).error(), &["at least 2 images, got 1"]);
}

#[test]
fn a_run_cannot_take_the_name_of_the_built_in_network() {
    let folder = with_pictures();
    let refused = la(folder.path(), &["train", "--data", "data", "--out", "photos"]).error();
    assert_holds(&refused, &["--out photos", "built-in network", "./photos"]);
    assert!(!folder.path().join("photos").exists(), "a refused run leaves a folder behind");
}

#[test]
fn a_source_that_does_not_exist_is_named() {
    assert_holds(&train_on(folder().path(), "no/such/folder", &[]).error(), &["no/such/folder", "sample", "hf:owner/name"]);
}

#[test]
fn broken_files_among_good_ones_are_left_out_and_listed() {
    let folder = with_pictures();
    let data = folder.path().join("data");
    fs::write(data.join("cut.jpg"), &jpeg()[..jpeg().len() / 2]).unwrap();
    fs::write(data.join("garbage.jpg"), [7u8; 500]).unwrap();
    fs::write(data.join("empty.png"), []).unwrap();
    fs::write(data.join("huge.bmp"), huge_bitmap()).unwrap();
    fs::create_dir(data.join("folder.jpg")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere.jpg", data.join("dangling.jpg")).unwrap();
    let out = train_on(folder.path(), "data", &[]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert_holds(&out.stdout, &["10 training images"]);
    assert_holds(&out.stderr, &["could not be read", "and "]);
    let list = String::from_utf8(bytes(folder.path().join("run/unreadable.tsv"))).unwrap();
    assert_holds(&list, &["cut.jpg", "garbage.jpg", "empty.png", "huge.bmp", "dangling.jpg"]);
}

#[test]
fn an_image_of_one_pixel_is_learned_from() {
    let folder = with_pictures();
    image::RgbImage::new(1, 1).save(folder.path().join("data/dot.png")).unwrap();
    assert_holds(&train_on(folder.path(), "data", &[]).ok(), &["11 training images"]);
}

#[test]
fn counts_above_the_number_of_images_are_refused_by_name() {
    let folder = with_pictures();
    for (flag, name) in [("--num-background", "num-background"), ("--num-clusters", "num-clusters")] {
        let error = train_on(folder.path(), "data", &[flag, "11"]).error();
        assert_holds(&error, &[name, "at most 10", "got 11"]);
        assert!(!folder.path().join("run").exists(), "a refused run leaves a folder behind");
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let cases = [
        (["--bank-momentum", "1.5"], "bank-momentum must be in [0, 1), got 1.5"),
        (["--lr", "-1"], "lr"),
        (["--temperature", "0"], "temperature"),
        (["--epochs", "0"], "epochs"),
        (["--num-noise", "1000000000"], "num-noise must be at least 1 and at most 65536"),
        (["--num-clusterings", "1000000000"], "num-clusterings must be at least 1 and at most 1000"),
        (["--embedding-dim", "1000000000"], "embedding dim must be between 1 and 65536"),
        (["--size", "0"], "size"),
        (["--arch", "resnet99"], "resnet99"),
        (["--ir", "triplet"], "triplet"),
        (["--preset", "slow"], "quick"),
        (["--threads", "0"], "--threads must be in 1 to 1024, got 0"),
        (["--device", "tpu"], "--device must be cpu, cuda or cuda:I"),
    ];
    let folder = folder();
    for (flag, words) in cases {
        let flag = flag.join("=");
        let args = ["train", "--out", "run", &flag];
        assert_holds(&la(folder.path(), &args).error(), &[words]);
    }
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_build_without_cuda_says_how_to_build_it() {
    let error = la(folder().path(), &["train", "--device", "cuda"]).error();
    assert_holds(&error, &["--features cuda"]);
}

#[test]
fn more_neighbours_than_images_are_refused() {
    let run = text(shared_run());
    assert_holds(&la(folder().path(), &["eval", run, "--knn-k", "201"]).error(), &["--knn-k must be in 1 to 200", "got 201"]);
    let folder = with_pictures();
    let error = la(folder.path(), &["search", run, "--data", "data", "--query", "data/00.png", "--k", "11"]).error();
    assert_holds(&error, &["--k must be in 1 to 10", "got 11"]);
    write_pictures(&folder.path().join("few"), 3);
    let found = la(folder.path(), &["search", run, "--data", "few", "--query", "data/00.png", "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["queries"][0]["neighbors"].as_array().map(Vec::len), Some(3), "{found}");
}

#[test]
fn other_pictures_where_a_run_found_its_own_are_noticed() {
    let folder = folder();
    let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
    for (place, count) in [(&here, 8), (&there, 6)] {
        write_pictures(&place.join("set/a"), count / 2);
        write_pictures(&place.join("set/b"), count / 2);
    }
    let args = ["train", "--data", "set", "--width", "8", "--size", "16", "--epochs", "1", "--ir-epochs", "1", "--out", "run"];
    let said = la(&here, &args).ok();
    assert_holds(&said, &["eval run --leave-one-out"]);
    let eval = |place: &std::path::Path| la(place, &["eval", text(&here.join("run")), "--leave-one-out"]);
    assert!(!eval(&here).stderr.contains("note"));
    assert_holds(&eval(&there).stderr, &["note: set holds 6 training images", "run learned from 8", "--data"]);
    let export = la(&there, &["export", text(&here.join("run")), "--out", "site"]);
    assert_holds(&export.stderr, &["note: set holds 6 training images"]);
    assert_holds(&eval(folder.path()).error(), &["looked for from this folder", "--data says where they are now"]);
    let resumed = la(&there, &["train", "--resume", text(&here.join("run")), "--data", "set"]);
    assert_holds(&resumed.error(), &["--resume", "set does not hold the images", "8 training images there, 6 here", "--data"]);
    let more = la(&here, &["train", "--resume", "run", "--epochs", "2"]).error();
    assert_holds(&more, &["leave out --epochs", "--branch run", "--init run"]);
}

#[test]
fn a_file_that_cannot_be_made_is_told_before_the_work() {
    let folder = with_pictures();
    let long = format!("{}.safetensors", "x".repeat(240));
    let error = la(folder.path(), &["embed", text(shared_run()), "--data", "data", "--out", &long]).error();
    assert_holds(&error, &["--out", &long]);
    assert!(!error.contains("lost"), "{error}");
}

#[test]
fn evaluation_without_labels_or_test_images_says_what_is_missing() {
    let folder = with_pictures();
    let run = text(shared_run());
    assert_holds(&la(folder.path(), &["eval", run, "--data", "data"]).error(), &["no test images", "--test SRC", "--leave-one-out"]);
    let refused = la(folder.path(), &["eval", run, "--data", "data", "--layers"]).error();
    assert_holds(&refused, &["--layers", "has none", "--test SRC"]);
    assert!(!refused.contains("--leave-one-out"), "{refused}");
    assert_holds(&la(folder.path(), &["eval", run, "--data", "data", "--test", "data"]).error(), &["labels", "sub-folder"]);
}

/// A folder with labelled pictures in `ok`, a class of theirs and another one in `mixed`, and none in `plain`.
fn with_classes() -> tempfile::TempDir {
    let folder = folder();
    for (class, count) in [("ok/a", 3), ("ok/b", 3), ("mixed/a", 2), ("mixed/c", 1), ("plain", 3)] {
        write_pictures(&folder.path().join(class), count);
    }
    folder
}

#[test]
fn test_images_of_a_foreign_class_are_left_out_and_counted() {
    let folder = with_classes();
    let eval = |more: &[&str]| la(folder.path(), &[&["eval", text(shared_run()), "--data", "ok", "--test", "mixed"], more].concat());
    let said = eval(&[]);
    assert_holds(&said.stderr, &["test images without a class of the training images: 1 of 3, such as c/00.png", "left out"]);
    assert_holds(&said.ok(), &["1 of the test images left out"]);
    let report: serde_json::Value = serde_json::from_str(&eval(&["--json"]).ok()).unwrap();
    assert_eq!((&report["num_test"], &report["num_left_out"]), (&2.into(), &1.into()));
    let error = la(folder.path(), &["eval", text(shared_run()), "--data", "ok", "--test", "plain"]).error();
    assert_holds(&error, &["test images without a class of the training images: 3 of 3", "sub-folder"]);
}

#[test]
fn a_run_without_knn_says_why() {
    let folder = with_classes();
    let said = train_on(folder.path(), "ok", &["--test", "mixed"]);
    assert_holds(&said.stderr, &["no kNN accuracy is measured: test images without a class of the training images: 1 of 3"]);
    said.ok();
}

#[test]
fn test_images_without_labels_are_asked_for_their_neighbours() {
    let folder = with_classes();
    let said = train_on(folder.path(), "ok", &["--test", "plain"]);
    assert!(!said.stderr.contains("pictures of the run"), "{}", said.stderr);
    assert_holds(&said.stderr, &["no kNN accuracy is measured: test images without a class of the training images: 3 of 3"]);
    assert_holds(&said.ok(), &["run: model.safetensors, metrics.jsonl, curves.png, neighbors.png"]);
    assert!(image::open(folder.path().join("run/neighbors.png")).is_ok());
}

#[test]
fn one_image_has_no_others_to_be_classified_by() {
    let error = la(folder().path(), &["eval", text(shared_run()), "--limit", "1", "--leave-one-out"]).error();
    assert_holds(&error, &["--leave-one-out needs at least 2 images", "got 1", "--limit"]);
}

#[test]
fn weights_that_are_none_are_named() {
    let folder = with_pictures();
    let at = folder.path();
    let good = bytes(shared_run().join("model.safetensors"));
    fs::write(at.join("cut.safetensors"), &good[..good.len() / 2]).unwrap();
    fs::write(at.join("garbage.safetensors"), [1u8; 100]).unwrap();
    fs::copy(shared_run().join("bank.safetensors"), at.join("foreign.safetensors")).unwrap();
    for weights in ["data", "cut.safetensors", "garbage.safetensors", "foreign.safetensors", "none.safetensors"] {
        for args in [&["eval", weights, "--data", "sample"][..], &["train", "--init", weights, "--out", "run"]] {
            assert_holds(&la(at, args).error(), &[weights]);
        }
        assert!(!at.join("run/model.safetensors").exists());
        let _ = fs::remove_dir_all(at.join("run"));
    }
}

#[test]
fn weights_that_are_not_finite_are_named_with_the_tensor() {
    let folder = with_pictures();
    let mut file = bytes(shared_run().join("model.safetensors"));
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    let at = 8 + header + metadata.info("layer1.0.conv1.weight").unwrap().data_offsets.0;
    file[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(folder.path().join("nan.safetensors"), file).unwrap();
    for args in [&["eval", "nan.safetensors"][..], &["embed", "nan.safetensors", "--out", "e.safetensors"]] {
        let error = la(folder.path(), &[args, &["--data", "data"]].concat()).error();
        assert_holds(&error, &["nan.safetensors: expected finite values, got NaN or infinity in tensor layer1.0.conv1.weight"]);
    }
    assert!(!folder.path().join("e.safetensors").exists());
}

#[test]
fn a_config_that_asks_for_huge_images_is_refused() {
    let folder = with_pictures();
    fs::copy(shared_run().join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let embed = || la(folder.path(), &["embed", ".", "--data", "data", "--out", "e.safetensors"]).error();
    fs::write(folder.path().join("config.json"), r#"{"pretrained_cfg": {"input_size": [3, 60000, 60000]}}"#).unwrap();
    assert_holds(&embed(), &["the side of images in its config.json must be in 1 to 4096, got 60000"]);
    let run = String::from_utf8(bytes(shared_run().join("config.json"))).unwrap();
    fs::write(folder.path().join("config.json"), run.replace("\"size\": 32", "\"size\": 60000")).unwrap();
    assert_holds(&embed(), &["the side of images in its config.json must be in 1 to 4096, got 60000"]);
}

#[test]
fn weights_of_another_architecture_are_refused() {
    let folder = folder();
    let args = ["train", "--limit", "40", "--width", "16", "--size", "16", "--epochs", "1", "--out", "run", "--init", text(shared_run())];
    let error = la(folder.path(), &args).error();
    assert_holds(&error, &[text(shared_run()), "width 8, expected 16", "width 8 asks for that one"]);
    assert!(!error.contains("--resume") && !folder.path().join("run").exists(), "{error}");
}

#[test]
fn a_checkpoint_of_another_architecture_is_refused() {
    let folder = folder();
    let args = ["train", "--limit", "200", "--width", "4", "--size", "16", "--epochs", "1", "--out", "run"];
    la(folder.path(), &args).ok();
    let checkpoint = folder.path().join("run/checkpoint/latest.safetensors");
    fs::copy(shared_run().join("checkpoint/latest.safetensors"), &checkpoint).unwrap();
    assert_holds(&la(folder.path(), &["train", "--resume", "run"]).error(), &["latest.safetensors", "width"]);
}

#[test]
fn a_run_folder_that_exists_is_refused_and_left_alone() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let before = bytes(folder.path().join("run/model.safetensors"));
    assert_holds(&train_tiny(folder.path(), "run", &["--seed", "9"]).error(), &["run", "--resume", "--out"]);
    assert_eq!(bytes(folder.path().join("run/model.safetensors")), before);
}

#[test]
fn images_that_are_not_where_a_run_says_are_asked_for() {
    let (folder, elsewhere) = (with_pictures(), folder());
    let args = ["train", "--data", "data", "--width", "8", "--size", "16", "--epochs", "1", "--ir-epochs", "1", "--out", "run"];
    la(folder.path(), &args).ok();
    let run = folder.path().join("run");
    let refused: [&[&str]; 3] =
        [&["eval", text(&run), "--leave-one-out"], &["export", text(&run), "--out", "site"], &["serve", text(&run)]];
    for args in refused {
        assert_holds(
            &la(elsewhere.path(), args).error(),
            &["run: the images that it was trained on, looked for from this folder; --data says where", "data:"],
        );
    }
}

#[test]
fn resuming_takes_no_other_settings() {
    let error = la(folder().path(), &["train", "--resume", text(shared_run()), "--width", "16"]).error();
    assert_holds(&error, &["--width", "--init"]);
}

#[test]
fn resuming_what_is_no_run_is_refused() {
    let folder = with_pictures();
    assert_holds(&la(folder.path(), &["train", "--resume", "data"]).error(), &["data", "config.json"]);
}

#[test]
fn a_query_that_is_no_picture_is_named() {
    let folder = with_pictures();
    fs::write(folder.path().join("words.jpg"), "not a picture").unwrap();
    for query in ["words.jpg", "data", "none.png"] {
        let error = la(folder.path(), &["search", text(shared_run()), "--data", "data", "--query", query, "--k", "2"]).error();
        assert_holds(&error, &[query]);
    }
    fs::write(folder.path().join("phone.heic"), b"\0\0\0\x18ftypheic").unwrap();
    let error = la(folder.path(), &["search", text(shared_run()), "--data", "data", "--query", "phone.heic", "--k", "2"]).error();
    assert_holds(&error, &["--query phone.heic", "HEIC is not read; convert it to JPEG or PNG"]);
}

#[test]
fn a_file_that_cannot_be_made_is_refused_before_the_work() {
    let run = text(shared_run());
    let embed = |out: &str| la(folder().path(), &["embed", run, "--data", "sample", "--out", out]).error();
    assert_holds(&embed("no/such/e.safetensors"), &["--out no/such/e.safetensors", "no folder no/such"]);
    assert_holds(&embed("."), &["expected the name of a file, got a folder"]);
}

#[test]
fn a_file_that_exists_is_replaced_with_force_alone() {
    let folder = with_pictures();
    let (at, run) = (folder.path(), text(shared_run()));
    let photo = bytes(at.join("data/00.png"));
    fs::copy(shared_run().join("model.safetensors"), at.join("mine.safetensors")).unwrap();
    let embed = ["embed", run, "--data", "data", "--out", "mine.safetensors"];
    let search = ["search", run, "--data", "data", "--query", "data/01.png", "--k", "2", "--panel", "data/00.png"];
    for (args, file) in [(&embed[..], "--out mine.safetensors"), (&search, "--panel data/00.png")] {
        assert_holds(&la(at, args).error(), &[file, "exists", "--force"]);
    }
    assert_eq!(bytes(at.join("data/00.png")), photo);
    assert_eq!(bytes(at.join("mine.safetensors")), bytes(shared_run().join("model.safetensors")));
    for args in [&embed[..], &search] {
        la(at, &[args, &["--force"]].concat()).ok();
    }
    assert_ne!(bytes(at.join("data/00.png")), photo);
}

#[cfg(unix)]
#[test]
fn links_are_never_replaced() {
    let folder = with_pictures();
    std::os::unix::fs::symlink("nowhere", folder.path().join("link.safetensors")).unwrap();
    for force in [&[][..], &["--force"]] {
        let args = ["embed", text(shared_run()), "--data", "data", "--out", "link.safetensors"];
        assert_holds(&la(folder.path(), &[&args, force].concat()).error(), &["--out link.safetensors", "regular", "got a link"]);
    }
}

#[test]
fn a_panel_is_a_png() {
    let folder = with_pictures();
    for panel in ["p.jpg", "p"] {
        let args = ["search", text(shared_run()), "--data", "data", "--query", "data/01.png", "--k", "2", "--panel", panel];
        assert_holds(&la(folder.path(), &args).error(), &[&format!("--panel {panel}: "), ".png"]);
        assert!(!folder.path().join(panel).exists());
    }
}

#[test]
fn a_run_stopped_before_its_settings_were_written_can_begin_again() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("run/checkpoint")).unwrap();
    fs::write(folder.path().join("run/.config.json.tmp"), "{").unwrap();
    train_tiny(folder.path(), "run", &[]).ok();
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(folder.path().join("other/letter.txt"), "dear").unwrap();
    assert_holds(&train_tiny(folder.path(), "other", &[]).error(), &["other", "expected a new run folder"]);
}

#[test]
fn a_full_disk_stops_a_run_and_loses_nothing() {
    let folder = folder();
    let at = folder.path();
    // Files above 100 KiB fail as on a full disk; the signal that would come with it is ignored.
    let line = format!("trap '' XFSZ; ulimit -f 100; exec $LA train --out run {}", TINY.join(" "));
    assert_holds(&bash(at, &line).error(), &["run/", "--resume run"]);
    la(at, &["train", "--resume", "run"]).ok();
    assert_eq!(bytes(at.join("run/model.safetensors")), bytes(shared_run().join("model.safetensors")));
    // The checkpoint of a run that stops so later on stays whole.
    let line = "trap '' XFSZ; ulimit -f 100; exec $LA embed run --data sample --out e.safetensors";
    assert_holds(&bash(at, line).error(), &["e.safetensors"]);
    assert!(!at.join("e.safetensors").exists());
}

#[test]
fn a_bench_of_images_too_large_is_refused_by_its_flag() {
    assert_holds(&la(folder().path(), &["bench", "loader", "--size", "1000000000"]).error(), &["--size", "1 to 4096", "1000000000"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    assert_holds(&bash(folder().path(), "$LA info sample > /dev/full").error(), &["standard output"]);
}
