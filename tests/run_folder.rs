//! The run's folder: what is written there is whole, and nothing is overwritten.

#[path = "support/blobs.rs"]
mod blobs;

use blobs::{config, run, splits};
use candle_core::{DType, Device, Tensor};
use la_cli::run::{halved, weights_path, RunFolder, Versions};
use la_core::{
    data::Unreadable,
    files::write_atomically,
    tensor_files::{read_tensors, write_tensors},
    train::{EpochMetrics, Phase},
};
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::Command,
};

fn metrics(epoch: usize) -> EpochMetrics {
    EpochMetrics {
        epoch,
        phase: Phase::Ir,
        loss: 2.5,
        lr: 0.03,
        images_per_s: 100.0,
        knn_top1: Some(0.5),
        seconds: 1.0,
        total_seconds: epoch as f64,
        cluster_seconds: 0.0,
        wait_seconds: 0.0,
        empty_close: None,
        clusters: None,
        mean_cosine: Some(0.1),
        effective_rank: Some(20.0),
        peak_rss_mb: None,
        unix_time: 1e9,
    }
}

fn new_run() -> (tempfile::TempDir, RunFolder) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(folder.path().join("run")).unwrap();
    (folder, run)
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_folder_that_exists_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "data").unwrap();
    let message = RunFolder::create(folder.path()).unwrap_err().to_string();
    assert!(message.contains("expected a new run folder"), "{message}");
    assert_eq!(names_in(folder.path()), ["precious"]);
}

#[test]
fn one_process_at_a_time_trains_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(folder.path().join("run")).unwrap();
    let lock = run.lock().unwrap();
    let message = run.lock().unwrap_err().to_string();
    assert!(message.contains("run: another process trains into this run folder"), "{message}");
    drop(lock);
    assert!(run.lock().is_ok());
}

#[test]
fn a_file_in_the_way_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    fs::write(&path, "data").unwrap();
    assert!(RunFolder::create(&path).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn an_empty_folder_may_become_a_run() {
    let folder = tempfile::tempdir().unwrap();
    assert!(RunFolder::create(folder.path()).is_ok());
}

#[test]
fn what_a_branch_left_that_was_stopped_as_it_began_counts_as_empty() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    fs::create_dir(&checkpoint).unwrap();
    for name in ["latest.safetensors", ".latest.safetensors.tmp"] {
        fs::write(checkpoint.join(name), "of the branch").unwrap();
    }
    let run = RunFolder::create(folder.path()).unwrap();
    assert!(!run.checkpoint_path().exists(), "another run could go on from it");
    fs::write(checkpoint.join("ir.safetensors"), "of a run").unwrap();
    assert!(RunFolder::create(folder.path()).is_err());
}

#[test]
fn a_folder_without_settings_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let message = RunFolder::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("got no config.json"), "{message}");
}

#[test]
fn a_run_leaves_these_files_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = la_core::config::TrainConfig { epochs: 1, ..config() };
    run(&config, &splits(24), &path).unwrap();
    let names = [
        "bank.safetensors",
        "baseline.json",
        "checkpoint",
        "config.json",
        "events.out.tfevents.0000000000.la",
        "metrics.jsonl",
        "model.safetensors",
        "unreadable.tsv",
    ];
    assert_eq!(names_in(&path), names);
    assert_eq!(names_in(&path.join("checkpoint")), ["latest.safetensors"]);
    let settings = RunFolder::open(&path).unwrap().read_config().unwrap();
    assert_eq!((settings.num_images, settings.num_test_images, settings.class_names.len()), (24, Some(8), 3));
    assert_eq!((settings.train.num_background, settings.device.as_str()), (Some(12), "cpu"));
}

#[test]
fn the_candle_version_is_the_locked_one() {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"candle-core\"")).unwrap();
    assert!(entry.contains(&format!("version = \"{}\"", Versions::default().candle_core)), "{entry}");
}

