//! `la-cli serve`: what a browser asks for, and what nobody may have.

use crate::support::*;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path, args: &[&str]) -> Self {
        Self::start_with_log(folder, args, Stdio::inherit())
    }

    fn start_with_log(folder: &Path, args: &[&str], log: Stdio) -> Self {
        let mut child = command(folder).arg("serve").args(args).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !line.contains("http://") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended before it said its address");
        }
        let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_string();
        Self { child, address }
    }

    /// The status line and headers in lower case, and the body, of a raw request.
    fn get(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        self.get_as(&self.address, path, headers)
    }

    /// The same of a request that calls the server `host`.
    fn get_as(&self, host: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A site in `site`, and beside it what must stay private.
fn site() -> tempfile::TempDir {
    let folder = folder();
    let site = folder.path().join("site");
    fs::create_dir_all(site.join("pkg")).unwrap();
    fs::write(site.join("index.html"), "<!doctype html><title>page</title>").unwrap();
    fs::write(site.join("main.js"), "// a script\n".repeat(500)).unwrap();
    fs::write(site.join("pkg/x.wasm"), [0u8; 300]).unwrap();
    fs::write(site.join("bank.bin"), (0..=255u8).collect::<Vec<_>>()).unwrap();
    fs::write(site.join("manifest.json"), "{}").unwrap();
    fs::write(site.join(".hidden"), "secret").unwrap();
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.txt"), site.join("link.txt")).unwrap();
    folder
}

#[test]
fn files_come_with_their_types_and_isolated() {
    let folder = site();
    let server = Server::start(folder.path(), &["site"]);
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    let types =
        [("/", "text/html"), ("/main.js", "text/javascript"), ("/pkg/x.wasm", "application/wasm"), ("/manifest.json", "application/json")];
    for (path, kind) in types {
        let (head, _) = server.get(path, "");
        assert_holds(&head, &["200 ok", &format!("content-type: {kind}"), "cross-origin-opener-policy: same-origin"]);
        assert_holds(&head, &["cross-origin-embedder-policy: require-corp", "nosniff"]);
    }
    assert_holds(&server.get("/nothing", "").0, &["404"]);
}

#[test]
fn a_range_and_a_compressed_answer_are_given_where_asked_for() {
    let folder = site();
    let server = Server::start(folder.path(), &["site"]);
    let (head, body) = server.get("/bank.bin", "Range: bytes=10-19\r\n");
    assert_holds(&head, &["206 partial content", "content-range: bytes 10-19/256"]);
    assert_eq!(body, (10..20).collect::<Vec<u8>>());
    let (head, body) = server.get("/main.js", "Accept-Encoding: br, gzip\r\n");
    assert_holds(&head, &["content-encoding: br"]);
    assert!(body.len() < 1000, "{}", body.len());
    assert!(!server.get("/bank.bin", "Accept-Encoding: br, gzip\r\n").0.contains("content-encoding"));
}

/// Memory of a process in kB.
#[cfg(target_os = "linux")]
fn memory(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_compressed_answers_take_no_more_memory_than_one() {
    let folder = site();
    let script: String = (0..60_000u32).map(|i| format!("{:08x}\n", i.wrapping_mul(0x9e37_79b9))).collect();
    fs::write(folder.path().join("site/large.js"), &script).unwrap();
    let server = Server::start(folder.path(), &["site"]);
    let ask = || server.get("/large.js", "Accept-Encoding: gzip;q=0.5, br;q=0\r\n");
    let (head, first) = ask();
    assert_holds(&head, &["content-encoding: gzip", "vary: accept-encoding"]);
    let before = memory(&server.child);
    assert!((0..1000).all(|_| ask().1 == first));
    assert!(memory(&server.child) < before + 8_000, "{} kB, then {}", before, memory(&server.child));
    // Another file under the same name is another answer.
    fs::write(folder.path().join("site/large.js"), script.repeat(2)).unwrap();
    assert_ne!(ask().1, first);
}

#[test]
fn headers_that_do_not_come_end_the_connection() {
    let folder = site();
    let server = Server::start(folder.path(), &["site"]);
    let mut streams = [TcpStream::connect(&server.address).unwrap(), TcpStream::connect(&server.address).unwrap()];
    write!(streams[0], "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").unwrap();
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
        // What it says, if anything, is that the request is none; then it is closed.
        assert!(stream.read_to_end(&mut Vec::new()).is_ok(), "still open after 25 s");
    }
}

#[test]
fn pages_of_others_show_it_only_where_that_is_allowed() {
    let folder = site();
    let own = Server::start(folder.path(), &["site"]).get("/", "").0;
    assert_holds(&own, &["cross-origin-resource-policy: same-origin", "content-security-policy: frame-ancestors 'none'"]);
    let embedded = Server::start(folder.path(), &["site", "--embed"]).get("/", "").0;
    assert_holds(&embedded, &["cross-origin-resource-policy: cross-origin"]);
    assert!(!embedded.contains("frame-ancestors"));
}

#[test]
fn nothing_outside_the_folder_and_nothing_hidden_is_served() {
    let folder = site();
    let server = Server::start(folder.path(), &["site"]);
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("site/pipe.js")).status();
    assert!(made.unwrap().success());
    assert_holds(&server.get("/pipe.js", "").0, &["404"]);
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/pkg/..%2f..%2fsecret.txt", "/link.txt", "/.hidden", "/%2ehidden", "//secret.txt"]
    {
        let (head, body) = server.get(path, "");
        assert!(!head.contains(" 200 "), "{path}: {head}");
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{path}");
    }
}

