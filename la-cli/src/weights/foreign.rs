//! Weights that others made: a ResNet under the names of torchvision, timm, MoCo, lightly or transformers, with whatever they keep
//! beside it. Where the last layer is missing or tells classes apart, the pooled features are the embedding.

use crate::output::remark;
use anyhow::bail;
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::collections::HashMap;

/// What can be read, for weights that are not.
pub const KNOWN: &str =
    "these weights are not of a network that la-cli knows; it reads ResNet-18, 26, 34, 50, 101 and 152 under the names \
                         of torchvision, timm, DINO, MoCo, lightly or transformers";
/// Where other parts of a checkpoint repeat the network, the ones that are to be used, the best first.
const PREFERRED: [&str; 5] = ["encoder_q", "base_encoder", "teacher", "student", "backbone"];
/// Outputs of the last layer that are classes of ImageNet, or of more of it.
const CLASSES: [usize; 4] = [1000, 11_221, 21_841, 21_843];
/// The modules of a network that was cut into a row, as lightly does, by their number.
const NUMBERED: [(&str, &str); 6] =
    [("0.", "conv1."), ("1.", "bn1."), ("4.", "layer1."), ("5.", "layer2."), ("6.", "layer3."), ("7.", "layer4.")];

type Tensors = HashMap<String, Tensor>;

/// The tensors of the network alone under torchvision's names, with a last layer that gives the embedding. What was left out or
/// added is said; `name` is what the weights are called.
pub fn adopt(tensors: Tensors, config: Option<&Value>, name: &str, device: &Device) -> anyhow::Result<Tensors> {
    let total = tensors.len();
    let mut tensors = renamed(without_prefix(tensors, name)?);
    let mut is_classifier = is_classifier(config) || tensors.contains_key("classifier.weight");
    tensors.retain(|name, _| is_of_backbone(name));
    let head = tensors.get("fc.weight").map(|head| head.dims().to_vec());
    is_classifier |= head.as_ref().is_some_and(|dims| CLASSES.contains(&dims[0]));
    let num_left = total - tensors.len();
    if num_left > 0 {
        remark!("note: {name}: {num_left} of {total} tensors belong to other parts and are left out");
    }
    let width = tensors.get("conv1.weight").map_or(0, |conv| conv.dims().first().copied().unwrap_or(0));
    if head.is_none() || is_classifier {
        let expansion = if tensors.contains_key("layer1.0.conv3.weight") { 4 } else { 1 };
        let dim = width * 8 * expansion;
        let why = if head.is_some() { "its last layer tells classes apart" } else { "it has no last layer" };
        remark!("note: {name}: {why}, so the embedding is its {dim} pooled features");
        tensors.insert("fc.weight".into(), Tensor::eye(dim, DType::F32, device)?);
        tensors.insert("fc.bias".into(), Tensor::zeros(dim, DType::F32, device)?);
    }
    Ok(tensors)
}

/// Whether what lies beside the weights says that they classify: timm's `num_classes`, or transformers' architecture.
fn is_classifier(config: Option<&Value>) -> bool {
    let Some(config) = config else { return false };
    let classes = config.get("num_classes").and_then(Value::as_u64).unwrap_or(0);
    classes > 0 || config.get("id2label").is_some()
}

fn is_of_backbone(name: &str) -> bool {
    let is_stage = name.strip_prefix("layer").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_stage || ["conv1.", "bn1."].iter().any(|part| name.starts_with(part)) || ["fc.weight", "fc.bias"].contains(&name)
}

/// The network's tensors without what their names begin with; those of other networks beside it go.
fn without_prefix(tensors: Tensors, name: &str) -> anyhow::Result<Tensors> {
    const FIRST: [&str; 2] = ["conv1.weight", "embedder.embedder.convolution.weight"];
    let is_first = |tensor: &Tensor| tensor.rank() == 4 && tensor.dims()[1] == 3;
    let prefix = |(key, tensor): (&String, &Tensor)| {
        let prefix = FIRST.iter().find_map(|first| key.strip_suffix(first)).or_else(|| before_row(key, &tensors));
        prefix.filter(|prefix| is_first(tensor) && (prefix.is_empty() || prefix.ends_with('.'))).map(str::to_string)
    };
    let mut prefixes: Vec<String> = tensors.iter().filter_map(prefix).collect();
    prefixes.sort();
    let preferred = PREFERRED.iter().find_map(|part| prefixes.iter().find(|prefix| prefix.split('.').any(|word| word == *part)));
    let chosen = match (&prefixes[..], preferred) {
        ([], _) => {
            let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
            names.sort();
            bail!("{name}: {KNOWN}; its tensors are {}, …", names[..names.len().min(3)].join(", "));
        }
        ([only], _) => only.clone(),
        (_, Some(preferred)) => preferred.clone(),
        (several, None) => bail!("{name}: holds several networks, under {}; keep the tensors of one", several.join(", ")),
    };
    let kept = |(key, tensor): (String, Tensor)| match key.strip_prefix(&chosen) {
        Some(rest) => Some((rest.to_string(), tensor)),
        // transformers' head lies next to the network.
        None => key.starts_with("classifier.").then_some((key, tensor)),
    };
    Ok(tensors.into_iter().filter_map(kept).collect())
}

