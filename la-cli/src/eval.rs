//! `la-cli eval`: what the embeddings are worth, measured with labels that training never saw.

use crate::output::{percent, remark, say, thousands};
use crate::progress::duration;
use crate::source;
use crate::weights::{Encoder, EncoderArgs};
use anyhow::{bail, Context};
use candle_core::Device;
use la_core::data::{self, Source, Splits, Subset};
use la_core::eval::knn::{self, KnnConfig};
use la_core::eval::linear::{linear_probe, LabelledFeatures, LinearConfig, LinearResult};
use std::sync::Arc;
use std::time::Instant;

/// Options of `la-cli eval`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli eval runs/sample-1 --linear
  la-cli eval --data ~/photos --leave-one-out    # where each class is a sub-folder")]
pub struct EvalArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Images whose embeddings vote [default: what RUN was trained on]
    #[arg(long, value_name = "SRC")]
    data: Option<String>,
    /// Images that are classified [default: the test split of the data]
    #[arg(long, value_name = "SRC")]
    test: Option<String>,
    /// Classify each training image by the others and look at no test image: for folders without a split
    #[arg(long, conflicts_with_all = ["test", "linear"])]
    leave_one_out: bool,
    /// Neighbours that vote [default: 200, or all training images where there are fewer]
    #[arg(long, value_name = "K")]
    knn_k: Option<usize>,
    /// Temperature of their votes, exp(similarity / temperature)
    #[arg(long, value_name = "X", default_value_t = KnnConfig::default().temperature)]
    knn_temperature: f64,
    /// Also train a softmax layer on the pooled features of the frozen network
    #[arg(long)]
    linear: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Images with labels, and those that they classify.
pub struct Labelled {
    splits: Splits,
    train_labels: Vec<u32>,
    /// `None` where each training image is classified by the others.
    test: Option<(Arc<dyn Source>, Vec<u32>)>,
    /// Test images that are not classified, since no training image is of their class.
    num_left_out: usize,
    num_classes: usize,
}

impl Labelled {
    /// Opened data; fails where a training image has no label, or no test image has a class of theirs.
    pub fn new(splits: Splits, name: &str) -> anyhow::Result<Self> {
        let test = splits.test.clone().with_context(|| {
            format!(
                "{name} has no test images; name some with --test SRC, or classify each training image by the others with --leave-one-out"
            )
        })?;
        let train = Self::leaving_one_out(splits)?;
        let num_test = test.len();
        let (test, test_labels) = classifiable(test)?;
        Ok(Self { num_left_out: num_test - test_labels.len(), test: Some((test, test_labels)), ..train })
    }

    /// Opened data whose training images classify each other; fails where one has no label.
    pub fn leaving_one_out(splits: Splits) -> anyhow::Result<Self> {
        let train_labels = data::labels(splits.train.as_ref()).with_context(|| {
            let lack = lack_of_labels(&splits).unwrap_or_default();
            format!("{lack}; images need labels to be evaluated with: put each class into a sub-folder of its own")
        })?;
        let num_classes = splits.train.class_names().len();
        Ok(Self { splits, train_labels, test: None, num_left_out: 0, num_classes })
    }

    /// Numbers of training images and of those that are classified.
    pub fn num_images(&self) -> (usize, usize) {
        let num_train = self.train_labels.len();
        (num_train, self.test.as_ref().map_or(num_train, |(_, labels)| labels.len()))
    }

    /// Images that can vote on one.
    fn num_voters(&self) -> usize {
        self.train_labels.len() - usize::from(self.test.is_none())
    }

    /// The usual vote: K = 200, or all training images where there are fewer.
    pub fn usual_knn(&self) -> KnnConfig {
        let usual = KnnConfig::default();
        KnnConfig { k: usual.k.min(self.train_labels.len()), ..usual }
    }

    /// kNN accuracy of the embeddings.
    pub fn knn_top1(&self, encoder: &Encoder, config: &KnnConfig) -> anyhow::Result<f32> {
        let train = encoder.embed(&self.splits.train, "embedding training images")?;
        let Some((test, test_labels)) = &self.test else {
            return Ok(knn::leave_one_out_accuracy(&train, &self.train_labels, config)?);
        };
        let test = encoder.embed(test, "embedding test images")?;
        Ok(knn::knn_accuracy(&train, &self.train_labels, &test, test_labels, config)?)
    }

