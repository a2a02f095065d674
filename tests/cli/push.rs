//! Publishing: what arrives at the Hub, byte by byte, and what becomes of a push that goes wrong.

use crate::strict_hub::{Fault, Files, Hub, READ_TOKEN, TOKEN};
use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MODEL: &str = "model/me/tiny";

/// The shared run, packed; no test changes it.
fn packed() -> &'static Path {
    static PACKED: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PACKED.get_or_init(|| {
        let folder = folder();
        la(folder.path(), &["pack", text(shared_run()), "--out", "packed/mine"]).ok();
        let path = folder.path().join("packed/mine");
        (folder, path)
    });
    path
}

/// A copy that a test may change.
fn copied() -> TempDir {
    copy_of(packed())
}

/// The program before a Hub, with a cache of its own in `at`.
fn on(hub: &Hub, at: &Path, args: &[&str]) -> Command {
    let mut command = command(at);
    command.args(args).env("HF_ENDPOINT", &hub.address).env("HF_HOME", at.join("hf")).env("HF_TOKEN", TOKEN);
    command.env("HF_XET_XORB_COMPRESSION_POLICY", "none").env_remove("HF_HUB_OFFLINE");
    command
}

fn push(hub: &Hub, at: &Path, more: &[&str]) -> Ended {
    ended(on(hub, at, &[&["push", text(packed()), "me/tiny"], more].concat()).output().unwrap())
}

/// The folder that `--dry-run` writes, as the Hub should hold it.
fn expected(at: &Path, args: &[&str]) -> Files {
    la(at, &[&["push"], args, &["--dry-run", "expected"]].concat()).ok();
    let mut files = Files::new();
    collect(&at.join("expected"), "", &mut files);
    files
}

fn collect(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in folder.read_dir().unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => collect(&entry.path(), &format!("{path}/"), files),
            false => drop(files.insert(path, (bytes(entry.path()), false))),
        }
    }
}

/// Without what the Hub itself puts there, and without how files are stored.
fn contents(files: Files) -> Files {
    files.into_iter().filter(|(path, _)| path != ".gitattributes").map(|(path, (content, _))| (path, (content, false))).collect()
}

#[test]
fn a_first_push_makes_the_model_and_a_second_one_sends_what_differs() {
    let (hub, at) = (Hub::start(), folder());
    let said = push(&hub, at.path(), &["--message", "The first"]).ok();
    assert_holds(&said, &["published", "/me/tiny", "7 files sent", "la-cli search hf:me/tiny"]);
    let there = hub.files(MODEL, "main");
    assert_eq!(contents(there.clone()), expected(at.path(), &[text(packed()), "me/tiny"]));
    assert!(there["model.safetensors"].1 && there["curves.png"].1 && !there["README.md"].1);
    let repo = hub.repo(MODEL).unwrap();
    assert_eq!((repo.private, repo.branches["main"].len()), (None, 2), "made with the owner's settings, and one commit");
    let card = String::from_utf8(there["README.md"].0.clone()).unwrap();
    assert_holds(&card, &["- name: \"me/tiny\"", "la-cli search hf:me/tiny --data", "## Limitations", "licence: MIT"]);

    assert_holds(&push(&hub, at.path(), &[]).ok(), &["holds all of this already; nothing was sent"]);
    assert_eq!(hub.repo(MODEL).unwrap().branches["main"].len(), 2, "no empty commit");

    let changed = copied();
    fs::write(changed.path().join("metrics.jsonl"), "{}\n").unwrap();
    la_cli::digests::write_sums(changed.path()).unwrap();
    hub.take_log();
    let said = ended(on(&hub, at.path(), &["push", text(changed.path()), "me/tiny"]).output().unwrap()).ok();
    assert_holds(&said, &["2 files sent", "5 unchanged"]);
    assert_eq!(hub.files(MODEL, "main")["metrics.jsonl"].0, b"{}\n");
    assert!(!hub.take_log().iter().any(|line| line.contains("/store/")), "the weights were sent again");
}

