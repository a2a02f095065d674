//! Options of `la-cli inspect`.

use super::sheets;
use crate::export::folder;
use crate::index::CacheArgs;
use crate::weights::EncoderArgs;
use anyhow::bail;
use std::path::PathBuf;

/// Options of `la-cli inspect`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli inspect --data ~/photos
  la-cli inspect runs/mine --data ~/photos --out inspected    # contact sheets of duplicates, outliers and clusters
  la-cli inspect --data ~/photos --threshold 0.8 --json")]
pub struct InspectArgs {
    #[command(flatten)]
    pub encoder: EncoderArgs,
    /// Images to inspect, both training and test images
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Minimum cosine similarity between any two pictures of a group of near-duplicates
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    pub threshold: f32,
    /// Clusters [default: a third of the square root of the number of images, from 2 to 40]
    #[arg(long, value_name = "M")]
    pub clusters: Option<usize>,
    /// How many groups, outliers and clusters to print; --json and --out have them all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub show: usize,
    /// Also write contact sheets, a page that shows them, and inspect.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace what an earlier `inspect` wrote to --out
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl InspectArgs {
    /// Fails, before anything is embedded, where what is asked for cannot be given.
    pub fn check(&self) -> anyhow::Result<()> {
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            bail!("--threshold must be above 0 and at most 1, got {}", self.threshold);
        }
        if self.clusters == Some(0) {
            bail!("--clusters must be at least 1, got 0");
        }
        self.out.iter().try_for_each(|out| folder::check_for(&sheets::KIND, out, self.force))
    }
}