    /// The same, and the accuracy of a softmax layer on the pooled features; each image goes through the network once.
    fn knn_and_linear(&self, encoder: &Encoder, config: &KnnConfig) -> anyhow::Result<(f32, LinearResult)> {
        let (test, test_labels) = self.test.as_ref().context("a linear probe needs test images")?;
        let features = |source: &Arc<dyn Source>, labels: &[u32], what: &str| -> anyhow::Result<LabelledFeatures> {
            Ok(LabelledFeatures { features: encoder.features(source, what)?, labels: labels.to_vec() })
        };
        let train = features(&self.splits.train, &self.train_labels, "features of training images")?;
        let test = features(test, test_labels, "features of test images")?;
        let (rows, queries) = (encoder.embed_features(&train.features)?, encoder.embed_features(&test.features)?);
        let knn_top1 = knn::knn_accuracy(&rows, &self.train_labels, &queries, test_labels, config)?;
        Ok((knn_top1, linear_probe(&train, &test, self.num_classes, &LinearConfig::default())?))
    }

    /// kNN accuracy, and the linear probe's where it is wanted.
    pub fn measure(&self, encoder: &Encoder, config: &KnnConfig, with_linear: bool) -> anyhow::Result<(f32, Option<LinearResult>)> {
        if !with_linear {
            return Ok((self.knn_top1(encoder, config)?, None));
        }
        let (knn_top1, linear) = self.knn_and_linear(encoder, config)?;
        Ok((knn_top1, Some(linear)))
    }
}

/// The test images that have a class of the training images, with it; says how many others are left out, and fails where all are.
fn classifiable(test: Arc<dyn Source>) -> anyhow::Result<(Arc<dyn Source>, Vec<u32>)> {
    let Some(lack) = lack_of_classes(test.as_ref()) else {
        let labels = data::labels(test.as_ref()).unwrap_or_default();
        return Ok((test, labels));
    };
    let kept: Vec<(u32, u32)> = (0..test.len()).filter_map(|index| Some((index as u32, test.label(index)?))).collect();
    if kept.is_empty() {
        bail!("{lack}; put each class into a sub-folder of its own, named as among the training images");
    }
    remark!("note: {lack}; they are left out of the accuracy");
    let (indices, labels) = kept.into_iter().unzip();
    Ok((Arc::new(Subset::new(test, indices)?), labels))
}

/// Which images keep the data from being evaluated as a whole, in words.
pub fn lack_of_labels(splits: &Splits) -> Option<String> {
    let of_train = lack(splits.train.as_ref(), "training images without a label");
    of_train.or_else(|| lack_of_classes(splits.test.as_deref()?))
}

fn lack_of_classes(test: &dyn Source) -> Option<String> {
    lack(test, "test images without a class of the training images")
}

fn lack(source: &dyn Source, what: &str) -> Option<String> {
    let without: Vec<usize> = (0..source.len()).filter(|&index| source.label(index).is_none()).collect();
    let first = source.name(*without.first()?);
    Some(format!("{what}: {} of {}, such as {first}", thousands(without.len()), thousands(source.len())))
}

/// Runs `la-cli eval`.
pub fn run(args: &EvalArgs, device: &Device) -> anyhow::Result<()> {
    let started = Instant::now();
    let encoder = args.encoder.load(device)?;
    let data = open(args, &encoder)?;
    let knn_config = knn_config(args, data.num_voters())?;
    let (knn_top1, linear) = data.measure(&encoder, &knn_config, args.linear)?;
    let report = Report { args, encoder: &encoder, data: &data, knn_config, knn_top1, linear, seconds: started.elapsed().as_secs_f64() };
    if args.json {
        say!("{}", report.json()?)
    } else {
        report.print()
    }
}