#[test]
fn a_failed_write_keeps_the_former_file_and_leaves_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "former").unwrap();
    let error = write_atomically(&path, |file| {
        file.write_all(b"half of it")?;
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains(&path.display().to_string()) && message.contains("the former file is unchanged"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "former");
    assert_eq!(names_in(folder.path()), ["file"]);
}

#[test]
fn what_a_killed_writer_left_goes_and_what_is_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for name in [".file.17-0.tmp", ".file.mine.tmp", ".other.17-0.tmp"] {
        fs::write(folder.path().join(name), "left").unwrap();
    }
    write_atomically(&path, |file| {
        // Another writer, while this one is at work.
        write_atomically(&path, |file| file.write_all(b"first")).unwrap();
        file.write_all(b"last")
    })
    .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "last");
    assert_eq!(names_in(folder.path()), [".file.mine.tmp", ".other.17-0.tmp", "file"]);
}

#[test]
fn a_reader_that_has_a_file_open_sees_the_former_content_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomically(&path, |file| file.write_all(b"former")).unwrap();
    let mut open = File::open(&path).unwrap();
    write_atomically(&path, |file| file.write_all(b"new")).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("former", "new"));
}

/// A disk that is full, as far as this program can tell: the shell forbids files above 64 KiB.
#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.safetensors");
    fs::write(&path, "former").unwrap();
    let program = std::env::current_exe().unwrap();
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact write_a_megabyte --ignored --nocapture";
    let output = Command::new("bash").args(["-c", script]).arg(&program).env("LA_TEST_PATH", &path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot be written: File too large") && said.contains("the former file is unchanged"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "former");
    assert_eq!(names_in(folder.path()), ["bank.safetensors"]);
}

#[test]
#[ignore = "the full disk test starts it as a program of its own"]
fn write_a_megabyte() {
    let path = std::env::var("LA_TEST_PATH").unwrap();
    let tensor = Tensor::zeros((256, 1024), candle_core::DType::F32, &Device::Cpu).unwrap();
    let written = write_tensors(Path::new(&path), &[("bank".into(), tensor)], None);
    println!("{}", written.unwrap_err());
}

#[test]
fn tensors_come_back_as_they_were_in_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [
        ("b".to_string(), Tensor::new(&[[1f32, -0.0, f32::MIN_POSITIVE], [4.0, 5.0, 6.0]], &Device::Cpu).unwrap()),
        ("a".to_string(), Tensor::new(&[7u32, u32::MAX], &Device::Cpu).unwrap()),
    ];
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    write_tensors(&first, &tensors, Some(("key", "value".into()))).unwrap();
    write_tensors(&second, &tensors, Some(("key", "value".into()))).unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let (back, metadata) = read_tensors(&first, &Device::Cpu).unwrap();
    assert_eq!(back["b"].to_vec2::<f32>().unwrap(), [[1.0, -0.0, f32::MIN_POSITIVE], [4.0, 5.0, 6.0]]);
    assert_eq!(back["a"].to_vec1::<u32>().unwrap(), [7, u32::MAX]);
    assert_eq!(metadata["key"], "value");
}

#[test]
fn a_view_is_written_as_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap().t().unwrap();
    let path = folder.path().join("view");
    write_tensors(&path, &[("t".into(), tensor)], None).unwrap();
    assert_eq!(read_tensors(&path, &Device::Cpu).unwrap().0["t"].to_vec2::<f32>().unwrap(), [[1.0, 3.0], [2.0, 4.0]]);
}

