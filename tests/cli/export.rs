//! `la-cli export`: what is written is what was embedded, whole, and never over something else.

use crate::support::*;
use la_core::search::{Manifest, Precision, SearchBank};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

fn export(folder: &Path, more: &[&str]) -> Ended {
    la(folder, &[&["export", text(shared_run()), "--out", "site"], more].concat())
}

fn manifest(site: &Path) -> Manifest {
    Manifest::parse(&bytes(site.join("bundle/manifest.json"))).unwrap()
}

/// The output of the network, which does not depend on the other images, as the read-out that is fitted to them does.
const OUTPUT: [&str; 2] = ["--embedding", "output"];

/// The rows that `la-cli embed` writes for the images of the shared run.
fn embeddings(folder: &Path) -> Vec<f32> {
    let args = ["embed", text(shared_run()), "--data", "sample", "--limit", "200", "--out", "rows.safetensors"];
    la(folder, &[&args[..], &OUTPUT].concat()).ok();
    let file = bytes(folder.join("rows.safetensors"));
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let data = tensors.tensor("embeddings").unwrap().data().to_vec();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn every_file_of_a_bundle_is_as_its_manifest_says() {
    let folder = folder();
    assert_holds(&export(folder.path(), &[]).ok(), &["weights", "thumbnails", "la-cli serve site --open"]);
    let site = folder.path().join("site");
    let manifest = manifest(&site);
    for file in manifest.files() {
        let content = bytes(site.join("bundle").join(&file.path));
        assert_eq!(content.len(), file.bytes, "{}", file.path);
        let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, file.sha256, "{}", file.path);
    }
    assert_eq!(manifest.bank.rows, 200);
    let parent = shared_run().parent().unwrap().to_string_lossy().into_owned();
    assert!(!manifest.bank.made.contains(&parent), "others learn where the run lay: {}", manifest.bank.made);
    assert_eq!(manifest.labels.as_ref().unwrap().classes.len(), 10);
    assert_eq!(String::from_utf8(bytes(site.join("bundle/names.txt"))).unwrap().lines().count(), 200);
    let sheets = &manifest.thumbnails.as_ref().unwrap().sheets;
    assert_eq!(image::open(site.join("bundle").join(&sheets[0].path)).unwrap().width(), 32 * 28);
    ["index.html", "pkg/la_wasm_bg.wasm", "pkg/la_wasm_threads_bg.wasm", "helper.js", "sw.js"]
        .iter()
        .for_each(|name| assert!(site.join(name).is_file(), "{name}"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary folder is left");
}

#[test]
fn the_bank_holds_what_embed_writes_at_every_precision() {
    let folder = folder();
    let expected = embeddings(folder.path());
    for (precision, tolerance) in [(Precision::F32, 0.0), (Precision::F16, 5e-4), (Precision::I8, 4e-3)] {
        export(folder.path(), &[&["--bank", &precision.to_string(), "--force"], &OUTPUT[..]].concat()).ok();
        let manifest = manifest(&folder.path().join("site"));
        let bank = SearchBank::read(&manifest.bank, &bytes(folder.path().join("site/bundle/bank.bin"))).unwrap();
        assert_eq!(manifest.bank.precision, precision);
        for (row, expected) in expected.chunks_exact(bank.dim()).enumerate() {
            let far = bank.row(row).unwrap().iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far <= tolerance, "{precision} row {row}: {far}");
        }
    }
}

#[test]
fn visitors_do_not_learn_where_the_images_lie() {
    let folder = folder();
    let photos = folder.path().join("photos");
    write_pictures(&photos, 12);
    let place = text(folder.path());
    export(folder.path(), &["--data", text(&photos)]).ok();
    let made = manifest(&folder.path().join("site"));
    assert_eq!(made.title, "photos");
    for entry in fs::read_dir(folder.path().join("site/bundle")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!String::from_utf8_lossy(&bytes(&path)).contains(place), "{}", path.display());
    }
    la(folder.path(), &["export", text(shared_run()), "--out", "projector", "--format", "projector", "--data", text(&photos)]).ok();
    let config = String::from_utf8(bytes(folder.path().join("projector/projector_config.json"))).unwrap();
    assert!(config.contains("photos") && !config.contains(place), "{config}");
}

