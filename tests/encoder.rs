//! The network of an exported bundle against the network that was trained, and the browser's pictures against training's.

use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use la_core::augment::center;
use la_core::data::Picture;
use la_core::pca::whitening;
use la_core::preprocess::{preprocess, Normalization, Preprocessing};
use la_core::resnet::{decode, encode, Arch, Encoder, ResNet, ResNetConfig, Stem};
use la_core::search::Precision;
use std::collections::HashMap;

const CASES: [(Arch, Stem, usize, usize); 4] = [
    (Arch::Resnet18, Stem::Small, 16, 32),
    (Arch::Resnet18, Stem::Imagenet, 24, 75),
    (Arch::Resnet34, Stem::Small, 8, 17),
    (Arch::Resnet50, Stem::Imagenet, 8, 64),
];

/// A network whose running statistics are not those of its start.
fn net(config: &ResNetConfig) -> ResNet {
    let mut net = ResNet::new(config, 7, &Device::Cpu).unwrap();
    for _ in 0..3 {
        net.forward_train(&images(4, 48, 3)).unwrap();
    }
    net
}

fn images(batch: usize, size: usize, seed: usize) -> Tensor {
    let value = |i: usize| ((i * 31 + seed * 17) as f32 * 0.61).sin() + ((i / 7) as f32 * 0.013).cos();
    Tensor::from_vec((0..batch * 3 * size * size).map(value).collect::<Vec<_>>(), (batch, 3, size, size), &Device::Cpu).unwrap()
}

fn channels_last(images: &Tensor) -> Vec<f32> {
    images.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The least cosine between rows of what the encoder and the network give.
fn worst_cosine(precision: Precision, (arch, stem, width, size): (Arch, Stem, usize, usize)) -> f32 {
    let config = ResNetConfig { arch, stem, width, embedding_dim: 12 };
    let net = net(&config);
    let file = encode(&net.tensors().unwrap(), precision).unwrap();
    let encoder = Encoder::read(&config, &file).unwrap();
    let images = images(3, size, 1);
    let expected: Vec<Vec<f32>> = net.embed(&images).unwrap().to_vec2().unwrap();
    let got = encoder.embed(&channels_last(&images), 3, size, size).unwrap();
    let cosine = |(a, b): (&Vec<f32>, &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    expected.iter().zip(got.chunks_exact(12)).map(cosine).fold(1.0, f32::min)
}

#[test]
fn embeddings_are_the_trained_networks_as_closely_as_the_weights_allow() {
    for case in CASES {
        for (precision, least) in [(Precision::F32, 0.99999), (Precision::F16, 0.9999), (Precision::I8, 0.98)] {
            let cosine = worst_cosine(precision, case);
            assert!(cosine >= least, "{case:?} {precision}: cosine {cosine}");
        }
    }
}

#[test]
fn as_a_candle_module_the_network_gives_the_encoders_embeddings() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 8, embedding_dim: 12 };
    let (net, images) = (net(&config), images(3, 20, 1));
    let tensors: HashMap<String, Tensor> = net.tensors().unwrap().into_iter().collect();
    let file = encode(&net.tensors().unwrap(), Precision::F32).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, &file).unwrap();

    let expected = Encoder::read(&config, &file).unwrap().embed(&channels_last(&images), 3, 20, 20).unwrap();
    let built = ResNet::from_var_builder(&config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap();
    for module in [net, built, ResNet::from_file(&path, &Device::Cpu).unwrap()] {
        // A Module that candle-nn can hold.
        let found: Vec<f32> = candle_nn::seq().add(module).forward(&images).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected.len() && worst < 1e-5, "largest difference {worst}");
    }
}

#[test]
fn weights_that_cannot_be_taken_are_refused_by_name() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 2, embedding_dim: 4 };
    let refusal = |weights| ResNet::from_var_builder(&config, weights).err().expect("a refusal").to_string();
    let mut tensors: HashMap<String, Tensor> = net(&config).tensors().unwrap().into_iter().collect();
    tensors.remove("layer3.1.bn2.weight");
    assert!(refusal(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).contains("layer3.1.bn2.weight"));
    let variables = VarMap::new();
    assert!(
        refusal(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu)).starts_with("ResNet::from_var_builder carries no gradients")
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    std::fs::write(&path, "other").unwrap();
    let error = ResNet::from_file(&path, &Device::Cpu).err().expect("a refusal").to_string();
    assert!(error.contains("other.safetensors") && error.contains("not a safetensors file"), "{error}");
}

#[test]
fn the_error_of_a_candle_module_is_this_crates_in_words() {
    let net = ResNet::new(&ResNetConfig { width: 2, ..ResNetConfig::default() }, 1, &Device::Cpu).unwrap();
    let images = Var::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
    assert!(Module::forward(&net, &images).unwrap_err().to_string().starts_with("ResNet carries no gradients"));
}

