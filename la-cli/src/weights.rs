//! Weights on the command line: the embedded ones, a run, a file, a folder or a model of the Hub, with the way images are
//! prepared for them.

mod files;
mod foreign;
mod prepared;
pub mod readout;
mod torch;

pub use files::{WeightFiles, PHOTOS};

use crate::data::{is_named, OpenConfig};
use crate::output::{remark, thousands};
use crate::pack::settings::{Packed, OUR_KEY};
use crate::progress::Progress;
use crate::run::{RunConfig, RunFolder};
use crate::source::Embedded;
use anyhow::{bail, Context};
use candle_core::{Device, Tensor};
use la_core::data::{BatchConfig, Source};
use la_core::eval::embed::{batch_size, collect, for_each_part, Part};
use la_core::eval::readout::{fit, learn, num_images};
use la_core::files::sha256_of;
use la_core::ops::device::{set_precision, Precision as Computing};
use la_core::pca::Whitening;
use la_core::preprocess::{Normalization, Preprocessing};
use la_core::resnet::{decode, ResNet};
use la_core::search::Precision;
use la_core::tensor_files::not_finite;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Which weights a command uses, and how its images are prepared.
#[derive(clap::Args)]
pub struct EncoderArgs {
    /// `photos` (inside this program), a run folder, a .safetensors or .pth file, a folder with model.safetensors, or hf:owner/name
    #[arg(value_name = "RUN|WEIGHTS", default_value = PHOTOS)]
    pub weights: String,
    /// Side of the square images that the network sees [default: as stored with the weights]
    #[arg(long, value_name = "PX")]
    pub size: Option<usize>,
    /// Use this many images of the data, drawn at random
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Which embedding to use: readout (whitened features, usually better for search) or output (the last layer, which the loss
    /// uses) [default: readout if the weights have one]
    #[arg(long, value_name = "readout|output")]
    pub embedding: Option<Embedding>,
    /// What the network computes in: f32; bf16, faster, on a GPU or a CPU with AVX512-BF16 or AMX; tf32, on a GPU only
    #[arg(long, value_name = "f32|tf32|bf16", default_value_t = Computing::F32)]
    pub precision: Computing,
}

/// Which values of a network are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Embedding {
    /// Pooled features of the last two stages, whitened.
    Readout,
    /// The last layer's output, which the loss sees.
    Output,
}

impl EncoderArgs {
    /// These weights, and the defaults of the rest.
    pub fn of(weights: &str) -> Self {
        Self { weights: weights.to_string(), size: None, limit: None, embedding: None, precision: Computing::default() }
    }

    /// Loads the weights onto `device`.
    pub fn load(&self, device: &Device) -> anyhow::Result<Encoder> {
        set_precision(device, self.precision).context("--precision")?;
        self.prepare(Encoder::open(&self.weights, device)?)
    }

    /// Other weights with the same size, embedding and precision.
    pub fn prepare(&self, mut encoder: Encoder) -> anyhow::Result<Encoder> {
        encoder.computing = self.precision;
        match self.embedding {
            Some(Embedding::Output) => encoder = encoder.by_output(),
            Some(Embedding::Readout) if encoder.readout.is_none() => bail!(
                "--embedding readout: {} has no readout.safetensors that belongs to it; leave --embedding out to use its output",
                encoder.name
            ),
            _ => {}
        }
        match self.size {
            Some(size) => encoder = encoder.at(check_size(size)?),
            None => encoder.remark_guess(),
        }
        Ok(encoder)
    }
}

/// A `--size` that a network can see.
pub fn check_size(size: usize) -> anyhow::Result<usize> {
    check_side("--size", size)
}

fn check_side(what: &str, size: usize) -> anyhow::Result<usize> {
    if !(1..=4096).contains(&size) {
        bail!("{what} must be in 1 to 4096, got {size}");
    }
    Ok(size)
}

/// A network with all that is known about it.
pub struct Encoder {
    /// As it was named on the command line.
    pub name: String,
    net: ResNet,
    readout: Option<Whitening>,
    /// How the weights are stored.
    precision: Precision,
    /// What the network computes in.
    computing: Computing,
    /// SHA-256 of the weights' file.
    digest: String,
    preprocessing: Preprocessing,
    /// Nothing beside the weights says how images are prepared.
    is_guess: bool,
    /// Draws the images of a limit: the seed of the run that made it, where known.
    limit_seed: u64,
    /// The settings of the run that made it, where known.
    pub run: Option<RunConfig>,
    /// What packed weights say of themselves.
    pub packed: Option<Packed>,
}

