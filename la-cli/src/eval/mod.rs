//! `la-cli eval`: what the embeddings are worth, measured with labels that training never saw.

mod compared;
mod figures;
mod labelled;
mod measure;
mod opened;
mod table;
mod words;

pub use labelled::{lack_of_labels, Labelled};

use crate::index::CacheArgs;
use crate::output::{check_replaceable, say};
use crate::probe::few_labels::FewLabels;
use crate::probe::Protocol;
use crate::source;
use crate::weights::{Encoder, EncoderArgs};
use anyhow::{bail, Context};
use candle_core::Device;
use la_core::eval::knn::KnnConfig;
use measure::{measure, Reached};
use opened::Asked;
use std::path::PathBuf;
use std::time::Instant;

/// What `--against` takes for the network before it learned anything.
const UNTRAINED: &str = "untrained";

/// Options of `la-cli eval`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli eval runs/sample-1 --linear
  la-cli eval --data ~/photos --leave-one-out    # if each class is a sub-folder
  la-cli eval runs/sample-1 --layers --labels 10% --csv layers.csv
  la-cli eval runs/sample-1 --retrieval --against untrained")]
pub struct EvalArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Labelled reference images, or a file from `la-cli embed` [default: those of RUN; photos has none]
    #[arg(long, value_name = "SRC")]
    data: Option<String>,
    /// Images that are classified [default: the test split of the data]; classes are matched by name
    #[arg(long, value_name = "SRC")]
    test: Option<String>,
    /// Classify each training image by all others, without test images: for folders without a split
    #[arg(long, conflicts_with_all = ["test", "linear", "layers"])]
    leave_one_out: bool,
    /// Neighbours that vote [default: 200, or all training images if there are fewer]
    #[arg(long, value_name = "K")]
    knn_k: Option<usize>,
    /// Temperature of their votes, exp(similarity / temperature)
    #[arg(long, value_name = "X", default_value_t = KnnConfig::default().temperature)]
    knn_temperature: f64,
    /// Also train a softmax layer on the pooled features of the frozen network, by SGD
    #[arg(long)]
    linear: bool,
    /// Also fit a softmax layer to each layer of the frozen network, from pixels to embedding
    #[arg(long)]
    layers: bool,
    /// How --layers fits them
    #[arg(long, value_name = "fast|paper", default_value = "fast", requires = "layers")]
    protocol: Protocol,
    /// Also measure how well images of a class are found: recall at 1, 5 and 10, mean average precision
    #[arg(long)]
    retrieval: bool,
    /// Use only some of the training labels: a share of each class, such as 1% or 10%, or a number for each class, such as 5
    #[arg(long, value_name = "N|N%")]
    labels: Option<FewLabels>,
    /// Compare with a second network on the same images (paired test): a run, weights, or `untrained`, the same network with random weights
    #[arg(long, value_name = "RUN|WEIGHTS")]
    against: Option<String>,
    /// Also print the accuracy of each class, and which classes it is confused with
    #[arg(long)]
    per_class: bool,
    /// Seed of the choice of labels, and of the weights of `untrained`
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write all numbers to a CSV file, one per line
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Overwrite the file of --csv
    #[arg(long, requires = "csv")]
    force: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

impl EvalArgs {
    /// The flag that wants pictures, not embeddings alone.
    fn needs_pictures(&self) -> Option<&'static str> {
        [(self.linear, "--linear"), (self.layers, "--layers")].into_iter().find_map(|(is_set, flag)| is_set.then_some(flag))
    }
}

/// Runs `la-cli eval`.
pub fn run(args: &EvalArgs, device: &Device) -> anyhow::Result<()> {
    let started = Instant::now();
    if let Some(path) = &args.csv {
        check_replaceable("--csv", path, args.force)?;
    }
    let mut encoder = args.encoder.load(device)?;
    let against = args.against.as_ref().map(|name| open_against(args, name, &encoder, device)).transpose().context("--against")?;
    let asked = Asked::new(args, &encoder)?;
    let reached = measure(args, &asked, &mut encoder)?;
    if args.data.is_none() && args.encoder.limit.is_none() {
        source::note_other_number(reached.num_images, &encoder.name, encoder.run.as_ref());
    }
    let against = against.map(|mut other| measure_against((args, &asked), &mut other, &reached)).transpose().context("--against")?;
    let table = table::Table::new(args, &reached, against.as_ref())?;
    if let Some(path) = &args.csv {
        table.write_csv(path)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    match args.json {
        true => say!("{}", table.json(args, &reached, seconds)?),
        false => words::print(&table, &reached, against.as_ref(), seconds),
    }
}

/// The network to compare with.
fn open_against(args: &EvalArgs, name: &str, encoder: &Encoder, device: &Device) -> anyhow::Result<Encoder> {
    if name == UNTRAINED {
        return encoder.untrained(args.seed, device);
    }
    let mut other = args.encoder.prepare(Encoder::open(name, device)?)?;
    other.draw_limit_as(encoder);
    Ok(other)
}

/// What it reaches on the same images.
fn measure_against((args, asked): (&EvalArgs, &Asked), other: &mut Encoder, reached: &Reached) -> anyhow::Result<Reached> {
    if other.name == UNTRAINED && reached.is_by_readout {
        // Like with like: random weights have no read-out yet.
        other.set_readout(other.learn_readout(None, &reached.splits.train)?);
    }
    let found = measure(args, asked, other)?;
    if found.knn.labels != reached.knn.labels || found.num_train != reached.num_train {
        bail!(
            "{} and {} were measured on other images, of which {} and {} were classified; name the images of both with --data",
            reached.name,
            found.name,
            reached.num_test(),
            found.num_test()
        );
    }
    Ok(found)
}
