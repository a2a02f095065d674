//! The embeddings that are kept of a folder: always those that the pictures have now.

use crate::manners::send;
use crate::support::*;
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// `la-cli embed` of the pictures in `set`, with a cache of the folder's own.
fn embed(folder: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = command(folder);
    let args = ["embed", text(shared_run()), "--data", "set", "--out", out, "--force"];
    command.args(args).args(more).env("LA_CACHE", folder.join("cache"));
    command
}

fn run(mut command: Command) -> Ended {
    ended(command.output().unwrap())
}

/// Embeds from the index and from nothing; both must give the same bits and the same warnings. Gives what was said of the index.
fn update(folder: &Path, more: &[&str]) -> String {
    let kept = run(embed(folder, "kept.safetensors", more));
    let anew = run(embed(folder, "anew.safetensors", &[more, &["--no-cache"]].concat()));
    assert_eq!((kept.code, anew.code), (Some(0), Some(0)), "{}{}", kept.stderr, anew.stderr);
    assert!(bytes(folder.join("kept.safetensors")) == bytes(folder.join("anew.safetensors")), "the index is out of date");
    let (about, others): (Vec<&str>, Vec<&str>) = kept.stderr.lines().partition(|line| line.starts_with("index of"));
    assert_eq!(others, anew.stderr.lines().collect::<Vec<_>>());
    about.join("\n")
}

fn index_file(folder: &Path) -> PathBuf {
    cache_file(folder, "index-")
}

/// The one file of this kind in the cache.
fn cache_file(folder: &Path, kind: &str) -> PathBuf {
    let entries = fs::read_dir(folder.join("cache")).unwrap().map(|entry| entry.unwrap().path());
    let entries: Vec<PathBuf> = entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(kind)).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

/// What `la-cli search` finds for a picture among those in `set`, from the index and from nothing: both must be the same.
fn search(folder: &Path) -> Ended {
    let query = folder.join("query.bmp");
    fs::write(&query, bitmap(3)).unwrap();
    let search = |more: &[&str]| {
        let mut command = command(folder);
        let args = ["search", text(shared_run()), "--data", "set", "--json", "--query", text(&query)];
        command.args(args).args(more).env("LA_CACHE", folder.join("cache"));
        run(command)
    };
    let (kept, anew) = (search(&[]), search(&["--no-cache"]));
    assert_eq!((kept.code, anew.code), (Some(0), Some(0)), "{}{}", kept.stderr, anew.stderr);
    assert_eq!(kept.stdout, anew.stdout, "the index is out of date");
    kept
}

/// The pictures that an index knows.
fn entries(index: &Path) -> Vec<String> {
    let file = bytes(index);
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let about: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["index"]).unwrap();
    about["entries"].as_array().unwrap().iter().map(|entry| entry[0].as_str().unwrap().into()).collect()
}

fn num_entries(index: &Path) -> usize {
    entries(index).len()
}

/// Draws that are the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// A bitmap of 12×12 pixels: any two have the same size.
fn bitmap(number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let color = |x: u32, y: u32| image::Rgb([(number * 37 % 256) as u8, (x * number as u32 % 256) as u8, (y * 20) as u8]);
    image::RgbImage::from_fn(12, 12, color).write_to(&mut std::io::Cursor::new(&mut out), image::ImageFormat::Bmp).unwrap();
    out
}