impl Encoder {
    /// Opens the embedded weights, a run, a weights file, a folder of weights or a model of the Hub.
    pub fn open(name: &str, device: &Device) -> anyhow::Result<Self> {
        let files = WeightFiles::open(name)?;
        let digest = sha256_of([&files.model]);
        let mut tensors = decode(&files.model, device).with_context(|| files.shown.clone())?;
        check_values(&tensors).with_context(|| files.shown.clone())?;
        let (inside, tensors): (HashMap<_, _>, HashMap<_, _>) = tensors.drain().partition(|(name, _)| name.starts_with(readout::PREFIX));
        let config = &files.config;
        let packed: Option<Packed> = config.as_ref().and_then(|config| config.get(OUR_KEY)).and_then(read);
        let run = packed.as_ref().map(|packed| packed.run.clone()).or_else(|| config.as_ref().and_then(read));
        let tensors = if run.is_some() || !inside.is_empty() { tensors } else { foreign::adopt(tensors, config.as_ref(), name, device)? };
        let net = ResNet::from_tensors(&tensors, device).with_context(|| format!("{}: {}", files.shown, foreign::KNOWN))?;
        let readout = match &files.readout_path {
            _ if !inside.is_empty() => Some(Whitening::from_tensors(&inside).with_context(|| files.shown.clone())?),
            Some(path) => readout::read(path, &digest)?,
            None => None,
        };
        if let Some(readout) = &readout {
            net.config().readout_bands(readout.num_features()).with_context(|| files.shown.clone())?;
        }
        let told = match (&run, config) {
            (Some(run), _) => Some(prepared::of_run(run, packed.as_ref().and_then(|packed| packed.size))),
            (None, Some(config)) => prepared::of_timm(config, &net),
            (None, None) => None,
        };
        let (is_guess, preprocessing) = (told.is_none(), told.unwrap_or_else(|| prepared::usual(&net)));
        check_side(&format!("{}: the side of images in its config.json", files.shown), preprocessing.size)?;
        let (name, precision, computing) = (name.to_string(), files.precision(), Computing::F32);
        let limit_seed = run.as_ref().map_or(0, |run| run.train.seed);
        Ok(Self { name, net, readout, precision, computing, digest, preprocessing, is_guess, limit_seed, run, packed })
    }

    fn remark_guess(&self) {
        if self.is_guess {
            remark!(
                "note: there is no config.json beside {}; images are prepared as usual for such a network: \
                 {} px, ImageNet's mean and deviation (--size changes the first)",
                self.name,
                self.size()
            );
        }
    }

    /// The same for images of another side.
    pub fn at(mut self, size: usize) -> Self {
        self.preprocessing.size = size;
        self
    }

    /// The same by the network's output; of a run, for images of the training side: larger ones serve its read-out.
    pub fn by_output(mut self) -> Self {
        self.readout = None;
        if let (None, Some(run)) = (&self.packed, &self.run) {
            self.preprocessing.size = run.train.size;
        }
        self
    }

    /// Draws the images of a limit as `other` does, so that both see the same.
    pub fn draw_limit_as(&mut self, other: &Self) {
        self.limit_seed = other.limit_seed;
    }

    /// The same network before it learned anything, for the same images.
    pub fn untrained(&self, seed: u64, device: &Device) -> anyhow::Result<Self> {
        let net = ResNet::new(self.net.config(), seed, device)?;
        let digest = format!("{:?} drawn by {seed}", net.config());
        Ok(Self {
            name: "untrained".into(),
            net,
            readout: None,
            precision: Precision::F32,
            computing: self.computing,
            digest,
            preprocessing: self.preprocessing,
            is_guess: self.is_guess,
            limit_seed: self.limit_seed,
            run: self.run.clone(),
            packed: None,
        })
    }

    /// One line about the network.
    pub fn describe(&self) -> String {
        format!("{}: {}", self.name, self.describe_network())
    }

    /// The same for others to read, to whom the folders of this machine say nothing.
    pub fn describe_to_others(&self) -> String {
        let name = Path::new(&self.name).file_name().map_or(self.name.clone(), |name| name.to_string_lossy().into_owned());
        format!("{}: {}", if self.name.starts_with("hf:") { &self.name } else { &name }, self.describe_network())
    }

    fn describe_network(&self) -> String {
        let config = self.net.config();
        let num_values: usize = self.net.parameters().iter().map(|parameter| parameter.value.elem_count()).sum();
        format!(
            "{}, {} stem, width {}, {}-dimensional embeddings, {} parameters, {} px",
            config.arch,
            config.stem,
            config.width,
            self.dim(),
            thousands(num_values),
            self.preprocessing.size
        )
    }

    /// The network.
    pub fn net(&self) -> &ResNet {
        &self.net
    }

