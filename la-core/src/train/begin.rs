//! What a run begins with: its settings, resolved and written down, and its state before the first step.

use super::monitor;
use crate::{
    checkpoint::{self, Position, TrainImages, TrainState},
    config::{BankInit, Fit, TrainConfig},
    data::{BatchConfig, Normalization, Splits},
    error::bail,
    files::{not_finite, read_tensors},
    memory_bank::MemoryBank,
    ops::device,
    optim::Sgd,
    resnet::ResNet,
    run_folder::{weights_path, RunConfig, RunFolder, Versions},
    train::{Start, Totals},
    Error, Result,
};

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
        device: device::name(&fit.config.device),
        notes: fit.notes.clone(),
        branched_after,
        versions: Versions::default(),
        git_commit: run.git_commit.clone(),
        command: run.command.clone(),
        machine: run.machine.clone(),
    })?;
    run.write_unreadable(&splits.unreadable)
}

/// Writes down the images and settings of a run that was stopped before its first checkpoint; what else it noted as it began stays.
pub(super) fn renew_settings(config: &TrainConfig, splits: &Splits, run: &RunFolder) -> Result<()> {
    let recorded = run.read_config()?;
    run.write_config(&RunConfig {
        train: config.clone(),
        num_images: splits.train.len(),
        num_test_images: splits.test.as_ref().map(|test| test.len()),
        class_names: splits.train.class_names().to_vec(),
        ..recorded
    })?;
    run.write_unreadable(&splits.unreadable)
}

/// Writes down where the images of a run that goes on are now.
pub(super) fn note_places(config: &TrainConfig, run: &RunFolder) -> Result<()> {
    let mut recorded = run.read_config()?;
    if (&recorded.train.data, &recorded.train.test) == (&config.data, &config.test) {
        return Ok(());
    }
    (recorded.train.data, recorded.train.test) = (config.data.clone(), config.test.clone());
    run.write_config(&recorded)
}

pub(super) fn fresh_state(config: &TrainConfig, splits: &Splits, batches: &BatchConfig, images: &TrainImages) -> Result<TrainState> {
    let net = initial_network(config)?;
    let num_images = images.count;
    let bank = match config.bank_init {
        BankInit::Random => MemoryBank::random(num_images, config.embedding_dim, config.seed, &config.device)?,
        BankInit::Forward => MemoryBank::from_tensor(monitor::embeddings(&net, &splits.train, batches)?.to_device(&config.device)?)?,
    };
    let position = Position {
        config: config.clone(),
        num_images,
        image_names: Some(images.names.clone()),
        epoch: 0,
        step: 0,
        totals: Totals::default(),
        baseline: None,
        epochs: Vec::new(),
    };
    Ok(TrainState { sgd: Sgd::new(config.sgd, &net)?, net, bank, clusters: None, position })
}

/// Fails where a run cannot begin so: weights or checkpoint are missing, damaged, or of another network or other images.
///
/// [`super::train`] sees the same; who makes a folder for the run asks before.
pub fn check_start(config: &TrainConfig, splits: &Splits, start: Start) -> Result<()> {
    match start {
        Start::New if config.init.is_some() => initial_network(config).map(|_| ()),
        Start::Branch(path) => checkpoint::check_trunk(path, config, &TrainImages::of(&*splits.train)),
        Start::New | Start::Resume => Ok(()),
    }
}

fn initial_network(config: &TrainConfig) -> Result<ResNet> {
    let Some(init) = &config.init else { return ResNet::new(&config.network(), config.seed, &config.device) };
    let path = weights_path(init)?;
    let (tensors, _) = read_tensors(&path, &config.device)?;
    let net = ResNet::from_tensors(&tensors, &config.device).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    if let Some(difference) = net.config().difference(&config.network()) {
        bail!("{}: these weights are of another network: {difference}", path.display());
    }
    let loaded = net.tensors()?;
    if let Some(name) = not_finite(loaded.iter().map(|(name, tensor)| (name.as_str(), tensor)))? {
        bail!("{}: tensor {name} holds NaN or infinite values, expected weights to begin with", path.display());
    }
    Ok(net)
}
