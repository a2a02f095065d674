//! Which split a folder or a file belongs to, by the words and delimiters that Hugging Face's `data_files` takes: `train`,
//! `seg_train`, `mnist_test`, `train2017`, `split=val`, in any case.

use std::collections::BTreeSet;

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What is learned from.
    Train,
    /// What is held out.
    Test,
    /// What is held out too, taken where there is no test part.
    Validation,
}

/// A name that speaks of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Which.
    pub kind: Kind,
    /// The other words of the name: `seg` of `seg_train`.
    pub rest: String,
}

fn kind_of(word: &str) -> Option<Kind> {
    match word {
        "train" | "training" => Some(Kind::Train),
        "test" | "testing" | "eval" | "evaluation" => Some(Kind::Test),
        "val" | "valid" | "validation" | "dev" => Some(Kind::Validation),
        _ => None,
    }
}

/// The split that `name` speaks of; of two, the one that is held out.
pub fn parse(name: &str) -> Option<Named> {
    let (mut kinds, mut rest) = (vec![], String::new());
    for word in words(name) {
        match kind_of(&word) {
            Some(kind) => kinds.push(kind),
            None => rest.push_str(&word),
        }
    }
    let kind = kinds.iter().copied().find(|kind| *kind != Kind::Train).or(kinds.first().copied())?;
    Some(Named { kind, rest })
}

/// Runs of letters in lower case; `trainA` is two of them.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        if !letter.is_alphabetic() || (before.is_lowercase() && letter.is_uppercase()) {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            words.last_mut().expect("it begins with one").extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A folder among others.
pub struct Sibling<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many folders with pictures are right in it.
    pub num_folders: usize,
}

/// The split of each of some folders that lie side by side; none for all of them where they are no splits.
///
/// Folders of both kinds are splits where every one is named so, or where the rest of their names agrees (`seg_train` and
/// `seg_test`, but not `train_station` and `test_tube`). A lone `train` or `test` is a split, unless folders of other names lie
/// beside it: then it is a class like them, except where it alone has folders of its own.
pub fn of_siblings(siblings: &[Sibling]) -> Vec<Option<Kind>> {
    let named: Vec<Option<Named>> = siblings.iter().map(|sibling| parse(sibling.name)).collect();
    let rests = |is_kind: fn(Kind) -> bool| -> BTreeSet<&str> {
        named.iter().flatten().filter(|named| is_kind(named.kind)).map(|named| named.rest.as_str()).collect()
    };
    let (train, held_out) = (rests(|kind| kind == Kind::Train), rests(|kind| kind != Kind::Train));
    let are_all_named = named.iter().all(Option::is_some);
    let is_split = |named: &Named| match train.is_empty() || held_out.is_empty() {
        true => named.rest.is_empty() && (are_all_named || stands_out(siblings)),
        false => are_all_named || (train.contains(named.rest.as_str()) && held_out.contains(named.rest.as_str())),
    };
    named.iter().map(|named| named.as_ref().filter(|named| is_split(named)).map(|named| named.kind)).collect()
}

/// Whether the folders named as splits are made up of folders, and no other is.
fn stands_out(siblings: &[Sibling]) -> bool {
    siblings.iter().all(|sibling| match parse(sibling.name).is_some_and(|named| named.rest.is_empty()) {
        true => sibling.num_folders > 1,
        false => sibling.num_folders == 0,
    })
}

/// The split of a file of many images: a folder or a file called exactly so decides before one that has other words in its name.
pub fn of_file(path: &str) -> Option<Kind> {
    let path = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    // `train-00000-of-00002` is no more than `train`.
    let part = |name: &str| parse(name).map(|named| Named { rest: named.rest.trim_end_matches("of").into(), ..named });
    let named: Vec<Named> = path.split('/').filter_map(part).collect();
    named.iter().find(|named| named.rest.is_empty()).or(named.first()).map(|named| named.kind)
}