    /// The read-out, where it gives the embeddings.
    pub fn readout(&self) -> Option<&Whitening> {
        self.readout.as_ref()
    }

    /// Length of the embeddings.
    pub fn dim(&self) -> usize {
        self.readout.as_ref().map_or(self.net.config().embedding_dim, Whitening::dim)
    }

    /// How the weights are stored where they came from.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What embeddings depend on apart from the pictures: equal where weights, read-out and preparation are.
    pub fn identity(&self) -> String {
        sha256_of([self.features_identity(), self.readout.as_ref().map_or(String::new(), Whitening::digest)])
    }

    /// The same for [`Encoder::features`].
    pub fn features_identity(&self) -> String {
        let Preprocessing { size, crop_fraction, interpolation, rounds_down, normalization: Normalization { mean, std } } =
            self.preprocessing;
        let what = match &self.readout {
            None => "output".to_string(),
            Some(readout) => match self.net.config().readout_bands(readout.num_features()) {
                // As it was said when there was one only.
                Ok(1) | Err(_) => "features".to_string(),
                Ok(bands) => format!("features of {bands} bands"),
            },
        };
        // Nothing where it is as usual: embeddings that were kept before stay of use.
        let resize =
            if (interpolation, rounds_down) == Default::default() { String::new() } else { format!(" {interpolation:?} {rounds_down}") };
        let computing = if self.computing == Computing::F32 { String::new() } else { format!(" {}", self.computing) };
        sha256_of([self.digest.clone(), format!(" {size} {crop_fraction:?} {mean:?} {std:?} {what}{resize}{computing}")])
    }

    /// What it computes in.
    pub fn computing(&self) -> Computing {
        self.computing
    }

    /// How its images are prepared.
    pub fn preprocessing(&self) -> Preprocessing {
        self.preprocessing
    }

    /// Side of the images that the network sees.
    pub fn size(&self) -> usize {
        self.preprocessing.size
    }

    /// What the network was trained on: the data and a test source of its own, where known.
    pub fn recorded_data(&self) -> (Option<&str>, Option<&str>) {
        // What `photos` learned from is not on this machine, nor is a folder that another machine's weights name.
        let is_elsewhere = |data: &str| self.name == PHOTOS || (self.name.starts_with("hf:") && !is_named(data));
        let train = self.run.as_ref().map(|run| &run.train).filter(|train| !is_elsewhere(&train.data));
        (train.map(|train| train.data.as_str()), train.and_then(|train| train.test.as_deref()))
    }

    /// How many images the network was trained on, where that was a part of the data.
    pub fn recorded_limit(&self) -> Option<usize> {
        self.run.as_ref().filter(|_| self.name != PHOTOS).and_then(|run| run.train.limit)
    }

    /// How a data source is opened for this network; `limit` draws the images that training with that limit drew.
    pub fn open_config(&self, limit: Option<usize>) -> OpenConfig {
        OpenConfig { size: self.size(), limit, seed: self.limit_seed, ..OpenConfig::default() }
    }

    /// Unit-length embeddings `(N, D)` of the images of a source that can be read.
    pub fn embed(&self, source: &Arc<dyn Source>, what: &str) -> anyhow::Result<Embedded> {
        let features = self.features(source, what)?;
        Ok(Embedded { rows: self.embed_features(&features.rows)?, ..features })
    }

    /// What [`Encoder::embed_features`] makes embeddings of, `(N, F)`, of the images of a source that can be read: with a
    /// read-out, means of the last two stages, else the embeddings themselves.
    pub fn features(&self, source: &Arc<dyn Source>, what: &str) -> anyhow::Result<Embedded> {
        self.collect(source, what, |images| self.forward(images))
    }

    /// The same, batch by batch, until `take` breaks; the bits of a row do not depend on the other images of the source.
    pub fn features_each(&self, source: &Arc<dyn Source>, take: &mut dyn FnMut(Part) -> ControlFlow<()>) -> anyhow::Result<()> {
        let full = batch_size(self.size());
        Ok(for_each_part(source, &self.batches(), |images| in_full_batch(images, full, |images| self.forward(images)), take)?)
    }

    fn forward(&self, images: &Tensor) -> la_core::Result<Tensor> {
        match &self.readout {
            Some(readout) => self.net.readout_features(images, self.net.config().readout_bands(readout.num_features())?),
            None => self.net.embed(images),
        }
    }

    /// Embeddings of images whose [`Encoder::features`] these are.
    pub fn embed_features(&self, features: &Tensor) -> anyhow::Result<Tensor> {
        match &self.readout {
            Some(readout) => finite(readout.apply(features)?, &self.name),
            None => finite(features.clone(), &self.name),
        }
    }

