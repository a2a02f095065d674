//! The losses in candle's graph, and what refuses to be part of it.

mod support;

use candle_core::{DType, Device, Tensor, Var};
use la_core::{
    autograd,
    kmeans::{cluster, kmeans, ClusterLabels, KmeansConfig},
    loss::{self, z_over_n, LaConfig, Loss, NceConfig},
    memory_bank::MemoryBank,
    ops::{
        batch_norm::{batch_norm, batch_norm_eval, batch_stats, Epilogue},
        conv2d::{conv2d, Conv2d},
        normalize::{normalize, normalize_backward},
        pool::{global_average_pool, max_pool},
    },
    resnet::{Arch, ResNet, ResNetConfig, Stem},
    Result,
};
use support::close;
use support::clouds::{tensor, unit_rows};

const N: usize = 300;
const DIM: usize = 12;
const BATCH: usize = 8;
const INPUTS: usize = 10;
const TEMPERATURE: f64 = 0.3;

/// What every objective needs.
struct Case {
    bank: MemoryBank,
    clusters: ClusterLabels,
    indices: Vec<u32>,
    noise: Vec<u32>,
}

impl Case {
    fn new() -> Self {
        Self {
            bank: MemoryBank::from_tensor(tensor(unit_rows(N, DIM, 9, 0.5, 1), DIM)).unwrap(),
            clusters: ClusterLabels::new((0..2 * N as u32).map(|i| i * i % 11 % 5).collect(), 2).unwrap(),
            indices: (0..BATCH as u32).map(|b| b * 37).collect(),
            noise: (0..BATCH as u32 * 50).map(|i| i * 37 % N as u32).collect(),
        }
    }

    /// With all of the bank as background, so that no small step changes who the neighbours are.
    fn la(&self) -> LaConfig {
        LaConfig { num_background: N, temperature: TEMPERATURE }
    }

    fn nce(&self) -> NceConfig {
        NceConfig { temperature: TEMPERATURE, z_over_n: z_over_n(DIM, TEMPERATURE) }
    }
}

/// An objective as the engine computes it and as candle's graph has it.
struct Objective {
    name: &'static str,
    engine: fn(&Case, &Tensor) -> Result<Loss>,
    graph: fn(&Case, &Tensor) -> Result<Tensor>,
}

const OBJECTIVES: [Objective; 4] = [
    Objective {
        name: "local_aggregation",
        engine: |case, e| loss::local_aggregation(e, &case.bank, &case.indices, &case.clusters, &case.la()),
        graph: |case, e| autograd::local_aggregation(e, &case.bank, &case.indices, &case.clusters, &case.la()),
    },
    Objective {
        name: "instance_recognition",
        engine: |case, e| loss::instance_recognition(e, &case.bank, &case.indices, TEMPERATURE),
        graph: |case, e| autograd::instance_recognition(e, &case.bank, &case.indices, TEMPERATURE),
    },
    Objective {
        name: "instance_recognition_nce",
        engine: |case, e| loss::instance_recognition_nce(e, &case.bank, &case.indices, &case.noise, &case.nce()),
        graph: |case, e| autograd::instance_recognition_nce(e, &case.bank, &case.indices, &case.noise, &case.nce()),
    },
    Objective {
        name: "view_agreement",
        engine: |_, e| loss::view_agreement(e, TEMPERATURE),
        graph: |_, e| autograd::view_agreement(e, TEMPERATURE),
    },
];

fn inputs() -> Tensor {
    tensor(unit_rows(BATCH, INPUTS, 4, 0.9, 3), INPUTS)
}

fn weight() -> Var {
    Var::from_tensor(&tensor(unit_rows(INPUTS, DIM, 5, 0.9, 4), DIM)).unwrap()
}

/// `relu(x W)`, kept away from 0: a small network's outputs.
fn outputs(weight: &Tensor) -> Tensor {
    (inputs().matmul(weight).unwrap().relu().unwrap() + 0.05).unwrap()
}

fn scalar(tensor: &Tensor) -> f32 {
    tensor.to_scalar().unwrap()
}

