//! The largest of a stream of scores, by selection and not by sorting.
//!
//! Scores above a rising threshold are kept; when enough have gathered, a partial selection drops what cannot be among
//! the `k` largest and raises the threshold. Equal scores go to the lower index.

use super::simd::{dispatch, Simd};

/// The columns of a block of scores, each with its own `k` largest.
pub(crate) struct TopK {
    columns: Vec<Column>,
    /// What a score must exceed to be kept, a value a column.
    thresholds: Vec<f32>,
    hits: Vec<Hit>,
}

/// One column's kept scores, as keys.
struct Column {
    k: usize,
    slack: f32,
    keys: Vec<u64>,
    limit: usize,
}

#[derive(Clone, Copy)]
struct Hit {
    column: u32,
    key: u64,
}

/// A score and its index as one number: larger for larger scores, then for lower indices.
fn key(score: f32, index: u32) -> u64 {
    let bits = score.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!index)
}

/// The score in a key.
pub(crate) fn score_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

fn index_of(key: u64) -> u32 {
    !(key as u32)
}

impl TopK {
    /// A selection of `k` for each column; scores may lie up to `slacks[column]` from the true ones, 0 where exact.
    pub fn new(k: usize, slacks: &[f32], width: usize) -> Self {
        let columns = slacks.iter().map(|&slack| Column { k, slack, keys: Vec::new(), limit: 2 * k + 512 }).collect();
        let mut thresholds = vec![f32::INFINITY; width];
        thresholds[..slacks.len()].fill(f32::NEG_INFINITY);
        Self { columns, thresholds, hits: Vec::new() }
    }

    /// Takes in `scores` `(rows, width)`; row `i` has index `first + i`, and indices rise from call to call.
    pub fn push(&mut self, scores: &[f32], first: usize) {
        let width = self.thresholds.len();
        let num_rows = scores.len() / width;
        self.hits.clear();
        self.hits.reserve(scores.len());
        let (from, thresholds, to) = (scores.as_ptr(), self.thresholds.as_ptr(), self.hits.as_mut_ptr());
        // SAFETY: `scores` holds `num_rows` rows of `width`, `thresholds` holds `width`, `to` has room for every score.
        let len = unsafe {
            dispatch!(scan(from: *const f32, thresholds: *const f32, to: *mut Hit, num_rows: usize, width: usize, first: usize) -> usize)
        };
        // SAFETY: `scan` wrote `len` hits, no more than were reserved.
        unsafe { self.hits.set_len(len) };
        for hit in &self.hits {
            self.columns[hit.column as usize].keys.push(hit.key);
        }
        for (column, threshold) in self.columns.iter_mut().zip(&mut self.thresholds) {
            if column.keys.len() > column.limit {
                *threshold = threshold.max(column.shrink());
            }
        }
    }

    /// Keeps only what exceeds these scores from here on.
    pub fn raise(&mut self, floors: &[f32]) {
        self.thresholds[..floors.len()].copy_from_slice(floors);
    }

    /// Each column's threshold: its `k`-th score so far, less the slack.
    pub fn thresholds(&mut self) -> impl Iterator<Item = f32> + '_ {
        self.columns.iter_mut().map(Column::shrink)
    }

    /// Each column's kept scores as keys: all that may be among the `k` largest.
    pub fn finish(self) -> impl Iterator<Item = Vec<u64>> {
        self.columns.into_iter().map(|column| column.keys)
    }
}

impl Column {
    /// Drops what cannot be among the `k` largest; gives the threshold for what comes.
    fn shrink(&mut self) -> f32 {
        if self.keys.len() < self.k {
            return f32::NEG_INFINITY;
        }
        let (above, &mut kth, _) = self.keys.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        debug_assert!(above.iter().all(|&a| a >= kth));
        // Two scores that are each off by the slack may stand in the wrong order when they differ by twice that.
        let threshold = score_of(kth) - 2.0 * self.slack;
        if self.slack == 0.0 {
            self.keys.truncate(self.k);
        } else {
            self.keys.retain(|&key| score_of(key) >= threshold);
        }
        self.limit = self.limit.max(2 * self.keys.len());
        if self.slack == 0.0 {
            threshold
        } else {
            threshold.next_down()
        }
    }
}

#[inline(always)]
unsafe fn scan<S: Simd>(scores: *const f32, thresholds: *const f32, hits: *mut Hit, num_rows: usize, width: usize, first: usize) -> usize {
    let mut len = 0;
    // SAFETY: the caller gives `num_rows * width` scores, `width` thresholds and room for as many hits as scores;
    // `width` is a multiple of two vectors.
    unsafe {
        for column in (0..width).step_by(2 * S::LANES) {
            let low = [S::load(thresholds.add(column)), S::load(thresholds.add(column + S::LANES))];
            for row in 0..num_rows {
                let at = scores.add(row * width + column);
                let mut above = S::greater(S::load(at), low[0]) | S::greater(S::load(at.add(S::LANES)), low[1]) << S::LANES;
                while above != 0 {
                    let lane = above.trailing_zeros();
                    let key = key(*at.add(lane as usize), (first + row) as u32);
                    hits.add(len).write(Hit { column: column as u32 + lane, key });
                    len += 1;
                    above &= above - 1;
                }
            }
        }
    }
    len
}

