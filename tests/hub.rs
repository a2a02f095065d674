//! Datasets by name, from a small server on this machine that answers as the Hub does.
//!
//! One test: hf-hub is pointed to the server and to a fresh cache by environment variables, which all threads share.

use la_cli::data::{open, OpenConfig};
use la_core::data::Source;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/data")
}

const COMMIT: &str = "0123456789012345678901234567890123456789";

/// A dataset's files: where each lies in the repository, and here.
fn files(dataset: &str, revision: &str) -> Vec<(&'static str, &'static str)> {
    let revision = if revision == COMMIT { "main" } else { revision };
    match (dataset, revision) {
        ("someone/quarters", "main") => vec![
            ("README.md", "make.py"),
            ("data/test-00000-of-00001.parquet", "parquet/test-00000-of-00001.parquet"),
            ("data/train-00000-of-00002.parquet", "parquet/train-00000-of-00002.parquet"),
            ("data/train-00001-of-00002.parquet", "parquet/train-00001-of-00002.parquet"),
        ],
        ("someone/pictures", "main") => vec![
            ("README.md", "make.py"),
            ("train/a/1.png", "images/rgb.png"),
            ("train/b/1.jpg", "images/rgb.jpg"),
            ("test/b/2.png", "images/gray.png"),
        ],
        ("someone/converted", "main") => vec![("data.zip", "make.py")],
        ("someone/converted", "refs/convert/parquet") => vec![("default/train/0000.parquet", "words.parquet")],
        ("someone/configs", "main") => vec![
            ("big/train-0.parquet", "parquet/train-00000-of-00002.parquet"),
            ("small/train-0.parquet", "parquet/train-00000-of-00002.parquet"),
            ("small/test-0.parquet", "parquet/test-00000-of-00001.parquet"),
        ],
        ("someone/mixed", "main") => vec![("metadata.parquet", "make.py"), ("a/1.Png", "images/rgb.png"), ("b/2.png", "images/gray.png")],
        ("someone/escaping", "main") => vec![("../../outside.parquet", "words.parquet")],
        ("someone/text", "main") => vec![("lines.txt", "make.py")],
        _ => vec![],
    }
}

/// Answers until the test ends; counts the downloads, and all that is asked.
fn serve(listener: TcpListener, (downloads, asked): (Arc<AtomicUsize>, Arc<AtomicUsize>)) {
    for stream in listener.incoming().flatten() {
        let downloads = downloads.clone();
        asked.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || answer(stream, &downloads));
    }
}

fn answer(mut stream: TcpStream, downloads: &AtomicUsize) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    assert!(headers.iter().any(|line| line == "authorization: bearer hf_secret"), "{headers:?}");
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap().replace("%2F", "/"));
    let path = target.split('?').next().unwrap();
    let body = match path.strip_prefix("/api/datasets/") {
        Some(rest) => api(rest),
        None => path.strip_prefix("/datasets/").and_then(resolved),
    };
    if body.is_some() && method == "GET" && path.contains("/resolve/") {
        downloads.fetch_add(1, Ordering::Relaxed);
    }
    let (status, body) = match body {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found\r\nX-Error-Code: RepoNotFound", vec![]),
    };
    let etag = format!("{:016x}", body.iter().fold(7u64, |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte.into())));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    if method == "GET" {
        let _ = stream.write_all(&body);
    }
}

