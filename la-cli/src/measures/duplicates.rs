//! Pictures that are nearly the same, in groups that can be trusted.
//!
//! Groups are those of complete linkage: every two rows of one are at least as alike as the threshold. Single linkage chains
//! pictures that have nothing in common but the ones between them into one large group.

use crate::error::{bail, Result};
use candle_core::Tensor;
use la_core::eval::knn::nearest;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// Neighbours that are looked at first; rows that have more within the floor are looked at again.
const FEW: usize = 32;
/// The most neighbours of a row that are looked at.
const MANY: usize = 256;
/// Queries of one search, so that progress can be told.
const QUERIES: usize = 1024;

/// Two rows that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The one of smaller index.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// Cosine similarity.
    pub similarity: f32,
}

/// What rows have near them.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearby {
    /// Pairs at least as alike as the floor, each once, by their rows.
    pub pairs: Vec<Pair>,
    /// From this similarity on, `pairs` holds every pair: the floor, unless a row has more than 255 neighbours above it.
    pub complete_from: f32,
    /// `(N,)` mean similarity to the nearest others, as many as were asked for or as there are; 0 where there is none.
    pub mean_nearest: Vec<f32>,
}

/// All pairs of rows at least `floor` alike, and how near each row's nearest others are.
///
/// - `rows` `(N, D)`: of unit length.
/// - `num_nearest`: others whose similarity is averaged, at most 31.
///
/// `progress` is told how many rows are done. Fails where there is no row, a value is not finite, or `num_nearest` is not in 1..=31.
pub fn nearby(rows: &Tensor, floor: f32, num_nearest: usize, progress: &mut dyn FnMut(usize)) -> Result<Nearby> {
    let num_rows = rows.dim(0)?;
    if !(1..FEW).contains(&num_nearest) {
        bail!("nearest rows to average must be in 1 to {}, got {num_nearest}", FEW - 1);
    }
    let mut found = Nearby { pairs: Vec::new(), complete_from: floor, mean_nearest: vec![0.0; num_rows] };
    let mut crowded = Vec::new();
    let all: Vec<u32> = (0..num_rows as u32).collect();
    search(rows, &all, FEW.min(num_rows), &mut |row, neighbors, last| {
        let nearest = &neighbors[..num_nearest.min(neighbors.len())];
        let sum: f32 = nearest.iter().map(|neighbor| neighbor.1).sum();
        found.mean_nearest[row as usize] = sum / nearest.len().max(1) as f32;
        match last >= floor && num_rows > FEW {
            true => crowded.push(row),
            false => add_pairs(&mut found.pairs, row, neighbors, floor),
        }
        progress(row as usize + 1);
    })?;
    let most = MANY.min(num_rows);
    search(rows, &crowded, most, &mut |row, neighbors, last| {
        if last >= floor && num_rows > MANY {
            found.complete_from = found.complete_from.max(last.next_up());
        }
        add_pairs(&mut found.pairs, row, neighbors, floor);
    })?;
    found.pairs.sort_unstable_by(|x, y| (x.a, x.b).cmp(&(y.a, y.b)).then(y.similarity.total_cmp(&x.similarity)));
    found.pairs.dedup_by_key(|pair| (pair.a, pair.b));
    Ok(found)
}

/// Told of a row, its nearest others with their similarities, and the least of these.
type Take<'a> = dyn FnMut(u32, &[(u32, f32)], f32) + 'a;

/// Calls `take` for each of `queries` with its `k - 1` nearest others.
fn search(rows: &Tensor, queries: &[u32], k: usize, take: &mut Take) -> Result<()> {
    for part in queries.chunks(QUERIES) {
        let asked = rows.index_select(&Tensor::new(part, rows.device())?, 0)?;
        let found = nearest(rows, &asked, k)?;
        for (at, &row) in part.iter().enumerate() {
            let range = at * k..(at + 1) * k;
            let pairs = found.indices[range.clone()].iter().copied().zip(found.scores[range].iter().copied());
            let others: Vec<(u32, f32)> = pairs.filter(|&(other, _)| other != row).collect();
            let last = others.last().map_or(f32::NEG_INFINITY, |other| other.1);
            take(row, &others, last);
        }
    }
    Ok(())
}