/// The largest of `scores`; NaN counts as absent.
pub(crate) fn max(scores: &[f32]) -> f32 {
    let (from, len) = (scores.as_ptr(), scores.len());
    // SAFETY: `from` holds `len` values.
    unsafe { dispatch!(max_kernel(from: *const f32, len: usize) -> f32) }
}

#[inline(always)]
unsafe fn max_kernel<S: Simd>(scores: *const f32, len: usize) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut at = 0;
    // SAFETY: `at` plus the values read stays within `len`; `lanes` holds the widest vector.
    unsafe {
        let mut best = [S::splat(f32::NEG_INFINITY); 4];
        while at + 4 * S::LANES <= len {
            for (i, best) in best.iter_mut().enumerate() {
                *best = S::max(S::load(scores.add(at + i * S::LANES)), *best);
            }
            at += 4 * S::LANES;
        }
        S::store(lanes.as_mut_ptr(), S::max(S::max(best[0], best[1]), S::max(best[2], best[3])));
        for i in at..len {
            lanes[0] = lanes[0].max(*scores.add(i));
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Writes the indices of the scores that are at least `least` to `found`, in increasing order.
pub(crate) fn at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
    found.clear();
    found.reserve(scores.len());
    let (from, to, len, below) = (scores.as_ptr(), found.as_mut_ptr(), scores.len(), least.next_down());
    // SAFETY: `from` holds `len` values, `to` has room for as many indices.
    let len = unsafe { dispatch!(at_least_kernel(from: *const f32, to: *mut u32, len: usize, below: f32) -> usize) };
    // SAFETY: the kernel wrote `len` indices.
    unsafe { found.set_len(len) };
}

#[inline(always)]
unsafe fn at_least_kernel<S: Simd>(scores: *const f32, found: *mut u32, len: usize, below: f32) -> usize {
    let (mut at, mut num_found) = (0, 0);
    // SAFETY: `at` plus the values read stays within `len`; no more indices are written than scores are read.
    unsafe {
        while at + S::LANES <= len {
            let mut above = S::greater(S::load(scores.add(at)), S::splat(below));
            while above != 0 {
                found.add(num_found).write(at as u32 + above.trailing_zeros());
                num_found += 1;
                above &= above - 1;
            }
            at += S::LANES;
        }
        for i in at..len {
            if *scores.add(i) > below {
                found.add(num_found).write(i as u32);
                num_found += 1;
            }
        }
    }
    num_found
}

/// The `k` largest of `keys`, sorted or not, as indices and scores.
pub(crate) fn largest(mut keys: Vec<u64>, k: usize, is_sorted: bool) -> impl Iterator<Item = (u32, f32)> {
    if keys.len() > k {
        keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        keys.truncate(k);
    }
    if is_sorted {
        keys.sort_unstable_by(|a, b| b.cmp(a));
    }
    keys.into_iter().map(|key| (index_of(key), score_of(key)))
}

/// Leaves the `k` largest of `keys` there and gives the others; none where there are fewer.
pub(crate) fn split(keys: &mut Vec<u64>, k: usize) -> Option<Vec<u64>> {
    if keys.len() < k {
        return None;
    }
    if keys.len() > k {
        keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
    }
    Some(keys.split_off(k))
}

/// The least score of some keys.
pub(crate) fn least(keys: &[u64]) -> f32 {
    keys.iter().min().map_or(f32::NEG_INFINITY, |&key| score_of(key))
}

/// Replaces the score of each key by what `score` writes for all their indices.
pub(crate) fn rescore(keys: &mut [u64], score: impl FnOnce(&[u32], &mut Vec<f32>)) {
    let indices: Vec<u32> = keys.iter().map(|&key| index_of(key)).collect();
    let mut scores = Vec::new();
    score(&indices, &mut scores);
    keys.iter_mut().zip(&indices).zip(&scores).for_each(|((entry, &index), &score)| *entry = key(score, index));
}

/// The indices and values of the `k` largest of `scores`, in decreasing order; equal scores go to the lower index.
///
/// NaN counts as absent; fewer than `k` come back where fewer are there.
pub fn top_k(scores: &[f32], k: usize) -> Vec<(u32, f32)> {
    let keys: Vec<u64> = scores.iter().enumerate().filter(|(_, s)| !s.is_nan()).map(|(i, &s)| key(s, i as u32)).collect();
    if k == 0 {
        return Vec::new();
    }
    largest(keys, k, true).collect()
}
