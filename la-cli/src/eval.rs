//! `la-cli eval`: what the embeddings are worth, measured with labels that training never saw.

use crate::index::{CacheArgs, Data, Indexed, OpenArgs};
use crate::output::{percent, remark, say, thousands};
use crate::progress::duration;
use crate::source::{self, Embedded, Split};
use crate::weights::{Encoder, EncoderArgs};
use anyhow::{bail, Context};
use candle_core::Device;
use la_core::data::{self, Source, Splits};
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
    /// Labelled reference images, or a file from `la-cli embed` [default: those of RUN; photos has none]
    #[arg(long, value_name = "SRC")]
    data: Option<String>,
    /// Images that are classified [default: the test split of the data]
    #[arg(long, value_name = "SRC")]
    test: Option<String>,
    /// Classify each training image by all others, without test images: for folders without a split
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
    #[command(flatten)]
    cache: CacheArgs,
}

/// Images with labels, and those that they classify.
pub struct Labelled {
    splits: Splits,
    is_leaving_one_out: bool,
}

/// What was measured; accuracies in 0–1.
pub struct Measured {
    /// How neighbours voted.
    pub knn: KnnConfig,
    /// kNN accuracy of the embeddings.
    pub knn_top1: f32,
    /// That of a softmax layer on the pooled features, where wanted.
    pub linear: Option<LinearResult>,
    /// Images that voted.
    pub num_train: usize,
    /// Images that were classified.
    pub num_test: usize,
}

/// Gives the embeddings of images.
type Embed<'a> = &'a mut dyn FnMut(Split) -> anyhow::Result<Embedded>;

impl Labelled {
    /// Opened data; fails where a training image has no label, or no test image has a class of theirs.
    pub fn new(splits: Splits, name: &str) -> anyhow::Result<Self> {
        let test = splits.test.clone().with_context(|| {
            format!(
                "{name} has no test images; name some with --test SRC, or classify each training image by the others with --leave-one-out"
            )
        })?;
        let labelled = Self { is_leaving_one_out: false, ..Self::leaving_one_out(splits)? };
        check_classifiable(test.as_ref())?;
        Ok(labelled)
    }

    /// Opened data whose training images classify each other; fails where one has no label.
    pub fn leaving_one_out(splits: Splits) -> anyhow::Result<Self> {
        if data::labels(splits.train.as_ref()).is_none() {
            let lack = lack_of_labels(&splits).unwrap_or_default();
            bail!("{lack}; evaluation needs labels: put each class into a sub-folder of its own");
        }
        Ok(Self { splits, is_leaving_one_out: true })
    }

    /// Numbers of training images and of those that are classified.
    pub fn num_images(&self) -> (usize, usize) {
        let num_train = self.splits.train.len();
        match self.splits.test.as_ref().filter(|_| !self.is_leaving_one_out) {
            Some(test) => (num_train, (0..test.len()).filter(|&index| test.label(index).is_some()).count()),
            None => (num_train, num_train),
        }
    }

    /// Images that can vote on one.
    fn num_voters(&self, num_train: usize) -> usize {
        num_train - usize::from(self.is_leaving_one_out)
    }

    /// The usual vote: K = 200, or all training images where there are fewer.
    pub fn usual_knn(&self) -> KnnConfig {
        let usual = KnnConfig::default();
        KnnConfig { k: usual.k.min(self.splits.train.len()), ..usual }
    }

    /// kNN accuracy of the embeddings that `embed` gives, by at most `config.k` neighbours.
    fn knn(&self, embed: Embed, config: &KnnConfig) -> anyhow::Result<Measured> {
        let (train, train_labels) = embed(Split::Train)?.labelled()?;
        let num_train = train_labels.len();
        let knn = KnnConfig { k: config.k.min(self.num_voters(num_train)), ..*config };
        if self.is_leaving_one_out {
            let knn_top1 = knn::leave_one_out_accuracy(&train, &train_labels, &knn)?;
            return Ok(Measured { knn, knn_top1, linear: None, num_train, num_test: num_train });
        }
        let (test, test_labels) = embed(Split::Test)?.labelled()?;
        let knn_top1 = knn::knn_accuracy(&train, &train_labels, &test, &test_labels, &knn)?;
        Ok(Measured { knn, knn_top1, linear: None, num_train, num_test: test_labels.len() })
    }

    /// kNN accuracy, its read-out fitted to the training images, and the linear probe's on the pooled features where it is
    /// wanted; each image goes through the network once.
    pub fn measure(&self, encoder: &Encoder, config: &KnnConfig, with_linear: bool) -> anyhow::Result<Measured> {
        let (mut sets, mut fitted) = (Vec::new(), None);
        let mut embed = |split| {
            let (images, what) = self.images(split)?;
            let features = if with_linear {
                let (pooled, features) = encoder.pooled_and_features(images, what)?;
                let (pooled, labels) = Embedded { rows: pooled, ..features.clone() }.labelled()?;
                sets.push(LabelledFeatures { features: pooled, labels });
                features
            } else {
                encoder.features(images, what)?
            };
            if split == Split::Train {
                fitted = encoder.fit(&features.rows)?;
            }
            let rows = fitted.as_ref().map_or(Ok(features.rows.clone()), |readout| readout.apply(&features.rows))?;
            Ok(Embedded { rows, ..features })
        };
        let measured = self.knn(&mut embed, config)?;
        if !with_linear {
            return Ok(measured);
        }
        let [train, test] = &sets[..] else { bail!("a linear probe needs test images") };
        let linear = linear_probe(train, test, self.splits.train.class_names().len(), &LinearConfig::default())?;
        Ok(Measured { linear: Some(linear), ..measured })
    }

