//! A repository on the Hub: who may write to it, what it holds, and how it is changed by one commit.

use super::api::{Api, Refusal, Request};
use anyhow::Context;
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What stays as it is in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Weights.
    Model,
    /// A page.
    Space,
}

/// A repository by name.
pub struct Repo {
    /// What it is.
    pub kind: Kind,
    /// `owner/name`.
    pub id: String,
}

/// Who asks.
#[derive(Deserialize)]
pub struct Account {
    /// The user.
    pub name: String,
    /// The user's organisations.
    #[serde(default)]
    pub orgs: Vec<Organisation>,
    #[serde(default)]
    auth: Value,
}

/// A group of users that owns repositories.
#[derive(Deserialize)]
pub struct Organisation {
    /// Its name.
    pub name: String,
}

/// What the Hub tells of a repository.
#[derive(Deserialize)]
pub struct Info {
    /// Whether only its owners see it.
    pub private: Option<bool>,
}

/// What a repository holds at one revision.
pub struct State {
    /// The commit.
    pub head: String,
    /// The digest of each file by its path: SHA-256 of large ones, git's of others.
    pub files: BTreeMap<String, String>,
}

/// A file to publish.
#[derive(Clone)]
pub struct File {
    /// Its path in the repository.
    pub path: String,
    /// Where it is here.
    pub from: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
    /// What git calls it: SHA-1 of a header and the content.
    pub git: String,
    /// Its first bytes, by which the Hub tells text from the rest.
    pub sample: Vec<u8>,
}

impl File {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.from).with_context(|| self.from.display().to_string())
    }

    /// Whether `state` holds it.
    pub fn is_in(&self, state: &State) -> bool {
        state.files.get(&self.path).is_some_and(|digest| *digest == self.sha256 || *digest == self.git)
    }
}

/// A change that is made whole or not at all.
pub struct Change<'a> {
    /// First line of its description.
    pub message: &'a str,
    /// Files whose content goes with the commit.
    pub small: Vec<&'a File>,
    /// Files that were sent before.
    pub large: Vec<&'a File>,
    /// Paths that go.
    pub deleted: Vec<&'a str>,
    /// The commit that it changes.
    pub parent: &'a str,
}

/// What became of a change.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Committed {
    /// Where it is proposed, if it is.
    pub pull_request_url: Option<String>,
}

/// The user whose token is sent.
pub fn account(api: &Api) -> Result<Account, Refusal> {
    api.ask(&Request::get("/api/whoami-v2"))?.json()
}

impl Account {
    /// Whether the token only reads.
    pub fn only_reads(&self) -> bool {
        self.auth.pointer("/accessToken/role").and_then(Value::as_str) == Some("read")
    }

    /// Whether repositories of `owner` are the user's or of an organisation of theirs.
    pub fn belongs_to(&self, owner: &str) -> bool {
        let is_owner = |name: &str| name.eq_ignore_ascii_case(owner);
        is_owner(&self.name) || self.orgs.iter().any(|org| is_owner(&org.name))
    }
}

impl Repo {
    /// Its page for people.
    pub fn page(&self, api: &Api) -> String {
        format!("{}{}", api.endpoint, self.path())
    }

    fn path(&self) -> String {
        match self.kind {
            Kind::Model => format!("/{}", self.id),
            Kind::Space => format!("/spaces/{}", self.id),
        }
    }

    /// Where its part of the Hub's interface is.
    pub fn api(&self) -> String {
        match self.kind {
            Kind::Model => format!("/api/models/{}", self.id),
            Kind::Space => format!("/api/spaces/{}", self.id),
        }
    }

