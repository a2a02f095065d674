//! ResNets against torchvision (golden values), finite differences, and refusals.

mod support;

use candle_core::{DType, Device, Tensor};
use la_core::resnet::{Arch, ResNet, ResNetConfig, Stem};
use std::collections::HashMap;
use support::{close, file_layout, formula_weights, golden, Fill};

fn net(arch: Arch, stem: Stem, fill: Fill) -> ResNet {
    let config = ResNetConfig { arch, stem, ..ResNetConfig::default() };
    let mut net = ResNet::new(&config, 0, &Device::Cpu).unwrap();
    let weights = formula_weights(&net, fill);
    net.load_tensors(&weights).unwrap();
    net
}

fn check_eval(file: &str, arch: Arch) {
    let golden = golden(file);
    let net = net(arch, Stem::Imagenet, Fill::of(file));
    let features = net.features(golden.get("input")).unwrap();
    close(&features.outputs, golden.get("output"), 1e-4, "output");
    for (i, stage) in features.stages.iter().enumerate() {
        let mean = stage.contiguous().unwrap().mean((2, 3)).unwrap();
        close(&mean, golden.get(&format!("mean.layer{}", i + 1)), 1e-4, "stage mean");
    }
    close(&net.embed(golden.get("input")).unwrap(), golden.get("embedding"), 1e-4, "embedding");
}

#[test]
fn golden_resnet18_in_eval_mode() {
    check_eval("resnet_18_eval_64px", Arch::Resnet18);
}

#[test]
fn golden_resnet18_in_eval_mode_at_an_odd_size() {
    check_eval("resnet_18_eval_odd_75x53", Arch::Resnet18);
}

/// Rows of layer3 in bands, as PyTorch's adaptive pooling cuts them: bands of an odd number of rows share one.
#[test]
fn a_read_out_sees_layer3_by_bands_of_rows_and_layer4_whole() {
    let net = ResNet::new(&ResNetConfig { width: 4, ..ResNetConfig::default() }, 3, &Device::Cpu).unwrap();
    let images = Tensor::randn(0f32, 1.0, (2, 3, 75, 53), &Device::Cpu).unwrap();
    let stages = net.features(&images).unwrap().stages;
    assert_eq!(stages[2].dims(), [2, 16, 5, 4]);
    for (bands, rows) in [(1, vec![(0, 5)]), (2, vec![(0, 3), (2, 5)]), (3, vec![(0, 2), (1, 4), (3, 5)])] {
        let of_rows = rows.iter().map(|&(start, end)| stages[2].narrow(2, start, end - start).unwrap().mean((2, 3)).unwrap());
        let means: Vec<Tensor> = of_rows.chain([stages[3].mean((2, 3)).unwrap()]).collect();
        close(&net.readout_features(&images, bands).unwrap(), &Tensor::cat(&means, 1).unwrap(), 1e-5, "means");
        assert_eq!(net.config().readout_bands(net.config().num_readout_features(bands)).unwrap(), bands);
    }
    let error = net.config().readout_bands(50).unwrap_err().to_string();
    assert!(error.contains("48 features and 16 more") && error.contains("got 50"), "{error}");
}

#[test]
fn golden_resnet50_in_eval_mode() {
    check_eval("resnet_50_eval_64px", Arch::Resnet50);
}

fn check_train(file: &str, stem: Stem) {
    let golden = golden(file);
    let mut net = net(Arch::Resnet18, stem, Fill::of(file));
    let (outputs, cache) = net.forward_train(golden.get("input")).unwrap();
    close(&outputs, golden.get("output"), 1e-4, "output");
    let (loss, grad) = support::target_loss(&outputs, &golden);
    let expected = golden.scalar("loss") as f64;
    assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "loss: got {loss}, expected {expected}");
    net.backward(cache, &grad).unwrap();
    let grads = file_layout(&net);
    for (name, expected) in golden.with_prefix("grad.") {
        close(&grads[name], expected, 1e-4, name);
    }
    let after: HashMap<String, Tensor> = net.tensors().unwrap().into_iter().collect();
    for (name, expected) in golden.with_prefix("after.") {
        close(&after[name], expected, 1e-4, name);
    }
}

#[test]
fn golden_resnet18_trains_as_torchvision() {
    check_train("resnet_18_train_64px", Stem::Imagenet);
}

#[test]
fn golden_resnet18_with_the_small_stem_trains_as_torchvision() {
    check_train("resnet_18_small_stem_train_32px", Stem::Small);
}

#[test]
fn golden_resnets_of_scattered_weights_in_eval_mode() {
    check_eval("resnet_18_scattered_eval_64px", Arch::Resnet18);
    check_eval("resnet_18_scattered_eval_odd_75x53", Arch::Resnet18);
    check_eval("resnet_50_scattered_eval_64px", Arch::Resnet50);
}

#[test]
fn golden_resnet18_of_scattered_weights_trains_as_torchvision() {
    check_train("resnet_18_scattered_small_stem_train_16px", Stem::Small);
}

fn random_images(batch: usize, height: usize, width: usize) -> Tensor {
    let mut rng = la_core::rng::Rng::new(la_core::rng::Stream::Augment, &[3]);
    let values: Vec<f32> = (0..batch * 3 * height * width).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, (batch, 3, height, width), &Device::Cpu).unwrap()
}

fn small_net(arch: Arch, stem: Stem) -> ResNet {
    ResNet::new(&ResNetConfig { arch, stem, width: 4, embedding_dim: 6 }, 5, &Device::Cpu).unwrap()
}

