//! What a repository lacks, and what of it goes.

use super::contents::README;
use crate::digests::SUMS;
use crate::hub::repo::{File, State};
use std::collections::BTreeMap;

/// Where the page's bundle lies in a model.
pub const BUNDLE: &str = "bundle/";

/// What la-cli wrote into a repository before: its `SHA256SUMS`, and the digest of the README that is there.
#[derive(Default)]
pub struct Earlier {
    sums: BTreeMap<String, String>,
    readme: Option<String>,
}

impl Earlier {
    /// From the texts of the two files.
    pub fn new(sums: &str, readme_sha256: Option<String>) -> Self {
        let entry = |line: &str| line.split_once("  ").map(|(digest, name)| (name.to_string(), digest.to_string()));
        Self { sums: sums.lines().filter_map(entry).collect(), readme: readme_sha256 }
    }

    /// Whether la-cli has published here.
    pub fn is_ours(&self) -> bool {
        !self.sums.is_empty()
    }

    /// Whether the README that is there is not what la-cli wrote.
    pub fn has_other_readme(&self) -> bool {
        self.readme.is_some() && self.readme.as_ref() != self.sums.get(README)
    }
}

/// What is sent and what goes.
pub struct Plan<'a> {
    /// Files that the repository lacks.
    pub send: Vec<&'a File>,
    /// Paths that go.
    pub delete: Vec<&'a str>,
    /// Files that are there as they are.
    pub num_unchanged: usize,
}

/// Compares `files` with what the repository holds: what la-cli wrote there and writes no more goes, also from a bundle that is
/// published again, and a whole bundle of other weights.
pub fn plan<'a>(files: &'a [File], state: &'a State, earlier: &Earlier) -> Plan<'a> {
    let (unchanged, send): (Vec<&File>, Vec<&File>) = files.iter().partition(|file| file.is_in(state));
    let is_kept = |path: &str| path == SUMS || path == README || files.iter().any(|file| file.path == path);
    let has_bundle = files.iter().any(|file| file.path.starts_with(BUNDLE));
    let is_stale = earlier.is_ours() && send.iter().any(|file| file.path == "model.safetensors");
    let was_ours = |path: &str| earlier.sums.contains_key(path) || ((has_bundle || is_stale) && path.starts_with(BUNDLE));
    let delete = state.files.keys().map(String::as_str).filter(|path| was_ours(path) && !is_kept(path)).collect();
    Plan { send, delete, num_unchanged: unchanged.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        File { path: path.into(), from: path.into(), size: 1, sha256: content.into(), git: format!("git-{content}"), sample: vec![] }
    }

    #[test]
    fn only_what_differs_is_sent_and_only_our_own_goes() {
        let there =
            [("README.md", "git-a"), ("model.safetensors", "b"), ("old.png", "c"), ("theirs.txt", "d"), ("bundle/thumbs-9.jpg", "e")];
        let state = State { head: "1".into(), files: there.map(|(path, digest)| (path.to_string(), digest.to_string())).into() };
        let earlier = Earlier::new("a  README.md\nb  model.safetensors\nc  old.png\n", Some("a".into()));
        let files = [file("README.md", "a"), file("model.safetensors", "b2"), file("bundle/bank.bin", "f")];
        let plan = plan(&files, &state, &earlier);
        assert_eq!(plan.send.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["model.safetensors", "bundle/bank.bin"]);
        assert_eq!((plan.delete, plan.num_unchanged), (vec!["bundle/thumbs-9.jpg", "old.png"], 1));
    }

    #[test]
    fn a_bundle_of_other_weights_goes() {
        let there = [("model.safetensors", "b"), ("bundle/bank.bin", "c")];
        let state = State { head: "1".into(), files: there.map(|(path, digest)| (path.to_string(), digest.to_string())).into() };
        let deleted = |content, sums| plan(&[file("model.safetensors", content)], &state, &Earlier::new(sums, None)).delete.len();
        assert_eq!(deleted("b2", "b  model.safetensors\n"), 1);
        assert_eq!(deleted("b", "b  model.safetensors\n"), 0);
        assert_eq!(deleted("b2", ""), 0);
    }

    #[test]
    fn a_readme_that_was_changed_by_hand_is_known() {
        let readme = |sums, sha256: Option<&str>| Earlier::new(sums, sha256.map(str::to_string)).has_other_readme();
        assert!(!readme("a  README.md\n", Some("a")));
        assert!(readme("a  README.md\n", Some("b")));
        assert!(readme("", Some("b")));
        assert!(!readme("", None));
    }
}
