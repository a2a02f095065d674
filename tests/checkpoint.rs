//! Checkpoints: nothing is lost in them, and nothing else passes for one.

#[path = "support/blobs.rs"]
mod blobs;

use blobs::{config, run, splits};
use candle_core::{DType, Device, Tensor};
use la_core::{
    checkpoint::{TrainImages, TrainState},
    config::TrainConfig,
    resnet::Arch,
    tensor_files::{read_tensors, write_tensors},
    Error,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The checkpoint of a short run, and the configuration it was written with.
fn checkpoint() -> (TempDir, PathBuf, TrainConfig) {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 2, ir_epochs: 1, ..config() }.fit(24).unwrap().config;
    run(&config, &splits(24), &folder.path().join("run")).unwrap();
    let path = folder.path().join("run/checkpoint/latest.safetensors");
    (folder, path, config)
}

fn images(count: usize) -> TrainImages {
    TrainImages::of(&*splits(count).train)
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::F32 => tensor.to_vec1::<f32>().unwrap().iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => tensor.to_vec1::<u32>().unwrap().iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn refusal(path: &Path, config: &TrainConfig, num_images: usize) -> String {
    match TrainState::load(path, config, &images(num_images)) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(&path.display().to_string()), "the file is not named: {message}");
            message
        }
    }
}

#[test]
fn loading_and_saving_keeps_every_bit() {
    let (folder, path, config) = checkpoint();
    let state = TrainState::load(&path, &config, &images(24)).unwrap();
    assert!(state.clusters.is_some());
    assert_eq!((state.position.epoch, state.position.step, state.position.epochs.len()), (2, 0, 2));
    let again = folder.path().join("again.safetensors");
    state.save(&again).unwrap();
    let (first, second) = (read_tensors(&path, &Device::Cpu).unwrap().0, read_tensors(&again, &Device::Cpu).unwrap().0);
    assert_eq!(first.len(), second.len());
    for (name, tensor) in first {
        assert_eq!(bytes(&tensor), bytes(&second[&name]), "{name}");
    }
    let position = TrainState::load(&again, &config, &images(24)).unwrap().position;
    assert_eq!(position.epochs, state.position.epochs);
}

#[test]
fn a_checkpoint_of_another_architecture_names_both() {
    let (_folder, path, config) = checkpoint();
    let other = TrainConfig { arch: Arch::Resnet34, width: 8, ..config };
    let message = refusal(&path, &other, 24);
    assert!(message.contains("arch \"resnet18\" there, \"resnet34\" here"), "{message}");
    assert!(message.contains("width 4 there, 8 here"), "{message}");
}

#[test]
fn a_checkpoint_of_other_data_names_both_sizes() {
    let (_folder, path, config) = checkpoint();
    assert!(refusal(&path, &config, 25).contains("24 training images there, 25 here"));
}

#[test]
fn a_checkpoint_of_as_many_other_images_is_refused() {
    let (_folder, path, config) = checkpoint();
    let other = TrainImages { names: "0".repeat(64), ..images(24) };
    let error = TrainState::load(&path, &config, &other).err().unwrap().to_string();
    assert!(error.contains("the order of the 24 training images have changed"), "{error}");
    let longer = TrainConfig { epochs: 3, ..config };
    assert!(TrainState::branch(&path, &longer, &other).err().unwrap().to_string().contains("on other images"));
}

#[test]
fn threads_and_checkpoint_times_may_change() {
    let (_folder, path, config) = checkpoint();
    let other = TrainConfig { threads: 7, checkpoint_minutes: Some(1.0), checkpoint_interval: 9, ..config };
    assert!(TrainState::load(&path, &other, &images(24)).is_ok());
}

#[test]
fn a_branch_keeps_network_and_data_and_has_something_left_to_do() {
    let (_folder, path, config) = checkpoint();
    let refused = |config: &TrainConfig, num_images| match TrainState::branch(&path, config, &images(num_images)) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error.to_string(),
    };
    let longer = TrainConfig { epochs: 3, lr: 0.5, batch_size: 6, ..config.clone() };
    let state = TrainState::branch(&path, &longer, &images(24)).unwrap();
    assert_eq!((state.position.epoch, state.position.config.lr), (2, 0.5));
    assert!(state.clusters.is_none());
    assert!(refused(&config, 24).contains("2 epochs are done; epochs must be more, got 2"));
    assert!(refused(&longer, 25).contains("24 training images there, 25 here"), "{}", refused(&longer, 25));
    let wider = TrainConfig { width: 8, ..longer.clone() };
    assert!(refused(&wider, 24).ends_with("width 4, expected 8; width 4 asks for that one"), "{}", refused(&wider, 24));
    // Inside an epoch, whose steps are those of the batch size it began with.
    let mut state = TrainState::load(&path, &config, &images(24)).unwrap();
    state.position.step = 1;
    state.save(&path).unwrap();
    assert!(refused(&longer, 24).contains("inside epoch 3"), "{}", refused(&longer, 24));
}

#[test]
fn a_truncated_checkpoint_is_named_in_the_error() {
    let (_folder, path, config) = checkpoint();
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(refusal(&path, &config, 24).contains("cut off or of another format"));
    }
}

#[test]
fn weights_alone_are_no_checkpoint() {
    let (folder, _, config) = checkpoint();
    let message = refusal(&folder.path().join("run/model.safetensors"), &config, 24);
    assert!(message.contains("without training state"), "{message}");
}

#[test]
fn a_missing_file_and_a_folder_are_no_checkpoints() {
    let (folder, _, config) = checkpoint();
    refusal(&folder.path().join("nowhere.safetensors"), &config, 24);
    assert!(refusal(folder.path(), &config, 24).contains("got a folder"));
}

#[test]
fn a_missing_tensor_is_named() {
    let (_folder, path, config) = checkpoint();
    let (mut tensors, metadata) = read_tensors(&path, &Device::Cpu).unwrap();
    tensors.remove("net.layer2.0.conv1.weight");
    let (key, value) = metadata.into_iter().next().unwrap();
    write_tensors(&path, &tensors.into_iter().collect::<Vec<_>>(), Some((&key, value))).unwrap();
    assert!(refusal(&path, &config, 24).contains("layer2.0.conv1.weight"));
}

#[test]
fn weights_that_are_not_finite_never_replace_a_checkpoint() {
    let (_folder, path, config) = checkpoint();
    let before = fs::read(&path).unwrap();
    let mut state = TrainState::load(&path, &config, &images(24)).unwrap();
    let mut tensors: std::collections::HashMap<_, _> = state.net.tensors().unwrap().into_iter().collect();
    let bias = tensors["fc.bias"].dims().to_vec();
    tensors.insert("fc.bias".into(), Tensor::full(f32::NAN, bias, &Device::Cpu).unwrap());
    state.net.load_tensors(&tensors).unwrap();
    let error = state.save(&path).unwrap_err();
    assert!(matches!(&error, Error::Diverged(message) if message.contains("fc.bias holds NaN")), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}
