//! The content of large files on its way to the Hub's store: hf-xet cuts it into chunks and sends those that are new there.

use super::api::{Api, Refusal, Request};
use super::repo::{encoded, File, Kind, Repo};
use crate::progress::Progress;
use anyhow::{anyhow, bail};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;
use xet::xet_session::{Sha256Policy, XetSessionBuilder};

/// How often the progress of an upload is asked for.
const POLL: Duration = Duration::from_millis(100);
/// What git's large files are talked about in.
const LFS: &str = "application/vnd.git-lfs+json";
/// Files that the Hub is asked about at once.
const AT_ONCE: usize = 256;

/// Which of the files the Hub wants, small ones with the commit and large ones before it.
pub struct Sorted<'a> {
    /// With the commit.
    pub small: Vec<&'a File>,
    /// Before the commit.
    pub large: Vec<&'a File>,
}

/// Asks the Hub how each file is to come.
pub fn sort<'a>(api: &Api, repo: &Repo, revision: &str, files: &[&'a File], is_proposed: bool) -> Result<Sorted<'a>, Refusal> {
    use base64::{prelude::BASE64_STANDARD, Engine};
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        path: String,
        upload_mode: String,
        #[serde(default)]
        should_ignore: bool,
    }
    #[derive(Deserialize)]
    struct Answer {
        files: Vec<Told>,
    }
    let mut sorted = Sorted { small: vec![], large: vec![] };
    for files in files.chunks(AT_ONCE) {
        let entry = |file: &&File| json!({"path": file.path, "size": file.size, "sample": BASE64_STANDARD.encode(&file.sample)});
        let body = json!({"files": files.iter().map(entry).collect::<Vec<_>>()});
        let address = format!("{}/preupload/{}{}", repo.api(), encoded(revision), proposed(is_proposed));
        let told: Answer = api.ask(&Request::post(address, &body))?.json()?;
        let paths = |is_there: fn(&Told) -> bool| told.files.iter().filter(|file| is_there(file)).map(|file| file.path.as_str()).collect();
        let ignored: HashSet<&str> = paths(|file| file.should_ignore);
        let large: HashSet<&str> = paths(|file| file.upload_mode == "lfs");
        for file in files.iter().filter(|file| !ignored.contains(file.path.as_str())) {
            // An empty file has no content to store.
            let is_large = large.contains(file.path.as_str()) && file.size > 0;
            if is_large { &mut sorted.large } else { &mut sorted.small }.push(*file);
        }
    }
    Ok(sorted)
}

fn proposed(is_proposed: bool) -> &'static str {
    if is_proposed {
        "?create_pr=1"
    } else {
        ""
    }
}

/// Sends the content of large files. What arrived is not sent again, even if this is broken off.
pub fn send(api: &Api, repo: &Repo, revision: &str, files: &[&File], is_proposed: bool) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    announce(api, repo, revision, files)?;
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Store {
        access_token: String,
        exp: u64,
        cas_url: String,
    }
    let address = format!("{}/xet-write-token/{}{}", repo.api(), encoded(revision), proposed(is_proposed));
    let store: Store = api.ask(&Request::get(address.clone()))?.json()?;
    let failed =
        |error: xet::XetError| anyhow!("the content of the files: {}", api.hidden(&error.to_string()).replace(&store.access_token, "…"));
    let session = XetSessionBuilder::new().build().map_err(|error| anyhow!("{error}"))?;
    let commit = session.new_upload_commit().map_err(|error| anyhow!("{error}"))?;
    let commit = commit
        .with_endpoint(&store.cas_url)
        .with_token_info(&store.access_token, store.exp)
        .with_token_refresh_url(format!("{}{address}", api.endpoint), api.authorization()?)
        .build_blocking()
        .map_err(failed)?;
    for file in files {
        commit.upload_from_path_blocking(file.from.clone(), Sha256Policy::Compute).map_err(failed)?;
    }
    let kilobytes = |bytes: u64| (bytes / 1000) as usize;
    let mut progress = Progress::new("uploading", kilobytes(files.iter().map(|file| file.size).sum()), "kB");
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| commit.commit_blocking());
        while !sending.is_finished() {
            progress.set(kilobytes(commit.progress().total_bytes_completed));
            std::thread::sleep(POLL);
        }
        sending.join().unwrap_or_else(|_| Err(xet::XetError::TaskError("the upload broke off".into())))
    })
    .map(drop)
    .map_err(failed)
}

/// Tells the Hub what is to come.
fn announce(api: &Api, repo: &Repo, revision: &str, files: &[&File]) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        transfer: Option<String>,
    }
    let objects: Vec<_> = files.iter().map(|file| json!({"oid": file.sha256, "size": file.size})).collect();
    let body = json!({
        "operation": "upload", "transfers": ["basic", "multipart", "xet"], "hash_algo": "sha256",
        "objects": objects, "ref": {"name": revision},
    });
    let place = if repo.kind == Kind::Space { "/spaces/" } else { "/" };
    let mut request = Request::post(format!("{place}{}.git/info/lfs/objects/batch", repo.id), &body);
    request.accept = Some(LFS);
    request.body = request.body.map(|(_, body)| (LFS, body));
    let answer: Answer = api.ask(&request)?.json()?;
    match answer.transfer.as_deref() {
        Some("xet") => Ok(()),
        other => bail!(
            "{}: expected a server that stores large files by Xet, got {}; write the files with --dry-run DIR and send them with `hf upload`",
            api.endpoint,
            other.unwrap_or("none")
        ),
    }
}