    /// The read-out, where there is one, fitted to the images with these features: those that are searched among.
    pub fn fit(&self, features: &Tensor) -> anyhow::Result<Option<Whitening>> {
        Ok(self.readout.as_ref().map(|readout| fit(readout, features)).transpose()?)
    }

    /// The same encoder with another read-out.
    pub fn set_readout(&mut self, readout: Option<Whitening>) {
        self.readout = readout;
    }

    /// A read-out for the network as it is, learned from the images that it was trained on: fitted to them from an `earlier`
    /// one, where there is one.
    pub fn learn_readout(&self, earlier: Option<&Whitening>, images: &Arc<dyn Source>) -> anyhow::Result<Option<Whitening>> {
        let mut progress = Progress::new("learning the read-out", num_images(images.as_ref()), "images");
        Ok(learn((&self.net, earlier), images, &self.batches(), &mut |done| progress.set(done))?)
    }

    /// What a linear probe sees, `(N, F)`, of the images of a source that can be read, and its [`Encoder::features`].
    pub fn pooled_and_features(&self, source: &Arc<dyn Source>, what: &str) -> anyhow::Result<(Tensor, Embedded)> {
        let bands = self.readout.as_ref().map_or(Ok(1), |readout| self.net.config().readout_bands(readout.num_features()))?;
        let stages = self.collect(source, what, |images| self.net.readout_features(images, bands))?;
        let count = self.net.config().num_features();
        let pooled = stages.rows.narrow(1, stages.rows.dim(1)? - count, count)?.contiguous()?;
        let features = match &self.readout {
            Some(_) => stages,
            None => Embedded { rows: self.net.embed_pooled(&pooled)?.to_device(&Device::Cpu)?, ..stages },
        };
        Ok((pooled, features))
    }

    fn collect(&self, source: &Arc<dyn Source>, what: &str, f: impl Fn(&Tensor) -> la_core::Result<Tensor>) -> anyhow::Result<Embedded> {
        let mut progress = Progress::new(what, source.len(), "images");
        let rows = collect(source, &self.batches(), &mut |done| progress.set(done), f)?;
        drop(progress);
        Embedded::new(source, rows)
    }

    /// How batches of its images are made.
    pub fn batches(&self) -> BatchConfig {
        BatchConfig { input: self.preprocessing, threads: rayon::current_num_threads(), ..BatchConfig::default() }
    }
}

/// What `f` makes of a batch that may be short: how a convolution is computed, and so its last bits, depends on the number of images.
fn in_full_batch(images: &Tensor, full: usize, f: impl Fn(&Tensor) -> la_core::Result<Tensor>) -> la_core::Result<Tensor> {
    let (count, channels, height, width) = images.dims4()?;
    if count >= full {
        return f(images);
    }
    let blank = Tensor::zeros((full - count, channels, height, width), images.dtype(), images.device())?;
    Ok(f(&Tensor::cat(&[images, &blank], 0)?)?.narrow(0, 0, count)?)
}

/// Fails with the first name whose tensor holds NaN or infinity, or a variance below 0: nothing that such a network says means anything.
fn check_values(tensors: &HashMap<String, Tensor>) -> anyhow::Result<()> {
    let mut sorted: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    let way_out = "the run has diverged or the file is damaged, so use other weights";
    if let Some(name) = not_finite(sorted.iter().copied())? {
        bail!("expected finite values, got NaN or infinity in tensor {name}; {way_out}");
    }
    for (name, tensor) in sorted.iter().filter(|(name, _)| name.ends_with("running_var")) {
        if let Some(value) = tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().find(|value| *value < 0.0) {
            bail!("expected variances of at least 0, got {value} in tensor {name}; {way_out}");
        }
    }
    Ok(())
}

/// The rows, none of which is NaN or infinite.
pub fn finite(rows: Tensor, name: &str) -> anyhow::Result<Tensor> {
    match not_finite([("rows", &rows)])? {
        None => Ok(rows),
        Some(_) => bail!("{name}: gives NaN or infinity for these images; use other weights or other images"),
    }
}

/// A part of a `config.json`, if it is of that shape.
fn read<T: DeserializeOwned>(config: &Value) -> Option<T> {
    serde_json::from_value(config.clone()).ok()
}

/// Whether a file is called as weights are.
pub fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors") || torch::is_one(path)
}

/// Whether a folder holds the settings of a run, whatever else of it is there.
pub fn is_run(folder: &Path) -> bool {
    let config = files::read_config(&folder.join("config.json")).ok().flatten();
    config.as_ref().and_then(read::<RunConfig>).is_some()
}

/// The recorded settings of a run.
pub fn run_config(path: &Path) -> anyhow::Result<RunConfig> {
    Ok(RunFolder::open(path)?.read_config()?)
}