#[test]
fn a_published_model_is_used_as_the_folder_is() {
    let (hub, at) = (Hub::start(), folder());
    push(&hub, at.path(), &[]).ok();
    push(&hub, at.path(), &["--revision", "v2", "--message", "a branch"]).ok();
    write_picture(&at.path().join("query.png"), 3);
    let search = |weights: &str| {
        let args = ["search", weights, "--data", "sample", "--limit", "50", "--query", "query.png", "--json"];
        ended(on(&hub, at.path(), &args).output().unwrap()).ok().replace(weights, "")
    };
    let here = search(text(packed()));
    for name in ["hf:me/tiny", "hf:me/tiny@v2", "hf:me/tiny:model.safetensors"] {
        assert_eq!(search(name), here);
    }
    let next = ["train", "--init", "hf:me/tiny", "--data", "sample", "--out", "next"];
    ended(on(&hub, at.path(), &[&next[..], &TINY[..]].concat()).output().unwrap()).ok();
    let card = expected(at.path(), &["next", "me/next"])["README.md"].0.clone();
    assert_holds(&String::from_utf8(card).unwrap(), &["base_model: \"me/tiny\"", "`hf:me/tiny`"]);
    hub.fail("resolve", Fault::Status(500), usize::MAX);
    assert_eq!(search("hf:me/tiny@v2"), here, "from the cache");
    hub.mend();
    let error = ended(on(&hub, at.path(), &["info", "hf:me/tiny@v3"]).output().unwrap()).error();
    assert_holds(&error, &["hf:me/tiny@v3", "check owner, name and branch"]);
    let error = ended(on(&hub, at.path(), &["info", "hf:me/tiny:other.safetensors"]).output().unwrap()).error();
    assert_holds(&error, &["expected a model that has other.safetensors"]);
    for name in ["hf:me/tiny:../x", "hf:me@v2/tiny", "hf:me/tiny@"] {
        assert_holds(&ended(on(&hub, at.path(), &["info", name]).output().unwrap()).error(), &["expected hf:owner/name"]);
    }
}

#[test]
fn branches_proposals_organisations_and_privacy() {
    let (hub, at) = (Hub::start(), folder());
    let error = push(&hub, at.path(), &["--pr"]).error();
    assert_holds(&error, &["me/tiny: does not exist", "leave --pr out"]);
    push(&hub, at.path(), &["--private"]).ok();
    assert_eq!(hub.repo(MODEL).unwrap().private, Some(true));
    push(&hub, at.path(), &["--private"]).ok();

    hub.write(MODEL, "notes.txt", "mine");
    let said = push(&hub, at.path(), &["--revision", "tries/1"]).ok();
    assert_holds(&said, &["holds all of this already"]);
    assert_eq!(hub.files(MODEL, "tries/1"), hub.files(MODEL, "main"), "the branch begins at main");

    let changed = copied();
    fs::write(changed.path().join("metrics.jsonl"), "{}\n").unwrap();
    la_cli::digests::write_sums(changed.path()).unwrap();
    let before = hub.files(MODEL, "main");
    let args = ["push", text(changed.path()), "me/tiny", "--pr"];
    assert_holds(&ended(on(&hub, at.path(), &args).output().unwrap()).ok(), &["proposed", "discussions/1"]);
    assert_eq!((hub.files(MODEL, "main"), hub.repo(MODEL).unwrap().proposed[0]["metrics.jsonl"].0.as_slice()), (before, &b"{}\n"[..]));

    ended(on(&hub, at.path(), &["push", text(packed()), "org/tiny"]).output().unwrap()).ok();
    assert!(hub.repo("model/org/tiny").is_some());
    let error = ended(on(&hub, at.path(), &["push", text(packed()), "org/tiny", "--private"]).output().unwrap()).error();
    assert_holds(&error, &["org/tiny: exists and is public", "/settings"]);
    let error = ended(on(&hub, at.path(), &["push", text(packed()), "other/tiny"]).output().unwrap()).error();
    assert_holds(&error, &["other/tiny: the token is of me", "me, org", "--pr"]);
}