#[test]
fn a_read_out_gives_the_embeddings_in_place_of_the_output() {
    for (arch, stem, width, size) in CASES {
        let config = ResNetConfig { arch, stem, width, embedding_dim: 12 };
        let net = net(&config);
        let bands = 1 + size % 3;
        let features = net.readout_features(&images(40, size, 5), bands).unwrap();
        assert_eq!(features.dims(), [40, config.num_readout_features(bands)]);
        let map = whitening(&features, 6).unwrap();
        let tensors = [net.tensors().unwrap(), map.tensors()].concat();
        let images = images(3, size, 1);
        let expected: Vec<Vec<f32>> = map.apply(&net.readout_features(&images, bands).unwrap()).unwrap().to_vec2().unwrap();
        for (precision, least) in [(Precision::F32, 0.9999), (Precision::F16, 0.999), (Precision::I8, 0.9)] {
            let encoder = Encoder::read(&config, &encode(&tensors, precision).unwrap()).unwrap();
            assert_eq!(encoder.dim(), 6);
            let got = encoder.embed(&channels_last(&images), 3, size, size).unwrap();
            for (a, b) in expected.iter().zip(got.chunks_exact(6)) {
                let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert!(cosine >= least, "{config:?} {precision}: cosine {cosine}");
            }
        }
    }
}

#[test]
fn stored_weights_are_read_back_as_they_were_rounded() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 8, embedding_dim: 4 };
    let tensors = net(&config).tensors().unwrap();
    for precision in [Precision::F32, Precision::F16, Precision::I8] {
        let file = encode(&tensors, precision).unwrap();
        let read = decode(&file, &Device::Cpu).unwrap();
        let again: Vec<(String, Tensor)> = tensors.iter().map(|(name, _)| (name.clone(), read[name].clone())).collect();
        // What was rounded once is stored again without loss.
        assert!(encode(&again, precision).unwrap() == file, "{precision}");
        for (name, tensor) in &tensors {
            let of = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (before, after) = (of(tensor), of(&read[name]));
            let largest = before.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= largest / 253.0), "{name} {precision}");
        }
    }
    let broken = encode(&tensors, Precision::I8).unwrap();
    let text = String::from_utf8_lossy(&broken[..400]).into_owned();
    assert!(text.contains("conv1.weight.scale"));
    let mut broken = broken;
    let at = broken.windows(18).position(|w| w == b"conv1.weight.scale").unwrap();
    broken[at + 13] = b'S';
    assert!(decode(&broken, &Device::Cpu).unwrap_err().to_string().contains("conv1.weight.scale"));
}

#[test]
fn one_image_is_embedded_as_in_a_batch() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 16, embedding_dim: 8 };
    let encoder = Encoder::read(&config, &encode(&net(&config).tensors().unwrap(), Precision::F16).unwrap()).unwrap();
    let images = channels_last(&images(5, 32, 2));
    let all = encoder.embed(&images, 5, 32, 32).unwrap();
    let last = encoder.embed(&images[4 * 32 * 32 * 3..], 1, 32, 32).unwrap();
    assert!(all[32..].iter().zip(&last).all(|(a, b)| (a - b).abs() < 1e-6), "{all:?} {last:?}");
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 8, embedding_dim: 4 };
    let tensors = net(&config).tensors().unwrap();
    let file = encode(&tensors, Precision::F16).unwrap();
    let refusal = |config: &ResNetConfig, file: &[u8]| Encoder::read(config, file).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refusal(&ResNetConfig { width: 16, ..config.clone() }, &file)
        .contains("conv1.weight has shape [8, 3, 3, 3], expected [16, 3, 3, 3]"));
    assert!(refusal(&ResNetConfig { arch: Arch::Resnet34, ..config.clone() }, &file).contains("layer1.2.conv1.weight is missing"));
    assert!(refusal(&config, &file[..file.len() - 1]).contains("safetensors"));
    let mut broken = tensors;
    broken[0].1 = (broken[0].1.zeros_like().unwrap() + f64::NAN).unwrap().to_dtype(DType::F32).unwrap();
    for precision in [Precision::F32, Precision::F16] {
        let file = encode(&broken, precision);
        assert!(file.is_err() || refusal(&config, &file.unwrap()).contains("conv1.weight holds NaN"), "{precision}");
    }
}

#[test]
fn a_picture_from_a_browser_is_prepared_as_for_training() {
    for (width, height, size, crop_fraction) in [(50, 37, 32, 1.0), (90, 200, 64, 0.875), (20, 20, 32, 0.9)] {
        let how = Preprocessing::of(size, crop_fraction, Normalization::default());
        let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7919 % 251) as u8).collect();
        let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        let mut expected = vec![0.0; size * size * 3];
        let plain = Preprocessing { normalization: Normalization::identity(), ..how };
        center(&Picture::new(width, height, rgb).unwrap(), &plain, &mut expected).unwrap();
        for (i, x) in expected.iter_mut().enumerate() {
            *x = (*x - how.normalization.mean[i % 3]) / how.normalization.std[i % 3];
        }
        let got = preprocess(&rgba, width, height, &how).unwrap();
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{width}x{height}");
        assert!(preprocess(&rgba[1..], width, height, &how).is_err());
    }
}

#[test]
fn a_picture_of_any_sides_is_prepared_at_any_size() {
    for size in [28, 30, 64, 224] {
        let how = Preprocessing::of(size, 1.0, Normalization::default());
        for (width, height) in [(123, 160), (160, 123), (306, 246), (197, 116)].into_iter().chain((1..160).map(|i| (i, 2 * i % 61 + 90))) {
            assert!(preprocess(&vec![0; 4 * width * height], width, height, &how).is_ok(), "{width}x{height} at {size} px");
        }
    }
}

#[test]
fn transparent_parts_of_a_picture_are_white() {
    let how = Preprocessing::plain(1);
    assert_eq!(preprocess(&[9, 9, 9, 0], 1, 1, &how).unwrap(), [1.0; 3]);
    assert_eq!(preprocess(&[0, 255, 0, 255], 1, 1, &how).unwrap(), [0.0, 1.0, 0.0]);
}