#[test]
fn a_server_on_loopback_answers_to_this_machines_names_alone() {
    let folder = site();
    let server = Server::start(folder.path(), &["site"]);
    for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000"] {
        assert_holds(&server.get_as(host, "/", "").0, &["200 ok"]);
    }
    for host in ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "192.168.0.2", "evil@evil.example", ""] {
        let (head, body) = server.get_as(host, "/manifest.json", "");
        assert!(head.contains(" 403 ") || head.contains(" 400 "), "{host}: {head}");
        assert!(!body.starts_with(b"{"), "{host}");
    }
    assert_holds(&String::from_utf8(server.get_as("evil.example", "/", "").1).unwrap(), &["evil.example", "localhost", "--host"]);
    let open = Server::start(folder.path(), &["site", "--host", "0.0.0.0"]);
    for host in ["192.168.0.2:8000", "[fe80::1]", "box", "box.local:8000", "localhost"] {
        assert_holds(&open.get_as(host, "/", "").0, &["200 ok"]);
    }
    assert_holds(&open.get_as("anything.example", "/", "").0, &[" 403 "]);
}

#[test]
fn a_taken_port_and_a_folder_without_a_page_are_said_so() {
    let folder = site();
    let server = Server::start(folder.path(), &["site"]);
    let port = server.address.split(':').nth(1).unwrap();
    assert_holds(&la(folder.path(), &["serve", "site", "--port", port]).error(), &[&format!("--port {port}"), "taken"]);
    assert_holds(&la(folder.path(), &["serve", "nowhere"]).error(), &["nowhere", "la-cli export"]);
    let way_out = "`la-cli serve --data FOLDER` shows a folder of pictures";
    assert_holds(&la(folder.path(), &["serve", "site/pkg/x.wasm"]).error(), &["there is no such folder", way_out]);
    assert_holds(&la(folder.path(), &["serve", "site/pkg"]).error(), &["site/pkg", "index.html"]);
}

#[test]
fn a_run_is_exported_once_and_served() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let server = Server::start(folder.path(), &["run"]);
    assert_holds(&server.get("/bundle/manifest.json", "").0, &["200 ok"]);
    drop(server);
    let made = fs::metadata(folder.path().join("run/site/index.html")).unwrap().modified().unwrap();
    let server = Server::start(folder.path(), &["run"]);
    assert_holds(&server.get("/", "").0, &["200 ok"]);
    assert_eq!(fs::metadata(folder.path().join("run/site/index.html")).unwrap().modified().unwrap(), made);
}

/// How many images the page of `run` in `folder` shows, and what was said when it was served.
fn served(folder: &Path, more: &[&str]) -> (usize, String) {
    let log = folder.join("log");
    let server = Server::start_with_log(folder, &[&["run"], more].concat(), Stdio::from(fs::File::create(&log).unwrap()));
    let (_, manifest) = server.get("/bundle/manifest.json", "");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    (manifest["bank"]["rows"].as_u64().unwrap() as usize, fs::read_to_string(&log).unwrap())
}

