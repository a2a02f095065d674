//! What was found, as one JSON object.

use super::find::{num_leaked, Twins, NUM_NEAREST};
use super::Inspected;
use serde_json::{json, Value};

/// The object that `--json` prints and `inspect.json` holds.
pub fn of(found: &Inspected) -> anyhow::Result<String> {
    let findings = &found.findings;
    let num_train = found.num_train.unwrap_or(found.images.len());
    let leaks = found.num_train.map(|num_train| {
        json!({
            "num_test": found.images.len() - num_train,
            "num_identical": num_leaked(&findings.identical, num_train),
            "num_near": num_leaked(&findings.near, num_train),
        })
    });
    let object = json!({
        "weights": found.args.encoder.weights,
        "data": found.args.data,
        "num_images": found.images.len(),
        "num_train": num_train,
        "threshold": number(found.args.threshold),
        "complete_from": number(findings.complete_from),
        "identical": groups(found, &findings.identical),
        "near": groups(found, &findings.near),
        "curve": findings.curve.iter().map(|(threshold, count)| json!({"threshold": number(*threshold), "num_images": count})).collect::<Vec<_>>(),
        "leaks": leaks,
        "num_nearest": NUM_NEAREST,
        "outliers": findings.outliers.iter().map(|&(image, similarity)| with(image_of(found, image), "similarity", number(similarity))).collect::<Vec<_>>(),
        "clusters": findings.clusters.iter().map(|cluster| clusters(found, &cluster.images)).collect::<Vec<_>>(),
        "seconds": found.seconds,
    });
    Ok(serde_json::to_string(&object)?)
}

fn groups(found: &Inspected, groups: &[Twins]) -> Vec<Value> {
    let group = |group: &Twins| {
        json!({
            "least": number(group.least),
            "is_leak": group.is_leak,
            "is_contradiction": group.is_contradiction,
            "images": group.images.iter().map(|&image| image_of(found, image)).collect::<Vec<_>>(),
        })
    };
    groups.iter().map(group).collect()
}

fn clusters(found: &Inspected, images: &[u32]) -> Value {
    json!({"num_images": images.len(), "typical": image_of(found, images[0]), "images": images})
}

fn image_of(found: &Inspected, image: u32) -> Value {
    let index = image as usize;
    json!({
        "index": index,
        "name": found.images.name(index),
        "path": found.images.path(index).map(|path| path.to_string_lossy()),
        "split": found.side(image),
        "class": found.class(image),
    })
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

/// A number by its own digits, as an f32 has few.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