/// Every picture below the folder, sorted.
fn pictures(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pictures(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// One edit that is drawn at random.
fn edit(set: &Path, draws: &mut Draws, number: usize) {
    let files = pictures(set);
    let file = files[draws.below(files.len())].clone();
    let folders = ["a", "b", "c/d"];
    let new = set.join(folders[draws.below(3)]).join(format!("{number}.bmp"));
    fs::create_dir_all(new.parent().unwrap()).unwrap();
    let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
    match draws.below(9) {
        0 => fs::write(new, bitmap(number)).unwrap(),
        1 if files.len() > 10 => fs::remove_file(file).unwrap(),
        2 => fs::rename(file, new).unwrap(),
        // In place and of the same size, as an editor may save: the next with the old time, too.
        3 => fs::write(file, bitmap(number)).unwrap(),
        4 => {
            let time = modified(&file);
            fs::write(&file, bitmap(number)).unwrap();
            File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        }
        5 => {
            fs::write(set.join("new"), bitmap(number)).unwrap();
            fs::rename(set.join("new"), file).unwrap();
        }
        6 => File::options().write(true).open(&file).unwrap().set_modified(SystemTime::now()).unwrap(),
        7 => fs::write(file, &bitmap(number)[..draws.below(400)]).unwrap(),
        8 if draws.below(4) == 0 => {
            let _ = fs::rename(set.join("a"), set.join(format!("moved-{number}")));
        }
        _ => fs::write(new, bitmap(number)).unwrap(),
    }
}

#[test]
fn after_a_thousand_random_edits_an_index_is_one_made_from_nothing() {
    let folder = folder();
    let set = folder.path().join("set");
    fs::create_dir(&set).unwrap();
    (0..12).for_each(|i| fs::write(set.join(format!("{i}.bmp")), bitmap(i)).unwrap());
    let mut draws = Draws(5);
    for batch in 0..40 {
        (0..25).for_each(|i| edit(&set, &mut draws, 1000 + 25 * batch + i));
        update(folder.path(), &[]);
        if batch % 10 == 0 {
            // From here on the stamps alone prove that nothing has changed.
            std::thread::sleep(Duration::from_millis(2100));
            assert_eq!(update(folder.path(), &[]), "", "pictures that are the same were embedded again");
            let (first, second) = (search(folder.path()), search(folder.path()));
            assert!(!first.stderr.contains("index of") && first.stdout == second.stdout, "{}", first.stderr);
        }
    }
    assert_eq!(update(folder.path(), &[]), "");
    assert_eq!(num_entries(&index_file(folder.path())), pictures(&set).len());
}

#[test]
fn only_what_is_new_is_embedded_and_what_is_gone_is_dropped() {
    let folder = folder();
    let set = folder.path().join("set");
    write_pictures(&set, 9);
    let index = update(folder.path(), &[]);
    assert_holds(&index, &["index of 9 pictures: ", text(&folder.path().join("cache")), " MB"]);
    assert_eq!(update(folder.path(), &[]), "");
    write_picture(&set.join("new.png"), 40);
    fs::remove_file(set.join("03.png")).unwrap();
    fs::remove_file(set.join("04.png")).unwrap();
    assert_holds(&update(folder.path(), &[]), &["index of 8 pictures: "]);
    fs::remove_file(set.join("05.png")).unwrap();
    assert_eq!(update(folder.path(), &[]), "");
    assert_eq!(num_entries(&index_file(folder.path())), 7);
}

#[test]
fn splits_and_limits_share_an_index() {
    let folder = folder();
    for (name, count) in [("set/train/a", 6), ("set/train/b", 6), ("set/test/a", 3), ("set/test/b", 3)] {
        write_pictures(&folder.path().join(name), count);
    }
    fs::write(folder.path().join("set/train/a/broken.png"), "words").unwrap();
    assert_holds(&update(folder.path(), &["--limit", "4"]), &["index of 4 pictures"]);
    assert_holds(&update(folder.path(), &["--split", "test"]), &["index of 10 pictures"]);
    assert_holds(&update(folder.path(), &[]), &["index of 19 pictures"]);
    for more in [&["--split", "all"][..], &["--limit", "7", "--split", "all"], &["--split", "test"]] {
        assert_eq!(update(folder.path(), more), "");
    }
    assert_holds(&update(folder.path(), &["--size", "20"]), &["index of 13 pictures"]);
}

#[test]
fn a_picture_that_cannot_be_read_has_no_row_and_is_told_each_time() {
    let folder = folder();
    let set = folder.path().join("set");
    write_pictures(&set, 6);
    run(embed(folder.path(), "before.safetensors", &[])).ok();
    // Its header and its end are as they should be.
    let mut broken = bytes(set.join("02.png"));
    let middle = broken.len() / 2;
    broken[middle - 8..middle + 8].fill(0x55);
    fs::write(set.join("02x.png"), broken).unwrap();
    for _ in 0..2 {
        let said = run(embed(folder.path(), "e.safetensors", &[]));
        assert_holds(&said.stderr, &["warning: 1 image could not be read and had to be left out", "02x.png: damaged"]);
        assert_holds(&said.ok(), &["6 embeddings"]);
        assert_eq!(bytes(folder.path().join("e.safetensors")), bytes(folder.path().join("before.safetensors")));
    }
    fs::write(set.join("02x.png"), bytes(set.join("02.png"))).unwrap();
    let said = run(embed(folder.path(), "e.safetensors", &[]));
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    assert_holds(&said.ok(), &["7 embeddings"]);
}

#[test]
fn a_folder_of_nothing_but_broken_pictures_names_the_first() {
    let folder = folder();
    fs::create_dir(folder.path().join("set")).unwrap();
    fs::write(folder.path().join("set/a.png"), "words").unwrap();
    for _ in 0..2 {
        let error = run(embed(folder.path(), "e.safetensors", &[])).error();
        assert_holds(&error, &["set: the only image cannot be read: a.png: not an image"]);
    }
}

#[test]
fn a_broken_or_foreign_index_is_made_anew() {
    let folder = folder();
    write_pictures(&folder.path().join("set"), 9);
    update(folder.path(), &[]);
    let index = index_file(folder.path());
    let good = bytes(&index);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let text = String::from_utf8_lossy(&good).into_owned();
    let version = text.find("version").unwrap() + r#"version\":"#.len();
    let mut other_version = good.clone();
    other_version[version] = b'9';
    let foreign = bytes(shared_run().join("model.safetensors"));
    for damaged in [&good[..good.len() / 2], &good[..good.len() - 1], &[7; 300], b"", &flipped, &other_version, &foreign] {
        fs::write(&index, damaged).unwrap();
        let remark = run(embed(folder.path(), "kept.safetensors", &[])).stderr;
        assert_holds(&remark, &["made anew", "index of 9 pictures"]);
        assert_eq!(remark.lines().count(), 2, "{remark}");
        assert_eq!(update(folder.path(), &[]), "");
        assert_eq!(num_entries(&index), 9);
    }
}

#[test]
fn as_long_as_nothing_changes_a_search_needs_what_was_fitted_to_the_pictures_alone() {
    let folder = folder();
    write_pictures(&folder.path().join("set"), 40);
    let first = search(folder.path());
    let (index, fitted) = (index_file(folder.path()), cache_file(folder.path(), "fitted-"));
    let (good_index, good_fitted) = (bytes(&index), bytes(&fitted));
    let spoiled = |good: &[u8]| [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat();
    fs::write(&index, spoiled(&good_index)).unwrap();
    let second = search(folder.path());
    assert_eq!((second.stdout.as_str(), second.stderr.as_str()), (first.stdout.as_str(), ""), "the rows of the index were read");
    fs::write(&index, &good_index).unwrap();
    // The first value after the header is of the read-out, the last of the rows.
    let first_value = 8 + u64::from_le_bytes(good_fitted[..8].try_into().unwrap()) as usize;
    let mut other_readout = good_fitted.clone();
    other_readout[first_value] ^= 1;
    for broken in [spoiled(&good_fitted), other_readout, vec![7; 300]] {
        fs::write(&fitted, broken).unwrap();
        assert_eq!(search(folder.path()).stdout, first.stdout);
        assert!(bytes(&fitted) == good_fitted, "it is made again");
    }
    fs::remove_file(folder.path().join("set/07.png")).unwrap();
    assert_ne!(search(folder.path()).stdout, first.stdout);
}

#[test]
fn two_processes_at_once_leave_one_whole_index() {
    let folder = folder();
    write_pictures(&folder.path().join("set/train"), 60);
    write_pictures(&folder.path().join("set/test"), 60);
    let start = |out, split| embed(folder.path(), out, &["--split", split]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let all = |children: &mut [Child]| children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    all(&mut [start("a.safetensors", "train"), start("b.safetensors", "test"), start("c.safetensors", "all")]);
    assert_eq!(update(folder.path(), &["--split", "all"]), "");
    assert_eq!(num_entries(&index_file(folder.path())), 120);
}

/// `la-cli embed` of 3,000 pictures, as soon as it has kept the embeddings of some.
fn started(folder: &Path) -> Child {
    let set = folder.join("set");
    write_pictures(&set, 20);
    (20..3000).for_each(|i| assert!(fs::copy(set.join(format!("{:02}.png", i % 20)), set.join(format!("{i}.png"))).is_ok()));
    let mut child = embed(folder, "e.safetensors", &["--size", "128"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let is_kept = || folder.join("cache").read_dir().is_ok_and(|mut entries| entries.any(|entry| is_index(&entry.unwrap().path())));
    while !is_kept() {
        assert!(started.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(), "nothing was kept on the way");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn what_a_killed_process_has_embedded_is_not_embedded_again() {
    let folder = folder();
    let mut child = started(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let done = entries(&index_file(folder.path()));
    assert!((1..3000).contains(&done.len()), "{}", done.len());
    // Without the others, the index has all and says so by its silence.
    let is_done = |path: &Path| done.iter().any(|name| path.ends_with(name));
    pictures(&folder.path().join("set")).iter().filter(|path| !is_done(path)).for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(run(embed(folder.path(), "e.safetensors", &["--size", "128"])).stderr, "");
    assert_eq!(num_entries(&index_file(folder.path())), done.len());
}

#[test]
fn a_signal_keeps_what_is_embedded_and_says_so() {
    for (signal, code, said) in [("INT", 130, "stopped by Ctrl-C: "), ("TERM", 143, "stopped by SIGTERM: ")] {
        let folder = folder();
        let child = started(folder.path());
        send(signal, &child);
        let stopped = ended(child.wait_with_output().unwrap());
        assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(code), ""), "{}", stopped.stderr);
        let done = num_entries(&index_file(folder.path()));
        assert!((1..3000).contains(&done), "{done}");
        let done = if done < 1000 { done.to_string() } else { format!("{},{:03}", done / 1000, done % 1000) };
        let kept = format!("{said}{done} of 3,000 new pictures are kept, and the same command continues from there\n");
        assert_holds(&stopped.stderr, &[&kept]);
        assert!(!folder.path().join("e.safetensors").exists());
    }
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "safetensors")
}

#[test]
fn a_cache_that_cannot_be_written_fails_nothing() {
    let folder = folder();
    write_pictures(&folder.path().join("set"), 9);
    fs::write(folder.path().join("file"), "").unwrap();
    let mut command = embed(folder.path(), "e.safetensors", &[]);
    let said = run({
        command.env("LA_CACHE", folder.path().join("file/cache"));
        command
    });
    assert_holds(&said.stderr, &["warning: the embeddings are not kept", "file/cache", "LA_CACHE"]);
    assert_holds(&said.ok(), &["9 embeddings"]);
    // Files above 1 KiB fail as on a full disk; the signal that would come with it is ignored.
    let query = "--query set/00.png --k 3";
    let line = format!("trap '' XFSZ; ulimit -f 1; LA_CACHE=full exec $LA search {} --data set {query}", text(shared_run()));
    let said = bash(folder.path(), &line);
    assert_holds(&said.stderr, &["warning: the embeddings are not kept", "full/index-"]);
    assert_eq!(said.ok().lines().count(), 4);
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let folder = folder();
    write_pictures(&folder.path().join("set"), 9);
    let said = run(embed(folder.path(), "e.safetensors", &["--no-cache"]));
    assert_eq!(said.stderr, "");
    said.ok();
    assert!(!folder.path().join("cache").exists());
}

#[test]
fn the_cache_lies_where_the_system_has_such_folders() {
    let folder = folder();
    write_pictures(&folder.path().join("set"), 3);
    let place = |variable: &str| {
        let mut command = embed(folder.path(), "e.safetensors", &[]);
        command.env_remove("LA_CACHE").env_remove("XDG_CACHE_HOME").env_remove("HOME");
        run({
            command.env(variable, folder.path().join(variable));
            command
        })
        .stderr
    };
    assert_holds(&place("LA_CACHE"), &["/LA_CACHE/index-"]);
    if cfg!(target_os = "linux") {
        assert_holds(&place("XDG_CACHE_HOME"), &["/XDG_CACHE_HOME/la-cli/index-"]);
        assert_holds(&place("HOME"), &["/HOME/.cache/la-cli/index-"]);
    }
}