#[test]
fn the_page_of_a_run_shows_its_weights_and_images_as_they_are_now() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    write_pictures(&folder.path().join("mine"), 12);
    assert_eq!(served(folder.path(), &[]).0, 200);
    let (rows, said) = served(folder.path(), &["--data", "mine"]);
    assert!(rows == 12 && said.contains("it showed sample, not mine"), "{rows} {said}");
    let (rows, said) = served(folder.path(), &[]);
    assert!(rows == 200 && said.contains("it showed mine, not sample"), "{rows} {said}");
    let model = || bytes(folder.path().join("run/site/bundle/model.safetensors"));
    let before = model();
    train_tiny(folder.path(), "other", &["--seed", "5"]).ok();
    fs::copy(folder.path().join("other/model.safetensors"), folder.path().join("run/model.safetensors")).unwrap();
    assert_holds(&served(folder.path(), &[]).1, &["run/site", "the weights have changed"]);
    assert_ne!(model(), before);
    la(folder.path(), &["export", "run", "--limit", "30", "--out", "run/site", "--force"]).ok();
    let (rows, said) = served(folder.path(), &[]);
    assert!(rows == 30 && said.contains("shown as it is"), "{rows} {said}");
}

#[test]
fn originals_are_shown_by_the_number_of_their_row_and_on_this_machine_alone() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let set = folder.path().join("mine");
    write_pictures(&set, 12);
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    let server = Server::start(folder.path(), &["run", "--data", "mine"]);
    assert_holds(&server.get("/bundle/manifest.json", "").0, &["200 ok", "la-originals"]);
    let names = String::from_utf8(server.get("/bundle/names.txt", "").1).unwrap();
    for (row, name) in names.lines().enumerate() {
        let (head, body) = server.get(&format!("/original/{row}"), "");
        assert_holds(&head, &["200 ok", "image/png"]);
        assert!(body == bytes(set.join(name)), "row {row} is {name}");
    }
    for other in ["12", "-1", "x", "../secret.txt", "..%2fsecret.txt", "%2e%2e%2f%2e%2e%2fsecret.txt", "0/../../secret.txt", "00.png"] {
        let (head, body) = server.get(&format!("/original/{other}"), "");
        assert!(head.contains("404") && !String::from_utf8_lossy(&body).contains("secret"), "{other}: {head}");
    }
    assert_holds(&server.get_as("elsewhere.example", "/original/0", "").0, &["403"]);
    drop(server);
    let open = Server::start(folder.path(), &["run", "--data", "mine", "--host", "0.0.0.0"]);
    let local = open.address.replace("0.0.0.0", "127.0.0.1");
    let (head, _) = Server { address: local, child: std::process::Command::new("true").spawn().unwrap() }.get("/original/0", "");
    assert!(head.contains("404") && !head.contains("la-originals"), "{head}");
}

/// Asks until the page shows as many pictures; gives the digest of its names, and them.
fn waited_for(server: &Server, rows: u64) -> (String, Vec<String>) {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let (head, manifest) = server.get("/bundle/manifest.json", "");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        if manifest["bank"]["rows"] == rows {
            assert_holds(&head, &["la-follows"]);
            let names = String::from_utf8(server.get("/bundle/names.txt", "").1).unwrap();
            return (manifest["names"]["sha256"].as_str().unwrap().into(), names.lines().map(String::from).collect());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("the page does not come to show {rows} pictures");
}

#[test]
fn pictures_that_come_change_and_go_while_it_runs_are_served() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let set = folder.path().join("mine");
    write_pictures(&set, 12);
    let server = Server::start(folder.path(), &["run", "--data", "mine"]);
    let original = |row: usize, names: &str| server.get(&format!("/original/{row}?{names}"), "");
    let (before, _) = waited_for(&server, 12);
    let second = bytes(set.join("01.png"));

    // Between the first and the second, so that every other row has another number.
    write_picture(&set.join("00b.png"), 40);
    fs::write(set.join("notes.txt"), "secret").unwrap();
    let (after, names) = waited_for(&server, 13);
    assert_eq!(names[1], "00b.png");
    assert!(original(1, &after).1 == bytes(set.join("00b.png")));
    assert!(original(1, &before).1 == second, "a page that was open before shows another picture");
    assert!(original(12, &before).0.contains("404"));
    let (head, bank) = server.get("/bundle/bank.bin", "");
    assert_holds(&head, &["200 ok"]);
    for row in (0..14).map(|row| original(row, &after)).chain([server.get("/original/1", "")]) {
        assert!(!String::from_utf8_lossy(&row.1).contains("secret"));
    }

    write_picture(&set.join("01.png"), 77);
    let end = Instant::now() + Duration::from_secs(60);
    while server.get("/bundle/bank.bin", "").1 == bank {
        assert!(Instant::now() < end, "a picture that was changed is not noticed");
        std::thread::sleep(Duration::from_millis(200));
    }
    fs::remove_file(set.join("00b.png")).unwrap();
    let (_, names) = waited_for(&server, 12);
    assert_eq!(names[1], "01.png");
    assert!(original(1, &after).0.contains("404"), "a picture that is gone is served");
}

