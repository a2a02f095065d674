//! What a run begins with: its settings, resolved and written down, and its state before the first step.

use super::monitor;
use crate::{
    checkpoint::{Position, TrainState},
    config::{BankInit, Fit, TrainConfig},
    data::{BatchConfig, Normalization, Splits},
    error::bail,
    files::read_tensors,
    memory_bank::MemoryBank,
    optim::Sgd,
    resnet::ResNet,
    run_folder::{weights_path, RunConfig, RunFolder, Versions},
    train::Totals,
    Error, Result,
};
use candle_core::{Device, DeviceLocation};

pub(super) fn measure_normalization(fit: &mut Fit, splits: &Splits) -> Result<()> {
    if fit.config.normalization.is_none() {
        let Normalization { mean, std } = Normalization::of(&*splits.train)?;
        fit.notes.push(format!("normalization mean {mean:?}, std {std:?}: measured on the training images"));
        fit.config.normalization = Some(Normalization { mean, std });
    }
    Ok(())
}

/// What the batches of a fitted configuration look like.
pub(super) fn batch_config(config: &TrainConfig) -> BatchConfig {
    BatchConfig {
        size: config.size,
        batch_size: config.batch_size,
        views: config.views,
        augment: config.augment,
        normalization: config.normalization.unwrap_or_default(),
        crop_fraction: config.crop_fraction.unwrap_or(1.0),
        seed: config.seed,
        threads: if config.threads == 0 { rayon::current_num_threads() } else { config.threads },
    }
}

pub(super) fn write_settings(fit: &Fit, splits: &Splits, run: &RunFolder, branched_after: Option<usize>) -> Result<()> {
    run.write_config(&RunConfig {
        train: fit.config.clone(),
        num_images: splits.train.len(),
        num_test_images: splits.test.as_ref().map(|test| test.len()),
        class_names: splits.train.class_names().to_vec(),
        device: device_name(&fit.config.device),
        notes: fit.notes.clone(),
        branched_after,
        versions: Versions::default(),
        git_commit: run.git_commit.clone(),
        command: run.command.clone(),
        machine: run.machine.clone(),
    })?;
    run.write_unreadable(&splits.unreadable)
}

/// As `--device` takes it.
fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".into(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

pub(super) fn fresh_state(config: &TrainConfig, splits: &Splits, batches: &BatchConfig) -> Result<TrainState> {
    let net = initial_network(config)?;
    let num_images = splits.train.len();
    let bank = match config.bank_init {
        BankInit::Random => MemoryBank::random(num_images, config.embedding_dim, config.seed, &config.device)?,
        BankInit::Forward => MemoryBank::from_tensor(monitor::embeddings(&net, &splits.train, batches)?.to_device(&config.device)?)?,
    };
    let position =
        Position { config: config.clone(), num_images, epoch: 0, step: 0, totals: Totals::default(), baseline: None, epochs: Vec::new() };
    Ok(TrainState { sgd: Sgd::new(config.sgd, &net)?, net, bank, clusters: None, position })
}

fn initial_network(config: &TrainConfig) -> Result<ResNet> {
    let Some(init) = &config.init else { return ResNet::new(&config.network(), config.seed, &config.device) };
    let path = weights_path(init)?;
    let (tensors, _) = read_tensors(&path, &config.device)?;
    let net = ResNet::from_tensors(&tensors, &config.device).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    if *net.config() != config.network() {
        bail!("{}: expected weights of {:?}, got {:?}", path.display(), config.network(), net.config());
    }
    Ok(net)
}
