//! `la-cli search`: the images of a data source that lie nearest to a picture.

use crate::output::{self, say};
use crate::query::Queries;
use crate::source::{self, Split};
use crate::weights::EncoderArgs;
use anyhow::bail;
use candle_core::Device;
use la_core::data::Source;
use la_core::eval::knn::{self, KnnConfig, Neighbors, Vote};
use la_core::eval::report::{draw_neighbors, neighbor_panel, PanelConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `la-cli search`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  la-cli search --data ~/photos --query x.jpg
  la-cli search runs/photos --data ~/photos --query x.jpg y.jpg --k 5 --panel found.png")]
pub struct SearchArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Images to search in
    #[arg(long, value_name = "SRC")]
    data: String,
    /// Which of them
    #[arg(long, value_name = "train|test|all", default_value = "train")]
    split: Split,
    /// Pictures to search for
    #[arg(long, value_name = "IMAGE", num_args = 1.., required = true)]
    query: Vec<PathBuf>,
    /// Neighbours of each picture [default: 10, or all images where there are fewer]
    #[arg(long, value_name = "K")]
    k: Option<usize>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Also draw the pictures with their neighbours
    #[arg(long, value_name = "FILE.png")]
    panel: Option<PathBuf>,
    /// Replace the file of --panel
    #[arg(long, requires = "panel")]
    force: bool,
}

/// What was found.
struct Found {
    bank: Arc<dyn Source>,
    queries: Arc<Queries>,
    neighbors: Neighbors,
    votes: Option<Vec<Vote>>,
}

/// Runs `la-cli search`.
pub fn run(args: &SearchArgs, device: &Device) -> anyhow::Result<()> {
    args.panel.iter().try_for_each(|path| check_panel(path, args.force))?;
    let encoder = args.encoder.load(device)?;
    let queries = Arc::new(Queries::open(&args.query, encoder.size())?);
    let splits = source::open(&args.data, None, &encoder.open_config(args.encoder.limit))?;
    source::warn_unreadable(&splits);
    let bank = source::join(args.split.parts(&splits)?);
    let k = args.k.unwrap_or(10.min(bank.len()));
    if !(1..=bank.len()).contains(&k) {
        bail!("--k must be in 1 to {}, the number of images searched, got {k}", bank.len());
    }
    let rows = encoder.embed(&bank, "embedding")?;
    let query_rows = encoder.embed(&(queries.clone() as Arc<dyn Source>), "embedding queries")?;
    let neighbors = knn::nearest(&rows, &query_rows, k)?;
    let votes = vote(bank.as_ref(), &neighbors)?;
    let found = Found { bank, queries, neighbors, votes };
    if args.json {
        say!("{}", found.json()?)?;
    } else {
        found.print()?;
    }
    args.panel.iter().try_for_each(|path| found.draw(path))
}

/// Fails where no picture can be written to `path`, or it says that it is to be anything but a PNG.
fn check_panel(path: &Path, force: bool) -> anyhow::Result<()> {
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
        bail!("--panel {}: expected a name that ends in .png, the format that is written", path.display());
    }
    output::check_replaceable("--panel", path, force)
}

/// The class that the neighbours vote for, where all of the bank is labelled.
fn vote(bank: &dyn Source, neighbors: &Neighbors) -> anyhow::Result<Option<Vec<Vote>>> {
    let Some(labels) = la_core::data::labels(bank) else { return Ok(None) };
    let num_classes = bank.class_names().len();
    Ok(Some(knn::classify(neighbors, &labels, num_classes, KnnConfig::default().temperature)?))
}

impl Found {
    /// Indices and similarities of the neighbours of query `i`.
    fn of(&self, i: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = i * self.neighbors.k..(i + 1) * self.neighbors.k;
        self.neighbors.indices[range.clone()].iter().map(|&index| index as usize).zip(self.neighbors.scores[range].iter().copied())
    }

    fn print(&self) -> anyhow::Result<()> {
        for i in 0..self.queries.len() {
            say!("{}{}", self.queries.name(i), self.vote_in_words(i).map_or(String::new(), |vote| format!("   {vote}")))?;
            for (place, (index, score)) in self.of(i).enumerate() {
                let class = source::class_name(self.bank.as_ref(), index).map_or(String::new(), |class| format!("   {class}"));
                say!("{:>5}  {score:.4}  {}{class}", place + 1, self.bank.name(index))?;
            }
        }
        Ok(())
    }

    fn vote_in_words(&self, i: usize) -> Option<String> {
        let vote = self.votes.as_ref()?.get(i)?;
        let class = self.bank.class_names().get(vote.predicted as usize)?;
        Some(format!("{class}, by {:.0} % of the votes", 100.0 * vote.confidence))
    }

    fn json(&self) -> anyhow::Result<String> {
        let queries = (0..self.queries.len()).map(|i| self.json_of(i)).collect();
        Ok(serde_json::to_string(&Json { k: self.neighbors.k, num_images: self.bank.len(), queries })?)
    }

    fn json_of(&self, i: usize) -> JsonQuery<'_> {
        let bank = self.bank.as_ref();
        let vote = self.votes.as_ref().and_then(|votes| votes.get(i));
        let vote = vote.map(|vote| JsonVote {
            label: vote.predicted,
            class: bank.class_names().get(vote.predicted as usize).map(String::as_str),
            confidence: vote.confidence,
        });
        let neighbor = |(index, score)| JsonNeighbor {
            index,
            score,
            name: bank.name(index),
            label: bank.label(index),
            class: source::class_name(bank, index),
        };
        JsonQuery { query: self.queries.name(i), vote, neighbors: self.of(i).map(neighbor).collect() }
    }

    fn draw(&self, path: &Path) -> anyhow::Result<()> {
        let config = PanelConfig {
            title: format!("Nearest of {}, with cosine similarities", source::images(self.bank.len(), "")),
            queries: (0..self.queries.len()).map(|i| (i, i)).collect(),
            num_neighbors: self.neighbors.k,
        };
        let panel = neighbor_panel(self.bank.as_ref(), self.queries.as_ref(), &self.neighbors, &config)?;
        Ok(draw_neighbors(&panel, path)?)
    }
}

/// The object that `--json` prints.
#[derive(serde::Serialize)]
struct Json<'a> {
    k: usize,
    num_images: usize,
    queries: Vec<JsonQuery<'a>>,
}

#[derive(serde::Serialize)]
struct JsonQuery<'a> {
    query: String,
    vote: Option<JsonVote<'a>>,
    neighbors: Vec<JsonNeighbor<'a>>,
}

#[derive(serde::Serialize)]
struct JsonVote<'a> {
    label: u32,
    class: Option<&'a str>,
    confidence: f32,
}

#[derive(serde::Serialize)]
struct JsonNeighbor<'a> {
    index: usize,
    score: f32,
    name: String,
    label: Option<u32>,
    class: Option<&'a str>,
}
