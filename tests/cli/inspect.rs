//! `la-cli inspect`: duplicates, leaks, outliers, clusters, and what it refuses.

use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn inspect(folder: &Path, args: &[&str]) -> Ended {
    la(folder, &[&["inspect", text(shared_run())], args].concat())
}

fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&inspect(folder, &[args, &["--json"]].concat()).ok()).expect("one JSON object")
}

/// The names of each group's images.
fn groups(found: &Value) -> Vec<Vec<&str>> {
    let names = |group| array(group, "images").iter().map(|image| image["name"].as_str().unwrap()).collect();
    found.as_array().unwrap().iter().map(names).collect()
}

fn array<'a>(object: &'a Value, key: &str) -> &'a Vec<Value> {
    object[key].as_array().unwrap()
}

/// A picture as before, a little darker at one edge.
fn retouch(from: &Path, to: &Path) {
    let mut picture = image::open(from).unwrap().to_rgb8();
    picture.pixels_mut().take(20).for_each(|pixel| pixel.0[0] = pixel.0[0].saturating_sub(9));
    picture.save(to).unwrap();
}

/// Twelve pictures in two classes of a split; one comes in both parts.
fn leaking() -> tempfile::TempDir {
    let folder = folder();
    for (part, first) in [("train/cats", 0), ("train/dogs", 3), ("test/cats", 6), ("test/dogs", 9)] {
        fs::create_dir_all(folder.path().join("set").join(part)).unwrap();
        (first..first + 3).for_each(|i| write_picture(&folder.path().join("set").join(part).join(format!("{i}.png")), i));
    }
    fs::copy(folder.path().join("set/train/cats/1.png"), folder.path().join("set/test/dogs/one.png")).unwrap();
    folder
}

#[test]
fn equal_files_and_equal_pixels_are_identical_and_retouched_ones_are_near() {
    let folder = folder();
    let set = folder.path().join("set");
    write_pictures(&set, 8);
    fs::copy(set.join("00.png"), set.join("again.png")).unwrap();
    image::open(set.join("03.png")).unwrap().save(set.join("other.bmp")).unwrap();
    retouch(&set.join("05.png"), &set.join("retouched.png"));
    let found = json(folder.path(), &["--data", "set"]);
    assert_eq!(groups(&found["identical"]), [["00.png", "again.png"], ["03.png", "other.bmp"]]);
    assert_eq!(groups(&found["near"]), [["05.png", "retouched.png"]], "{}", found["near"]);
    let least = found["near"][0]["least"].as_f64().unwrap();
    assert!((0.9..1.0).contains(&least), "{least}");
    assert_eq!((&found["num_images"], &found["leaks"]), (&11.into(), &Value::Null));
    // Images are counted, not pairs; more the lower the threshold.
    let counts: Vec<u64> = found["curve"].as_array().unwrap().iter().map(|point| point["num_images"].as_u64().unwrap()).collect();
    assert!(counts.windows(2).all(|pair| pair[0] >= pair[1]) && *counts.last().unwrap() >= 4, "{counts:?}");
    let strict = json(folder.path(), &["--data", "set", "--threshold", "1"]);
    assert_eq!((groups(&strict["identical"]).len(), groups(&strict["near"]).len()), (2, 0));
}

#[test]
fn pictures_on_both_sides_of_a_split_are_told() {
    let folder = leaking();
    let found = json(folder.path(), &["--data", "set"]);
    assert_eq!(groups(&found["identical"]), [["cats/1.png", "dogs/one.png"]]);
    let group = &found["identical"][0];
    assert_eq!((&group["is_leak"], &group["is_contradiction"]), (&true.into(), &true.into()));
    let sides: Vec<&Value> = group["images"].as_array().unwrap().iter().map(|image| &image["split"]).collect();
    assert_eq!(sides, ["train", "test"]);
    assert_eq!((&found["leaks"]["num_identical"], &found["leaks"]["num_test"]), (&1.into(), &7.into()));
    let said = inspect(folder.path(), &["--data", "set"]).ok();
    assert_holds(
        &said,
        &[
            "2 images in 1 group",
            "1 group of identical pictures with 1 test image (14.3 %)",
            "on both sides of the split, of different classes",
            "train  set/train/cats/1.png",
            "test   set/test/dogs/one.png",
        ],
    );
    // A file that cannot be read does not move the split.
    fs::write(folder.path().join("set/train/cats/0.png"), "no picture").unwrap();
    let found = json(folder.path(), &["--data", "set"]);
    assert_eq!((&found["num_train"], &found["leaks"]["num_test"], &found["leaks"]["num_identical"]), (&5.into(), &7.into(), &1.into()));
}

#[test]
fn every_image_is_in_one_cluster_and_outliers_come_first() {
    let folder = leaking();
    let found = json(folder.path(), &["--data", "set", "--clusters", "3"]);
    let clusters = found["clusters"].as_array().unwrap();
    let mut all: Vec<u64> =
        clusters.iter().flat_map(|cluster| cluster["images"].as_array().unwrap()).map(|image| image.as_u64().unwrap()).collect();
    all.sort();
    assert_eq!(all, (0..13).collect::<Vec<_>>());
    assert!(clusters.len() <= 3 && clusters.iter().all(|cluster| cluster["typical"]["index"] == cluster["images"][0]));
    let outliers: Vec<f64> = found["outliers"].as_array().unwrap().iter().map(|image| image["similarity"].as_f64().unwrap()).collect();
    // One of the two copies.
    assert_eq!(outliers.len(), 12);
    assert!(outliers.windows(2).all(|pair| pair[0] <= pair[1]), "{outliers:?}");
}

