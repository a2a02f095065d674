//! What a run begins with: its settings, resolved, and its state before the first step.

use super::{metrics::Totals, monitor, start::Start};
use crate::{
    checkpoint::{self, Position, TrainImages, TrainState},
    config::{BankInit, Fit, TrainConfig},
    data::{BatchConfig, Splits},
    error::bail,
    memory_bank::MemoryBank,
    optim::Sgd,
    preprocess::{Normalization, Preprocessing},
    resnet::{ResNet, ResNetConfig},
    tensor_files::not_finite,
    Result,
};

pub(super) fn measure_normalization(fit: &mut Fit, splits: &Splits) -> Result<()> {
    if fit.config.normalization.is_none() {
        let Normalization { mean, std } = Normalization::of(&*splits.train)?;
        fit.notes.push(format!("normalization mean {mean:?}, std {std:?}: measured on the training images"));
        fit.config.normalization = Some(Normalization { mean, std });
    }
    Ok(())
}

/// Says so where the weights to begin with give all but their last layer.
pub(super) fn note_new_head(fit: &mut Fit, start: Start) {
    if let Start::From(weights) = start {
        if has_other_head(&fit.config, weights) {
            let (theirs, ours) = (weights.config().embedding_dim, fit.config.embedding_dim);
            fit.notes.push(format!(
                "embedding-dim {ours}: the weights to begin with have {theirs}; their last layer is left out for a random one"
            ));
        }
    }
}

fn has_other_head(config: &TrainConfig, weights: &ResNet) -> bool {
    weights.config().embedding_dim != config.embedding_dim
}

/// What the batches of a fitted configuration look like.
pub(super) fn batch_config(config: &TrainConfig) -> BatchConfig {
    BatchConfig {
        input: Preprocessing::of(config.size, config.crop_fraction.unwrap_or(1.0), config.normalization.unwrap_or_default()),
        batch_size: config.batch_size,
        views: config.views,
        augment: config.augment,
        seed: config.seed,
        threads: if config.threads == 0 { rayon::current_num_threads() } else { config.threads },
    }
}

pub(super) fn fresh_state(config: &TrainConfig, splits: &Splits, images: &TrainImages, weights: Option<&ResNet>) -> Result<TrainState> {
    let net = initial_network(config, weights)?;
    let num_images = images.count;
    let bank = match config.bank_init {
        BankInit::Random => MemoryBank::random(num_images, config.embedding_dim, config.seed, &config.device)?,
        BankInit::Forward => {
            MemoryBank::from_tensor(monitor::embeddings(&net, &splits.train, &batch_config(config))?.to_device(&config.device)?)?
        }
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

/// Fails where a run cannot begin so: a checkpoint is missing or damaged, or weights or checkpoint are of another network or other images.
///
/// [`super::train`] sees the same; who makes a folder for the run asks before.
pub fn check_start(config: &TrainConfig, splits: &Splits, start: Start) -> Result<()> {
    match start {
        Start::From(weights) => check_weights(config, weights),
        Start::Branch(path) => checkpoint::check_trunk(path, config, &TrainImages::of(&*splits.train)),
        Start::New | Start::Resume => Ok(()),
    }
}

/// The network before the first step: random, but for what `weights` hold.
///
/// Weights of another embedding dimension give all but their last layer.
fn initial_network(config: &TrainConfig, weights: Option<&ResNet>) -> Result<ResNet> {
    let mut net = ResNet::new(&config.network(), config.seed, &config.device)?;
    match (weights, &config.init) {
        (None, None) => return Ok(net),
        (None, Some(init)) => bail!("the network of {} is missing, from which the run begins", init.display()),
        (Some(weights), _) => check_weights(config, weights)?,
    }
    let is_head = |name: &str| name.starts_with("fc.");
    let given = weights.map(ResNet::tensors).transpose()?.unwrap_or_default();
    let tensors = match weights.is_some_and(|weights| has_other_head(config, weights)) {
        false => given,
        true => given
            .into_iter()
            .filter(|(name, _)| !is_head(name))
            .chain(net.tensors()?.into_iter().filter(|(name, _)| is_head(name)))
            .collect(),
    };
    net.load_tensors(&tensors.into_iter().collect())?;
    Ok(net)
}

fn check_weights(config: &TrainConfig, weights: &ResNet) -> Result<()> {
    let name = config.init.as_ref().map_or("the weights to begin with".into(), |init| init.display().to_string());
    let wanted = ResNetConfig { embedding_dim: weights.config().embedding_dim, ..config.network() };
    if let Some(difference) = weights.config().difference(&wanted) {
        bail!("{name}: these weights are of another network: {difference}");
    }
    let tensors = weights.tensors()?;
    if let Some(tensor) = not_finite(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))? {
        bail!("{name}: tensor {tensor} holds NaN or infinite values, expected weights to begin with");
    }
    Ok(())
}
