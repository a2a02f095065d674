//! What `la-cli pack` is asked for.

use std::path::PathBuf;

/// Where the metrics of the run beside go.
pub const BESIDE_METRICS: &str = "metrics-beside.jsonl";

/// Options of `la-cli pack`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli pack runs/mine --out packed/mine
  la-cli pack runs/sample-1 --out weights/clothes --linear --title 'Clothes, 28 px'")]
pub struct PackArgs {
    /// Run whose weights are packed
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Folder to write, such as weights/NAME; it must not exist
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    #[command(flatten)]
    pub card: CardArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What the model card tells beyond what the run recorded.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct CardArgs {
    /// Another run of equally many epochs, for comparison in the model card, such as one of instance recognition alone
    #[arg(long, value_name = "RUN")]
    pub beside: Option<PathBuf>,
    /// Also measure a linear probe, of every network in the card
    #[arg(long)]
    pub linear: bool,
    /// First line of the model card [default: from the network and the data]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Size of images to recommend for the weights [default: the size of training]; if it differs, the card has figures at both
    #[arg(long, value_name = "PX")]
    pub size: Option<usize>,
    /// Where the images of the run are now [default: where they were]
    #[arg(long, value_name = "SRC")]
    pub data: Option<String>,
    /// Their test images [default: those of the run, or of --data]
    #[arg(long, value_name = "SRC")]
    pub test: Option<String>,
    /// Name of the data in card and files [default: its name in the run; for a path, the last part]
    #[arg(long, value_name = "NAME")]
    pub data_as: Option<String>,
    /// Name of the data set on the Hub, such as uoft-cs/cifar10 [default: set for sample, fashion-mnist, cifar10 and cifar100]
    #[arg(long, value_name = "OWNER/NAME")]
    pub dataset: Option<String>,
    /// Licence of the weights, under which others may use them, such as mit [default: none is stated]
    #[arg(long, value_name = "ID")]
    pub license: Option<String>,
    /// Licence of the images that the weights were trained on, such as cc-by-4.0 [default: known for some data]
    #[arg(long, value_name = "TEXT")]
    pub data_license: Option<String>,
    /// Machine that the run was trained on [default: as the run recorded it]
    #[arg(long, value_name = "TEXT")]
    pub machine: Option<String>,
}

impl CardArgs {
    /// The licence of the weights, as the Hub names it.
    pub fn license(&self) -> &str {
        self.license.as_deref().unwrap_or("unknown")
    }
}
