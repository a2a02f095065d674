//! The files of a training and of a test split among files of many images, by their names.

use super::split_names::{of_file, parse, Kind};
use crate::error::{bail, Result};
use std::collections::BTreeSet;

/// Files by split, each list sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileSplits {
    /// What is learned from.
    pub train: Vec<String>,
    /// What is held out.
    pub test: Vec<String>,
    /// What was left aside, and why, in one line.
    pub note: Option<String>,
}

/// What is asked of a source of files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// One of several sets in the source, each in a folder of its own.
    pub config: Option<&'a str>,
    /// One split, as training images.
    pub split: Option<&'a str>,
}

/// Divides `paths`, which lie below the source `name`.
///
/// Without a split, files whose names say nothing are for training, unless others say that they are. Where all are held out they
/// are taken all the same, as nothing else is there. Fails where several sets are there and none is asked for, or what is asked
/// for is not there.
pub fn divide(name: &str, paths: &[String], wanted: Wanted) -> Result<FileSplits> {
    let configs: BTreeSet<&str> = paths.iter().map(|path| config_of(path)).collect();
    let (config, split) = match wanted {
        // A configuration is often taken for a split.
        Wanted { config: None, split: Some(split) } if parse(split).is_none() && configs.contains(split) => (Some(split), None),
        _ => (wanted.config, wanted.split),
    };
    let mut paths: Vec<String> = match config.map_or_else(|| only_config(name, &configs), |config| Ok(Some(config)))? {
        Some(config) => paths.iter().filter(|path| path.strip_prefix(config).is_some_and(|rest| rest.starts_with('/'))).cloned().collect(),
        None => paths.iter().filter(|path| config_of(path).is_empty()).cloned().collect(),
    };
    paths.sort();
    if let (true, Some(config)) = (paths.is_empty(), config) {
        bail!("{name}: expected the name of one of its configurations, got {config:?}; they are {}", listed(&configs));
    }
    match split {
        Some(split) => one_split(name, &paths, split),
        None => Ok(by_kind(paths)),
    }
}

/// The configuration that is meant where none is named; none where the files lie in no folder of that kind.
fn only_config<'a>(name: &str, configs: &BTreeSet<&'a str>) -> Result<Option<&'a str>> {
    let named: Vec<&str> = configs.iter().copied().filter(|config| !config.is_empty()).collect();
    match (configs.get("default"), &named[..]) {
        (Some(default), _) => Ok(Some(default)),
        _ if configs.contains("") => Ok(None),
        (_, [only]) => Ok(Some(only)),
        (_, [first, ..]) => bail!("{name}: holds several configurations, {}; which one? Name it as {name}/{first}", listed(configs)),
        (_, []) => Ok(None),
    }
}

fn listed(configs: &BTreeSet<&str>) -> String {
    configs.iter().copied().filter(|config| !config.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The first folder, where what follows it names a split on its own.
fn config_of(path: &str) -> &str {
    let is_split = |name: &str| parse(name).is_some_and(|named| named.rest.is_empty());
    match path.split_once('/') {
        Some((first, rest)) if first != "data" && !is_split(first) && of_file(rest).is_some() => first,
        _ => "",
    }
}

fn one_split(name: &str, paths: &[String], split: &str) -> Result<FileSplits> {
    let mut train = exactly(paths, split);
    if let (true, Some(named)) = (train.is_empty(), parse(split)) {
        train = paths.iter().filter(|path| of_file(path) == Some(named.kind)).cloned().collect();
    }
    match train.is_empty() {
        true => bail!("{name}: expected the name of a split, got {split:?}; files are {:?}", &paths[..paths.len().min(8)]),
        false => Ok(FileSplits { train, ..FileSplits::default() }),
    }
}

/// The files of which a folder, the stem, or the stem up to the first `-` is `split`.
fn exactly(paths: &[String], split: &str) -> Vec<String> {
    let is_it = |path: &&String| {
        let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let mut names = folders.split('/').chain([stem, stem.split('-').next().unwrap_or(stem)]);
        names.any(|name| name.strip_prefix("partial-").unwrap_or(name) == split)
    };
    paths.iter().filter(is_it).cloned().collect()
}

fn by_kind(paths: Vec<String>) -> FileSplits {
    let pick = |kind| paths.iter().filter(|path| of_file(path) == kind).cloned().collect::<Vec<_>>();
    let [train, test, validation, other] = [Some(Kind::Train), Some(Kind::Test), Some(Kind::Validation), None].map(pick);
    let (train, other) = if train.is_empty() { (other, vec![]) } else { (train, other) };
    let (test, spare) = if test.is_empty() { (validation, vec![]) } else { (test, validation) };
    if train.is_empty() {
        let note = (!test.is_empty()).then(|| "no file is named as one for training, so all are taken".to_string());
        return FileSplits { train: [test, spare].concat(), test: vec![], note };
    }
    let aside = [spare, other].concat();
    let note = aside.first().map(|first| {
        let others = if aside.len() > 1 { format!(" and {} more", aside.len() - 1) } else { String::new() };
        format!("{first}{others} left aside: the names of other files say which are to learn from and which are held out")
    });
    FileSplits { train, test, note }
}
