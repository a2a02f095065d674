//! Options of `la-cli report`, and the images that it is about.

use crate::index::CacheArgs;
use crate::weights::Encoder;
use anyhow::bail;
use std::path::PathBuf;

/// Options of `la-cli report`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli report runs/mine --out report
  la-cli report runs/mine runs/sample-1 --data ~/photos --out compared    # two runs, on other pictures
  la-cli report runs/mine --limit 2000 --out report --force")]
pub struct ReportArgs {
    /// Runs or weights to compare; neighbours and maps are those of the first
    #[arg(value_name = "RUN|WEIGHTS", required = true, num_args = 1..)]
    pub runs: Vec<String>,
    /// Images to compare them on [default: what the first was trained on]
    #[arg(long, value_name = "SRC")]
    pub data: Option<String>,
    /// Use this many training images of the data, drawn at random
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Also probe every layer, compared with the untrained network and with raw pixels; takes minutes
    #[arg(long)]
    pub layers: bool,
    /// Folder to write: index.html, one self-contained page, and each figure as SVG with its numbers as CSV
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an earlier report
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub cache: CacheArgs,
}

/// Which images a report is about.
pub struct Data {
    pub name: String,
    /// Test images of another source.
    pub test: Option<String>,
    pub limit: Option<usize>,
    pub use_cache: bool,
    /// Whether each layer is probed.
    pub has_layers: bool,
    /// Whether these are the images that the first run recorded.
    pub is_of_first: bool,
}

impl Data {
    /// What `--data` names, or what the first run was trained on.
    pub fn of(args: &ReportArgs, first: &Encoder) -> anyhow::Result<Self> {
        let (use_cache, has_layers) = (args.cache.use_cache(), args.layers);
        if let Some(data) = &args.data {
            return Ok(Self { name: data.clone(), test: None, limit: args.limit, use_cache, has_layers, is_of_first: false });
        }
        let (Some(data), test) = first.recorded_data() else {
            bail!("{} does not say what it was trained on; name the images with --data SRC", first.name);
        };
        let limit = args.limit.or(first.recorded_limit());
        Ok(Self { name: data.into(), test: test.map(str::to_string), limit, use_cache, has_layers, is_of_first: args.limit.is_none() })
    }
}