#[test]
fn the_same_is_found_with_any_number_of_threads() {
    let folder = leaking();
    let of = |threads| {
        let mut found = json(folder.path(), &["--data", "set", "--no-cache", "--threads", threads]);
        found["seconds"] = Value::Null;
        found
    };
    assert_eq!(of("1"), of("2"));
}

#[test]
fn contact_sheets_show_names_as_they_are_and_replace_only_their_own() {
    let folder = leaking();
    let hostile = "<img src=x onerror=alert(1)>&\".png";
    fs::copy(folder.path().join("set/train/cats/2.png"), folder.path().join("set/train/cats").join(hostile)).unwrap();
    let out = ["--data", "set", "--out", "sheets"];
    assert_holds(&inspect(folder.path(), &out).ok(), &["sheets/index.html"]);
    let sheets = folder.path().join("sheets");
    for name in ["identical.jpg", "outliers.jpg", "clusters.jpg", "cluster-01.jpg"] {
        assert!(image::open(sheets.join(name)).unwrap().width() > 400, "{name}");
    }
    let page = fs::read_to_string(sheets.join("index.html")).unwrap();
    assert_holds(&page, &["&lt;img src=x onerror=alert(1)&gt;&amp;&quot;.png", "identical.jpg"]);
    assert!(!page.contains("<img src=x"));
    let kept: Value = serde_json::from_slice(&bytes(sheets.join("inspect.json"))).unwrap();
    assert_eq!(kept["identical"].as_array().unwrap().len(), 2);
    assert_holds(&inspect(folder.path(), &out).error(), &["--out sheets", "--force"]);
    inspect(folder.path(), &[&out[..], &["--force"]].concat()).ok();
    fs::write(sheets.join("mine.txt"), "").unwrap();
    assert_holds(&inspect(folder.path(), &[&out[..], &["--force"]].concat()).error(), &["--out sheets", "mine.txt"]);
    assert!(sheets.join("mine.txt").is_file());
}

#[test]
fn what_cannot_be_inspected_is_refused_with_the_way_out() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir(path.join("empty")).unwrap();
    assert_holds(&inspect(path, &["--data", "empty"]).error(), &["empty", "expected images"]);
    write_pictures(&path.join("one"), 1);
    assert_holds(&inspect(path, &["--data", "one"]).error(), &["needs at least 2, got 1", "--data"]);
    fs::write(path.join("one/broken.jpg"), "no picture").unwrap();
    let left = inspect(path, &["--data", "one", "--out", "sheets"]);
    assert_holds(&left.stderr, &["broken.jpg"]);
    assert_holds(&left.error(), &["needs at least 2, got 1"]);
    assert!(!path.join("sheets").exists());
    fs::create_dir(path.join("broken")).unwrap();
    ["a.jpg", "b.jpg"].iter().for_each(|name| fs::write(path.join("broken").join(name), "no picture").unwrap());
    assert_holds(&inspect(path, &["--data", "broken"]).error(), &["broken", "none of the 2 images could be read"]);
    write_pictures(&path.join("some"), 4);
    la(path, &["embed", text(shared_run()), "--data", "some", "--out", "e.safetensors"]).ok();
    assert_holds(&inspect(path, &["--data", "e.safetensors"]).error(), &["e.safetensors holds embeddings", "name their folder"]);
    assert_holds(&inspect(path, &["--data", "some", "--threshold", "1.5"]).error(), &["--threshold", "got 1.5"]);
    assert_holds(&inspect(path, &["--data", "some", "--clusters", "0"]).error(), &["--clusters", "got 0"]);
    assert_holds(&inspect(path, &["--data", "some", "--out", "some/sheets"]).error(), &["--out", "lies among the pictures of some"]);
    assert_holds(&inspect(path, &["--data", "some", "--force"]).error(), &["--out"]);
}

#[test]
fn pictures_that_are_all_the_same_are_one_group() {
    let folder = folder();
    fs::create_dir(folder.path().join("set")).unwrap();
    (0..5).for_each(|i| write_picture(&folder.path().join(format!("set/{i}.png")), 1));
    let found = json(folder.path(), &["--data", "set"]);
    assert_eq!((groups(&found["identical"])[0].len(), groups(&found["near"]).len()), (5, 0));
    assert_eq!(found["clusters"].as_array().unwrap().len(), 1);
}

#[test]
fn images_without_files_are_compared_too() {
    let found = json(folder().path(), &["--data", "sample", "--limit", "150", "--show", "0"]);
    assert!(found["identical"].is_array() && found["num_images"] == 1150, "{}", found["num_images"]);
    assert_eq!(found["outliers"][0]["path"], Value::Null);
}
