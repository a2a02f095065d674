//! The Hugging Face Hub as far as a push and a download see it, on this machine: it refuses what the Hub refuses, holds every byte
//! that is uploaded against its digest, and fails where a test says so.

use axum::body::{to_bytes, Body};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::Router;
use base64::{prelude::BASE64_STANDARD, Engine};
use serde_json::{json, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The token that may write.
pub const TOKEN: &str = "hf_secret_that_writes";
/// The token that may only read.
pub const READ_TOKEN: &str = "hf_secret_that_reads";
/// What the store of large files asks for.
const STORE_TOKEN: &str = "store-secret";
/// Entries of a page of a listing: few, so that tests see several.
const PAGE: usize = 4;

/// What happens instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status.
    Status(u16),
    /// The connection ends before anything is done.
    CutBefore,
    /// All is done, and the connection ends.
    CutAfter,
    /// Somebody else commits first.
    Overtaken,
}

/// A repository.
#[derive(Default, Clone)]
pub struct Repo {
    /// As it was asked for.
    pub private: Option<bool>,
    /// The commits of each branch, the last one at the end.
    pub branches: BTreeMap<String, Vec<Commit>>,
    /// Changes that are proposed.
    pub proposed: Vec<Files>,
}

/// The content of each file, and whether it is large.
pub type Files = BTreeMap<String, (Vec<u8>, bool)>;

/// A commit.
#[derive(Clone)]
pub struct Commit {
    /// Its name.
    pub sha: String,
    /// What it holds.
    pub files: Files,
}

#[derive(Default)]
struct Inner {
    repos: BTreeMap<String, Repo>,
    xorbs: BTreeMap<String, Vec<u8>>,
    /// For requests that hold the text: what happens, how often.
    faults: Vec<(String, Fault, usize)>,
    log: Vec<String>,
}

/// The server.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
    /// Where it listens.
    pub address: String,
}

type Answer = Response<Body>;

impl Hub {
    /// Serves until the test ends.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { inner: Arc::default(), address };
        let router = Router::new().fallback(answer).with_state(hub.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await }).unwrap();
        });
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A cut connection is a panic in its thread.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// `model/owner/name` or `space/owner/name`.
    pub fn repo(&self, name: &str) -> Option<Repo> {
        self.lock().repos.get(name).cloned()
    }

    /// The files at the end of a branch.
    pub fn files(&self, name: &str, branch: &str) -> Files {
        self.repo(name).and_then(|repo| Some(repo.branches.get(branch)?.last()?.files.clone())).unwrap_or_default()
    }

    /// Puts a file into `main`, as a person would on the site.
    pub fn write(&self, name: &str, path: &str, content: &str) {
        let mut inner = self.lock();
        let repo = inner.repos.entry(name.into()).or_insert_with(|| new_repo(None));
        let mut files = repo.branches["main"].last().unwrap().files.clone();
        files.insert(path.into(), (content.as_bytes().to_vec(), false));
        add_commit(repo.branches.get_mut("main").unwrap(), files);
    }

    /// Lets the next `times` requests that hold `text`, as in `POST /api/repos/create`, fail.
    pub fn fail(&self, text: &str, fault: Fault, times: usize) {
        self.lock().faults.push((text.into(), fault, times));
    }

    /// Forgets the faults.
    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    /// The requests since the last call, as `METHOD path?query`.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    fn fault(&self, line: &str) -> Option<Fault> {
        let mut inner = self.lock();
        let (_, fault, times) = inner.faults.iter_mut().find(|(text, _, times)| line.contains(text.as_str()) && *times > 0)?;
        *times -= 1;
        Some(*fault)
    }
}

fn new_repo(private: Option<bool>) -> Repo {
    let mut commits = vec![];
    add_commit(&mut commits, [(".gitattributes".to_string(), (b"*.safetensors filter=lfs\n".to_vec(), false))].into());
    Repo { private, branches: [("main".to_string(), commits)].into(), proposed: vec![] }
}

fn add_commit(commits: &mut Vec<Commit>, files: Files) {
    let mut hash = Sha1::new();
    hash.update(commits.len().to_le_bytes());
    files.iter().for_each(|(path, (content, _))| hash.update([path.as_bytes(), content].concat()));
    commits.push(Commit { sha: hex(&hash.finalize()), files });
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn answer(State(hub): State<Hub>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).replace("%2F", "/");
    let line = format!("{} {target}", parts.method);
    hub.lock().log.push(line.clone());
    let fault = hub.fault(&line);
    match fault {
        Some(Fault::Status(status)) => {
            let who = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            return refuse(status, &format!("as the test wants, {who}"), &[("retry-after", "1")]);
        }
        Some(Fault::CutBefore) => std::panic::resume_unwind(Box::new(())),
        Some(Fault::Overtaken) => hub.write("model/me/tiny", "other.txt", "of somebody else"),
        _ => {}
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let asked = Asked { method: parts.method.as_str(), path, query, headers: &parts.headers, body: &body, hub: &hub };
    let answer = asked.answer();
    match fault {
        Some(Fault::CutAfter) => std::panic::resume_unwind(Box::new(())),
        _ => answer,
    }
}

fn respond(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body)).unwrap()
}