#[test]
fn a_run_is_published_with_its_page() {
    let (hub, at) = (Hub::start(), folder());
    let named = ["--license", "apache-2.0", "--data-license", "cc-by-4.0", "--title", "A tiny one"];
    let args = [&["push", text(shared_run()), "me/tiny", "--bundle", "--space"][..], &named].concat();
    let out = ended(on(&hub, at.path(), &args).output().unwrap());
    assert_holds(&out.stderr, &["thumbnails and names of 200 pictures of sample are published"]);
    assert_holds(&out.ok(), &["published", "/me/tiny", "/spaces/me/tiny", "https://me-tiny.static.hf.space"]);
    let (model, space) = (hub.files(MODEL, "main"), hub.files("space/me/tiny", "main"));
    let card = String::from_utf8(model["README.md"].0.clone()).unwrap();
    assert_holds(&card, &["license: apache-2.0", "# A tiny one", "licence: cc-by-4.0", "<https://me-tiny.static.hf.space>"]);
    assert_eq!(model["bundle/manifest.json"], space["bundle/manifest.json"]);
    assert_holds(&String::from_utf8(space["README.md"].0.clone()).unwrap(), &["sdk: static", "- me/tiny", "cross-origin-embedder-policy"]);
    assert!(space["index.html"].0.starts_with(b"<!doctype html>") && space.contains_key("pkg/la_wasm_bg.wasm"));
    let more = expected(at.path(), &args[1..]);
    assert_eq!(contents(model), more);
    let mut page = Files::new();
    collect(&at.path().join("expected-space"), "", &mut page);
    assert_eq!(contents(space), page);
    assert_holds(&ended(on(&hub, at.path(), &args).output().unwrap()).ok(), &["/me/tiny: holds all", "/spaces/me/tiny: holds all"]);

    hub.write("space/me/other", "index.html", "<p>Mine</p>");
    hub.write("space/me/other", "README.md", "mine");
    let error = ended(on(&hub, at.path(), &["push", text(shared_run()), "me/tiny", "--space", "me/other"]).output().unwrap()).error();
    assert_holds(&error, &["--space me/other: exists, and la-cli did not make it", "--force"]);
    assert_eq!(hub.files("space/me/other", "main")["index.html"].0, b"<p>Mine</p>");
}

#[test]
fn a_readme_that_was_written_by_hand_stays() {
    let (hub, at) = (Hub::start(), folder());
    hub.write(MODEL, "README.md", "my words");
    let out = push(&hub, at.path(), &[]);
    assert_holds(&out.stderr, &["keeps its README.md", "--force replaces it"]);
    out.ok();
    let there = hub.files(MODEL, "main");
    assert_eq!(there["README.md"].0, b"my words");
    assert!(!String::from_utf8(there["SHA256SUMS"].0.clone()).unwrap().contains("README.md"));
    assert_holds(&push(&hub, at.path(), &[]).ok(), &["holds all of this already"]);
    push(&hub, at.path(), &["--force"]).ok();
    assert!(hub.files(MODEL, "main")["README.md"].0.starts_with(b"---\nlicense"));
    // What la-cli wrote itself is replaced without a word.
    let changed = copied();
    fs::write(changed.path().join("README.md"), format!("{}\nMore.\n", String::from_utf8(bytes(packed().join("README.md"))).unwrap()))
        .unwrap();
    let out = ended(on(&hub, at.path(), &["push", text(changed.path()), "me/tiny"]).output().unwrap());
    assert!(!out.stderr.contains("keeps"), "{}", out.stderr);
    out.ok();
    assert!(hub.files(MODEL, "main")["README.md"].0.ends_with(b"\nMore.\n"));
}