#[test]
fn a_folder_that_becomes_empty_leaves_the_page_as_it_was() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let set = folder.path().join("mine");
    write_pictures(&set, 12);
    let log = folder.path().join("log");
    let server = Server::start_with_log(folder.path(), &["run", "--data", "mine"], Stdio::from(fs::File::create(&log).unwrap()));
    fs::rename(&set, folder.path().join("away")).unwrap();
    fs::create_dir(&set).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&log).unwrap().contains("the page stays as it was") {
        assert!(Instant::now() < end, "nothing is said of a folder without pictures");
        std::thread::sleep(Duration::from_millis(200));
    }
    waited_for(&server, 12);
    fs::remove_dir(&set).unwrap();
    fs::rename(folder.path().join("away"), &set).unwrap();
    write_picture(&set.join("new.png"), 50);
    waited_for(&server, 13);
}

#[cfg(unix)]
#[test]
fn a_server_that_made_its_page_again_ends_as_it_is_asked_to() {
    let folder = folder();
    write_pictures(&folder.path().join("mine"), 3);
    train_tiny(folder.path(), "run", &[]).ok();
    let mut server = Server::start(folder.path(), &["run", "--data", "mine"]);
    write_picture(&folder.path().join("mine/new.png"), 50);
    waited_for(&server, 4);
    let killed = std::process::Command::new("kill").args(["-INT", &server.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "the signal ended it, not the server itself");
}

#[test]
fn a_page_that_lacks_a_part_is_made_again() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    write_pictures(&folder.path().join("mine"), 12);
    served(folder.path(), &["--data", "mine"]);
    let bank = folder.path().join("run/site/bundle/bank.bin");
    let whole = bytes(&bank);
    for damaged in [&whole[..whole.len() / 2], b""] {
        fs::write(&bank, damaged).unwrap();
        served(folder.path(), &["--data", "mine"]);
        assert!(bytes(&bank) == whole, "the page was served without its bank");
    }
}

#[test]
fn the_page_of_another_la_cli_is_made_again() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    served(folder.path(), &[]);
    let (note, page) = (folder.path().join("run/site.json"), folder.path().join("run/site/index.html"));
    let ours = bytes(&page);
    let mut recorded: serde_json::Value = serde_json::from_slice(&bytes(&note)).unwrap();
    assert!(recorded["page"].is_string(), "{recorded}");
    recorded["page"] = "of another".into();
    fs::write(&note, recorded.to_string()).unwrap();
    fs::write(&page, "an older page").unwrap();
    assert_holds(&served(folder.path(), &[]).1, &["is made again: it is the page of another la-cli"]);
    assert!(bytes(&page) == ours, "the older page was served");
}

#[test]
fn a_page_that_cannot_be_kept_is_served_all_the_same() {
    let folder = folder();
    write_pictures(&folder.path().join("data"), 3);
    fs::write(folder.path().join("file"), "no folder").unwrap();
    let mut child = command(folder.path());
    child.args(["serve", "--data", "data"]).env("LA_CACHE", folder.path().join("file/cache")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_string();
    let server = Server { child, address };
    assert_holds(&server.get("/bundle/manifest.json", "").0, &["200 ok"]);
}
