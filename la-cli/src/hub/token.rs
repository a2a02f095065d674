//! The user's token for the Hub: from `HF_TOKEN`, the file that `HF_TOKEN_PATH` names, or `$HF_HOME/token`; never from a flag.

use super::is_set;
use std::path::PathBuf;

/// A token, which nothing prints.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The user's, where there is one.
    pub fn find() -> Option<Self> {
        let of_file = || std::fs::read_to_string(is_set("HF_TOKEN_PATH").map_or_else(|| home().join("token"), PathBuf::from)).ok();
        let token = is_set("HF_TOKEN").or_else(of_file)?.trim().to_string();
        (!token.is_empty()).then_some(Self(token))
    }

    /// For the header of a request.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The text with the token taken out, for what a server says.
    pub fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

/// The folder of the Hub's library: `HF_HOME`, else `huggingface` in the user's cache folder.
fn home() -> PathBuf {
    let cache = || is_set("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("huggingface"));
    let usual = || PathBuf::from(is_set("HOME").unwrap_or_default()).join(".cache/huggingface");
    is_set("HF_HOME").map(PathBuf::from).or_else(cache).unwrap_or_else(usual)
}
