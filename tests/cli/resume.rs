//! Runs that are stopped go on to the same bytes, and threads change nothing.

use crate::support::*;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A tiny run with a checkpoint after every step.
fn start(folder: &Path, name: &str) -> Child {
    let mut command = command(folder);
    command.args(["train", "--out", name, "--checkpoint-minutes", "0"]).args(TINY).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program was built with this test")
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn model(folder: &Path, name: &str) -> Vec<u8> {
    bytes(folder.join(name).join("model.safetensors"))
}

fn resume(folder: &Path, name: &str) {
    la(folder, &["train", "--resume", name]).ok();
}

#[test]
fn runs_killed_at_five_moments_end_in_the_bytes_of_one_never_killed() {
    let folder = folder();
    let folder = folder.path();
    let started = Instant::now();
    let mut whole = start(folder, "whole");
    wait_for(&folder.join("whole/config.json"));
    let before = started.elapsed();
    assert!(whole.wait().unwrap().success());
    let lasted = started.elapsed() - before;
    for moment in 0..5 {
        let name = format!("killed-{moment}");
        let mut run = start(folder, &name);
        wait_for(&folder.join(&name).join("config.json"));
        std::thread::sleep(lasted * moment / 6);
        run.kill().unwrap(); // SIGKILL
        run.wait().unwrap();
        resume(folder, &name);
        assert_eq!(model(folder, &name), model(folder, "whole"), "killed at {moment}/6 of the run");
        let metrics = String::from_utf8(bytes(folder.join(&name).join("metrics.jsonl"))).unwrap();
        assert_eq!(metrics.lines().count(), 2, "killed at {moment}/6 of the run");
    }
}

#[test]
fn a_branch_goes_on_from_another_run_under_settings_of_its_own() {
    let folder = folder();
    let folder = folder.path();
    train_tiny(folder, "trunk", &[]).ok();
    let branch = |out: &str, more: &[&str]| la(folder, &[&["train", "--branch", "trunk", "--out", out], more].concat());
    let said = branch("branch", &["--epochs", "3", "--ir-epochs", "3"]).ok();
    assert_holds(&said, &["as trunk began", "epochs 3 (not 2)", "ir-epochs 3 (not 1)"]);
    let metrics = String::from_utf8(bytes(folder.join("branch/metrics.jsonl"))).unwrap();
    let phases: Vec<bool> = metrics.lines().map(|line| line.contains("\"phase\":\"ir\"")).collect();
    assert_eq!(phases, [true, false, true]);
    let packed = la(folder, &["pack", "branch", "--beside", "trunk", "--out", "packed"]);
    assert_holds(&packed.stderr, &["note: --beside trunk is not on the same budget: epochs 2, not 3\n"]);
    let card = String::from_utf8(bytes(folder.join("packed/README.md"))).unwrap();
    assert_eq!(card.matches("Its first 2 epochs are those of another run").count(), 1, "{card}");
    assert!(said.contains("before training") && folder.join("branch/baseline.json").is_file());
    // What was measured before training is left behind where another vote would measure it now.
    let said = branch("other-vote", &["--epochs", "3", "--knn-k", "5"]).ok();
    assert_holds(said.lines().find(|line| line.starts_with("done in")).unwrap(), &["(K = 5, temperature 0.07)"]);
    assert!(!said.contains("before training") && !folder.join("other-vote/baseline.json").exists());
    let ir = "trunk/checkpoint/ir.safetensors";
    let said = la(folder, &["train", "--branch", ir, "--ir-epochs", "2", "--out", "instead"]).ok();
    assert_holds(&said, &["going on   after epoch 1", "epoch 2/2 ir"]);
    // Nothing is left to do; another network; no run; no checkpoint. None leaves a run behind, nor a hint to resume one.
    let refusals: [(&[&str], &str); 2] = [(&["--epochs", "2"], "2 epochs are done"), (&["--epochs", "3", "--width", "16"], "width")];
    for (more, part) in refusals {
        let error = branch("refused", more).error();
        assert_holds(&error, &["latest.safetensors", part]);
        assert!(!error.contains("--resume") && !folder.join("refused").exists(), "{error}");
    }
    std::fs::remove_file(folder.join("trunk/checkpoint/latest.safetensors")).unwrap();
    assert_holds(&branch("none", &[]).error(), &["--branch", "trunk", "no checkpoint yet"]);
    assert!(!folder.join("none").exists());
    assert_holds(&la(folder, &["train", "--branch", "nowhere"]).error(), &["--branch", "nowhere", "config.json"]);
    for flag in [["--preset", "quick"], ["--bank-init", "random"]] {
        assert_holds(&branch("none", &flag).error(), &["--branch", flag[0]]);
    }
}

#[test]
fn a_run_without_a_checkpoint_yet_keeps_what_it_noted_as_it_began() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    let config = || String::from_utf8(bytes(folder.path().join("run/config.json"))).unwrap();
    let (before, weights) = (config(), model(folder.path(), "run"));
    assert_holds(&before, &["\"command\"", "\"machine\"", "\"notes\": [\n"]);
    // As it was left where nothing had been learned yet.
    std::fs::remove_dir_all(folder.path().join("run/checkpoint")).unwrap();
    std::fs::remove_file(folder.path().join("run/model.safetensors")).unwrap();
    std::fs::write(folder.path().join("run/metrics.jsonl"), "").unwrap();
    resume(folder.path(), "run");
    assert_eq!(config(), before);
    assert!(model(folder.path(), "run") == weights);
}