fn open(args: &EvalArgs, encoder: &Encoder) -> anyhow::Result<Labelled> {
    let (recorded, recorded_test) = encoder.recorded_data();
    let Some(src) = args.data.as_deref().or(recorded) else {
        bail!("{} does not say what it was trained on; name the images with --data SRC", encoder.name);
    };
    // A recorded test set belongs to the recorded data.
    let test = args.test.as_deref().or(if args.data.is_none() { recorded_test } else { None });
    // A run's own data means the images that it learned from, where it did from a part of them.
    let limit = args.encoder.limit.or(if args.data.is_none() { encoder.recorded_limit() } else { None });
    let splits = source::open(src, test, &encoder.open_config(limit)).map_err(|error| match args.data {
        Some(_) => error,
        None => source::not_where_recorded(error, &encoder.name, src),
    })?;
    source::warn_unreadable(&splits);
    if args.data.is_none() && args.encoder.limit.is_none() {
        source::note_other_number(splits.train.len(), &encoder.name, encoder.run.as_ref());
    }
    if args.leave_one_out {
        if splits.train.len() < 2 {
            bail!("--leave-one-out needs at least 2 images, since each is classified by the others, got 1; name more, or raise --limit");
        }
        return Labelled::leaving_one_out(splits);
    }
    Labelled::new(splits, src)
}

fn knn_config(args: &EvalArgs, num_rows: usize) -> anyhow::Result<KnnConfig> {
    match args.knn_k {
        Some(k) if !(1..=num_rows).contains(&k) => {
            bail!("--knn-k must be in 1 to {num_rows}, the number of training images that can vote, got {k}")
        }
        _ if args.knn_temperature.is_nan() || args.knn_temperature <= 0.0 => {
            bail!("--knn-temperature must be above 0, got {}", args.knn_temperature)
        }
        k => Ok(KnnConfig { k: k.unwrap_or(KnnConfig::default().k.min(num_rows)), temperature: args.knn_temperature }),
    }
}

struct Report<'a> {
    args: &'a EvalArgs,
    encoder: &'a Encoder,
    data: &'a Labelled,
    knn_config: KnnConfig,
    knn_top1: f32,
    linear: Option<LinearResult>,
    seconds: f64,
}

impl Report<'_> {
    fn print(&self) -> anyhow::Result<()> {
        let KnnConfig { k, temperature } = self.knn_config;
        say!("weights       {}", self.encoder.describe())?;
        let left_out = match self.data.num_left_out {
            0 => String::new(),
            n => format!(", {} of the test images left out", thousands(n)),
        };
        say!("data          {}{left_out}", source::describe(&self.data.splits))?;
        let others = if self.args.leave_one_out { ", each classified by the others" } else { "" };
        say!(
            "kNN top-1     {}   K = {k}, temperature {temperature}; {} re-embedded un-augmented{others}, batch norm in eval mode",
            percent(self.knn_top1),
            source::images(self.data.train_labels.len(), "")
        )?;
        if let Some(linear) = self.linear {
            let config = LinearConfig::default();
            say!(
                "linear top-1  {}   on the training images {}; pooled features, {} epochs of SGD, lr {}, un-augmented, one crop",
                percent(linear.top1),
                percent(linear.train_top1),
                config.epochs,
                config.learning_rate
            )?;
        }
        say!("time          {}", duration(self.seconds))
    }

    fn json(&self) -> anyhow::Result<String> {
        let linear = self.linear;
        Ok(serde_json::to_string(&Json {
            weights: &self.args.encoder.weights,
            data: &self.data.splits.name,
            num_train: self.data.train_labels.len(),
            num_test: self.data.num_images().1,
            num_left_out: self.data.num_left_out,
            leave_one_out: self.args.leave_one_out,
            num_classes: self.data.num_classes,
            knn_top1: self.knn_top1,
            knn_k: self.knn_config.k,
            knn_temperature: self.knn_config.temperature,
            linear_top1: linear.map(|linear| linear.top1),
            linear_train_top1: linear.map(|linear| linear.train_top1),
            linear_epochs: linear.map(|_| LinearConfig::default().epochs),
            seconds: self.seconds,
        })?)
    }
}

/// The object that `--json` prints; accuracies in 0–1.
#[derive(serde::Serialize)]
struct Json<'a> {
    weights: &'a str,
    data: &'a str,
    num_train: usize,
    num_test: usize,
    num_left_out: usize,
    leave_one_out: bool,
    num_classes: usize,
    knn_top1: f32,
    knn_k: usize,
    knn_temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_top1: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_train_top1: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_epochs: Option<usize>,
    seconds: f64,
}
