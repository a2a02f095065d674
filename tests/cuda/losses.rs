//! The objectives, the bank and k-means on the GPU.

use super::{
    gpu, here,
    support::{
        close,
        clouds::{tensor, unit_rows},
        golden,
    },
    F32,
};
use candle_core::{Device, Tensor, Var};
use la_core::{
    autograd,
    kmeans::{cluster, kmeans, ClusterLabels, KmeansConfig},
    loss::{
        background_neighbors, instance_recognition, instance_recognition_nce, local_aggregation, view_agreement, LaConfig, Loss,
        LossOutput, NceConfig,
    },
    memory_bank::MemoryBank,
    ops::{
        device::{gpu_memory, Precision},
        normalize::{normalize, normalize_backward},
    },
    rng::{Rng, Stream},
};

fn same_loss(found: Loss, expected: &LossOutput, what: &str) {
    assert!(matches!(found, Loss::Pending(_)), "{what}: nothing waits for the GPU");
    let found = found.settle().unwrap();
    let difference = (found.loss - expected.loss).abs();
    assert!(difference <= 1e-4 * expected.loss.abs(), "{what}: loss {} for {}", found.loss, expected.loss);
    assert_eq!(found.num_empty_close, expected.num_empty_close, "{what}");
    close(&here(&found.grad_embeddings), &expected.grad_embeddings, F32, what);
}

fn random_indices(count: usize, below: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng::new(Stream::Bench, &[seed]);
    (0..count).map(|_| rng.below(below) as u32).collect()
}

#[test]
fn golden_local_aggregation_holds() {
    let (device, _guard) = gpu(Precision::F32);
    for name in ["la_base", "la_all_background", "la_tau02_mom09", "la_true_groups"] {
        let golden = golden(name);
        let (unit, norms) = normalize(&golden.get("outputs").to_device(&device).unwrap()).unwrap();
        let bank = MemoryBank::from_tensor(golden.get("bank").to_device(&device).unwrap()).unwrap();
        let clusters = ClusterLabels::new(golden.indices("cluster_labels"), golden.number("h") as usize).unwrap();
        let config = LaConfig { num_background: golden.number("k") as usize, temperature: golden.number("temperature") };
        let found = local_aggregation(&unit, &bank, &golden.indices("indices"), &clusters, &config).unwrap().settle().unwrap();
        assert!((found.loss - golden.scalar("loss")).abs() <= 1e-4 * golden.scalar("loss").abs(), "{name}: {}", found.loss);
        let grad = normalize_backward(&unit, &norms, &found.grad_embeddings).unwrap();
        close(&here(&grad), golden.get("grad_outputs"), F32, name);
    }
}

#[test]
fn golden_noise_contrastive_estimation_holds() {
    let (device, _guard) = gpu(Precision::F32);
    for name in ["ir_base", "ir_small"] {
        let golden = golden(name);
        let (unit, norms) = normalize(&golden.get("outputs").to_device(&device).unwrap()).unwrap();
        let bank = MemoryBank::from_tensor(golden.get("bank").to_device(&device).unwrap()).unwrap();
        let config = NceConfig { temperature: golden.number("temperature"), z_over_n: golden.number("z_over_n") };
        let (indices, noise) = (golden.indices("indices"), golden.indices("noise_indices"));
        let found = instance_recognition_nce(&unit, &bank, &indices, &noise, &config).unwrap().settle().unwrap();
        assert!((found.loss - golden.scalar("loss")).abs() <= 1e-4 * golden.scalar("loss").abs(), "{name}: {}", found.loss);
        let grad = normalize_backward(&unit, &norms, &found.grad_embeddings).unwrap();
        close(&here(&grad), golden.get("grad_outputs"), F32, name);
    }
}

#[test]
fn agreement_of_views_equals_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    for (images, dim, temperature) in [(1, 8, 0.2), (5, 16, 0.07), (150, 128, 0.5)] {
        let views = tensor(unit_rows(2 * images, dim, 3, 0.5, images as u64), dim);
        let expected = view_agreement(&views, temperature).unwrap();
        let known = expected.clone().settle().unwrap();
        let found = view_agreement(&views.to_device(&device).unwrap(), temperature).unwrap();
        same_loss(found.clone(), &known, "agreement");
        // Two losses that both wait for the GPU are added without waiting for it.
        let (found, expected) = (found.clone().plus(found).unwrap(), expected.clone().plus(expected).unwrap().settle().unwrap());
        same_loss(found, &expected, "twice the agreement");
    }
}