#[test]
fn images_that_moved_are_found_again_and_others_are_refused() {
    let folder = folder();
    let folder = folder.path();
    write_pictures(&folder.join("old"), 8);
    let args = ["--width", "8", "--size", "16", "--epochs", "1", "--ir-epochs", "1", "--out", "run"];
    la(folder, &[&["train", "--data", "old"], &args[..]].concat()).ok();
    std::fs::rename(folder.join("old"), folder.join("new")).unwrap();
    // As if it had been stopped before its last picture was drawn: a run that is over needs no images.
    std::fs::remove_file(folder.join("run/neighbors.png")).unwrap();
    assert_holds(&la(folder, &["train", "--resume", "run"]).error(), &["--resume run", "old", "--data"]);
    let branch = ["train", "--branch", "run", "--epochs", "2", "--out", "branch"];
    assert_holds(&la(folder, &branch).error(), &["--branch run", "old", "--data"]);
    la(folder, &[&branch[..], &["--data", "new"]].concat()).ok();
    la(folder, &["train", "--resume", "run", "--data", "new"]).ok();
    la(folder, &["train", "--resume", "run"]).ok();
    std::fs::rename(folder.join("new/00.png"), folder.join("new/zero.png")).unwrap();
    let error = la(folder, &["train", "--resume", "run", "--data", "new"]).error();
    assert_holds(&error, &["--resume run", "the order of the 8 training images have changed", "--data"]);
}

#[test]
fn a_damaged_checkpoint_is_not_called_whole() {
    let folder = folder();
    train_tiny(folder.path(), "run", &[]).ok();
    std::fs::write(folder.path().join("run/checkpoint/latest.safetensors"), "cut").unwrap();
    let error = la(folder.path(), &["train", "--resume", "run"]).error();
    assert_holds(&error, &["--resume", "latest.safetensors", "cut off", "--init run"]);
    assert!(!error.contains("whole"), "{error}");
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = folder();
    for threads in ["1", "2", "3"] {
        train_tiny(folder.path(), threads, &["--threads", threads]).ok();
    }
    let one = model(folder.path(), "1");
    assert!(one == model(folder.path(), "2") && one == model(folder.path(), "3"));
}

#[test]
fn another_seed_changes_the_weights() {
    let folder = folder();
    for seed in ["1", "2"] {
        train_tiny(folder.path(), seed, &["--seed", seed]).ok();
    }
    assert_ne!(model(folder.path(), "1"), model(folder.path(), "2"));
}
