//! Weights that others made: used as they are, and adapted to a folder.

use crate::support::*;
use safetensors::tensor::TensorView;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;

/// Pooled features of the tiny run's network.
const FEATURES: usize = 64;

/// The tiny run's network as a checkpoint of MoCo has it: under a prefix, next to a queue, without its last layer.
fn write_checkpoint(path: &Path) {
    let run = bytes(shared_run().join("model.safetensors"));
    let tensors = SafeTensors::deserialize(&run).unwrap();
    let mut renamed: Vec<(String, TensorView)> = tensors.tensors();
    renamed.retain(|(name, _)| !name.starts_with("fc."));
    renamed.iter_mut().for_each(|(name, _)| *name = format!("module.encoder_q.{name}"));
    renamed.push(("module.queue".into(), tensors.tensor("bn1.bias").unwrap()));
    std::fs::write(path, safetensors::serialize(renamed, None).unwrap()).unwrap();
}

fn accuracy(at: &Path, weights: &str, more: &[&str]) -> f64 {
    let out = la(at, &[&["eval", weights, "--data", "pictures", "--leave-one-out", "--json"], more].concat()).ok();
    serde_json::from_str::<Value>(&out).unwrap()["knn_top1"].as_f64().unwrap()
}

#[test]
fn a_folder_is_indexed_with_them_and_then_they_are_adapted_to_it() {
    let at = folder();
    write_checkpoint(&at.path().join("theirs.safetensors"));
    for class in 0..2 {
        for i in 0..12 {
            std::fs::create_dir_all(at.path().join(format!("pictures/{class}"))).unwrap();
            write_picture(&at.path().join(format!("pictures/{class}/{i}.png")), 2 * i + class);
        }
    }
    let embed = ["embed", "theirs.safetensors", "--data", "pictures", "--size", "16", "--out", "e.safetensors"];
    let out = la(at.path(), &embed);
    assert_holds(&out.stderr, &["1 of 101 tensors belong to other parts", "the embedding is its 64 pooled features"]);
    out.ok();
    let file = bytes(at.path().join("e.safetensors"));
    assert_eq!(SafeTensors::deserialize(&file).unwrap().tensor("embeddings").unwrap().shape(), [24, FEATURES]);
    let before = accuracy(at.path(), "theirs.safetensors", &["--size", "16"]);

    let train = ["train", "--init", "theirs.safetensors", "--data", "pictures", "--out", "adapted", "--size", "16", "--epochs", "2"];
    let out = la(at.path(), &[&train[..], &["--ir-epochs", "1", "--batch-size", "8"]].concat());
    assert_holds(&out.stderr, &["the last layer begins anew, with 128 outputs; that of the weights has 64"]);
    assert_holds(&out.ok(), &["width 8, 128-dimensional embeddings"]);
    let config: Value = serde_json::from_slice(&bytes(at.path().join("adapted/config.json"))).unwrap();
    assert_eq!(config["train"]["init"], "theirs.safetensors");
    let after = accuracy(at.path(), "adapted", &[]);
    assert!(after > before + 0.1, "{before} before, {after} after");
    // Where it began from goes into the card of what is published.
    la(at.path(), &["push", "adapted", "me/adapted", "--dry-run", "out"]).ok();
    let card = String::from_utf8(bytes(at.path().join("out/README.md"))).unwrap();
    assert_holds(&card, &["It began from weights that had been trained before, `theirs.safetensors`"]);
}

#[test]
fn what_is_no_such_network_is_refused_with_what_would_be_read() {
    let at = folder();
    let values = [0u8; 4 * 2 * 3 * 4 * 4];
    let conv = TensorView::new(safetensors::Dtype::F32, vec![2, 3, 4, 4], &values).unwrap();
    let write = |name: &str, tensors: Vec<(&str, &TensorView)>| {
        std::fs::write(at.path().join(name), safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    write("vit.safetensors", vec![("patch_embed.proj.weight", &conv)]);
    write("two.safetensors", vec![("a.conv1.weight", &conv), ("b.conv1.weight", &conv)]);
    std::fs::write(at.path().join("old.pth"), b"no archive").unwrap();
    let refused = |name: &str| la(at.path(), &["info", name]).error();
    assert_holds(&refused("vit.safetensors"), &["vit.safetensors", "reads ResNet-18, 26, 34, 50, 101 and 152", "patch_embed.proj.weight"]);
    assert_holds(&refused("two.safetensors"), &["several networks, under a., b."]);
    assert_holds(&refused("old.pth"), &["old.pth: expected a file of torch.save", "safetensors.torch.save_file"]);
}
