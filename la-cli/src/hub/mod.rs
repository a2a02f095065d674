//! The Hugging Face Hub through hf-hub, and the weights of its models.
//!
//! The variables of the Hub's own library apply: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`. What was downloaded once is
//! not again.

pub mod api;
mod model;
pub mod repo;
mod token;
pub mod upload;

use hf_hub::repository::RepoType;
use hf_hub::{HFClientSync, HFError, HFRepositorySync};
pub use model::download_weights;
use std::path::{Component, Path, PathBuf};
use token::Token;

/// What fails on the way to the Hub and back.
pub type HubResult<T> = std::result::Result<T, HFError>;

/// A client with the user's token, which sends nothing about this machine.
pub fn client() -> HubResult<HFClientSync> {
    send_no_telemetry();
    let builder = hf_hub::HFClient::builder().endpoint(endpoint());
    match Token::find().filter(|_| is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_none()) {
        Some(token) => builder.token(token.secret()).build_sync(),
        None => builder.build_sync(),
    }
}

/// The address of the Hub: `HF_ENDPOINT`, where it is set.
pub fn endpoint() -> String {
    is_set("HF_ENDPOINT").map_or("https://huggingface.co".into(), |address| address.trim_end_matches('/').to_string())
}

/// hf-xet tells its server about each upload unless this is set.
fn send_no_telemetry() {
    std::env::set_var("HF_HUB_DISABLE_TELEMETRY", "1");
}

/// The value of a variable of the environment that is not blank.
fn is_set(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
}

/// Whether the user wants nothing to be asked of the Hub.
pub fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_lowercase().as_str()))
}

/// Owner and name, where `id` is both and nothing else.
pub fn owner_and_name(id: &str) -> Option<(&str, &str)> {
    let is_name =
        |name: &str| !name.starts_with('.') && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    id.split_once('/').filter(|(owner, name)| is_name(owner) && is_name(name))
}

/// Whether a path that a server tells stays in the folder that it is put into.
pub fn stays_inside(path: &str) -> bool {
    let is_plain = |part: Component| matches!(part, Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(is_plain) && !path.contains(|c: char| c == '\\' || c.is_control())
}

/// The file's path in the cache, downloaded where it is not there yet.
pub fn download<T: RepoType>(repo: &HFRepositorySync<T>, name: &str, revision: Option<&str>) -> HubResult<PathBuf> {
    let file = repo.download_file().filename(name).maybe_revision(revision);
    match file.clone().local_files_only(true).send() {
        Err(HFError::LocalEntryNotFound { .. }) if !is_offline() => {
            // hf-hub names folders and files of the cache as the server does.
            let told = repo.get_file_metadata().filepath(name).maybe_revision(revision).send()?;
            let names = [told.commit_hash, told.etag];
            match names.iter().find(|name| !stays_inside(name) || name.contains('/')) {
                Some(name) => Err(HFError::Io(std::io::Error::other(format!("the server tells {name:?} for a name in the cache")))),
                None => file.send(),
            }
        }
        cached => cached,
    }
}

/// Why there is no file, where the user wants nothing to be asked of the Hub.
pub const NOT_IN_CACHE: &str = "not downloaded yet, and HF_HUB_OFFLINE is set; unset it to download this";
