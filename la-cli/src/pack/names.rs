//! Places of one machine under names that mean something elsewhere.

use crate::run::RunConfig;
use std::path::{Component, Path};

/// How the data of a run is called where others read of it.
pub struct Names {
    recorded: String,
    data: String,
}

impl Names {
    /// The names for a run; `data` is what its images are called, by default the end of their path.
    pub fn new(run: &RunConfig, data: Option<&str>) -> Self {
        let recorded = run.train.data.clone();
        let data = data.map_or_else(|| end_of(&recorded), str::to_string);
        Self { recorded, data }
    }

    /// The settings of a run without a path of this machine in them.
    pub fn settings(&self, run: &RunConfig) -> RunConfig {
        let mut run = run.clone();
        run.train.data = self.word(&run.train.data);
        run.train.test = run.train.test.map(|test| self.word(&test));
        run.train.init = run.train.init.map(|init| self.word(&init.to_string_lossy()).into());
        run.command = run.command.map(|words| self.words(&words));
        run
    }

    /// A command line without a path of this machine in it.
    pub fn words(&self, words: &[String]) -> Vec<String> {
        let in_flag = |word: &String| match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => format!("{flag}={}", self.word(value)),
            _ => self.word(word),
        };
        words.iter().map(in_flag).collect()
    }

    fn word(&self, word: &str) -> String {
        match word.strip_prefix(&self.recorded) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{}{rest}", self.data),
            _ if is_of_this_machine(word) => last_parts(word, 2),
            _ => word.to_string(),
        }
    }
}

fn is_of_this_machine(word: &str) -> bool {
    let path = Path::new(word);
    path.is_absolute() || word.starts_with('~') || path.components().any(|part| part == Component::ParentDir)
}

/// The last part of a path, with the one before it where the last is the name of a split.
pub fn end_of(path: &str) -> String {
    match Path::new(path).file_name().and_then(|name| name.to_str()) {
        Some("train" | "val" | "test") if is_of_this_machine(path) => last_parts(path, 2),
        Some(_) if is_of_this_machine(path) => last_parts(path, 1),
        _ => path.to_string(),
    }
}

fn last_parts(path: &str, count: usize) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "." | ".." | "~")).collect();
    parts[parts.len().saturating_sub(count)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(recorded: &str, data: &str) -> Names {
        Names { recorded: recorded.into(), data: data.into() }
    }

    #[test]
    fn paths_of_a_machine_end_at_their_last_parts() {
        assert_eq!(end_of("/home/me/imagenette"), "imagenette");
        assert_eq!(end_of("../imagenette/train"), "imagenette/train");
        assert_eq!(end_of("fashion-mnist"), "fashion-mnist");
        assert_eq!(end_of("hf:owner/name"), "hf:owner/name");
    }

    #[test]
    fn a_command_keeps_its_words_and_loses_its_paths() {
        let words =
            ["la-cli", "--data", "/home/me/set", "--test=/home/me/set/val", "--init", "/home/me/runs/ir/model.safetensors", "--lr", "0.06"];
        let public = names("/home/me/set", "photos").words(&words.map(String::from));
        assert_eq!(public, ["la-cli", "--data", "photos", "--test=photos/val", "--init", "ir/model.safetensors", "--lr", "0.06"]);
    }

    #[test]
    fn a_name_that_only_begins_like_the_data_is_another_one() {
        assert_eq!(names("sample", "x").word("samples"), "samples");
    }
}