#[test]
fn what_cannot_work_is_said_before_anything_is_done() {
    let (hub, at) = (Hub::start(), folder());
    let with = |name: &str, value: &str, args: &[&str]| ended(on(&hub, at.path(), args).env(name, value).output().unwrap()).error();
    let args = ["push", text(packed()), "me/tiny"];
    assert_holds(&with("HF_TOKEN", "", &args), &["a token with write access is needed", "HF_TOKEN", "hf auth login"]);
    assert_holds(&with("HF_TOKEN", "hf_wrong", &args), &["me/tiny", "HTTP 401", "/settings/tokens"]);
    assert_holds(&with("HF_TOKEN", READ_TOKEN, &args), &["the token of me only reads"]);
    assert_holds(&with("HF_HUB_OFFLINE", "1", &args), &["HF_HUB_OFFLINE is set", "--dry-run"]);
    assert_holds(&with("HF_ENDPOINT", "http://127.0.0.1:9", &args), &["http://127.0.0.1:9", "run the same command again"]);
    assert_holds(&with("A", "a", &["push", text(packed()), "tiny"]), &["OWNER/NAME", "got tiny"]);
    assert_holds(&with("A", "a", &["push", "missing", "me/tiny"]), &["missing: expected the folder of a run", "got no such folder"]);
    assert_holds(&with("A", "a", &["push", text(at.path()), "me/tiny"]), &["got a folder that is neither"]);
    assert_holds(&with("A", "a", &["push", text(packed()), "me/tiny", "--title", "x"]), &["is packed already"]);
    assert_holds(&with("A", "a", &["push", text(packed()), "me/tiny", "--bundle"]), &["--data"]);
    let broken = copied();
    fs::write(broken.path().join("model.safetensors"), "x").unwrap();
    assert_holds(&with("A", "a", &["push", text(broken.path()), "me/tiny"]), &["model.safetensors", "expected sha256"]);
    let unlicensed = copied();
    fs::write(unlicensed.path().join("README.md"), "# No front matter\n").unwrap();
    assert_holds(&with("A", "a", &["push", text(unlicensed.path()), "me/tiny"]), &["README.md: the Hub refuses it: license is missing"]);
    assert!(hub.repo(MODEL).is_none(), "nothing was made");
    // The token's file, as `hf auth login` writes it.
    fs::create_dir_all(at.path().join("hf")).unwrap();
    fs::write(at.path().join("hf/token"), format!("{TOKEN}\n")).unwrap();
    ended(on(&hub, at.path(), &args).env_remove("HF_TOKEN").output().unwrap()).ok();
}

/// Every step of a push that makes a model, in the words of its request.
const STEPS: [&str; 9] = [
    "GET /api/whoami-v2",
    "GET /api/models/me/tiny",
    "POST /api/repos/create",
    "GET /api/models/me/tiny/tree",
    "/preupload/",
    "/objects/batch",
    "/xet-write-token/",
    "/store/v1/xorbs",
    "/commit/main",
];

#[test]
fn a_push_that_fails_for_a_moment_goes_on() {
    let at = folder();
    let whole = expected(at.path(), &[text(packed()), "me/tiny"]);
    for (step, fault) in STEPS
        .into_iter()
        .flat_map(|step| [Fault::CutBefore, Fault::CutAfter, Fault::Status(429), Fault::Status(503)].map(|fault| (step, fault)))
    {
        let (hub, at) = (Hub::start(), folder());
        hub.fail(step, fault, 1);
        let started = Instant::now();
        let out = push(&hub, at.path(), &[]);
        assert_eq!(out.code, Some(0), "{step}, {fault:?}: {}", out.stderr);
        let is_told_to_wait = matches!(fault, Fault::Status(_)) && !step.contains("/store/");
        assert!(!is_told_to_wait || started.elapsed() >= Duration::from_secs(1), "{step}, {fault:?}: Retry-After was not heeded");
        assert_eq!(contents(hub.files(MODEL, "main")), whole, "{step}, {fault:?}");
        assert_eq!(hub.repo(MODEL).unwrap().branches["main"].len(), 2, "{step}, {fault:?}: one commit");
    }
}