#[test]
fn an_export_is_replaced_only_by_force_and_nothing_else_ever() {
    let folder = folder();
    export(folder.path(), &["--limit", "20"]).ok();
    assert_holds(&export(folder.path(), &[]).error(), &["--out site", "--force"]);
    assert_eq!(manifest(&folder.path().join("site")).bank.rows, 20);
    export(folder.path(), &["--limit", "30", "--force"]).ok();
    assert_eq!(manifest(&folder.path().join("site")).bank.rows, 30);
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/letter.txt"), "dear").unwrap();
    let refusal = la(folder.path(), &["export", text(shared_run()), "--out", "mine", "--force"]).error();
    assert_holds(&refusal, &["--out mine", "no earlier export"]);
    assert_eq!(bytes(folder.path().join("mine/letter.txt")), b"dear");
}

#[test]
fn force_replaces_no_folder_that_holds_more_than_an_export() {
    for format in ["site", "projector"] {
        let folder = folder();
        let site = folder.path().join("site");
        export(folder.path(), &["--limit", "20", "--format", format]).ok();
        fs::create_dir_all(site.join("pkg")).unwrap();
        for foreign in ["CNAME", ".nojekyll", "run-1/events.out", "pkg/mine.js"] {
            let path = site.join(foreign);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "mine").unwrap();
            let named = foreign.split("/events").next().unwrap();
            assert_holds(&export(folder.path(), &["--format", format, "--force"]).error(), &["--out site", named, "move that away"]);
            assert_eq!(bytes(&path), b"mine");
            fs::remove_file(&path).unwrap();
            let _ = fs::remove_dir(site.join("run-1"));
        }
        export(folder.path(), &["--limit", "30", "--format", format, "--force"]).ok();
    }
}

#[test]
fn what_cannot_be_exported_is_refused_before_the_work() {
    let folder = folder();
    assert_holds(&export(folder.path(), &["--thumb", "4"]).error(), &["--thumb must be in 8 to 256, got 4"]);
    assert_holds(&export(folder.path(), &["--weights", "f8"]).error(), &["f8", "f32, f16, i8"]);
    for (flag, format) in [("--weights", "atlas"), ("--bank", "projector")] {
        assert_holds(&export(folder.path(), &[flag, "f16", "--format", format]).error(), &[flag, "--format site", "leave it out"]);
    }
    assert_holds(&la(folder.path(), &["export", text(shared_run()), "--out", "no/site"]).error(), &["--out no/site", "make it first"]);
    let weights = text(&shared_run().join("model.safetensors")).to_string();
    fs::copy(&weights, folder.path().join("w.safetensors")).unwrap();
    assert_holds(&la(folder.path(), &["export", "w.safetensors", "--out", "site"]).error(), &["--data"]);
}

#[test]
fn the_projectors_files_agree_with_each_other() {
    let folder = folder();
    export(folder.path(), &["--format", "projector", "--thumb", "16"]).ok();
    let site = folder.path().join("site");
    let config: serde_json::Value = serde_json::from_slice(&bytes(site.join("projector_config.json"))).unwrap();
    let embedding = &config["embeddings"][0];
    let dim = embedding["tensorShape"][1].as_u64().unwrap() as usize;
    assert_eq!((&embedding["tensorShape"][0], dim > TINY_DIM), (&200.into(), true), "the read-out is fitted to the images");
    let lines = |name: &str| String::from_utf8(bytes(site.join(name))).unwrap().lines().map(str::to_string).collect::<Vec<_>>();
    let tensors = lines(embedding["tensorPath"].as_str().unwrap());
    assert!(tensors.len() == 200 && tensors.iter().all(|line| line.split('\t').count() == dim));
    assert_eq!(lines("metadata.tsv").len(), 201);
    assert_eq!(image::open(site.join("sprite.png")).unwrap().width(), 15 * 16);
}

#[test]
fn a_class_with_a_tab_in_its_name_adds_no_column() {
    let folder = folder();
    write_pictures(&folder.path().join("photos/cat\tand dog"), 8);
    write_pictures(&folder.path().join("photos/horse"), 8);
    export(folder.path(), &["--data", "photos", "--format", "projector"]).ok();
    let metadata = String::from_utf8(bytes(folder.path().join("site/metadata.tsv"))).unwrap();
    assert!(metadata.lines().all(|line| line.split('\t').count() == 2), "{metadata}");
    assert_holds(&metadata, &["\tcat and dog\n"]);
}