#[test]
fn objectives_equal_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    for (i, (batch, n, dim, k)) in [(3, 50, 7, 50), (5, 3000, 33, 257), (2, 700, 130, 1)].into_iter().enumerate() {
        let rows = tensor(unit_rows(n, dim, 20, 0.7, i as u64), dim);
        let bank = MemoryBank::from_tensor(rows.clone()).unwrap();
        let bank_there = MemoryBank::from_tensor(rows.to_device(&device).unwrap()).unwrap();
        let embeddings = tensor(unit_rows(batch, dim, 20, 0.9, 50 + i as u64), dim);
        let there = embeddings.to_device(&device).unwrap();
        let indices = random_indices(batch, n, 1);
        let clusters = ClusterLabels::new(random_indices(2 * n, 15, 2), 2).unwrap();
        let config = LaConfig { num_background: k, temperature: 0.2 };
        for clusters in [clusters.clone(), clusters.agreeing(2).unwrap()] {
            let expected = local_aggregation(&embeddings, &bank, &indices, &clusters, &config).unwrap().settle().unwrap();
            same_loss(local_aggregation(&there, &bank_there, &indices, &clusters, &config).unwrap(), &expected, "local aggregation");
        }
        let expected = instance_recognition(&embeddings, &bank, &indices, 0.1).unwrap().settle().unwrap();
        same_loss(instance_recognition(&there, &bank_there, &indices, 0.1).unwrap(), &expected, "softmax");
        let noise = random_indices(batch * 300, n, 3);
        let expected = instance_recognition_nce(&embeddings, &bank, &indices, &noise, &NceConfig::default()).unwrap().settle().unwrap();
        same_loss(instance_recognition_nce(&there, &bank_there, &indices, &noise, &NceConfig::default()).unwrap(), &expected, "noise");
    }
}

/// What is selected for rows whose products with the embedding are exact in any order of summation.
fn check_selection(scores: &[f32], k: usize, device: &Device) {
    let rows: Vec<f32> = scores.iter().flat_map(|&s| [s, (1.0 - s * s).sqrt()]).collect();
    let bank = MemoryBank::from_tensor(tensor(rows, 2).to_device(device).unwrap()).unwrap();
    let embedding = Tensor::new(&[[1f32, 0.0]], device).unwrap();
    let found = background_neighbors(&embedding, &bank, k).unwrap();
    let known: Vec<f32> = here(bank.rows()).flatten_all().unwrap().to_vec1::<f32>().unwrap().chunks(2).map(|row| row[0]).collect();
    let mut order: Vec<u32> = (0..known.len() as u32).collect();
    order.sort_by(|&a, &b| known[b as usize].total_cmp(&known[a as usize]).then(a.cmp(&b)));
    let (mut expected, mut indices) = (order[..k].to_vec(), found.indices.clone());
    expected.sort_unstable();
    indices.sort_unstable();
    assert_eq!(indices, expected, "{k} of {}", scores.len());
    assert!(found.indices.iter().zip(&found.similarities).all(|(&i, &s)| known[i as usize] == s));
}

#[test]
fn the_nearest_rows_are_selected_exactly_and_ties_go_to_the_lower_index() {
    let (device, _guard) = gpu(Precision::F32);
    let mut rng = Rng::new(Stream::Bench, &[9]);
    let spread: Vec<f32> = (0..9000).map(|_| rng.uniform_in(-1.0, 1.0)).collect();
    // All within one bin of the histogram; many equal; all equal.
    let narrow: Vec<f32> = (0..9000).map(|_| 0.5 + 1e-5 * rng.uniform()).collect();
    let coarse: Vec<f32> = (0..9000).map(|_| rng.below(5) as f32 / 8.0 - 0.25).collect();
    let equal = vec![0.25; 5000];
    for scores in [&spread, &narrow, &coarse, &equal, &vec![-1.0; 3], &vec![1.0; 2000]] {
        for k in [1, 2, 1000, 4096, scores.len()] {
            check_selection(scores, k.min(scores.len()), &device);
        }
    }
}

