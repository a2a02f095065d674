//! SGD over candle's variables.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Optimizer;
use la_core::{
    optim::{Sgd, SgdConfig, VarSgd, VarSgdConfig},
    resnet::{Arch, ResNet, ResNetConfig, Stem},
};

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// A loss whose gradient by each variable is the tensor beside it.
fn loss(vars: &[Var], grads: &[Tensor]) -> Tensor {
    let terms: Vec<Tensor> = vars.iter().zip(grads).map(|(var, grad)| (var.as_tensor() * grad).unwrap().sum_all().unwrap()).collect();
    Tensor::stack(&terms, 0).unwrap().sum_all().unwrap()
}

#[test]
fn variables_move_as_the_parameters_of_a_network_do() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 2, embedding_dim: 4 };
    let mut net = ResNet::new(&config, 3, &Device::Cpu).unwrap();
    // A decay that is seen.
    let settings = SgdConfig { momentum: 0.9, weight_decay: 0.05 };
    let mut sgd = Sgd::new(settings, &net).unwrap();
    let vars: Vec<Var> = net.parameters().iter().map(|p| Var::from_tensor(&p.value.copy().unwrap()).unwrap()).collect();
    let mut candle = VarSgd::new(vars.clone(), VarSgdConfig { learning_rate: 0.1, sgd: settings }).unwrap();
    let pixels: Vec<f32> = (0..4 * 3 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
    let images = Tensor::from_vec(pixels, (4, 3, 8, 8), &Device::Cpu).unwrap();
    for rate in [0.1, 0.1, 0.02] {
        let (outputs, cache) = net.forward_train(&images).unwrap();
        net.backward(cache, &outputs).unwrap();
        let grads: Vec<Tensor> = net.parameters().iter().map(|p| p.grad.copy().unwrap()).collect();
        candle.set_learning_rate(rate);
        candle.backward_step(&loss(&vars, &grads)).unwrap();
        sgd.step(&mut net, rate).unwrap();
        for (parameter, var) in net.parameters().iter().zip(&vars) {
            assert_eq!(values(var), values(&parameter.value), "{}", parameter.name);
        }
    }
    assert_eq!(candle.learning_rate(), 0.02);
}

#[test]
fn velocity_gathers_and_weight_decay_spares_what_has_one_dimension() {
    let vars = [Var::ones(1, DType::F32, &Device::Cpu).unwrap(), Var::ones((1, 1), DType::F32, &Device::Cpu).unwrap()];
    let config = VarSgdConfig { learning_rate: 0.1, sgd: SgdConfig { momentum: 0.5, weight_decay: 1.0 } };
    let mut sgd = VarSgd::from_slice(&[&vars[0], &vars[1]], config).unwrap();
    let grads = [Tensor::ones(1, DType::F32, &Device::Cpu).unwrap(), Tensor::ones((1, 1), DType::F32, &Device::Cpu).unwrap()];
    for _ in 0..2 {
        sgd.backward_step(&loss(&vars, &grads)).unwrap();
    }
    // v = 1, w = 0.9; v = 1.5, w = 0.75. With decay: v = 2, w = 0.8; v = 0.5 · 2 + 1.8, w = 0.52.
    let found = [values(&vars[0])[0], values(&vars[1])[0]];
    assert!((found[0] - 0.75).abs() < 1e-6 && (found[1] - 0.52).abs() < 1e-6, "{found:?}");
}

#[test]
fn a_variable_without_a_gradient_stays_as_it_is() {
    let vars = [1.0f32, 2.0].map(|value| Var::new(&[[value]], &Device::Cpu).unwrap());
    let mut sgd = VarSgd::new(vars.to_vec(), VarSgdConfig::default()).unwrap();
    sgd.backward_step(&vars[0].sqr().unwrap().sum_all().unwrap()).unwrap();
    assert!(values(&vars[0])[0] < 1.0 && values(&vars[1])[0] == 2.0);
}

#[test]
fn variables_of_another_type_are_refused() {
    let var = Var::ones((2, 3), DType::F64, &Device::Cpu).unwrap();
    let error = VarSgd::new(vec![var], VarSgdConfig::default()).err().expect("a refusal").to_string();
    assert!(error.starts_with("VarSgd: expected f32 variables, got F64 [2, 3]"), "{error}");
}
