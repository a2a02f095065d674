//! Local Aggregation as the paper tells it, on this crate's own ResNet and the embedded sample.
//!
//! cargo run --release -p la-core --example train_la
//!
//! The trainer of `la-cli train` has the same loop, with checkpoints, schedules and reports around it.

use candle_core::{Device, Tensor};
use la_core::augment::AugmentConfig;
use la_core::data::{self, epoch_batches, BatchConfig, Source, Splits};
use la_core::eval::embed::embed_source;
use la_core::eval::knn::{knn_accuracy, KnnConfig};
use la_core::kmeans::{cluster, ClusterLabels, KmeansConfig};
use la_core::loss::{instance_recognition, local_aggregation, LaConfig, LossOutput};
use la_core::memory_bank::MemoryBank;
use la_core::ops::normalize::{normalize, normalize_backward};
use la_core::optim::{Decay, Schedule, Sgd, SgdConfig};
use la_core::preprocess::{Normalization, Preprocessing};
use la_core::resnet::{ResNet, ResNetConfig};
use la_core::{Error, Result};
use std::time::Instant;

const EPOCHS: usize = 12;
/// Epochs of instance recognition, before the clusters of the bank mean anything.
const IR_EPOCHS: usize = 8;
const SIZE: usize = 28;
const TEMPERATURE: f64 = 0.1;
/// Share of a bank row that a step keeps.
const BANK_MOMENTUM: f32 = 0.9;
const SEED: u64 = 0;

fn main() -> Result<()> {
    let sample = data::sample()?;
    let batches = BatchConfig {
        input: Preprocessing::of(SIZE, 1.0, Normalization::of(&*sample.train)?),
        augment: AugmentConfig { crop_min_area: 0.4, ..AugmentConfig::default() },
        seed: SEED,
        ..BatchConfig::default()
    };
    let mut net = ResNet::new(&ResNetConfig { width: 32, ..ResNetConfig::default() }, SEED, &Device::Cpu)?;
    let mut sgd = Sgd::new(SgdConfig::default(), &net)?;
    let schedule = Schedule { peak: 0.06, decay: Decay::Cosine, warmup_steps: 30 };
    println!("kNN accuracy before: {:.1} %", 100.0 * knn(&net, &sample, &batches)?);

    // One row for each image, from the network as it starts.
    let mut bank = MemoryBank::from_tensor(embed_source(&net, &sample.train, &batches, &mut |_| ())?.values)?;
    let (mut step, steps) = (0, EPOCHS * data::num_batches(sample.train.len(), batches.batch_size));
    let started = Instant::now();
    for epoch in 0..EPOCHS {
        let clusters = if epoch < IR_EPOCHS { None } else { Some(clusters(&bank, epoch)?) };
        let mut sum = 0.0;
        for batch in epoch_batches(sample.train.clone(), &batches, epoch, 0) {
            let batch = batch?;
            let (outputs, cache) = net.forward_train(&batch.images)?;
            let (embeddings, norms) = normalize(&outputs)?;
            let loss = objective(&embeddings, &bank, &batch.indices, clusters.as_ref())?;
            net.backward(cache, &normalize_backward(&embeddings, &norms, &loss.grad_embeddings)?)?;
            sgd.step(&mut net, schedule.learning_rate(step, steps))?;
            bank.update(&batch.indices, &embeddings, BANK_MOMENTUM)?;
            (sum, step) = (sum + loss.loss, step + 1);
        }
        let objective = if clusters.is_some() { "local aggregation" } else { "instance recognition" };
        let loss = sum * EPOCHS as f32 / steps as f32;
        println!("epoch {:2}  {objective:20}  loss {loss:.3}  {:.0} s", epoch + 1, started.elapsed().as_secs_f32());
    }
    println!("kNN accuracy after: {:.1} %", 100.0 * knn(&net, &sample, &batches)?);
    Ok(())
}

/// Without clusters each image is a class of its own; with them it is drawn to its close neighbours.
fn objective(embeddings: &Tensor, bank: &MemoryBank, indices: &[u32], clusters: Option<&ClusterLabels>) -> Result<LossOutput> {
    let Some(clusters) = clusters else { return instance_recognition(embeddings, bank, indices, TEMPERATURE)?.settle() };
    let config = LaConfig { num_background: bank.len() / 15, temperature: TEMPERATURE };
    local_aggregation(embeddings, bank, indices, clusters, &config)?.settle()
}

/// Close neighbours are the images that eight of ten clusterings put together.
fn clusters(bank: &MemoryBank, epoch: usize) -> Result<ClusterLabels> {
    let config = KmeansConfig { num_clusters: bank.len() / 18, seed: 10 * epoch as u64, ..KmeansConfig::default() };
    cluster(bank.rows(), 10, &config)?.agreeing(8)
}

/// The share of test images whose class their nearest training images vote for.
fn knn(net: &ResNet, splits: &Splits, batches: &BatchConfig) -> Result<f32> {
    let test = splits.test.as_ref().ok_or_else(|| Error::invalid("the sample has no test images"))?;
    let labels = |source: &dyn Source| data::labels(source).ok_or_else(|| Error::invalid("the sample has no labels"));
    let embed = |source| -> Result<Tensor> { Ok(embed_source(net, source, batches, &mut |_| ())?.values) };
    knn_accuracy(&embed(&splits.train)?, &labels(&*splits.train)?, &embed(test)?, &labels(&**test)?, &KnnConfig::default())
}