#[test]
fn the_bank_moves_as_on_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    for dim in [3, 128, 200] {
        let rows = tensor(unit_rows(20, dim, 20, 0.5, 1), dim);
        let mut bank = MemoryBank::from_tensor(rows.clone()).unwrap();
        let mut there = MemoryBank::from_tensor(rows.to_device(&device).unwrap()).unwrap();
        let embeddings = tensor(unit_rows(6, dim, 6, 0.5, 2), dim);
        // One row moves three times, in order.
        let indices = [4, 7, 4, 0, 19, 4];
        for momentum in [0.5, 0.0, 0.9] {
            bank.update(&indices, &embeddings, momentum).unwrap();
            there.update(&indices, &embeddings.to_device(&device).unwrap(), momentum).unwrap();
            close(&here(there.rows()), bank.rows(), 1e-6, "bank");
        }
        let mut values = embeddings.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[dim + 1] = f32::NAN;
        let spoilt = tensor(values, dim).to_device(&device).unwrap();
        let before = here(there.rows());
        there.update(&[3, 5], &spoilt.narrow(0, 0, 2).unwrap(), 0.5).unwrap();
        let after = here(there.rows());
        let row = |rows: &Tensor, i: usize| rows.get(i).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(row(&before, 5), row(&after, 5));
        assert_ne!(row(&before, 3), row(&after, 3));
    }
}

#[test]
fn clusters_by_tensor_cores_are_as_good() {
    let (device, _guard) = gpu(Precision::Tf32);
    if gpu_memory(&device).is_some_and(|(_, name)| name.starts_with("emulated")) {
        return eprintln!("left out: no tensor cores are emulated");
    }
    // Points and clusters that are and are not multiples of what a block takes.
    for (n, k) in [(256, 32), (1000, 7), (4099, 330)] {
        let points = tensor(unit_rows(n, 128, 50, 0.5, n as u64), 128);
        // One round: after many, a rounding has moved everything a little.
        let config = KmeansConfig { num_clusters: k, max_iters: 1, ..KmeansConfig::default() };
        let (expected, found) = (kmeans(&points, &config).unwrap(), kmeans(&points.to_device(&device).unwrap(), &config).unwrap());
        let same = found.labels.iter().zip(&expected.labels).filter(|(a, b)| a == b).count();
        assert!((found.inertia / expected.inertia - 1.0).abs() < 1e-3, "{n}, {k}: {} for {}", found.inertia, expected.inertia);
        assert!(same * 100 >= n * 95, "{n}, {k}: {same} of {n} labels are the CPU's");
    }
}

#[test]
fn clusters_equal_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    for (n, dim, k) in [(300, 5, 20), (2500, 16, 7), (40, 3, 40)] {
        let points = tensor(unit_rows(n, dim, k, 0.3, 4), dim);
        let config = KmeansConfig { num_clusters: k, max_iters: 10, seed: 5 };
        let (expected, found) = (kmeans(&points, &config).unwrap(), kmeans(&points.to_device(&device).unwrap(), &config).unwrap());
        let same = expected.labels.iter().zip(&found.labels).filter(|(a, b)| a == b).count();
        assert!(same * 100 >= n * 99, "{same} of {n} labels agree");
        assert!(
            (found.inertia - expected.inertia).abs() <= 1e-3 * expected.inertia.max(1e-3),
            "{} for {}",
            found.inertia,
            expected.inertia
        );
        assert_eq!(cluster(&points.to_device(&device).unwrap(), 2, &config).unwrap().num_clusterings, 2);
    }
}

#[test]
fn empty_clusters_take_the_farthest_points_as_on_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    // Half the points coincide, so that some of the first centroids do.
    let mut rows = unit_rows(30, 4, 30, 0.1, 6);
    let first = rows[..4].to_vec();
    rows[..60].chunks_mut(4).for_each(|row| row.copy_from_slice(&first));
    let points = tensor(rows, 4);
    let config = KmeansConfig { num_clusters: 12, max_iters: 20, seed: 1 };
    let (expected, found) = (kmeans(&points, &config).unwrap(), kmeans(&points.to_device(&device).unwrap(), &config).unwrap());
    assert_eq!(found.labels, expected.labels);
    let values = Tensor::full(f32::NAN, (4, 4), &Device::Cpu).unwrap().to_device(&device).unwrap();
    let refused = kmeans(&values, &KmeansConfig { num_clusters: 2, ..config }).unwrap_err().to_string();
    assert!(refused.contains("finite"), "{refused}");
}

#[test]
fn a_loss_in_candles_graph_does_not_wait_and_equals_the_cpu() {
    let (device, _guard) = gpu(Precision::F32);
    let rows = tensor(unit_rows(10, 16, 3, 0.5, 1), 16);
    let loss = |device: &Device| {
        let rows = Var::from_tensor(&rows.to_device(device).unwrap()).unwrap();
        autograd::view_agreement(&autograd::normalize(&rows).unwrap(), 0.2).unwrap()
    };
    let (found, expected) = (loss(&device), loss(&Device::Cpu));
    assert!(found.device().is_cuda() && found.track_op() && found.rank() == 0);
    // Its gradient takes candle's own kernels, which a build without a toolkit leaves out.
    close(&here(&found), &expected, F32, "agreement");
}