fn say(value: &Value) -> Answer {
    respond(200, &[("content-type", "application/json")], value.to_string().into_bytes())
}

fn refuse(status: u16, said: &str, headers: &[(&str, &str)]) -> Answer {
    respond(status, headers, json!({"error": said}).to_string().into_bytes())
}

/// A request.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
    body: &'a [u8],
    hub: &'a Hub,
}

impl Asked<'_> {
    fn bearer(&self) -> &str {
        self.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")).unwrap_or("")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.body).unwrap_or_default()
    }

    fn answer(&self) -> Answer {
        if let Some(path) = self.path.strip_prefix("/store") {
            return self.store(path);
        }
        let changes = self.method != "GET" && self.method != "HEAD" || self.path.contains("-write-token");
        if self.path == "/api/validate-yaml" {
            return self.check_card();
        }
        if (changes || self.path == "/api/whoami-v2") && ![TOKEN, READ_TOKEN].contains(&self.bearer()) {
            return refuse(401, "Invalid username or password.", &[]);
        }
        if changes && self.bearer() == READ_TOKEN {
            return refuse(403, "this token may only read", &[]);
        }
        match self.path {
            "/api/whoami-v2" => {
                let role = if self.bearer() == TOKEN { "write" } else { "read" };
                say(&json!({"type": "user", "name": "me", "orgs": [{"name": "org"}], "auth": {"accessToken": {"role": role}}}))
            }
            "/api/repos/create" => self.create(),
            path => match path.strip_prefix("/api/") {
                Some(rest) => self.api(rest),
                None if path.ends_with("/info/lfs/objects/batch") => self.batch(),
                None => self.resolve(),
            },
        }
    }

    fn check_card(&self) -> Answer {
        let sent = self.json();
        let card = sent["content"].as_str().unwrap_or_default();
        let front = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).map_or("", |(front, _)| front);
        let has_license = front.lines().any(|line| line.starts_with("license: "));
        let errors: Vec<Value> = if has_license { vec![] } else { vec![json!({"message": "license is missing"})] };
        say(&json!({"errors": errors, "warnings": []}))
    }

    fn create(&self) -> Answer {
        let sent = self.json();
        let (kind, owner) = (sent["type"].as_str().unwrap_or("model"), sent["organization"].as_str().unwrap_or("me"));
        if !["me", "org"].contains(&owner) {
            return refuse(403, &format!("You don't have the rights to create a {kind} under the namespace \"{owner}\""), &[]);
        }
        if kind == "space" && sent["sdk"] != "static" {
            return refuse(400, "Invalid sdk", &[]);
        }
        // This organisation has no public repositories.
        if owner == "org" && sent["private"] == false {
            return refuse(403, "public repositories are not allowed here", &[]);
        }
        let id = format!("{kind}/{owner}/{}", sent["name"].as_str().unwrap_or_default());
        let mut inner = self.hub.lock();
        if inner.repos.contains_key(&id) {
            return refuse(409, "You already created this repo", &[]);
        }
        inner.repos.insert(id, new_repo(sent["private"].as_bool()));
        say(&json!({"url": self.hub.address}))
    }

    /// `models/OWNER/NAME...` or `spaces/OWNER/NAME...`.
    fn api(&self, rest: &str) -> Answer {
        let parts: Vec<&str> = rest.splitn(4, '/').collect();
        let [kind, owner, name, rest @ ..] = &parts[..] else { return refuse(404, "no such route", &[]) };
        let id = format!("{}/{owner}/{name}", kind.trim_end_matches('s'));
        let Some(repo) = self.hub.repo(&id) else {
            return refuse(404, "Repository not found", &[("x-error-code", "RepoNotFound")]);
        };
        let (what, rest) = rest.first().map_or(("", ""), |rest| rest.split_once('/').unwrap_or((rest, "")));
        match what {
            "" => say(&json!({"id": id, "private": repo.private.unwrap_or(false), "sha": head(&repo, "main").map(|commit| &commit.sha)})),
            "revision" => match head(&repo, rest) {
                Some(commit) => say(&json!({"id": id, "sha": commit.sha})),
                None => refuse(404, "Invalid rev id", &[("x-error-code", "RevisionNotFound")]),
            },
            "tree" => self.tree(&repo, rest),
            "branch" => self.branch(&id, rest),
            "preupload" => self.preupload(),
            "xet-write-token" => {
                let store = format!("{}/store", self.hub.address);
                say(&json!({"accessToken": STORE_TOKEN, "exp": 4_000_000_000u64, "casUrl": store}))
            }
            "commit" => self.commit(&id, rest),
            _ => refuse(404, "no such route", &[]),
        }
    }

    fn tree(&self, repo: &Repo, revision: &str) -> Answer {
        let Some(commit) = head(repo, revision) else { return refuse(404, "Invalid rev id", &[]) };
        let first: usize = self.query.split('&').find_map(|part| part.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0);
        let entry = |(path, (content, is_large)): (&String, &(Vec<u8>, bool))| {
            let mut entry = json!({"type": "file", "path": path, "size": content.len(), "oid": git_digest(content)});
            if *is_large {
                entry["lfs"] = json!({"oid": hex(&Sha256::digest(content)), "size": content.len(), "pointerSize": 130});
                entry["oid"] = "of the pointer".into();
            }
            entry
        };
        let entries: Vec<Value> = commit.files.iter().skip(first).take(PAGE).map(entry).collect();
        let next = format!("<{}{}?recursive=true&cursor={}>; rel=\"next\"", self.hub.address, self.path, first + PAGE);
        let headers: &[(&str, &str)] = if first + PAGE < commit.files.len() { &[("link", &next)] } else { &[] };
        respond(200, headers, Value::from(entries).to_string().into_bytes())
    }

    fn branch(&self, id: &str, name: &str) -> Answer {
        let from = self.json()["startingPoint"].as_str().unwrap_or_default().to_string();
        let mut inner = self.hub.lock();
        let repo = inner.repos.get_mut(id).unwrap();
        if repo.branches.contains_key(name) {
            return refuse(409, "Reference already exists", &[]);
        }
        let Some(commit) = head(repo, &from).cloned() else { return refuse(404, "Invalid rev id", &[]) };
        repo.branches.insert(name.into(), vec![commit]);
        say(&json!({}))
    }

    fn preupload(&self) -> Answer {
        let sent = self.json();
        let mode = |file: &Value| {
            let sample = BASE64_STANDARD.decode(file["sample"].as_str().unwrap()).unwrap();
            let path = file["path"].as_str().unwrap();
            assert!(sample.len() as u64 == file["size"].as_u64().unwrap().min(512), "{file}");
            let is_large = path.ends_with(".safetensors") || sample.contains(&0) || file["size"].as_u64().unwrap() > 10 << 20;
            json!({"path": path, "uploadMode": if is_large { "lfs" } else { "regular" }, "shouldIgnore": false, "oid": null})
        };
        say(&json!({"files": sent["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>()}))
    }

    fn batch(&self) -> Answer {
        assert_eq!(self.headers["content-type"], "application/vnd.git-lfs+json");
        assert_eq!(self.headers["accept"], "application/vnd.git-lfs+json");
        say(&json!({"transfer": "xet", "objects": self.json()["objects"]}))
    }

    fn commit(&self, id: &str, branch: &str) -> Answer {
        assert_eq!(self.headers["content-type"], "application/x-ndjson");
        let lines: Vec<Value> = self.body.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let mut inner = self.hub.lock();
        let Some(at) = head(&inner.repos[id], branch).cloned() else { return refuse(404, "Invalid rev id", &[]) };
        if lines[0]["value"]["parentCommit"] != at.sha.as_str() {
            return refuse(412, "A commit has happened since. Please refresh and try again.", &[]);
        }
        let mut files = at.files;
        for line in &lines[1..] {
            let (value, path) = (&line["value"], line["value"]["path"].as_str().unwrap().to_string());
            match line["key"].as_str().unwrap() {
                "file" => {
                    let content = BASE64_STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                    if path.ends_with(".safetensors") || content.len() > 10 << 20 {
                        return refuse(400, &format!("Your push was rejected because it contains binary files: {path}"), &[]);
                    }
                    files.insert(path, (content, false));
                }
                "lfsFile" => match find(&inner.xorbs, value["oid"].as_str().unwrap(), value["size"].as_u64().unwrap() as usize) {
                    Some(content) => drop(files.insert(path, (content, true))),
                    None => return refuse(400, &format!("LFS pointer pointed to a file that does not exist: {path}"), &[]),
                },
                "deletedFile" => drop(files.remove(&path).expect("only what is there is deleted")),
                other => panic!("{other}"),
            }
        }
        let repo = inner.repos.get_mut(id).unwrap();
        if self.query == "create_pr=1" {
            repo.proposed.push(files);
            let url = format!("{}/{id}/discussions/{}", self.hub.address, repo.proposed.len());
            return say(&json!({"success": true, "commitOid": "1", "commitUrl": "", "pullRequestUrl": url}));
        }
        let commits = repo.branches.get_mut(branch).unwrap();
        add_commit(commits, files);
        say(&json!({"success": true, "commitOid": commits.last().unwrap().sha, "commitUrl": "there"}))
    }

    /// `/OWNER/NAME/resolve/REVISION/PATH`, for Spaces after `/spaces`.
    fn resolve(&self) -> Answer {
        let (kind, path) = self.path.strip_prefix("/spaces/").map_or(("model", &self.path[1..]), |path| ("space", path));
        let missing = |what: &str| refuse(404, what, &[("x-error-code", what)]);
        let Some((id, rest)) = path.split_once("/resolve/") else { return missing("EntryNotFound") };
        let Some(repo) = self.hub.repo(&format!("{kind}/{id}")) else { return missing("RepoNotFound") };
        if repo.private == Some(true) && self.bearer().is_empty() {
            return refuse(401, "Repository not found", &[("x-error-code", "RepoNotFound")]);
        }
        let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
        let Some(commit) = head(&repo, revision) else { return missing("RevisionNotFound") };
        let Some((content, is_large)) = commit.files.get(path) else { return missing("EntryNotFound") };
        let digest = if *is_large { hex(&Sha256::digest(content)) } else { git_digest(content) };
        let (etag, length) = (format!("\"{digest}\""), content.len().to_string());
        let mut headers = vec![("x-repo-commit", commit.sha.as_str()), ("etag", &etag), ("content-length", &length)];
        headers.push(("access-control-allow-origin", "*"));
        if *is_large {
            headers.extend([("x-linked-etag", etag.as_str()), ("x-linked-size", &length)]);
        }
        respond(200, &headers, if self.method == "HEAD" { vec![] } else { content.clone() })
    }

    /// The store of large files: chunks and what is made of them.
    fn store(&self, path: &str) -> Answer {
        assert_eq!(self.bearer(), STORE_TOKEN, "{path}");
        assert!(!path.contains("telemetry"), "nothing is told about this machine");
        match (self.method, path.strip_prefix("/v1/xorbs/default/"), path) {
            ("POST", Some(hash), _) => {
                self.hub.lock().xorbs.insert(hash.to_string(), self.body.to_vec());
                say(&json!({"was_inserted": true}))
            }
            ("POST", _, "/v1/shards") => say(&json!({"result": 1})),
            _ => respond(404, &[], vec![]),
        }
    }
}

/// The end of a branch, or the commit of a name.
fn head<'a>(repo: &'a Repo, revision: &str) -> Option<&'a Commit> {
    let of_branch = repo.branches.get(revision).and_then(|commits| commits.last());
    of_branch.or_else(|| repo.branches.values().flatten().find(|commit| commit.sha == revision))
}

fn git_digest(content: &[u8]) -> String {
    hex(&Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

/// The content with this digest among the chunks: each has a header of a version, three bytes of length, a scheme and three bytes.
fn find(xorbs: &BTreeMap<String, Vec<u8>>, oid: &str, size: usize) -> Option<Vec<u8>> {
    let all: Vec<Vec<&[u8]>> = xorbs.values().map(|xorb| chunks(xorb)).collect();
    all.iter().flat_map(|chunks| (0..chunks.len()).map(move |first| &chunks[first..])).find_map(|chunks| {
        let mut content = vec![];
        for chunk in chunks {
            if content.len() >= size {
                break;
            }
            content.extend_from_slice(chunk);
        }
        (content.len() == size && hex(&Sha256::digest(&content)) == oid).then_some(content)
    })
}

fn chunks(mut xorb: &[u8]) -> Vec<&[u8]> {
    let mut all = vec![];
    while xorb.len() >= 8 && xorb[0] == 0 {
        let length = u32::from_le_bytes([xorb[1], xorb[2], xorb[3], 0]) as usize;
        assert_eq!(xorb[4], 0, "HF_XET_XORB_COMPRESSION_POLICY=none keeps chunks as they are");
        all.push(&xorb[8..8 + length]);
        xorb = &xorb[8 + length..];
    }
    all
}
