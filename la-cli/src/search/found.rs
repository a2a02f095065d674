//! What a search has found, and how it is printed and drawn.

use crate::output::{self, one_line, say};
use crate::query::Queries;
use crate::report::{draw_neighbors, neighbor_panel, NeighborPanel, PanelConfig};
use crate::source;
use candle_core::Tensor;
use la_core::data::Source;
use la_core::eval::knn::{self, KnnConfig, Neighbors, Vote};
use std::path::Path;
use std::sync::Arc;

/// What two embeddings of one picture have in common at least, whatever order their sums were taken in.
const SAME: f32 = 0.9999;

/// What was found.
pub struct Found {
    bank: Arc<dyn Source>,
    queries: Arc<Queries>,
    of_queries: Vec<OfQuery>,
}

/// What was found for one query.
struct OfQuery {
    neighbors: Neighbors,
    /// The class that they vote for, where all of the bank is labelled.
    vote: Option<Vote>,
}

impl Found {
    /// The `k` images of `bank` nearest to each query, or as many as there are beside itself.
    pub fn search(bank: Arc<dyn Source>, queries: Arc<Queries>, (rows, asked): (&Tensor, &Tensor), k: usize) -> anyhow::Result<Self> {
        let labels = la_core::data::labels(bank.as_ref());
        let mut of_queries = Vec::with_capacity(queries.len());
        for i in 0..queries.len() {
            let neighbors = others((bank.as_ref(), rows), (&queries.paths[i], &asked.narrow(0, i, 1)?), k)?;
            let votes = labels.as_ref().filter(|_| neighbors.k > 0).map(|labels| {
                let num_classes = bank.class_names().len();
                knn::classify(&neighbors, labels, num_classes, KnnConfig::default().temperature)
            });
            let vote = votes.transpose()?.and_then(|votes| votes.first().copied());
            of_queries.push(OfQuery { neighbors, vote });
        }
        Ok(Self { bank, queries, of_queries })
    }

    /// Prints each query with its neighbours, a line each.
    pub fn print(&self) -> anyhow::Result<()> {
        for (i, of_query) in self.of_queries.iter().enumerate() {
            say!("{}{}", one_line(&self.queries.name(i)), self.vote_in_words(of_query).map_or(String::new(), |vote| format!("   {vote}")))?;
            for (place, (index, score)) in of_query.neighbors().enumerate() {
                let class = source::class_name(self.bank.as_ref(), index).map_or(String::new(), |class| format!("   {class}"));
                let shown = self.bank.path(index).map_or_else(|| self.bank.name(index), |path| path.display().to_string());
                say!("{:>5}  {score:.4}  {}", place + 1, one_line(&(shown + &class)))?;
            }
        }
        Ok(())
    }

    fn vote_in_words(&self, of_query: &OfQuery) -> Option<String> {
        let vote = of_query.vote?;
        let class = self.bank.class_names().get(vote.predicted as usize)?;
        Some(format!("{class}, by {:.0} % of the votes", 100.0 * vote.confidence))
    }

    /// Prints the paths of all neighbours, each ended by a zero byte.
    pub fn print_paths(&self) -> anyhow::Result<()> {
        let indices = self.of_queries.iter().flat_map(OfQuery::neighbors).map(|(index, _)| index);
        let paths = indices.filter_map(|index| self.bank.path(index));
        output::write_bytes(&paths.flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\0"].concat()).collect::<Vec<u8>>())
    }

    /// Prints one JSON object.
    pub fn print_json(&self, k: usize) -> anyhow::Result<()> {
        let queries = (0..self.queries.len()).map(|i| self.json_of(i)).collect();
        say!("{}", serde_json::to_string(&Json { k, num_images: self.bank.len(), queries })?)
    }

    fn json_of(&self, i: usize) -> JsonQuery<'_> {
        let (bank, of_query) = (self.bank.as_ref(), &self.of_queries[i]);
        let vote = of_query.vote.map(|vote| JsonVote {
            label: vote.predicted,
            class: bank.class_names().get(vote.predicted as usize).map(String::as_str),
            confidence: vote.confidence,
        });
        let neighbor = |(index, score)| JsonNeighbor {
            index,
            score,
            name: bank.name(index),
            path: bank.path(index).map(|path| path.to_string_lossy().into_owned()),
            label: bank.label(index),
            class: source::class_name(bank, index),
        };
        JsonQuery { query: self.queries.name(i), vote, neighbors: of_query.neighbors().map(neighbor).collect() }
    }

    /// Draws the queries with their neighbours.
    pub fn draw(&self, path: &Path) -> anyhow::Result<()> {
        let title = format!("Nearest of {}, with cosine similarities", source::images(self.bank.len(), ""));
        let mut panel = NeighborPanel { title, rows: Vec::new() };
        for (i, OfQuery { neighbors, .. }) in self.of_queries.iter().enumerate() {
            let config = PanelConfig { title: String::new(), queries: vec![(0, i)], num_neighbors: neighbors.k };
            panel.rows.extend(neighbor_panel(self.bank.as_ref(), self.queries.as_ref(), neighbors, &config)?.rows);
        }
        Ok(draw_neighbors(&panel, path)?)
    }
}

impl OfQuery {
    /// Indices and similarities.
    fn neighbors(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.neighbors.indices.iter().map(|&index| index as usize).zip(self.neighbors.scores.iter().copied())
    }
}

/// The `k` nearest rows to a query, or all there are, without those that are of the query's own file.
fn others((bank, rows): (&dyn Source, &Tensor), (path, query): (&Path, &Tensor), k: usize) -> anyhow::Result<Neighbors> {
    // One more, for the query itself; links may lead to it under several names.
    let mut wanted = k + 1;
    loop {
        let found = knn::nearest(rows, query, wanted.min(bank.len()))?;
        let pairs = found.indices.iter().copied().zip(found.scores.iter().copied());
        let mut others: Vec<(u32, f32)> = pairs.filter(|&(index, score)| !is_query(bank, (index as usize, score), path)).collect();
        if others.len() >= k || wanted >= bank.len() {
            others.truncate(k);
            let (indices, scores): (Vec<u32>, Vec<f32>) = others.into_iter().unzip();
            return Ok(Neighbors { k: indices.len(), indices, scores });
        }
        wanted *= 2;
    }
}

/// Whether an image is the query's own file; without a file, whether it is embedded as the query is and has its name.
fn is_query(bank: &dyn Source, (index, score): (usize, f32), query: &Path) -> bool {
    match bank.path(index) {
        Some(path) => is_same_file(path, query),
        None => score >= SAME && query.ends_with(bank.name(index)),
    }
}

#[cfg(unix)]
fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    a.metadata().ok().zip(b.metadata().ok()).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(not(unix))]
fn is_same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
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
    path: Option<String>,
    label: Option<u32>,
    class: Option<&'a str>,
}
