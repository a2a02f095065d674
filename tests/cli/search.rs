//! `la-cli search`, and the files of embeddings that it and `la-cli eval` take in place of pictures.

use crate::support::*;
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn search(folder: &Path, args: &[&str]) -> Ended {
    la(folder, &[&["search", text(shared_run())], args].concat())
}

/// The names of the neighbours of the first query.
fn names(found: &str) -> Vec<String> {
    let found = json(found);
    let neighbors = found["queries"][0]["neighbors"].as_array().unwrap();
    neighbors.iter().map(|neighbor| neighbor["name"].as_str().unwrap().into()).collect()
}

#[test]
fn the_nearest_of_a_picture_is_its_copy() {
    let folder = folder();
    write_pictures(&folder.path().join("pictures"), 12);
    write_picture(&folder.path().join("a.png"), 3);
    write_picture(&folder.path().join("b.png"), 7);
    let found = json(&search(folder.path(), &["--data", "pictures", "--query", "a.png", "b.png", "--k", "4", "--json"]).ok());
    for (query, name) in found["queries"].as_array().unwrap().iter().zip(["03.png", "07.png"]) {
        let neighbors = query["neighbors"].as_array().unwrap();
        assert_eq!(neighbors.len(), 4);
        assert_eq!((&neighbors[0]["name"], &neighbors[0]["path"]), (&name.into(), &format!("pictures/{name}").into()));
        assert!((neighbors[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5);
        let scores: Vec<f64> = neighbors.iter().map(|neighbor| neighbor["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
}

#[test]
fn a_query_is_never_its_own_neighbour() {
    let folder = folder();
    let pictures = folder.path().join("pictures");
    write_pictures(&pictures, 6);
    let others = |query: &str, more: &[&str]| {
        let found = search(folder.path(), &[&["--data", "pictures", "--query", query, "--json"], more].concat()).ok();
        names(&found)
    };
    assert_eq!(others("pictures/03.png", &[]).len(), 5);
    for query in ["pictures/03.png", "./pictures/../pictures/03.png", text(&pictures.join("03.png"))] {
        assert!(!others(query, &["--k", "6"]).contains(&"03.png".to_string()), "{query}");
    }
    #[cfg(unix)]
    {
        for name in ["link.png", "other.png", "third.png"] {
            std::os::unix::fs::symlink("03.png", pictures.join(name)).unwrap();
        }
        let found = others("pictures/link.png", &["--k", "5"]);
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(["03.png", "link.png", "other.png", "third.png"].iter().all(|name| !found.contains(&name.to_string())), "{found:?}");
    }
}

#[test]
fn a_copy_under_another_name_is_found() {
    let folder = folder();
    write_pictures(&folder.path().join("pictures"), 6);
    fs::copy(folder.path().join("pictures/03.png"), folder.path().join("pictures/copy.png")).unwrap();
    let found = search(folder.path(), &["--data", "pictures", "--query", "pictures/03.png", "--k", "2", "--json"]).ok();
    assert_eq!(names(&found)[0], "copy.png");
}

#[test]
fn a_search_prints_scores_paths_and_classes_and_draws_them() {
    let folder = folder();
    write_pictures(&folder.path().join("set/spots"), 3);
    write_pictures(&folder.path().join("set/lines"), 3);
    let out = search(folder.path(), &["--data", "set", "--query", "set/spots/01.png", "--k", "2", "--panel", "p.png"]).ok();
    assert_holds(&out, &["1.0000  set/lines/01.png   lines", "votes"]);
    assert!(image::open(folder.path().join("p.png")).is_ok());
    let path = out.split("  ").find(|word| word.starts_with("set/lines/")).unwrap();
    assert!(folder.path().join(path.trim()).is_file(), "a printed path is not one: {path}");
}

#[test]
fn paths_for_scripts_end_with_zero_bytes() {
    let folder = folder();
    write_pictures(&folder.path().join("my set/train"), 5);
    let out = search(folder.path(), &["--data", "my set", "--query", "my set/train/01.png", "--k", "3", "-0"]).ok();
    let paths: Vec<&str> = out.strip_suffix('\0').expect("the last path ends with a zero byte").split('\0').collect();
    assert_eq!(paths.len(), 3);
    assert!(paths.iter().all(|path| path.starts_with("my set/train/") && folder.path().join(path).is_file()), "{paths:?}");
    let error = search(folder.path(), &["--data", "sample", "--query", "my set/train/01.png", "-0"]).error();
    assert_holds(&error, &["--print0", "no", "--json"]);
}

/// A folder of labelled pictures with their embeddings in `e.safetensors`, and a query beside.
fn embedded(how: &[&str]) -> tempfile::TempDir {
    let folder = folder();
    write_pictures(&folder.path().join("set/a"), 4);
    fs::create_dir(folder.path().join("set/b")).unwrap();
    (10..15).for_each(|i| write_picture(&folder.path().join(format!("set/b/{i}.png")), i));
    write_picture(&folder.path().join("query.png"), 2);
    la(folder.path(), &[&["embed", text(shared_run()), "--data", "set", "--out", "e.safetensors"], how].concat()).ok();
    folder
}

#[test]
fn embeddings_take_the_place_of_their_pictures() {
    let folder = embedded(&["--embedding", "output"]);
    // The read-out is fitted to pictures alone.
    let output = ["--embedding", "output", "--json"];
    let find = |data: &str| search(folder.path(), &[&["--data", data, "--query", "query.png", "--k", "5"], &output[..]].concat()).ok();
    let eval = |data: &str| {
        let args = ["eval", text(shared_run()), "--data", data, "--leave-one-out"];
        json(&la(folder.path(), &[&args[..], &output].concat()).ok())
    };
    let (found, measured) = (json(&find("set")), eval("set"));
    let own = ["--data", "e.safetensors", "--query", "set/a/01.png", "--k", "9"];
    let own = search(folder.path(), &[&own[..], &output].concat()).ok();
    assert!(!names(&own).contains(&"a/01.png".to_string()), "{own}");
    fs::rename(folder.path().join("set"), folder.path().join("elsewhere")).unwrap();
    let (again, measured_again) = (json(&find("e.safetensors")), eval("e.safetensors"));
    for (a, b) in found["queries"][0]["neighbors"].as_array().unwrap().iter().zip(again["queries"][0]["neighbors"].as_array().unwrap()) {
        assert_eq!((&a["name"], &a["score"], &a["class"]), (&b["name"], &b["score"], &b["class"]));
        assert_eq!((b["path"].is_null(), a["path"].is_string()), (true, true));
    }
    assert_eq!((&measured["knn_top1"], &measured["num_train"]), (&measured_again["knn_top1"], &measured_again["num_train"]));
    let args = ["eval", text(shared_run()), "--data", "e.safetensors", "--test", "e.safetensors", "--knn-k", "1"];
    let on_itself = json(&la(folder.path(), &[&args[..], &output].concat()).ok());
    assert_eq!((&on_itself["knn_top1"], &on_itself["num_test"]), (&1.0.into(), &9.into()));
}

#[test]
fn embeddings_of_other_weights_are_refused_with_the_way_out() {
    let folder = embedded(&[]);
    let args = |size| ["--data", "e.safetensors", "--query", "query.png", "--size", size];
    assert_holds(
        &search(folder.path(), &args("24")).error(),
        &["e.safetensors", "not made by", "24 px in f32", "--precision f32", "embed", "--force"],
    );
    search(folder.path(), &args("32")).ok();
    let error = la(folder.path(), &["eval", text(shared_run()), "--data", "e.safetensors", "--leave-one-out", "--size", "24"]).error();
    assert_holds(&error, &["e.safetensors", "not made by"]);
}

#[test]
fn what_needs_pictures_says_that_embeddings_are_none() {
    let folder = embedded(&[]);
    let panel = ["--data", "e.safetensors", "--query", "query.png", "--panel", "p.png"];
    assert_holds(&search(folder.path(), &panel).error(), &["--panel", "e.safetensors holds embeddings"]);
    let eval = ["eval", text(shared_run()), "--data", "e.safetensors", "--test", "set", "--linear"];
    assert_holds(&la(folder.path(), &eval).error(), &["--linear", "e.safetensors holds embeddings"]);
    let foreign = shared_run().join("bank.safetensors");
    assert_holds(
        &search(folder.path(), &["--data", text(&foreign), "--query", "query.png"]).error(),
        &["bank.safetensors", "la-cli embed"],
    );
}

#[test]
fn a_file_of_an_earlier_version_is_searched() {
    let folder = embedded(&[]);
    let file = bytes(folder.path().join("e.safetensors"));
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let names = json(&header.metadata().as_ref().unwrap()["images"])["names"].to_string();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let old = safetensors::serialize(tensors.tensors(), Some([("names".to_string(), names)].into())).unwrap();
    fs::write(folder.path().join("old.safetensors"), old).unwrap();
    let found = search(folder.path(), &["--data", "old.safetensors", "--query", "query.png", "--json"]).ok();
    assert!(names_are_of(&found, 9), "{found}");
    let eval = la(folder.path(), &["eval", text(shared_run()), "--data", "old.safetensors", "--leave-one-out", "--json"]).ok();
    assert_eq!(json(&eval)["num_classes"], 2);
}

fn names_are_of(found: &str, count: usize) -> bool {
    let names = names(found);
    names.len() == count && names.iter().all(|name| name.starts_with("a/") || name.starts_with("b/"))
}