#[test]
fn metrics_are_one_json_object_a_line_and_read_back() {
    let (_folder, run) = new_run();
    run.start_metrics(&[metrics(1)]).unwrap();
    run.add_metrics(&[metrics(1), metrics(2)]).unwrap();
    assert_eq!(run.read_metrics().unwrap(), [metrics(1), metrics(2)]);
    let text = fs::read_to_string(run.file("metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for name in ["epoch", "phase", "loss", "lr", "images_per_s", "knn_top1", "seconds", "peak_rss_mb"] {
        assert!(line.get(name).is_some(), "{name} is missing in {line}");
    }
    assert_eq!(line["phase"], "ir");
}

#[test]
fn damaged_metrics_name_their_file() {
    let (_folder, run) = new_run();
    fs::write(run.file("metrics.jsonl"), "{\"epoch\": 1").unwrap();
    assert!(run.read_metrics().unwrap_err().to_string().contains("metrics.jsonl"));
}

#[test]
fn an_unreadable_file_is_one_line_whatever_its_name() {
    let (_folder, run) = new_run();
    let file = |name: &str| Unreadable { name: name.into(), reason: "cut off".into() };
    assert_eq!(run.unreadable_beside(&[]), []);
    run.write_unreadable(&[file("a\tb\n.jpg"), file("c.jpg")]).unwrap();
    assert_eq!(run.unreadable_beside(&[file("a\tb\n.jpg")]), [file("c.jpg")]);
    run.write_unreadable(&[file("a\tb\n.jpg")]).unwrap();
    assert_eq!(fs::read_to_string(run.file("unreadable.tsv")).unwrap(), "name\treason\na b .jpg\tcut off\n");
}

/// Records as TensorFlow reads them: lengths and masked checksums, here computed from a table, not bit by bit.
#[test]
fn events_are_records_with_correct_checksums() {
    let (_folder, run) = new_run();
    run.start_metrics(&[metrics(1)]).unwrap();
    run.add_metrics(&[metrics(1), metrics(2)]).unwrap();
    let bytes = fs::read(run.file("events.out.tfevents.0000000000.la")).unwrap();
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of the CRC catalogue");
    let mut records = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(rest[8..12], masked(&rest[..8]));
        assert_eq!(rest[12 + length..16 + length], masked(&rest[12..12 + length]));
        records.push(&rest[12..12 + length]);
        rest = &rest[16 + length..];
    }
    assert_eq!(records.len(), 3);
    assert!(records[0].windows(13).any(|window| window == b"brain.Event:2"));
    // step is field 2, a varint; knn_top1 = 0.5 is field 2 of its value, fixed 32 bits.
    assert_eq!(records[2][9..11], [0x10, 2]);
    let knn: Vec<u8> = [&b"\x0a\x08knn_top1\x15"[..], &0.5f32.to_le_bytes()].concat();
    assert!(records[2].windows(knn.len()).any(|window| window == knn));
}

fn masked(bytes: &[u8]) -> [u8; 4] {
    let crc = crc32c(bytes);
    (crc.rotate_right(15).wrapping_add(0xa282_ead8)).to_le_bytes()
}

fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256).map(|i| (0..8).fold(i, |c: u32, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })).collect();
    !bytes.iter().fold(!0u32, |crc, &byte| crc >> 8 ^ table[(crc as u8 ^ byte) as usize])
}

#[test]
fn weights_are_found_in_a_run_and_a_folder_without_them_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = weights_path(folder.path()).unwrap_err().to_string();
    assert!(message.contains("without model.safetensors"), "{message}");
    fs::write(folder.path().join("model.safetensors"), "").unwrap();
    assert_eq!(weights_path(folder.path()).unwrap(), folder.path().join("model.safetensors"));
}

#[test]
fn weights_are_held_against_the_digests_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), "weights").unwrap();
    la_cli::digests::write_sums(folder.path()).unwrap();
    weights_path(folder.path()).unwrap();
    fs::write(folder.path().join("model.safetensors"), "others").unwrap();
    let message = weights_path(folder.path()).unwrap_err().to_string();
    assert!(message.contains("model.safetensors: expected sha256 "), "{message}");
}

#[test]
fn packed_weights_are_no_run_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    la_cli::digests::write_sums(folder.path()).unwrap();
    let message = RunFolder::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("packed weights") && message.contains("--init"), "{message}");
    assert!(!folder.path().join("checkpoint").exists());
}

#[test]
fn halved_weights_keep_batch_norm_whole_and_refuse_what_f16_cannot_hold() {
    let tensor = |values: &[f32], shape: &[usize]| Tensor::from_vec(values.to_vec(), shape, &Device::Cpu).unwrap();
    let tensors = vec![("w".to_string(), tensor(&[1.0, 0.1], &[2, 1])), ("b".to_string(), tensor(&[0.1], &[1]))];
    let halves = halved(tensors).unwrap();
    assert_eq!((halves[0].1.dtype(), halves[1].1.dtype()), (DType::F16, DType::F32));
    // The nearest halves of 1 and 0.1: 0.1 is 0x2e66.
    assert_eq!(
        halves[0].1.flatten_all().unwrap().to_vec1::<half::f16>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        [0x3c00, 0x2e66]
    );
    let message = halved(vec![("w".to_string(), tensor(&[1e6, 0.0], &[2, 1]))]).unwrap_err().to_string();
    assert!(message.contains("tensor w holds a value that is inf as f16"), "{message}");
}