#[test]
fn the_atlas_file_holds_every_row_as_embedded() {
    let folder = folder();
    la(folder.path(), &[&["export", text(shared_run()), "--format", "atlas", "--out", "a.parquet"], &OUTPUT[..]].concat()).ok();
    let reader = SerializedFileReader::new(fs::File::open(folder.path().join("a.parquet")).unwrap()).unwrap();
    let expected = embeddings(folder.path());
    let mut count = 0;
    for (i, row) in reader.get_row_iter(None).unwrap().enumerate() {
        let row = row.unwrap();
        let columns: Vec<_> = row.get_column_iter().collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "name", "label", "x", "y", "image", "embedding"]);
        assert_eq!(*columns[0].1, Field::Long(i as i64));
        let Field::ListInternal(values) = columns[6].1 else { panic!("{:?}", columns[6].1) };
        let values: Vec<f32> = values.elements().iter().map(|x| if let Field::Float(x) = x { *x } else { panic!("{x:?}") }).collect();
        assert_eq!(values, expected[i * values.len()..(i + 1) * values.len()]);
        let Field::Group(picture) = columns[5].1 else { panic!("{:?}", columns[5].1) };
        let (_, Field::Bytes(jpeg)) = picture.get_column_iter().next().unwrap() else { panic!("no bytes") };
        assert!(image::load_from_memory(jpeg.data()).is_ok());
        count += 1;
    }
    assert_eq!(count, 200);
}

#[test]
fn an_export_among_the_pictures_themselves_is_refused() {
    let folder = folder();
    write_pictures(&folder.path().join("photos"), 8);
    let args = ["export", text(shared_run()), "--data", "photos", "--out", "photos/site"];
    assert_holds(&la(folder.path(), &args).error(), &["--out photos/site", "pictures of photos", "another place"]);
    assert_eq!(fs::read_dir(folder.path().join("photos")).unwrap().count(), 8);
}

#[test]
fn a_graph_holds_every_weight_and_says_how_pictures_are_prepared() {
    let folder = folder();
    let export =
        |more: &[&str]| la(folder.path(), &[&["export", text(shared_run()), "--format", "onnx", "--out", "a.onnx"], more].concat());
    export(&OUTPUT).ok();
    let graph = bytes(folder.path().join("a.onnx"));
    let holds = |part: &[u8]| graph.windows(part.len()).any(|window| window == part);
    let run = bytes(shared_run().join("model.safetensors"));
    let tensors = safetensors::SafeTensors::deserialize(&run).unwrap();
    for (name, tensor) in tensors.tensors() {
        assert!(holds(tensor.data()), "the values of {name} are missing");
    }
    for part in ["LpNormalization", "resized", "bilinear", "embeddings"] {
        assert!(holds(part.as_bytes()), "{part} is missing");
    }
    assert_holds(&export(&OUTPUT).error(), &["a.onnx", "--force"]);
    assert_holds(&export(&["--force", "--data", "sample"]).error(), &["--data: --format onnx writes the network alone"]);
}

#[test]
fn a_backbone_holds_every_weight_but_the_last_layer() {
    let folder = folder();
    let export = |more: &[&str]| {
        la(folder.path(), &[&["export", text(shared_run()), "--format", "backbone", "--out", "b.safetensors"], more].concat())
    };
    export(&[]).ok();
    let (run, backbone) = (bytes(shared_run().join("model.safetensors")), bytes(folder.path().join("b.safetensors")));
    let (run, backbone) = (safetensors::SafeTensors::deserialize(&run).unwrap(), safetensors::SafeTensors::deserialize(&backbone).unwrap());
    let kept: Vec<_> = run.tensors().into_iter().filter(|(name, _)| !name.starts_with("fc.")).collect();
    assert_eq!(backbone.len(), kept.len());
    assert_eq!(run.len(), kept.len() + 2);
    kept.iter().for_each(|(name, tensor)| assert_eq!(backbone.tensor(name).unwrap().data(), tensor.data(), "{name}"));
    assert_holds(&export(&[]).error(), &["b.safetensors", "--force"]);
}