    fn images(&self, split: Split) -> anyhow::Result<(&Arc<dyn Source>, &'static str)> {
        match split {
            Split::Test => Ok((self.splits.test.as_ref().context("there are no test images")?, "embedding test images")),
            _ => Ok((&self.splits.train, "embedding training images")),
        }
    }
}

/// Says how many test images are left out for lack of a class of the training images; fails where all are.
fn check_classifiable(test: &dyn Source) -> anyhow::Result<()> {
    let Some(lack) = lack_of_classes(test) else { return Ok(()) };
    if (0..test.len()).all(|index| test.label(index).is_none()) {
        bail!("{lack}; put each class into a sub-folder of its own, named as among the training images");
    }
    remark!("note: {lack}; they are left out of the accuracy");
    Ok(())
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
    let mut encoder = args.encoder.load(device)?;
    let mut images = open(args, &encoder)?;
    let data = labelled(args, &images)?;
    let knn_config = knn_config(args, data.num_voters(data.splits.train.len()))?;
    let measured = match args.linear {
        true => {
            source::warn_unreadable(&data.splits);
            data.measure(&encoder, &knn_config, true)?
        }
        false => data.knn(
            &mut |split| {
                let Indexed { images, rows, .. } = images.embed(split, &mut encoder)?;
                Ok(Embedded { images, rows })
            },
            &knn_config,
        )?,
    };
    if args.data.is_none() && args.encoder.limit.is_none() {
        source::note_other_number(measured.num_train, &encoder.name, encoder.run.as_ref());
    }
    let report = Report { args, encoder: &encoder, splits: &images.splits, measured, seconds: started.elapsed().as_secs_f64() };
    if args.json {
        say!("{}", report.json()?)
    } else {
        report.print()
    }
}

fn open(args: &EvalArgs, encoder: &Encoder) -> anyhow::Result<Data> {
    let (recorded, recorded_test) = encoder.recorded_data();
    let Some(src) = args.data.as_deref().or(recorded) else {
        bail!("{} does not say what it was trained on; name the images with --data SRC", encoder.name);
    };
    // A recorded test set belongs to the recorded data.
    let test = args.test.as_deref().or(if args.data.is_none() { recorded_test } else { None });
    // A run's own data means the images that it learned from, where it did from a part of them.
    let limit = args.encoder.limit.or(if args.data.is_none() { encoder.recorded_limit() } else { None });
    let use_cache = args.cache.use_cache();
    let open = |data, limit| {
        let open = OpenArgs { data, limit, use_cache };
        if args.linear {
            Data::open_pictures(&open, encoder).context("--linear")
        } else {
            Data::open(&open, encoder)
        }
    };
    let images = open(src, limit).and_then(|images| match test {
        Some(test) => images.with_test(open(test, None)?),
        None => Ok(images),
    });
    images.map_err(|error| match args.data {
        Some(_) => error,
        None => source::not_where_recorded(error, &encoder.name, src),
    })
}

fn labelled(args: &EvalArgs, images: &Data) -> anyhow::Result<Labelled> {
    let splits = images.splits.clone();
    if args.leave_one_out {
        if splits.train.len() < 2 {
            bail!("--leave-one-out needs at least 2 images, since each is classified by the others, got 1; name more, or raise --limit");
        }
        return Labelled::leaving_one_out(splits);
    }
    let name = splits.name.clone();
    Labelled::new(splits, &name)
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
    splits: &'a Splits,
    measured: Measured,
    seconds: f64,
}

impl Report<'_> {
    /// Test images that are not classified, since no training image is of their class.
    fn num_left_out(&self) -> usize {
        self.splits.test.as_ref().filter(|_| !self.args.leave_one_out).map_or(0, |test| test.len() - self.measured.num_test)
    }

    fn print(&self) -> anyhow::Result<()> {
        let Measured { knn: KnnConfig { k, temperature }, knn_top1, linear, num_train, .. } = self.measured;
        say!("weights       {}", self.encoder.describe())?;
        let left_out = match self.num_left_out() {
            0 => String::new(),
            n => format!(", {} of the test images left out", thousands(n)),
        };
        say!("data          {}{left_out}", source::describe(self.splits))?;
        let others = if self.args.leave_one_out { ", each classified by the others" } else { "" };
        say!(
            "kNN top-1     {}   K = {k}, temperature {temperature}; {} re-embedded un-augmented{others}, batch norm in eval mode",
            percent(knn_top1),
            source::images(num_train, "")
        )?;
        if let Some(linear) = linear {
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
        let linear = self.measured.linear;
        Ok(serde_json::to_string(&Json {
            weights: &self.args.encoder.weights,
            data: &self.splits.name,
            num_train: self.measured.num_train,
            num_test: self.measured.num_test,
            num_left_out: self.num_left_out(),
            leave_one_out: self.args.leave_one_out,
            num_classes: self.splits.train.class_names().len(),
            knn_top1: self.measured.knn_top1,
            knn_k: self.measured.knn.k,
            knn_temperature: self.measured.knn.temperature,
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
