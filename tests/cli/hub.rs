//! Weights by name, from a small server on this machine that answers as the Hub does.

use crate::support::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

const COMMIT: &str = "0123456789012345678901234567890123456789";

/// Serves the files of `folder` as those of the model someone/model, until the test ends; gives its address.
fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_path_buf();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &folder)));
    address
}

fn answer(mut stream: TcpStream, folder: &Path) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let file = file_of(target, folder).and_then(|path| std::fs::read(path).ok());
    let missing = if target.contains("someone/model") { "EntryNotFound" } else { "RepoNotFound" };
    let status = file.as_ref().map_or(format!("404 Not Found\r\nX-Error-Code: {missing}"), |_| "200 OK".to_string());
    let body = file.unwrap_or_default();
    let etag = format!("{:x}-{}", body.len(), target.len());
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes());
    if method == "GET" {
        let _ = stream.write_all(&body);
    }
}

/// `/someone/model/resolve/REVISION/NAME`.
fn file_of(target: &str, folder: &Path) -> Option<PathBuf> {
    let (_, name) = target.split('?').next()?.strip_prefix("/someone/model/resolve/")?.split_once('/')?;
    Some(folder.join(name))
}

fn on_hub(at: &Path, address: &str, args: &[&str]) -> Ended {
    let mut command = command(at);
    command.args(args).env("HF_ENDPOINT", address).env("HF_HOME", at.join("cache"));
    ended(command.output().unwrap())
}

#[test]
fn a_model_of_the_hub_is_used_as_the_run_that_it_was() {
    let folder = folder();
    let address = serve(shared_run());
    let here = la(folder.path(), &["info", &format!("{}/model.safetensors", text(shared_run()))]).ok();
    let there = on_hub(folder.path(), &address, &["info", "hf:someone/model"]).ok();
    let after_name = |text: &str| text.split_once(": ").map(|(_, rest)| rest.to_string());
    assert_eq!(after_name(&there), after_name(&here));
    // From the cache, once the server is out of reach.
    let again = on_hub(
        folder.path(),
        "http://127.0.0.1:9",
        &["embed", "hf:someone/model", "--data", "sample", "--limit", "20", "--out", "e.safetensors"],
    );
    again.ok();
}

#[test]
fn a_download_is_held_against_the_digests_of_the_model() {
    let (here, there) = (folder(), folder());
    for file in ["model.safetensors", "config.json"] {
        std::fs::copy(shared_run().join(file), there.path().join(file)).unwrap();
    }
    la_cli::digests::write_sums(there.path()).unwrap();
    let embed = ["embed", "hf:someone/model", "--data", "sample", "--limit", "20", "--out", "e.safetensors"];
    on_hub(here.path(), &serve(there.path()), &embed).ok();
    on_hub(here.path(), "http://127.0.0.1:9", &[&embed[..], &["--force"]].concat()).ok();
    let mut content = bytes(there.path().join("model.safetensors"));
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(there.path().join("model.safetensors"), content).unwrap();
    let other = folder();
    let error = on_hub(other.path(), &serve(there.path()), &embed).error();
    assert_holds(&error, &["model.safetensors", "expected sha256", "SHA256SUMS", "got ", "download it again"]);
}

#[test]
fn a_model_without_weights_is_named() {
    let (folder, empty) = (folder(), crate::support::folder());
    let address = serve(empty.path());
    let error = on_hub(folder.path(), &address, &["eval", "hf:someone/model", "--data", "sample"]).error();
    assert_holds(&error, &["hf:someone/model", "model.safetensors"]);
    let error = on_hub(folder.path(), &address, &["eval", "hf:nobody/none", "--data", "sample"]).error();
    assert_holds(&error, &["hf:nobody/none", "check owner, name and branch"]);
    assert_holds(&on_hub(folder.path(), &address, &["eval", "hf:nameless", "--data", "sample"]).error(), &["expected hf:owner/name"]);
}
