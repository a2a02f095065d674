//! How the program behaves towards its user: signals, JSON, silence, help, completions, and words that fit their number and terminal.

use crate::strict_hub::{Hub, TOKEN};
use crate::support::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// The one JSON object that a command must have printed, and nothing else.
fn object(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// A run of three epochs of many small steps; no checkpoint comes by the clock.
const STEPPING: [&str; 14] =
    ["train", "--limit", "2000", "--width", "8", "--size", "16", "--epochs", "3", "--ir-epochs", "1", "--batch-size", "8", "--json"];

fn start(folder: &Path, name: &str) -> Child {
    let mut command = command(folder);
    command.args(STEPPING).args(["--out", name]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal to a program that runs.
pub fn send(signal: &str, child: &Child) {
    assert!(std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_signal_saves_a_run_inside_its_epoch_and_the_printed_command_resumes_it_to_the_same_bits() {
    let folder = folder();
    let folder = folder.path();
    la(folder, &[&STEPPING[..], &["--out", "whole"]].concat()).ok();
    for (signal, code, said) in [("INT", 130, "stopped by Ctrl-C: "), ("TERM", 143, "stopped by SIGTERM: ")] {
        let run = start(folder, signal);
        // The first epoch has ended, and is saved; there are 250 steps in the second.
        wait_until("a checkpoint", || folder.join(signal).join("checkpoint/latest.safetensors").is_file());
        send(signal, &run);
        let stopped = ended(run.wait_with_output().unwrap());
        assert_eq!(stopped.code, Some(code), "{}", stopped.stderr);
        let checkpoint = format!("{said}{signal}/checkpoint/latest.safetensors is saved, in epoch 2 of 3, after step ");
        assert_holds(&stopped.stderr, &[&checkpoint, " of 250; resume with `la-cli train --resume "]);
        assert!(!stopped.stderr.contains("error"), "{}", stopped.stderr);
        let report = object(&stopped.stdout);
        assert_eq!((&report["is_stopped"], &report["epochs_done"]), (&true.into(), &1.into()));
        let resuming = stopped.stderr.split('`').nth(1).unwrap();
        let resumed = bash(folder, &format!("la-cli() {{ $LA \"$@\"; }}; {resuming}")).ok();
        assert_holds(&resumed, &["going on   after epoch 1, step ", "done in "]);
        assert!(bytes(folder.join(signal).join("model.safetensors")) == bytes(folder.join("whole/model.safetensors")), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once_and_it_still_resumes() {
    let folder = folder();
    let folder = folder.path();
    let mut run = start(folder, "run");
    wait_until("the settings", || folder.join("run/config.json").is_file());
    // Until it is gone: the first may come before the run listens, or the run may be done with what it saves.
    wait_until("an end", || {
        let _ = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).stderr(Stdio::null()).status();
        run_has_ended(&run)
    });
    assert!(!run.wait().unwrap().success());
    la(folder, &["train", "--resume", "run"]).ok();
    assert_eq!(std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap().lines().count(), 3);
}

/// Whether only the entry of the process in the system's table is left.
fn run_has_ended(run: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.id())).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn a_server_ends_in_peace_at_either_signal() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("site")).unwrap();
    std::fs::write(folder.path().join("site/index.html"), "hello").unwrap();
    for signal in ["INT", "TERM"] {
        let mut server = command(folder.path()).args(["serve", "site"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut lines = std::io::BufReader::new(server.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        assert_holds(&line, &["serving site at http://"]);
        send(signal, &server);
        assert!(server.wait().unwrap().success(), "{signal}");
    }
}

/// When each file of a folder was last written.
fn times(folder: &Path) -> BTreeMap<String, SystemTime> {
    let entries = std::fs::read_dir(folder).unwrap().chain(std::fs::read_dir(folder.join("checkpoint")).unwrap());
    entries.map(|entry| entry.unwrap()).map(|entry| (text(&entry.path()).into(), entry.metadata().unwrap().modified().unwrap())).collect()
}

#[test]
fn a_run_that_is_over_says_so_and_how_to_go_on_and_is_left_alone() {
    let folder = folder();
    let folder = folder.path();
    write_pictures(&folder.join("photos"), 8);
    let few = ["--width", "8", "--size", "16", "--ir-epochs", "1"];
    la(folder, &[&["train", "--data", "photos", "--epochs", "1", "--out", "my run"], &few[..]].concat()).ok();
    let before = times(&folder.join("my run"));
    // Nor are its images needed for that.
    std::fs::rename(folder.join("photos"), folder.join("moved")).unwrap();
    let said = la(folder, &["train", "--resume", "my run"]).ok();
    assert_holds(&said, &["my run: 1 epoch is done, so nothing is left to resume\n"]);
    let report = object(&la(folder, &["train", "--resume", "my run", "--json"]).ok());
    assert_eq!((&report["is_stopped"], &report["epochs_done"], &report["epochs"]), (&false.into(), &1.into(), &1.into()));
    assert_eq!(times(&folder.join("my run")), before);
    std::fs::rename(folder.join("moved"), folder.join("photos")).unwrap();
    let going_on = said.lines().find(|line| line.starts_with("next ")).unwrap().trim_start_matches("next ").trim();
    assert_holds(going_on, &["--branch 'my run' --epochs 2"]);
    let branch = bash(folder, &format!("la-cli() {{ $LA \"$@\"; }}; {going_on}")).ok();
    assert_holds(&branch, &["going on   after epoch 1", "epoch 2/2 la"]);
    assert_holds(&la(folder, &["train", "--resume", "runs/photos-1"]).ok(), &["all 2 epochs are done"]);
}

#[test]
fn a_run_without_its_pictures_is_not_over() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    std::fs::remove_file(folder.path().join("run/neighbors.png")).unwrap();
    la(folder.path(), &["train", "--resume", "run"]).ok();
    assert!(folder.path().join("run/neighbors.png").is_file());
}

#[test]
fn every_command_that_reports_can_do_so_as_one_object() {
    let folder = folder();
    let folder = folder.path();
    write_pictures(&folder.join("photos"), 6);
    let run = text(shared_run());
    let json = |args: &[&str]| object(&la(folder, &[args, &["--json"]].concat()).ok());

    let trained = json(&[&["train", "--out", "run"], &TINY[..]].concat());
    assert_eq!((&trained["run"], &trained["num_images"], &trained["epochs_done"]), (&"run".into(), &200.into(), &2.into()));
    let metrics = String::from_utf8(bytes(folder.join("run/metrics.jsonl"))).unwrap();
    assert_eq!(trained["knn_top1"], serde_json::from_str::<Value>(metrics.lines().last().unwrap()).unwrap()["knn_top1"]);
    assert!(trained["baseline"]["raw_pixels"].is_number());

    let of_run = json(&["info", run]);
    assert_eq!((&of_run["kind"], &of_run["epochs_done"], &of_run["train"]["width"]), (&"run".into(), &2.into(), &8.into()));
    assert!(of_run["model_bytes"].as_u64() == Some(bytes(shared_run().join("model.safetensors")).len() as u64));
    let weights = json(&["info", &format!("{run}/model.safetensors")]);
    assert_eq!((&weights["kind"], &weights["arch"], &weights["embedding_dim"]), (&"weights".into(), &"resnet18".into(), &128.into()));
    let shapes = weights["tensors"].as_array().unwrap();
    assert!(shapes.iter().any(|tensor| tensor["name"] == "fc.weight" && tensor["shape"] == serde_json::json!([128, 64])));
    assert_eq!(json(&["info", "photos"])["size"], 192);
    let data = json(&["info", "sample"]);
    assert_eq!((&data["kind"], &data["train"]["num_images"], &data["test"]["num_images"]), (&"data".into(), &9000.into(), &1000.into()));
    assert_eq!(data["train"]["classes"].as_array().unwrap().len(), 10);

    let embedded = json(&["embed", run, "--data", "photos", "--out", "e.safetensors"]);
    assert_eq!(embedded, serde_json::json!({"out": "e.safetensors", "data": "photos", "num_images": 6, "dim": TINY_DIM}));

    for (format, out) in [("site", "site"), ("projector", "projector"), ("atlas", "atlas.parquet")] {
        let exported = json(&["export", run, "--data", "photos", "--format", format, "--out", out]);
        assert_eq!((&exported["format"], &exported["out"], &exported["num_images"]), (&format.into(), &out.into(), &6.into()));
        assert_eq!(exported["bytes"]["weights"].is_number(), format == "site");
    }

    let packed = json(&["pack", run, "--out", "packed"]);
    assert_eq!(packed["bytes"].as_u64(), Some(bytes(folder.join("packed/model.safetensors")).len() as u64));
    assert!(packed["figures"]["weights"]["knn_top1"].is_number() && packed["sha256"].as_str().unwrap().len() == 64);
    assert_eq!(json(&["info", "packed"])["packed"]["epochs"], 2);
}

#[test]
fn quiet_leaves_results_warnings_and_errors() {
    let folder = folder();
    let folder = folder.path();
    write_pictures(&folder.join("photos"), 6);
    std::fs::write(folder.join("photos/broken.jpg"), "no picture").unwrap();
    let out = la(folder, &[&["train", "--quiet", "--data", "photos", "--out", "run"], &TINY[2..]].concat());
    assert_eq!(out.stdout.lines().count(), 2, "{}", out.stdout);
    assert_holds(&out.stdout, &["done in ", "run: model.safetensors"]);
    assert_holds(&out.stderr, &["warning: 1 image could not be read and had to be left out:\n  broken.jpg: "]);
    assert!(out.stderr.lines().all(|line| line.starts_with("warning: ") || line.starts_with("  broken.jpg")), "{}", out.stderr);
    // Without a config.json there is a remark on how images are prepared.
    std::fs::copy(folder.join("run/model.safetensors"), folder.join("bare.safetensors")).unwrap();
    let embed = ["embed", "bare.safetensors", "--size", "16", "--data", "photos/00.png", "--out", "e.safetensors"];
    assert_eq!(la(folder, &[&embed[..], &["--quiet"]].concat()).error().lines().count(), 1);
    for (more, is_said) in [(&[][..], true), (&["--quiet"], false)] {
        let out = la(folder, &[&["embed", "bare.safetensors", "--data", "photos", "--out", "e.safetensors", "--force"], more].concat());
        assert_eq!(out.stderr.contains("note: there is no config.json"), is_said, "{}", out.stderr);
        assert_holds(&out.stdout, &["6 embeddings"]);
    }
}

/// Every command with the words of its `--help`, the program itself first.
fn helps() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(words) = open.pop() {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = la(folder().path(), &args).ok();
        let commands = help.split("\nCommands:\n").nth(1).unwrap_or("").lines().take_while(|line| line.starts_with("  "));
        let names = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        open.extend(names.map(|name| words.iter().cloned().chain([name.to_string()]).collect::<Vec<String>>()));
        found.push((words, help));
    }
    found
}

/// The examples at the end of a help.
fn examples(help: &str) -> Vec<&str> {
    let lines = help.split("\nExamples:\n").nth(1).unwrap_or("").lines();
    lines.map(|line| line.split("  #").next().unwrap_or(line).trim()).collect()
}

/// Refusals of examples that leave out the weights, in a program that has none of its own.
const LACKS: [&str; 2] = ["not provided:\n  <RUN|WEIGHTS>", "not provided:\n  <DIR|RUN>"];

/// A home with photos, runs and pictures, as examples have it.
fn home() -> tempfile::TempDir {
    let home = folder();
    for class in ["cats", "dogs"] {
        write_pictures(&home.path().join("photos").join(class), 4);
    }
    for name in ["x.jpg", "y.jpg"] {
        write_picture(&home.path().join(name), 3);
    }
    std::fs::create_dir(home.path().join("runs")).unwrap();
    for (run, data) in [("sample-1", "sample"), ("mine", "photos")] {
        let out = format!("runs/{run}");
        la(home.path(), &[&["train", "--data", data, "--out", &out], &TINY[..]].concat()).ok();
    }
    home
}

#[test]
fn every_help_ends_with_examples_that_work() {
    let home = home();
    let hub = format!("HF_ENDPOINT={} HF_HOME=$PWD/hf HF_TOKEN={TOKEN} HF_XET_XORB_COMPRESSION_POLICY=none", Hub::start().address);
    let run = |line: &str| bash(home.path(), &format!("export HOME=$PWD {hub}; la-cli() {{ $LA \"$@\"; }}; {line}"));
    let (mut num_run, helps) = (0, helps());
    assert!(helps.len() > 15, "{helps:?}");
    for (words, help) in &helps {
        let examples = examples(help);
        assert!((1..=4).contains(&examples.len()), "{words:?}: {help}");
        for example in examples {
            assert!(example.starts_with(&["la-cli".to_string()].iter().chain(words).cloned().collect::<Vec<_>>().join(" ")), "{example}");
            // Words are read before the device is opened; nothing is done on one that there is none of.
            let read = run(&example.replacen("la-cli", "la-cli --device none", 1));
            if LACKS.iter().any(|lack| read.stderr.contains(lack)) {
                continue;
            }
            if !example.contains('|') {
                assert_holds(&read.stderr, &["--device must be cpu"]);
            }
            // What takes long, waits for a browser, or writes a shell's own files is read only.
            if ["train", "serve", "bench"].contains(&words.first().map_or("train", String::as_str)) {
                continue;
            }
            if example.contains("| man") && run("command -v man").stdout.is_empty() {
                continue;
            }
            let ended = run(example);
            assert_eq!(ended.code, Some(0), "{example}: {}", ended.stderr);
            num_run += 1;
        }
    }
    assert!(num_run >= 12, "{num_run}");
}

#[test]
fn shells_complete_every_command() {
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef la-cli"), ("fish", "complete -c la-cli")] {
        let script = la(folder().path(), &["completions", shell]).ok();
        assert_holds(&script, &[part, "train", "bench", "kmeans", "checkpoint-minutes"]);
    }
    let line = "source <($LA completions bash); COMP_WORDS=(la-cli sea) COMP_CWORD=1; _la__cli la-cli sea la-cli; echo ${COMPREPLY[@]}";
    assert_eq!(bash(folder().path(), line).stdout, "search\n");
    assert_holds(&la(folder().path(), &["completions", "tcsh"]).error(), &["tcsh", "bash", "zsh", "fish"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = folder();
    let said = la(folder.path(), &["man", "new/pages"]).ok();
    let pages = std::fs::read_dir(folder.path().join("new/pages")).unwrap().count();
    assert_eq!(pages, helps().len());
    assert_holds(&said, &[&format!("{pages} manual pages")]);
    let page = |name: &str| String::from_utf8(bytes(folder.path().join("new/pages").join(name))).unwrap();
    let train = page("la-cli-train.1");
    assert_holds(
        &train,
        &[".TH la-cli-train 1", "\\-\\-checkpoint\\-minutes", ".SH PRESETS\n.nf\n  quick ", ".SH EXAMPLES\n.nf\n  la\\-cli train "],
    );
    assert_holds(&page("la-cli-bench-kmeans.1"), &["\\-\\-num\\-points"]);
    assert_eq!(la(folder.path(), &["man"]).ok(), page("la-cli.1"));
    std::fs::write(folder.path().join("taken"), "").unwrap();
    assert_holds(&la(folder.path(), &["man", "taken"]).error(), &["taken: expected a folder"]);
}

#[test]
fn one_of_a_thing_is_singular() {
    let folder = folder();
    let folder = folder.path();
    for (part, count) in [("train/cats", 3), ("train/dogs", 1), ("test/cats", 1)] {
        write_pictures(&folder.join("data").join(part), count);
    }
    let trained =
        la(folder, &["train", "--data", "data", "--width", "8", "--size", "16", "--epochs", "1", "--ir-epochs", "1", "--out", "run"]);
    let trained = trained.ok();
    assert_holds(&trained, &["data: 4 training images, 1 test image, 2 classes\n", ": 1 epoch, the first 1 of instance"]);
    let packed = la(folder, &["pack", "run", "--out", "packed"]).ok();
    let card = String::from_utf8(bytes(folder.join("packed/README.md"))).unwrap();
    assert_holds(&card, &["4 images of data for 1 epoch, ", "4 training images re-embedded", ", 1 test image classified"]);
    let info = la(folder, &["info", "packed"]).ok();
    assert_holds(&info, &["on 4 images of data, 1 epoch, ", ", 1 test image\n"]);
    write_pictures(&folder.join("one"), 1);
    let embedded = la(folder, &["embed", "run", "--data", "one", "--out", "e.safetensors"]).ok();
    assert_holds(&embedded, &["1 embedding of dimension"]);
    let search = la(folder, &["search", "run", "--data", "one", "--query", "one/00.png"]).ok();
    for text in [&trained, &packed, &card, &info, &search, &embedded] {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = ["images", "epochs", "classes", "embeddings", "labels", "files", "threads"];
        let is_wrong = |pair: &[&str]| pair[0] == "1" && wrong.iter().any(|word| pair[1].trim_end_matches([',', '.', ';', ')']) == *word);
        assert!(!words.windows(2).any(is_wrong), "{text}");
        assert!(!text.contains("1 test images") && !text.contains("1 training images"), "{text}");
    }
}

#[test]
fn a_run_is_described_as_people_write_numbers() {
    let info = la(folder().path(), &["info", text(shared_run())]).ok();
    assert_holds(&info, &["  data                 sample\n", "  knn_temperature      0.07\n", "  init                 unset\n"]);
    assert_holds(&info, &["crop_min_area 0.6", "weights    model.safetensors, "]);
    for odd in ['"', '{', '[', '}'] {
        assert!(!info.contains(odd), "{info}");
    }
    let has_exponent = |word: &str| word.parse::<f64>().is_ok() && word.contains('e');
    assert!(!info.split_whitespace().any(has_exponent), "{info}");
}

#[test]
fn a_value_that_looks_like_a_flag_gets_the_spelling_that_works() {
    let folder = folder();
    write_pictures(&folder.path().join("photos"), 3);
    write_picture(&folder.path().join("-x.jpg"), 1);
    let search = ["search", text(shared_run()), "--data", "photos"];
    let error = la(folder.path(), &[&search[..], &["--query", "-x.jpg"]].concat()).error();
    assert_holds(&error, &["write --query=-x.jpg"]);
    la(folder.path(), &[&search[..], &["--query=-x.jpg", "--k", "1"]].concat()).ok();
}

#[test]
fn an_unknown_command_is_answered_by_the_known_ones() {
    let known = "expected one of step, embed, loss, kmeans, knn, loader, growth";
    assert_holds(&la(folder().path(), &["bench", "foo"]).error(), &["'foo'", known]);
    assert_holds(&la(folder().path(), &["--threads", "1", "bench", "--json", "foo"]).error(), &[known]);
    assert_holds(&la(folder().path(), &["foo", "bench"]).error(), &["'foo'", "expected one of train, eval, embed"]);
}

/// What a command shows on a terminal of so many columns.
fn on_terminal(folder: &Path, columns: usize, line: &str) -> Option<String> {
    if !bash(folder, "command -v script").stdout.contains("script") {
        eprintln!("passed over: util-linux' script is not installed");
        return None;
    }
    let line = format!("stty -F /dev/tty rows 24 cols {columns}; {line}");
    let shown = bash(folder, &format!("script -qec '{line}' /dev/null </dev/null"));
    Some(shown.stdout)
}

#[test]
fn a_bar_fits_its_terminal() {
    let folder = folder();
    let train = format!("$LA train --out run-COLS --batch-size 8 --limit 4000 {}", TINY[2..].join(" "));
    for columns in [40, 60, 80] {
        let Some(shown) = on_terminal(folder.path(), columns, &train.replace("COLS", &columns.to_string())) else { return };
        let drawn: Vec<&str> =
            shown.split(['\r', '\n']).map(|line| without_escapes(line).trim_end()).filter(|line| line.contains("/4000")).collect();
        assert!(!drawn.is_empty(), "{shown}");
        assert!(drawn.iter().all(|line| line.chars().count() < columns), "{columns} columns: {drawn:?}");
    }
}

/// A piece of what a terminal was sent, without the codes that it begins with.
fn without_escapes(line: &str) -> &str {
    let mut line = line;
    while let Some(rest) = line.strip_prefix('\u{1b}') {
        line = rest.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    line
}