/// What precedes the number of the first of the modules of a row.
fn before_row<'a>(key: &'a str, tensors: &Tensors) -> Option<&'a str> {
    key.strip_suffix("0.weight").filter(|prefix| tensors.contains_key(&format!("{prefix}4.0.conv1.weight")))
}

/// Under torchvision's names.
fn renamed(tensors: Tensors) -> Tensors {
    let is_numbered = tensors.contains_key("0.weight") && tensors.contains_key("4.0.conv1.weight");
    let name = |key: &str| match is_numbered {
        true => NUMBERED.iter().find_map(|(number, name)| Some(format!("{name}{}", key.strip_prefix(number)?))),
        false => of_transformers(key),
    };
    tensors.into_iter().map(|(key, tensor)| (name(&key).unwrap_or(key), tensor)).collect()
}

/// `encoder.stages.0.layers.1.layer.0.convolution.weight` is `layer1.1.conv1.weight`.
fn of_transformers(key: &str) -> Option<String> {
    if let Some(rest) = key.strip_prefix("embedder.embedder.") {
        let (part, rest) = rest.split_once('.')?;
        return Some(format!("{}.{rest}", if part == "convolution" { "conv1" } else { "bn1" }));
    }
    if let Some(rest) = key.strip_prefix("classifier.1.") {
        return Some(format!("classifier.{rest}"));
    }
    let words: Vec<&str> = key.strip_prefix("encoder.stages.")?.split('.').collect();
    let next = |number: &str| Some(number.parse::<usize>().ok()? + 1);
    match words[..] {
        [stage, "layers", block, "shortcut", part, last] => {
            let number = if part == "convolution" { 0 } else { 1 };
            Some(format!("layer{}.{block}.downsample.{number}.{last}", next(stage)?))
        }
        [stage, "layers", block, "layer", number, part, last] => {
            let part = if part == "convolution" { "conv" } else { "bn" };
            Some(format!("layer{}.{block}.{part}{}.{last}", next(stage)?, next(number)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(names: &[(&str, &[usize])]) -> Tensors {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        names.iter().map(|(name, dims)| (name.to_string(), zeros(dims))).collect()
    }

    fn adopted(names: &[(&str, &[usize])], config: Option<Value>) -> Vec<(String, Vec<usize>)> {
        let adopted = adopt(tensors(names), config.as_ref(), "these", &Device::Cpu).unwrap();
        let mut all: Vec<_> = adopted.into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
        all.sort();
        all
    }

    const CONV: (&str, &[usize]) = ("conv1.weight", &[2, 3, 7, 7]);

    #[test]
    fn an_embedding_layer_stays_and_a_classifier_goes() {
        let dims = |fc: &[usize], config| adopted(&[CONV, ("fc.weight", fc), ("fc.bias", &fc[..1])], config)[2].1.clone();
        assert_eq!(dims(&[128, 16], None), [128, 16]);
        assert_eq!(dims(&[1000, 16], None), [16, 16]);
        assert_eq!(dims(&[10, 16], Some(serde_json::json!({"num_classes": 10}))), [16, 16]);
        assert_eq!(adopted(&[CONV], None)[2].1, [16, 16]);
    }

    #[test]
    fn the_right_one_of_several_networks_is_taken() {
        let q: &[usize] = &[2, 3, 7, 7];
        let names = [("module.encoder_q.conv1.weight", q), ("module.encoder_k.conv1.weight", &[4, 3, 7, 7]), ("module.queue", &[2, 2])];
        assert_eq!(adopted(&names, None)[0], ("conv1.weight".to_string(), q.to_vec()));
        let error = adopt(tensors(&[("a.conv1.weight", q), ("b.conv1.weight", q)]), None, "these", &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("several networks, under a., b."), "{error}");
    }

    #[test]
    fn names_of_transformers_and_of_rows_become_torchvisions() {
        let name = |key: &str| of_transformers(key).unwrap();
        assert_eq!(name("embedder.embedder.normalization.bias"), "bn1.bias");
        assert_eq!(name("encoder.stages.3.layers.2.layer.1.normalization.running_var"), "layer4.2.bn2.running_var");
        assert_eq!(name("encoder.stages.1.layers.0.shortcut.convolution.weight"), "layer2.0.downsample.0.weight");
        assert_eq!(name("encoder.stages.1.layers.0.shortcut.normalization.weight"), "layer2.0.downsample.1.weight");
        let row =
            [("backbone.0.weight", &[2usize, 3, 7, 7][..]), ("backbone.1.weight", &[2]), ("backbone.4.0.conv1.weight", &[2, 2, 3, 3])];
        let names: Vec<String> = adopted(&row, None).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bn1.weight", "conv1.weight", "fc.bias", "fc.weight", "layer1.0.conv1.weight"]);
    }
}