/// Loss `Σ outputs · target` in training mode, with one parameter moved by `step` along `direction`.
fn moved_loss(net: &mut ResNet, (images, target): (&Tensor, &Tensor), parameter: usize, direction: &Tensor, step: f64) -> f64 {
    let value = net.parameters()[parameter].value.clone();
    net.parameters_mut()[parameter].value = (&value + (direction * step).unwrap()).unwrap();
    let (outputs, _) = net.forward_train(images).unwrap();
    net.parameters_mut()[parameter].value = value;
    (outputs * target).unwrap().to_dtype(DType::F64).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Along its own gradient each parameter moves the loss by the gradient's length.
fn check_finite_differences(arch: Arch, stem: Stem, (height, width): (usize, usize)) {
    let images = random_images(6, height, width);
    let mut rng = la_core::rng::Rng::new(la_core::rng::Stream::Probe, &[1]);
    let target: Vec<f32> = (0..36).map(|_| rng.normal()).collect();
    let target = Tensor::from_vec(target, (6, 6), &Device::Cpu).unwrap();
    let mut net = small_net(arch, stem);
    let (_, cache) = net.forward_train(&images).unwrap();
    net.backward(cache, &target).unwrap();
    let grads: Vec<Tensor> = net.parameters().iter().map(|p| p.grad.copy().unwrap()).collect();
    let (mut error, mut scale) = (0f64, 0f64);
    for (p, grad) in grads.iter().enumerate() {
        let length: f32 = grad.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar().unwrap();
        let direction = (grad / length as f64).unwrap();
        // Kinks of ReLU and max-pool spoil single differences, so errors are held in the sum over all parameters.
        let step = 0.02 / (length as f64).max(20.0);
        let mut loss = |step| moved_loss(&mut net, (&images, &target), p, &direction, step);
        let numeric = (loss(step) - loss(-step)) / (2.0 * step);
        error += (numeric - length as f64).abs();
        scale += length as f64;
    }
    assert!(error < 0.02 * scale, "gradient error {error} against {scale}");
}

#[test]
fn gradients_equal_finite_differences_at_an_odd_size() {
    check_finite_differences(Arch::Resnet18, Stem::Imagenet, (45, 37));
}

#[test]
fn gradients_equal_finite_differences_with_the_small_stem_and_non_square_images() {
    check_finite_differences(Arch::Resnet18, Stem::Small, (9, 14));
}

#[test]
fn bottleneck_gradients_equal_finite_differences() {
    check_finite_differences(Arch::Resnet50, Stem::Small, (11, 8));
}

#[test]
fn tensors_of_a_network_make_an_equal_network() {
    for arch in [Arch::Resnet18, Arch::Resnet34, Arch::Resnet50] {
        let net = small_net(arch, Stem::Small);
        let tensors: HashMap<String, Tensor> = net.tensors().unwrap().into_iter().collect();
        let copy = ResNet::from_tensors(&tensors, &Device::Cpu).unwrap();
        assert_eq!(copy.config(), net.config());
        let images = random_images(2, 8, 8);
        let (a, b) = (net.embed(&images).unwrap(), copy.embed(&images).unwrap());
        assert_eq!(a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
    }
}

#[test]
fn candle_transformers_layer_names_come_in_torchvision_order() {
    let names: Vec<String> = small_net(Arch::Resnet18, Stem::Imagenet).tensors().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(
        &names[..7],
        ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "layer1.0.conv1.weight", "layer1.0.bn1.weight"]
    );
    assert_eq!(&names[names.len() - 2..], ["fc.weight", "fc.bias"]);
    assert_eq!(names.len(), 102);
}

#[test]
fn a_missing_tensor_is_named() {
    let mut tensors: HashMap<String, Tensor> = small_net(Arch::Resnet18, Stem::Small).tensors().unwrap().into_iter().collect();
    tensors.remove("layer3.1.bn2.running_var");
    let error = ResNet::from_tensors(&tensors, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("layer3.1.bn2.running_var is missing"), "{error}");
}

#[test]
fn an_unknown_tensor_is_named() {
    let mut tensors: HashMap<String, Tensor> = small_net(Arch::Resnet18, Stem::Small).tensors().unwrap().into_iter().collect();
    tensors.insert("layer5.0.conv1.weight".into(), Tensor::zeros((1,), DType::F32, &Device::Cpu).unwrap());
    let error = ResNet::from_tensors(&tensors, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("unexpected tensor layer5.0.conv1.weight"), "{error}");
}

#[test]
fn a_single_value_per_channel_is_refused_in_training() {
    let mut net = small_net(Arch::Resnet18, Stem::Imagenet);
    let error = net.forward_train(&random_images(1, 16, 16)).err().unwrap().to_string();
    assert!(error.contains("expected at least 2 values per channel"), "{error}");
}

#[test]
fn one_pixel_images_embed() {
    let embedding = small_net(Arch::Resnet18, Stem::Imagenet).embed(&random_images(2, 1, 1)).unwrap();
    let norms: Vec<f32> = embedding.sqr().unwrap().sum(1).unwrap().to_vec1().unwrap();
    assert!(norms.iter().all(|n| (n - 1.0).abs() < 1e-5), "{norms:?}");
}

#[test]
fn gray_images_of_one_channel_are_refused_by_shape() {
    let images = Tensor::zeros((2, 1, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let error = small_net(Arch::Resnet18, Stem::Small).embed(&images).err().unwrap().to_string();
    assert!(error.contains("expected f32 images (B, 3, H, W)"), "{error}");
}
