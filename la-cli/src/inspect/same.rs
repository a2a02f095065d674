//! Images that are the same: equal files, or equal pixels in different files.

use crate::data::files;
use crate::digests::sha256;
use crate::measures::duplicates::Pair;
use crate::progress::Progress;
use la_core::data::{Picture, Source};
use la_core::files::sha256_of;
use rayon::prelude::*;
use std::collections::HashMap;

/// What two embeddings of the same pixels have in common at least, whatever order their sums were taken in.
const SAME: f32 = 0.999;
/// Files that are read at a time, between two words of progress.
const AT_ONCE: usize = 256;

/// For each image the first one of the same content: of the same file, or of the same pixels where images have no files.
pub fn firsts(images: &dyn Source) -> Vec<u32> {
    let lengths: Vec<Option<u64>> = (0..images.len()).into_par_iter().map(|index| length(images, index)).collect();
    let mut counts = HashMap::new();
    lengths.iter().flatten().for_each(|length| *counts.entry(*length).or_insert(0) += 1);
    // A file is read only where another one is as long.
    let asked: Vec<u32> =
        (0..).zip(&lengths).filter(|(_, length)| length.is_none_or(|length| counts[&length] > 1)).map(|(index, _)| index).collect();
    let digests = each(&asked, "reading", |index| match images.path(index) {
        Some(path) => sha256(path).ok(),
        None => images.picture(index).ok().map(|picture| digest(&picture)),
    });
    let mut firsts: Vec<u32> = (0..images.len() as u32).collect();
    join(&mut firsts, &asked, digests);
    firsts
}

/// Makes those of `pairs` one, of rows which are the images `shown`, whose pixels are equal though their files differ.
pub fn join_equal_pixels(images: &dyn Source, (shown, pairs): (&[u32], &[Pair]), firsts: &mut [u32]) {
    let alike = pairs.iter().filter(|pair| pair.similarity >= SAME);
    let mut asked: Vec<u32> = alike.flat_map(|pair| [pair.a, pair.b]).map(|row| shown[row as usize]).collect();
    asked.sort_unstable();
    asked.dedup();
    asked.retain(|&index| images.path(index as usize).is_some());
    let digests = each(&asked, "comparing pixels", |index| {
        // In full size: a source may have reduced it.
        let picture = images.path(index).map(|path| files::read(path, usize::MAX));
        picture.and_then(Result::ok).map(|picture| digest(&picture))
    });
    let mut of_shown = firsts.to_vec();
    join(&mut of_shown, &asked, digests);
    firsts.iter_mut().for_each(|first| *first = of_shown[*first as usize]);
}

/// Gives all images of one digest the first of them.
fn join(firsts: &mut [u32], asked: &[u32], digests: Vec<Option<String>>) {
    let mut known: HashMap<String, u32> = HashMap::new();
    for (&index, digest) in asked.iter().zip(digests) {
        if let Some(digest) = digest {
            firsts[index as usize] = *known.entry(digest).or_insert(index);
        }
    }
}

fn each(asked: &[u32], what: &str, digest: impl Fn(usize) -> Option<String> + Sync) -> Vec<Option<String>> {
    let mut progress = Progress::new(what, asked.len(), "images");
    let mut digests = Vec::with_capacity(asked.len());
    for part in asked.chunks(AT_ONCE) {
        digests.par_extend(part.par_iter().map(|&index| digest(index as usize)));
        progress.set(digests.len());
    }
    digests
}

fn length(images: &dyn Source, index: usize) -> Option<u64> {
    images.path(index).and_then(|path| path.metadata().ok()).map(|metadata| metadata.len())
}

fn digest(picture: &Picture) -> String {
    sha256_of([format!("{} {} ", picture.width, picture.height).as_bytes(), &picture.pixels])
}