#[test]
fn a_push_that_fails_for_ever_leaves_the_model_as_it_was() {
    let (hub, at) = (Hub::start(), folder());
    push(&hub, at.path(), &[]).ok();
    let (before, changed) = (hub.files(MODEL, "main"), copied());
    fs::write(changed.path().join("curves.png"), b"\0another").unwrap();
    la_cli::digests::write_sums(changed.path()).unwrap();
    let again = || ended(on(&hub, at.path(), &["push", text(changed.path()), "me/tiny"]).output().unwrap());
    let refusals =
        [(500, "run the same command again"), (403, "needs write access"), (413, "takes no files that large"), (409, "somebody else")];
    for (step, status, words) in
        ["/preupload/", "/commit/main"].into_iter().flat_map(|step| refusals.map(|(status, words)| (step, status, words)))
    {
        hub.fail(step, Fault::Status(status), usize::MAX);
        assert_holds(&again().error(), &["me/tiny", &format!("HTTP {status}"), words]);
        hub.mend();
        assert_eq!(hub.files(MODEL, "main"), before, "{step} {status}");
    }
    hub.fail("/commit/main", Fault::Overtaken, 1);
    assert_holds(&again().error(), &["HTTP 412", "somebody else changed it meanwhile", "run the same command again"]);
    assert_eq!(hub.files(MODEL, "main")["curves.png"], before["curves.png"]);
    again().ok();
    let there = hub.files(MODEL, "main");
    assert_eq!((there["curves.png"].0.as_slice(), there["other.txt"].0.as_slice()), (&b"\0another"[..], &b"of somebody else"[..]));
}

#[test]
fn a_push_that_is_killed_leaves_the_old_commit_or_the_new_one() {
    let (hub, at) = (Hub::start(), folder());
    let started = Instant::now();
    push(&hub, at.path(), &[]).ok();
    let whole = started.elapsed();
    for i in 0..10 {
        let changed = copied();
        fs::write(changed.path().join("curves.png"), format!("\0picture {i}")).unwrap();
        la_cli::digests::write_sums(changed.path()).unwrap();
        let (before, args) = (hub.files(MODEL, "main"), ["push", text(changed.path()), "me/tiny"]);
        let mut child = on(&hub, at.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * i / 10 + Duration::from_millis(5));
        child.kill().unwrap();
        child.wait().unwrap();
        let there = hub.files(MODEL, "main");
        assert!(there == before || there["curves.png"].0 == format!("\0picture {i}").into_bytes(), "killed at {i} tenths");
        ended(on(&hub, at.path(), &args).output().unwrap()).ok();
        assert_eq!(contents(hub.files(MODEL, "main")), expected(folder().path(), &args[1..]));
    }
}

#[test]
fn the_token_is_nowhere() {
    let (hub, at) = (Hub::start(), folder());
    hub.fail("/commit/main", Fault::Status(500), 1);
    let first = push(&hub, at.path(), &["--bundle", "--data", "sample"]);
    hub.fail("whoami", Fault::CutBefore, usize::MAX);
    let second = push(&hub, at.path(), &[]);
    hub.mend();
    // A server that says it aloud.
    hub.fail("whoami", Fault::Status(403), 1);
    let third = push(&hub, at.path(), &[]);
    assert_holds(&third.stderr, &["HTTP 403: as the test wants, Bearer …"]);
    for out in [&first, &second, &third] {
        assert!(!out.stdout.contains(TOKEN) && !out.stderr.contains(TOKEN), "{}{}", out.stdout, out.stderr);
    }
    assert!(!hub.take_log().iter().any(|line| line.contains(TOKEN)));
    let mut files = hub.files(MODEL, "main");
    collect(at.path(), "", &mut files);
    for (path, (content, _)) in files {
        assert!(!content.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{path}");
    }
}