fn add_pairs(pairs: &mut Vec<Pair>, row: u32, neighbors: &[(u32, f32)], floor: f32) {
    let alike = neighbors.iter().filter(|neighbor| neighbor.1 >= floor);
    pairs.extend(alike.map(|&(other, similarity)| Pair { a: row.min(other), b: row.max(other), similarity }));
}

/// Rows that are all alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// At least two, by increasing index.
    pub rows: Vec<u32>,
    /// The similarity of the two that are least alike.
    pub least: f32,
}

/// Clusters that were joined one after the other, the most alike first: the groups for every threshold.
#[derive(Debug, Clone)]
pub struct Linkage {
    /// The first rows of two clusters, the smaller first, and how alike their least alike rows are; by falling similarity.
    merges: Vec<Pair>,
}

impl Linkage {
    /// Joins, again and again, the two clusters whose least alike rows are most alike, as far as `pairs` goes.
    ///
    /// - `pairs`: each once. Rows that are no pair are not alike.
    ///
    /// Of equal similarities the one with the smallest rows comes first. Fails where a pair has a row that is not below `num_rows`.
    pub fn complete(num_rows: usize, pairs: &[Pair]) -> Result<Self> {
        if let Some(pair) = pairs.iter().find(|pair| pair.a >= pair.b || pair.b as usize >= num_rows) {
            bail!("expected pairs of rows below {num_rows}, the smaller first, got {} and {}", pair.a, pair.b);
        }
        let mut near = vec![BTreeMap::new(); num_rows];
        for pair in pairs {
            near[pair.a as usize].insert(pair.b, pair.similarity);
            near[pair.b as usize].insert(pair.a, pair.similarity);
        }
        let mut open: BinaryHeap<Candidate> = pairs.iter().map(|&pair| Candidate(pair)).collect();
        let mut merges = Vec::new();
        while let Some(Candidate(pair)) = open.pop() {
            // What was merged meanwhile, or is less alike by now, has another candidate.
            if near[pair.a as usize].get(&pair.b) == Some(&pair.similarity) {
                join(&mut near, pair, &mut open);
                merges.push(pair);
            }
        }
        Ok(Self { merges })
    }

    /// The groups in which every two rows are at least `threshold` alike, by their first rows; rows alone are in none.
    pub fn groups(&self, threshold: f32) -> Vec<Group> {
        let mut members: BTreeMap<u32, Group> = BTreeMap::new();
        for merge in self.merges.iter().take_while(|merge| merge.similarity >= threshold) {
            let alone = |row| Group { rows: vec![row], least: 1.0 };
            let second = members.remove(&merge.b).unwrap_or_else(|| alone(merge.b));
            let first = members.entry(merge.a).or_insert_with(|| alone(merge.a));
            first.rows.extend(second.rows);
            first.least = merge.similarity;
        }
        let mut groups: Vec<Group> = members.into_values().collect();
        groups.iter_mut().for_each(|group| group.rows.sort_unstable());
        groups
    }
}

/// Puts cluster `b` into `a`: as alike to another as the less alike of the two.
fn join(near: &mut [BTreeMap<u32, f32>], Pair { a, b, .. }: Pair, open: &mut BinaryHeap<Candidate>) {
    let (of_a, of_b) = (std::mem::take(&mut near[a as usize]), std::mem::take(&mut near[b as usize]));
    let mut kept = BTreeMap::new();
    for (&other, &similarity) in of_a.iter().filter(|(&other, _)| other != b) {
        near[other as usize].remove(&a);
        let Some(&second) = of_b.get(&other) else { continue };
        let least = similarity.min(second);
        kept.insert(other, least);
        near[other as usize].insert(a, least);
        open.push(Candidate(Pair { a: a.min(other), b: a.max(other), similarity: least }));
    }
    for &other in of_b.keys().filter(|&&other| other != a) {
        near[other as usize].remove(&b);
    }
    near[a as usize] = kept;
}

/// Two clusters that may be joined; the greatest is the next.
struct Candidate(Pair);

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let (x, y) = (&self.0, &other.0);
        x.similarity.total_cmp(&y.similarity).then((y.a, y.b).cmp(&(x.a, x.b)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}