/// `owner/name/tree/revision`, or `owner/name/revision/revision`.
fn api(rest: &str) -> Option<Vec<u8>> {
    let parts: Vec<&str> = rest.splitn(4, '/').collect();
    let dataset = format!("{}/{}", parts.first()?, parts.get(1)?);
    let listed = files(&dataset, parts.get(3).unwrap_or(&"main"));
    let entry = |(path, _): &(&str, &str)| format!(r#"{{"type":"file","oid":"0","size":1,"path":"{path}"}}"#);
    let sibling = |(path, _): &(&str, &str)| format!(r#"{{"rfilename":"{path}"}}"#);
    let join = |items: Vec<String>| items.join(",");
    match (listed.is_empty(), parts.get(2)) {
        (true, _) => None,
        (_, Some(&"tree")) => Some(format!("[{}]", join(listed.iter().map(entry).collect())).into_bytes()),
        _ => {
            let siblings = join(listed.iter().map(sibling).collect());
            Some(format!(r#"{{"id":"{dataset}","sha":"{COMMIT}","siblings":[{siblings}]}}"#).into_bytes())
        }
    }
}

/// `owner/name/resolve/revision/path`.
fn resolved(rest: &str) -> Option<Vec<u8>> {
    let (dataset, rest) = rest.split_once("/resolve/")?;
    for revision in ["main", "refs/convert/parquet", COMMIT] {
        let Some(path) = rest.strip_prefix(revision).and_then(|path| path.strip_prefix('/')) else { continue };
        let (_, local) = files(dataset, revision).into_iter().find(|(name, _)| *name == path)?;
        return std::fs::read(fixtures().join(local)).ok();
    }
    None
}

fn labels(source: &dyn Source) -> Vec<Option<u32>> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

#[test]
fn datasets_come_by_name_once_and_then_from_the_cache() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = tempfile::tempdir().unwrap();
    std::env::set_var("HF_ENDPOINT", format!("http://{}", listener.local_addr().unwrap()));
    std::env::set_var("HF_HOME", cache.path());
    let downloads = Arc::new(AtomicUsize::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = (downloads.clone(), asked.clone());
    std::env::set_var("HF_TOKEN", "hf_secret\n");
    std::thread::spawn(move || serve(listener, counted));
    let config = OpenConfig::default();

    let splits = open("hf:someone/quarters", &config).unwrap();
    assert_eq!(splits.name, "hf:someone/quarters");
    assert_eq!(labels(&*splits.train), [Some(1), Some(0), Some(0), Some(1)]);
    assert_eq!(labels(&*splits.test.unwrap()), [Some(1), None]);
    assert_eq!(downloads.load(Ordering::Relaxed), 3);
    let test = open("hf:someone/quarters:test", &config).unwrap();
    assert_eq!((test.train.len(), test.test.is_none()), (2, true));
    assert_eq!(downloads.load(Ordering::Relaxed), 3, "nothing is downloaded twice");
    let err = open("hf:someone/quarters:nothing", &config).err().unwrap().to_string();
    assert!(err.contains("expected the name of a split, got \"nothing\""), "{err}");

    let pictures = open("hf:someone/pictures", &config).unwrap();
    assert_eq!((pictures.train.class_names(), pictures.train.len()), (&["a".to_string(), "b".to_string()][..], 2));
    assert_eq!(labels(&*pictures.test.unwrap()), [Some(1)]);

    let converted = open("hf:someone/converted", &config).unwrap();
    assert_eq!(labels(&*converted.train), [Some(2), Some(1), Some(0), Some(2)]);

    let err = open("hf:someone/configs", &config).err().unwrap().to_string();
    assert!(err.contains("several configurations, big, small") && err.contains("hf:someone/configs/big"), "{err}");
    for name in ["hf:someone/configs/small", "hf:someone/configs:small"] {
        let small = open(name, &config).unwrap();
        assert_eq!((small.name.as_str(), small.train.len(), small.test.unwrap().len()), (name, 3, 2));
    }
    assert_eq!(open("hf:someone/configs/small:test", &config).unwrap().train.len(), 2);
    let mixed = open("hf:someone/mixed", &config).unwrap();
    assert_eq!((mixed.train.len(), mixed.train.class_names().len()), (2, 2));
    let err = open("hf:someone/escaping", &config).err().unwrap().to_string();
    assert!(err.contains("../../outside.parquet"), "{err}");

    let err = open("hf:someone/text", &config).err().unwrap().to_string();
    assert!(err.contains("hf:someone/text: expected Parquet or image files, got [\"lines.txt\"]"), "{err}");
    let err = open("hf:someone/nothing", &config).err().unwrap().to_string();
    assert!(err.contains("check the name and the network"), "{err}");

    std::env::set_var("HF_HUB_OFFLINE", "1");
    let before = asked.load(Ordering::Relaxed);
    assert_eq!(open("hf:someone/quarters", &config).unwrap().train.len(), 4);
    let err = open("hf:someone/unknown", &config).err().unwrap().to_string();
    assert!(err.contains("HF_HUB_OFFLINE is set"), "{err}");
    assert_eq!(asked.load(Ordering::Relaxed), before, "the server was asked");
    std::env::remove_var("HF_HUB_OFFLINE");

    // Nobody listens there: what was downloaded is used, what was not is refused.
    std::env::set_var("HF_ENDPOINT", "http://127.0.0.1:1");
    assert_eq!(open("hf:someone/quarters", &config).unwrap().train.len(), 4);
    assert_eq!(open("hf:someone/pictures", &config).unwrap().train.len(), 2);
    assert!(open("hf:someone/unknown", &config).is_err());
}
