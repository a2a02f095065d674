//! PyTorch's own files, `torch.save(state_dict)` or a checkpoint that holds one, through candle's reader, which runs none of their code.

use anyhow::{bail, Context};
use candle_core::{pickle, Tensor};
use std::path::Path;

/// How such files are called.
const ENDINGS: [&str; 5] = ["pth", "pt", "bin", "tar", "ckpt"];
/// Where checkpoints keep the network.
const KEYS: [Option<&str>; 7] =
    [None, Some("state_dict"), Some("model"), Some("model_state_dict"), Some("teacher"), Some("student"), Some("net")];

/// Whether a file is called as PyTorch's are.
pub fn is_one(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

/// The tensors of such a file as those of a safetensors file, in the order of their names.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let of_key = |key: &Option<&str>| pickle::read_all_with_key(path, *key).ok().filter(|tensors| tensors.iter().any(is_filter));
    let Some(mut tensors) = KEYS.iter().find_map(of_key) else {
        bail!(
            "{shown}: expected a file of torch.save, 1.6 or later, with a network's tensors; convert it with \
             `safetensors.torch.save_file(state_dict, \"model.safetensors\")`"
        );
    };
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    safetensors::serialize(tensors, None).with_context(|| shown.to_string())
}

/// Whether a tensor is the weight of a convolution.
fn is_filter((_, tensor): &(String, Tensor)) -> bool {
    tensor.rank() == 4
}