#[test]
fn the_graph_and_the_engine_give_equal_losses_and_gradients() {
    let case = Case::new();
    for objective in OBJECTIVES {
        let weight = weight();
        let raw = outputs(&weight);
        let loss = (objective.graph)(&case, &autograd::normalize(&raw).unwrap()).unwrap();
        assert_eq!((loss.dims(), loss.dtype()), (&[][..], DType::F32), "{}", objective.name);
        let found = loss.backward().unwrap().remove(&weight).unwrap();

        let (unit, norms) = normalize(&raw.detach()).unwrap();
        let expected = (objective.engine)(&case, &unit).unwrap().settle().unwrap();
        assert_eq!(scalar(&loss), expected.loss, "{}", objective.name);
        let grad = normalize_backward(&unit, &norms, &expected.grad_embeddings).unwrap();
        // By hand through the ReLU and the product.
        let gate = inputs().matmul(&weight.detach()).unwrap().gt(0.0).unwrap().to_dtype(DType::F32).unwrap();
        let expected = inputs().t().unwrap().matmul(&(grad * gate).unwrap()).unwrap();
        close(&found, &expected, 1e-4, objective.name);
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let case = Case::new();
    let step = 1e-2f32;
    for objective in OBJECTIVES {
        let weight = weight();
        let loss_of = |weight: &Tensor| (objective.graph)(&case, &autograd::normalize(&outputs(weight)).unwrap()).unwrap();
        let grad = loss_of(&weight).backward().unwrap().remove(&weight).unwrap();
        let grad: Vec<f32> = grad.flatten_all().unwrap().to_vec1().unwrap();
        let scale = grad.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        let values: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
        for at in (0..values.len()).step_by(7) {
            let moved = |by: f32| {
                let mut values = values.clone();
                values[at] += by;
                scalar(&loss_of(&tensor(values, DIM)))
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((slope - grad[at]).abs() < 3e-2 * scale, "{} at {at}: {slope} for {}", objective.name, grad[at]);
        }
    }
}

#[test]
fn what_multiplies_a_loss_multiplies_its_gradient_and_losses_add_up() {
    let case = Case::new();
    let weight = weight();
    let embeddings = autograd::normalize(&outputs(&weight)).unwrap();
    let [first, second] = [&OBJECTIVES[0], &OBJECTIVES[3]].map(|objective| (objective.graph)(&case, &embeddings).unwrap());
    let grad = |loss: &Tensor| loss.backward().unwrap().remove(&weight).unwrap();
    let both = ((&first * 3.0).unwrap() + &second).unwrap();
    let expected = ((grad(&first) * 3.0).unwrap() + grad(&second)).unwrap();
    close(&grad(&both), &expected, 1e-5, "3 a + b");
}

#[test]
fn normalize_is_that_of_candles_own_operations() {
    let target = tensor(unit_rows(BATCH, DIM, 3, 0.9, 8), DIM);
    let grad = |unit: &dyn Fn(&Tensor) -> Tensor| {
        let weight = weight();
        let rows = unit(&outputs(&weight));
        (rows.detach(), (rows * &target).unwrap().sum_all().unwrap().backward().unwrap().remove(&weight).unwrap())
    };
    let (rows, found) = grad(&|x| autograd::normalize(x).unwrap());
    let (expected_rows, expected) = grad(&|x| {
        let norms = x.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
        x.broadcast_div(&norms).unwrap()
    });
    close(&rows, &expected_rows, 1e-6, "rows");
    close(&found, &expected, 1e-4, "gradient");
}

#[test]
fn embeddings_need_not_be_contiguous() {
    let rows = Var::from_tensor(&tensor(unit_rows(BATCH, DIM, 3, 0.9, 9), DIM).t().unwrap().contiguous().unwrap()).unwrap();
    let loss = autograd::view_agreement(&rows.t().unwrap(), TEMPERATURE).unwrap();
    let expected = loss::view_agreement(&rows.detach().t().unwrap(), TEMPERATURE).unwrap().settle().unwrap();
    assert_eq!(scalar(&loss), expected.loss);
    let grad = loss.backward().unwrap().remove(&rows).unwrap();
    close(&grad.t().unwrap(), &expected.grad_embeddings, 1e-6, "gradient of a transposed tensor");
}

#[test]
fn without_variables_the_graph_gives_the_loss_alone() {
    let loss = autograd::view_agreement(&tensor(unit_rows(BATCH, DIM, 3, 0.9, 9), DIM), TEMPERATURE).unwrap();
    assert!(scalar(&loss).is_finite() && !loss.track_op());
}

#[test]
fn what_does_not_fit_is_refused_as_by_the_engine() {
    let odd = Var::from_tensor(&tensor(unit_rows(5, DIM, 3, 0.9, 9), DIM)).unwrap();
    let error = autograd::view_agreement(&odd, TEMPERATURE).unwrap_err();
    assert_eq!(error.to_string(), "embeddings must be two for each image, got 5");
}

/// The error of an operation on a tensor that tracks gradients names the operation.
#[track_caller]
fn assert_refused<T>(result: Result<T>, operation: &str) {
    let error = result.err().unwrap_or_else(|| panic!("{operation} took a tensor that tracks gradients")).to_string();
    assert!(error.starts_with(&format!("{operation} carries no gradients")), "{operation}: {error}");
}

#[test]
fn an_operation_without_gradients_refuses_rows_that_track_them() {
    let case = Case::new();
    let rows = Var::from_tensor(&tensor(unit_rows(BATCH, DIM, 3, 0.9, 9), DIM)).unwrap();
    // A variable, and what was computed from one.
    for rows in [rows.as_tensor().clone(), (rows.as_tensor() * 2.0).unwrap()] {
        for objective in OBJECTIVES {
            assert_refused((objective.engine)(&case, &rows), &format!("loss::{}", objective.name));
        }
        assert_refused(loss::background_neighbors(&rows, &case.bank, 3), "background_neighbors");
        assert_refused(normalize(&rows), "normalize");
        assert_refused(MemoryBank::from_tensor(rows.clone()), "MemoryBank::from_tensor");
        let mut bank = MemoryBank::random(N, DIM, 1, &Device::Cpu).unwrap();
        assert_refused(bank.update(&case.indices, &rows, 0.5), "MemoryBank::update");
        let config = KmeansConfig { num_clusters: 2, ..KmeansConfig::default() };
        assert_refused(kmeans(&rows, &config), "k-means");
        assert_refused(cluster(&rows, 2, &config), "k-means");
        bank.update(&case.indices, &normalize(&rows.detach()).unwrap().0, 0.5).unwrap();
    }
}

#[test]
fn a_layer_without_gradients_refuses_images_that_track_them() {
    let config = ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 2, embedding_dim: 4 };
    let mut net = ResNet::new(&config, 1, &Device::Cpu).unwrap();
    let images = Var::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu).unwrap();
    assert_refused(net.embed(&images), "ResNet");
    assert_refused(net.features(&images), "ResNet");
    assert_refused(net.readout_features(&images, 2), "ResNet");
    assert_refused(net.forward_train(&images).map(drop), "ResNet");
    assert_refused(net.embed_pooled(&Var::zeros((2, 16), DType::F32, &Device::Cpu).unwrap()), "ResNet::embed_pooled");

    let x = Var::zeros((2, 4, 4, 3), DType::F32, &Device::Cpu).unwrap();
    let (weight, ones) =
        (Tensor::zeros((1, 1, 3, 3), DType::F32, &Device::Cpu).unwrap(), Tensor::ones(3, DType::F32, &Device::Cpu).unwrap());
    assert_refused(conv2d(&x, &weight, &Conv2d::square(1, 1, 0)), "conv2d");
    assert_refused(max_pool(&x, &Conv2d::square(2, 2, 0)), "max_pool");
    assert_refused(global_average_pool(&x), "global_average_pool");
    assert_refused(batch_stats(&x), "batch_stats");
    let stats = batch_stats(&x.detach()).unwrap();
    assert_refused(batch_norm(&x, &stats, (&ones, &ones), Epilogue::default()), "batch_norm");
    assert_refused(batch_norm_eval(&x, (&ones, &ones), (&ones, &ones), Epilogue::default()), "batch_norm_eval");
}
