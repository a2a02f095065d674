//! What `la-cli push` is asked for.

use crate::pack::CardArgs;
use std::path::PathBuf;

/// Options of `la-cli push`.
#[derive(clap::Args)]
#[command(after_help = "The token comes from HF_TOKEN or `hf auth login`. HF_ENDPOINT names another server.

Examples:
  la-cli push runs/mine me/mine                    # pack the run and publish it
  la-cli push runs/mine me/hidden --private
  la-cli push runs/mine me/mine --space            # and a page that searches its pictures, for everyone
  la-cli push runs/mine me/mine --dry-run out      # only write what would be published")]
pub struct PushArgs {
    /// A run, which is packed first, or a folder that `la-cli pack` wrote
    #[arg(value_name = "RUN|FOLDER")]
    pub weights: PathBuf,
    /// The model on the Hub; it is created if it does not exist
    #[arg(value_name = "OWNER/NAME")]
    pub repo: String,
    /// Create the model or Space as private; fails on a public one
    #[arg(long)]
    pub private: bool,
    /// Branch of the model to commit to; it is created if it does not exist
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    pub revision: String,
    /// Propose the change as a pull request, also to models of others
    #[arg(long, conflicts_with = "space")]
    pub pr: bool,
    /// Also publish a bundle (embeddings, names and thumbnails of the pictures), which any exported page opens at
    /// ?model=OWNER/NAME
    #[arg(long)]
    pub bundle: bool,
    /// Publish the search page with its bundle as a static Space [default name: that of the model]
    #[arg(long, value_name = "OWNER/NAME", num_args = 0..=1)]
    pub space: Option<Option<String>>,
    /// First line of the commit's description
    #[arg(long, value_name = "TEXT", default_value = "Upload weights with la-cli")]
    pub message: String,
    /// Replace a README.md on the Hub that was written or changed by hand
    #[arg(long)]
    pub force: bool,
    /// Only write what would be published into this new folder; needs no token and no network. With --space also FOLDER-space
    #[arg(long, value_name = "FOLDER")]
    pub dry_run: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Model card of a run")]
    pub card: CardArgs,
}