    /// What the Hub tells of it, if it is there.
    pub fn info(&self, api: &Api) -> Result<Option<Info>, Refusal> {
        match api.ask(&Request::get(self.api())) {
            Ok(answer) => answer.json().map(Some),
            Err(refusal) if refusal.is_missing() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Makes it. `private` as the owner's settings are, where nothing is said.
    pub fn create(&self, api: &Api, is_private: bool) -> Result<(), Refusal> {
        let (owner, name) = self.id.split_once('/').unwrap_or_default();
        let mut body = json!({"name": name, "organization": owner});
        match self.kind {
            Kind::Model => body["type"] = "model".into(),
            Kind::Space => (body["type"], body["sdk"]) = ("space".into(), "static".into()),
        }
        if is_private {
            body["private"] = true.into();
        }
        match api.ask(&Request::post("/api/repos/create", &body)) {
            Ok(_) => Ok(()),
            // Another made it, or this did and the answer was lost.
            Err(refusal) if refusal.status == Some(409) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Makes a branch that begins at the commit `from`.
    pub fn create_branch(&self, api: &Api, name: &str, from: &str) -> Result<(), Refusal> {
        let address = format!("{}/branch/{}", self.api(), encoded(name));
        match api.ask(&Request::post(address, &json!({"startingPoint": from}))) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.status == Some(409) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// What it holds at a revision, if there is such a one.
    pub fn state(&self, api: &Api, revision: &str) -> Result<Option<State>, Refusal> {
        #[derive(Deserialize)]
        struct Revision {
            sha: String,
        }
        #[derive(Deserialize)]
        struct Entry {
            r#type: String,
            path: String,
            oid: String,
            lfs: Option<Large>,
        }
        #[derive(Deserialize)]
        struct Large {
            oid: String,
        }
        let revision: Revision = match api.ask(&Request::get(format!("{}/revision/{}", self.api(), encoded(revision)))) {
            Ok(answer) => answer.json()?,
            Err(refusal) if refusal.is_missing() => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let mut files = BTreeMap::new();
        let mut next = Some(format!("{}/tree/{}?recursive=true", self.api(), revision.sha));
        while let Some(address) = next {
            let answer = api.ask(&Request::get(address))?;
            let entries: Vec<Entry> = answer.json()?;
            let of_file = |entry: Entry| (entry.r#type == "file").then(|| (entry.path, entry.lfs.map_or(entry.oid, |large| large.oid)));
            files.extend(entries.into_iter().filter_map(of_file));
            next = next_page(&answer.headers, &api.endpoint);
        }
        Ok(Some(State { head: revision.sha, files }))
    }

    /// The content of a file.
    pub fn read(&self, api: &Api, state: &State, path: &str) -> Result<Vec<u8>, Refusal> {
        let path: Vec<String> = path.split('/').map(encoded).collect();
        Ok(api.ask(&Request::get(format!("{}/resolve/{}/{}", self.path(), state.head, path.join("/"))))?.body)
    }

    /// What the Hub finds wrong with a card: errors, and remarks.
    pub fn check_card(&self, api: &Api, card: &str) -> Result<(Vec<String>, Vec<String>), Refusal> {
        let kind = if self.kind == Kind::Model { "model" } else { "space" };
        let body = Request::post("/api/validate-yaml", &json!({"content": card, "repoType": kind}));
        let answer: Value = match api.ask(&body) {
            Ok(answer) => answer.json()?,
            Err(refusal) if refusal.is_missing() => return Ok((vec![], vec![])),
            Err(refusal) => match refusal.status {
                // It refuses a card with the same object.
                Some(400 | 422) => return Ok((vec![refusal.said], vec![])),
                _ => return Err(refusal),
            },
        };
        let said = |key: &str| {
            let all = answer[key].as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter().map(|each| each["message"].as_str().map_or(each.to_string(), str::to_string)).collect()
        };
        Ok((said("errors"), said("warnings")))
    }

    /// Commits `change` to `revision`, or proposes it.
    pub fn commit(&self, api: &Api, revision: &str, change: &Change, is_proposed: bool) -> anyhow::Result<Result<Committed, Refusal>> {
        use base64::{prelude::BASE64_STANDARD, Engine};
        let header = json!({"summary": change.message, "description": "", "parentCommit": change.parent});
        let mut lines = vec![json!({"key": "header", "value": header})];
        for file in &change.small {
            let content = BASE64_STANDARD.encode(file.read()?);
            lines.push(json!({"key": "file", "value": {"content": content, "path": file.path, "encoding": "base64"}}));
        }
        let large =
            |file: &&File| json!({"key": "lfsFile", "value": {"path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.size}});
        lines.extend(change.large.iter().map(large));
        lines.extend(change.deleted.iter().map(|path| json!({"key": "deletedFile", "value": {"path": path}})));
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let address = format!("{}/commit/{}{}", self.api(), encoded(revision), if is_proposed { "?create_pr=1" } else { "" });
        let request = Request { method: Method::POST, address, body: Some(("application/x-ndjson", body.into_bytes())), accept: None };
        // Twice the same pull request helps nobody; of a commit, the parent keeps the second from being made.
        let answer = if is_proposed { api.ask_once(&request) } else { api.ask(&request) };
        Ok(answer.and_then(|answer| answer.json()))
    }
}

/// A part of an address, with what separates parts written otherwise.
pub fn encoded(part: &str) -> String {
    utf8_percent_encode(part, PLAIN).to_string()
}

/// The address of the next part of a list: `Link: <ADDRESS>; rel="next"`. Only the Hub's own is followed, as the token goes with it.
fn next_page(headers: &reqwest::header::HeaderMap, endpoint: &str) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (_, address) = next.split_once('<')?;
    let (address, _) = address.split_once('>')?;
    Some(address.strip_prefix(endpoint)?.to_string())
}
