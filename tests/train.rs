//! The training loop: what it learns, and that nothing but seed and data decides on the result.

#[path = "support/blobs.rs"]
mod blobs;

use blobs::{config, resume, run, run_with_events, splits, splits_of, Blobs, ON};
use candle_core::Device;
use la_cli::run::{train, RunFolder};
use la_core::{
    augment::AugmentConfig,
    config::{BankInit, ClusterFeatures, Ir, TrainConfig},
    data::labels,
    ops::device::{bf16_instructions, Precision},
    optim::SgdConfig,
    resnet::{Arch, ResNet},
    tensor_files::read_tensors,
    train::{health::Warning, EpochMetrics, Event, Phase, Start, Summary},
    Error,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    ops::ControlFlow,
    panic::{catch_unwind, AssertUnwindSafe},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const IMAGES: usize = 48;

fn model(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).unwrap()
}

/// Epochs with their losses; a trip through JSON may turn the last bit of other figures.
fn losses(epochs: &[EpochMetrics]) -> Vec<(usize, f64)> {
    epochs.iter().map(|epoch| (epoch.epoch, epoch.loss)).collect()
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Trains and dies of a panic at the step of this number.
fn run_until(step: usize, config: &TrainConfig, folder: &Path, start: Start) {
    let run = if matches!(start, Start::Resume) { RunFolder::open(folder) } else { RunFolder::create(folder) }.unwrap();
    let mut steps = 0;
    let died = catch_unwind(AssertUnwindSafe(|| {
        train(config, &splits(IMAGES), &run, start, &mut |event| {
            steps += usize::from(matches!(event, Event::Step { .. }));
            assert!(steps < step, "stopped on purpose");
            ON
        })
    }));
    assert!(died.is_err(), "the run ended before step {step}");
}

#[test]
fn instance_recognition_lowers_its_loss_and_raises_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 6, ir_epochs: 6, bank_init: BankInit::Forward, ..config() };
    let summary = run(&config, &splits(IMAGES), &folder.path().join("run")).unwrap();
    let (first, last) = (&summary.epochs[0], summary.epochs.last().unwrap());
    assert!(last.loss < first.loss, "{} is not below {}", last.loss, first.loss);
    assert!(last.knn_top1.unwrap() >= 0.5, "{:?}", last.knn_top1);
    assert!(summary.baseline.unwrap().raw_pixels.unwrap() > 0.9, "the classes are plain to see");
}

#[test]
fn a_seed_gives_the_same_bytes_on_any_number_of_threads() {
    same_bytes_on_any_number_of_threads(config());
}

#[test]
fn clusters_of_the_read_out_give_the_same_bytes_on_any_number_of_threads_and_after_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { cluster_features: ClusterFeatures::Readout, checkpoint_minutes: Some(0.0), ..config() };
    let whole = same_bytes_on_any_number_of_threads(config.clone());
    assert_ne!(whole, same_bytes_on_any_number_of_threads(TrainConfig { cluster_features: ClusterFeatures::Bank, ..config.clone() }));
    let parts = folder.path().join("parts");
    run_until(14, &config, &parts, Start::New);
    resume(&config, &splits(IMAGES), &parts).unwrap();
    assert_eq!(model(&parts), whole);
}

#[test]
fn too_few_images_for_a_read_out_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        cluster_features: ClusterFeatures::Readout,
        num_clusters: Some(2),
        num_background: Some(2),
        batch_size: 4,
        ..config()
    };
    let error = run(&config, &splits(7), folder.path()).unwrap_err().to_string();
    assert!(error.contains("cluster-features must be bank for fewer than 8 images"), "{error}");
}

#[test]
fn in_bf16_a_seed_gives_the_same_bytes_too_and_others_than_in_f32() {
    if bf16_instructions().is_some() {
        let bf16 = TrainConfig { precision: Precision::Bf16, ..config() };
        let (f32, bf16) = (same_bytes_on_any_number_of_threads(config()), same_bytes_on_any_number_of_threads(bf16));
        assert_ne!(f32, bf16);
    }
}

fn same_bytes_on_any_number_of_threads(config: TrainConfig) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |threads: usize| {
        let path = folder.path().join(threads.to_string());
        let config = TrainConfig { threads, ..config.clone() };
        on_threads(threads, || run(&config, &splits(IMAGES), &path).map(|_| model(&path))).unwrap()
    };
    let one = bytes(1);
    assert_eq!(one, bytes(2));
    assert_eq!(one, bytes(3));
    one
}

#[test]
fn a_run_in_bf16_learns_and_records_its_instructions() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 6, ir_epochs: 6, bank_init: BankInit::Forward, precision: Precision::Bf16, ..config() };
    let done = run(&config, &splits(IMAGES), folder.path());
    if bf16_instructions().is_none() {
        let error = done.err().unwrap().to_string();
        return assert!(error.contains("AVX512-BF16"), "{error}");
    }
    let epochs = done.unwrap().epochs;
    assert!(epochs[5].loss < 0.9 * epochs[0].loss, "{:?}", losses(&epochs));
    let recorded = RunFolder::open(folder.path()).unwrap().read_config().unwrap();
    assert_eq!(recorded.simd.as_deref(), bf16_instructions());
    assert_eq!(recorded.train.precision, Precision::Bf16);
}

#[test]
fn another_seed_gives_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 1, ..config() };
    run(&config, &splits(IMAGES), &folder.path().join("0")).unwrap();
    run(&TrainConfig { seed: 1, ..config }, &splits(IMAGES), &folder.path().join("1")).unwrap();
    assert_ne!(model(&folder.path().join("0")), model(&folder.path().join("1")));
}

#[test]
fn labels_change_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    run(&config(), &splits(IMAGES), &folder.path().join("with")).unwrap();
    let without = splits_of(Blobs { labels: None, class_names: Vec::new(), ..Blobs::new(IMAGES, 0) }, None);
    let summary = run(&config(), &without, &folder.path().join("without")).unwrap();
    assert!(summary.baseline.is_none() && summary.epochs.iter().all(|epoch| epoch.knn_top1.is_none()));
    assert_eq!(model(&folder.path().join("with")), model(&folder.path().join("without")));
}

#[test]
fn a_resumed_run_ends_in_the_bytes_of_one_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run(&config(), &splits(IMAGES), &whole).unwrap();
    // Before the first checkpoint, inside and at the borders of epochs, in both phases; saved at epochs only or at each step.
    for (step, minutes) in [(2, None), (4, None), (5, None), (11, None), (2, Some(0.0)), (7, Some(0.0)), (10, Some(0.0)), (16, Some(0.0))] {
        let path = folder.path().join(format!("{step}-{minutes:?}"));
        let config = TrainConfig { checkpoint_minutes: minutes, ..config() };
        run_until(step, &config, &path, Start::New);
        let summary = resume(&config, &splits(IMAGES), &path).unwrap();
        assert!(model(&path) == model(&whole), "stopped at step {step}, saved every {minutes:?} minutes");
        assert_eq!(fs::read(path.join("bank.safetensors")).unwrap(), fs::read(whole.join("bank.safetensors")).unwrap());
        let epochs: Vec<usize> = RunFolder::open(&path).unwrap().read_metrics().unwrap().iter().map(|epoch| epoch.epoch).collect();
        assert_eq!(epochs, [1, 2, 3, 4]);
        assert_eq!(summary.epochs.len(), 4);
    }
}

#[test]
fn a_run_that_is_asked_to_stop_saves_where_it_stands_and_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run(&config(), &splits(IMAGES), &whole).unwrap();
    // Inside epochs and at their ends, in both phases; with checkpoints after every epoch, and with hardly any.
    for (step, interval, stopped_at) in
        [(1, 1, (0, 1)), (4, 1, (1, 0)), (6, 100, (1, 2)), (8, 100, (2, 0)), (11, 1, (2, 3)), (15, 100, (3, 3))]
    {
        let path = folder.path().join(format!("{step}-{interval}"));
        let config = TrainConfig { checkpoint_interval: interval, ..config() };
        let mut steps = 0;
        let mut ask = |event| {
            steps += usize::from(matches!(event, Event::Step { .. }));
            if steps == step {
                ControlFlow::Break(())
            } else {
                ON
            }
        };
        let stopped = train(&config, &splits(IMAGES), &RunFolder::create(&path).unwrap(), Start::New, &mut ask).unwrap();
        let at = stopped.stopped_at.unwrap();
        assert_eq!(((at.epoch, at.step), at.steps, steps), (stopped_at, 4, step), "asked at step {step}");
        assert_eq!(stopped.epochs.len(), at.epoch);
        let position = la_core::checkpoint::position(&RunFolder::open(&path).unwrap().checkpoint_path()).unwrap();
        assert_eq!((position.epoch, position.step), stopped_at);
        let resumed = resume(&config, &splits(IMAGES), &path).unwrap();
        assert!(model(&path) == model(&whole) && resumed.stopped_at.is_none(), "asked at step {step}");
    }
}

#[test]
fn a_run_that_is_asked_to_stop_at_its_last_step_is_simply_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut steps = 0;
    let mut ask = |event| {
        steps += usize::from(matches!(event, Event::Step { .. }));
        if steps == 16 {
            ControlFlow::Break(())
        } else {
            ON
        }
    };
    let summary = train(&config(), &splits(IMAGES), &RunFolder::create(folder.path()).unwrap(), Start::New, &mut ask).unwrap();
    assert_eq!((summary.epochs.len(), summary.stopped_at), (4, None));
}

#[test]
fn an_epoch_of_one_step_is_saved_by_the_clock_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { batch_size: IMAGES, checkpoint_interval: 100, checkpoint_minutes: Some(0.0), ..config() };
    let mut saved = 0;
    let count = &mut |event| {
        saved += usize::from(matches!(event, Event::Checkpoint(_)));
        ON
    };
    train(&config, &splits(IMAGES), &RunFolder::create(folder.path()).unwrap(), Start::New, count).unwrap();
    assert_eq!(saved, config.epochs);
}

#[test]
fn a_branch_goes_where_a_run_of_its_own_settings_goes() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, trunk, branch] = ["whole", "trunk", "branch"].map(|name| folder.path().join(name));
    run(&config(), &splits(IMAGES), &whole).unwrap();
    // Instance recognition throughout, stopped in its third epoch: its checkpoint is that of the second.
    run_until(9, &TrainConfig { ir_epochs: 4, ..config() }, &trunk, Start::New);
    let checkpoint = RunFolder::open(&trunk).unwrap().checkpoint_path();
    let branched =
        train(&config(), &splits(IMAGES), &RunFolder::create(&branch).unwrap(), Start::Branch(&checkpoint), &mut |_| ON).unwrap();
    assert!(model(&branch) == model(&whole), "the branch is not the run that has its settings from the first step");
    let phases: Vec<Phase> = branched.epochs.iter().map(|epoch| epoch.phase).collect();
    assert_eq!(phases, [Phase::Ir, Phase::Ir, Phase::La, Phase::La]);
    assert_eq!(losses(&RunFolder::open(&branch).unwrap().read_metrics().unwrap()), losses(&branched.epochs));
    assert_eq!(RunFolder::open(&branch).unwrap().read_config().unwrap().branched_after, Some(2));
    assert_eq!(RunFolder::open(&whole).unwrap().read_config().unwrap().branched_after, None);
    // From the end of instance recognition, which a run keeps: back to what the trunk would have become.
    let back = folder.path().join("back");
    let ir = RunFolder::open(&whole).unwrap().ir_checkpoint_path();
    let config_of_trunk = TrainConfig { ir_epochs: 4, ..config() };
    train(&config_of_trunk, &splits(IMAGES), &RunFolder::create(&back).unwrap(), Start::Branch(&ir), &mut |_| ON).unwrap();
    resume(&config_of_trunk, &splits(IMAGES), &trunk).unwrap();
    assert!(model(&back) == model(&trunk) && !RunFolder::open(&trunk).unwrap().ir_checkpoint_path().exists());
}

#[test]
fn a_branch_that_stops_before_its_first_checkpoint_still_goes_on_from_its_trunk() {
    let folder = tempfile::tempdir().unwrap();
    let [trunk, whole, stopped] = ["trunk", "whole", "stopped"].map(|name| folder.path().join(name));
    run(&config(), &splits(IMAGES), &trunk).unwrap();
    let ir = RunFolder::open(&trunk).unwrap().ir_checkpoint_path();
    // From its own first step this rate would lead elsewhere.
    let config = TrainConfig { lr: 0.01, ..config() };
    train(&config, &splits(IMAGES), &RunFolder::create(&whole).unwrap(), Start::Branch(&ir), &mut |_| ON).unwrap();
    run_until(1, &config, &stopped, Start::Branch(&ir));
    resume(&config, &splits(IMAGES), &stopped).unwrap();
    assert!(model(&stopped) == model(&whole));
}

#[test]
fn a_branch_within_local_aggregation_clusters_as_its_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let trunk = folder.path().join("trunk");
    run_until(13, &config(), &trunk, Start::New);
    // Not due by the interval, and there are other clusters in the checkpoint.
    let config = TrainConfig { num_clusters: Some(9), cluster_interval: 2, ..config() };
    let checkpoint = RunFolder::open(&trunk).unwrap().checkpoint_path();
    let mut clustered = Vec::new();
    train(&config, &splits(IMAGES), &RunFolder::create(folder.path().join("run")).unwrap(), Start::Branch(&checkpoint), &mut |event| {
        clustered.extend(if let Event::Clustering { num_clusters, .. } = event { Some(num_clusters) } else { None });
        ON
    })
    .unwrap();
    assert_eq!(clustered, [9]);
}

#[test]
fn a_resumed_epoch_reports_the_loss_of_all_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { checkpoint_minutes: Some(0.0), ..config() };
    let whole = run(&config, &splits(IMAGES), &folder.path().join("whole")).unwrap();
    run_until(7, &config, &folder.path().join("parts"), Start::New);
    run_until(2, &config, &folder.path().join("parts"), Start::Resume);
    let parts = resume(&config, &splits(IMAGES), &folder.path().join("parts")).unwrap();
    for (whole, parts) in whole.epochs.iter().zip(&parts.epochs) {
        assert!((whole.loss - parts.loss).abs() < 2e-6, "epoch {}: {} and {}", whole.epoch, whole.loss, parts.loss);
        assert_eq!((whole.knn_top1, whole.empty_close), (parts.knn_top1, parts.empty_close));
    }
}

#[test]
fn a_run_killed_five_times_ends_in_the_bytes_of_one_never_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    run(&long(), &splits(IMAGES), &whole).unwrap();
    // After so many steps, and so many microseconds later: somewhere in a step or in the writing of a checkpoint.
    for (steps, microseconds) in [(1, 0), (2, 1500), (5, 700), (9, 3000), (4, 200)] {
        kill_after(steps, Duration::from_micros(microseconds), &killed);
    }
    assert!(!killed.join("model.safetensors").exists() || model(&killed) != model(&whole), "every kill came too late");
    assert!(child(&killed).stdout(Stdio::null()).status().unwrap().success());
    assert!(model(&killed) == model(&whole));
}

/// This program, to train in `path` and print a line a step.
fn child(path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "train_in_a_process_of_its_own", "--ignored", "--nocapture"]).env("LA_TEST_PATH", path);
    command
}

fn kill_after(steps: usize, delay: Duration, path: &Path) {
    let mut process = child(path).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let seen = lines.filter(|line| line.as_ref().is_ok_and(|line| line.contains("a step"))).take(steps).count();
    assert_eq!(seen, steps, "the run ended by itself");
    std::thread::sleep(delay);
    process.kill().unwrap(); // SIGKILL
    process.wait().unwrap();
}

/// Long enough to be killed in the middle.
fn long() -> TrainConfig {
    TrainConfig { epochs: 8, ir_epochs: 4, checkpoint_minutes: Some(0.0), ..config() }
}

#[test]
#[ignore = "the test of killed runs starts it as a program of its own"]
fn train_in_a_process_of_its_own() {
    let path = std::env::var("LA_TEST_PATH").unwrap();
    let path = Path::new(&path);
    let (run, start) = match RunFolder::open(path) {
        Ok(run) => (run, Start::Resume),
        Err(_) => (RunFolder::create(path).unwrap(), Start::New),
    };
    let mut progress = |event| {
        if matches!(event, Event::Step { .. }) {
            println!("a step");
        }
        ON
    };
    train(&long(), &splits(IMAGES), &run, start, &mut progress).unwrap();
}

#[test]
fn a_finished_run_goes_on_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let first = run(&config(), &splits(IMAGES), &path).unwrap();
    let bytes = model(&path);
    let again = resume(&config(), &splits(IMAGES), &path).unwrap();
    assert_eq!((first.epochs.len(), model(&path)), (again.epochs.len(), bytes));
}

#[test]
fn clusters_are_made_before_the_first_step_of_local_aggregation_and_every_interval() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 5, ir_epochs: 1, cluster_interval: 2, ..config() };
    let (_, events) = run_with_events(&config, &splits(IMAGES), &folder.path().join("run"));
    let mut clustered_before = Vec::new();
    let mut is_fresh = false;
    for event in events {
        match event {
            Event::Clustering { .. } => is_fresh = true,
            Event::Step { epoch, step: 1, phase, .. } => {
                assert_eq!(phase, if epoch == 1 { Phase::Ir } else { Phase::La });
                clustered_before.extend(std::mem::take(&mut is_fresh).then_some(epoch));
            }
            _ => (),
        }
    }
    assert_eq!(clustered_before, [2, 4]);
}

#[test]
fn the_monitor_rests_between_its_epochs_and_never_at_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 5, monitor_interval: 2, ..config() };
    let path = folder.path().join("run");
    let rested = run(&config, &splits(IMAGES), &path).unwrap();
    let is_evaluated: Vec<bool> = rested.epochs.iter().map(|epoch| epoch.knn_top1.is_some()).collect();
    assert_eq!(is_evaluated, [false, true, false, true, true]);
    // What is measured changes nothing that is learned.
    let other = folder.path().join("other");
    let always = run(&TrainConfig { monitor_interval: 1, ..config }, &splits(IMAGES), &other).unwrap();
    assert_eq!(rested.epochs[3].knn_top1, always.epochs[3].knn_top1);
    assert_eq!(model(&path), model(&other));
}

#[test]
fn checkpoints_come_at_their_interval_and_after_the_last_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = TrainConfig { epochs: 5, checkpoint_interval: 2, ..config() };
    let run_folder = RunFolder::create(&path).unwrap();
    let (mut done, mut saved_after) = (0, Vec::new());
    let summary = train(&config, &splits(IMAGES), &run_folder, Start::New, &mut |event| {
        match event {
            Event::Epoch(metrics) => done = metrics.epoch,
            Event::Checkpoint(_) => saved_after.push(done),
            _ => (),
        }
        ON
    });
    assert_eq!(saved_after, [2, 4, 5]);
    // Every epoch is in the metrics, saved or not, and when something is saved changes nothing that is learned.
    assert_eq!(losses(&run_folder.read_metrics().unwrap()), losses(&summary.unwrap().epochs));
    let other = folder.path().join("other");
    run(&TrainConfig { checkpoint_interval: 1, ..config }, &splits(IMAGES), &other).unwrap();
    assert_eq!(model(&path), model(&other));
}

#[test]
fn a_loss_that_is_no_number_names_step_rate_and_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = TrainConfig { lr: 1e30, ..config() };
    let message = run(&config, &splits(IMAGES), &path).unwrap_err().to_string();
    assert!(message.contains("loss is NaN at epoch 1, step 2 of 4, learning rate 9"), "{message}");
    assert!(message.ends_with("there is no checkpoint yet"), "{message}");
    let config = TrainConfig { checkpoint_minutes: Some(0.0), lr_warmup_epochs: 0.0, ..config };
    let message = run(&config, &splits(IMAGES), &folder.path().join("saved")).unwrap_err().to_string();
    assert!(message.contains("NaN"), "{message}");
}

#[test]
fn weights_that_are_no_numbers_replace_no_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    // One step an epoch: its loss is a number, the weights that it leaves are not.
    let config = TrainConfig { epochs: 2, ir_epochs: 2, batch_size: IMAGES, lr: f64::from(f32::MAX), lr_warmup_epochs: 0.0, ..config() };
    let path = folder.path().join("run");
    let error = run(&config, &splits(IMAGES), &path).unwrap_err();
    assert!(matches!(&error, Error::Diverged(message) if message.contains("holds NaN or infinite values in epoch 1")), "{error}");
    // Weights may be numbers still where what they compute is none.
    let config = TrainConfig { lr: 1e5, ..config };
    let error = run(&config, &splits(IMAGES), &folder.path().join("large")).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)), "{error}");
    assert!(!path.join("model.safetensors").exists() && !path.join("metrics.jsonl").metadata().is_ok_and(|file| file.len() > 0));
}

#[test]
fn every_objective_trains() {
    let folder = tempfile::tempdir().unwrap();
    let variants = [
        ("two views", TrainConfig { views: 2, ..config() }),
        ("noise", TrainConfig { ir: Ir::Nce, num_noise: 16, ..config() }),
        ("local aggregation alone", TrainConfig { ir_epochs: 0, ..config() }),
        ("bottlenecks", TrainConfig { arch: Arch::Resnet50, epochs: 1, ..config() }),
    ];
    for (name, config) in variants {
        let summary = run(&config, &splits(IMAGES), &folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(summary.epochs.iter().all(|epoch| epoch.loss.is_finite()), "{name}");
    }
}

#[test]
fn two_views_aggregate_by_the_clusters_of_the_bank() {
    let folder = tempfile::tempdir().unwrap();
    let two = TrainConfig { views: 2, num_background: Some(IMAGES), ..config() };
    let train = |name: &str, config: TrainConfig| {
        let summary = run(&config, &splits(IMAGES), &folder.path().join(name)).unwrap();
        (model(&folder.path().join(name)), summary.epochs[2].loss)
    };
    let (agreement, _) = train("agreement", TrainConfig { ir_epochs: two.epochs, ..two.clone() });
    let (few, alike) = train("few", TrainConfig { num_clusters: Some(2), ..two.clone() });
    let (many, apart) = train("many", TrainConfig { num_clusters: Some(IMAGES), ..two });
    assert!(agreement != few && agreement != many && few != many);
    // Half of all images being close costs less than the own row alone.
    assert!(alike < apart, "{alike} for {apart}");
}

#[test]
fn the_share_of_empty_close_sets_is_logged_in_local_aggregation_only() {
    let folder = tempfile::tempdir().unwrap();
    // One cluster for each image and one neighbour: close only where the nearest row is the image's own.
    let config = TrainConfig { num_clusters: Some(IMAGES), num_background: Some(1), ..config() };
    for views in [1, 2] {
        let config = TrainConfig { views, ..config.clone() };
        let summary = run(&config, &splits(IMAGES), &folder.path().join(views.to_string())).unwrap();
        assert_eq!(summary.epochs[0].empty_close, None);
        let share = summary.epochs[2].empty_close.unwrap();
        assert!(share > 0.0 && share <= 1.0, "{views} views: {share}");
    }
}

#[test]
fn how_good_clusters_are_is_logged_in_local_aggregation_only() {
    let folder = tempfile::tempdir().unwrap();
    let splits = splits(IMAGES);
    // One cluster for all images: all are close, and as pure as the classes are large; no information on the classes.
    let config = TrainConfig { num_clusters: Some(1), num_background: Some(IMAGES), ..config() };
    let epochs = run(&config, &splits, &folder.path().join("one")).unwrap().epochs;
    assert_eq!(epochs[0].clusters, None);
    let labels = labels(&*splits.train).unwrap();
    let pairs = |i: usize| labels.iter().filter(|&&label| label == labels[i]).count() - 1;
    let alike = (0..IMAGES).map(pairs).sum::<usize>() as f64 / (IMAGES * (IMAGES - 1)) as f64;
    let found = epochs[2].clusters.unwrap();
    assert_eq!((found.nmi, found.ari, found.close_size), (Some(0.0), Some(0.0), (IMAGES - 1) as f64));
    assert!((found.close_purity.unwrap() - alike).abs() < 1e-4, "{found:?}, expected {alike}");
    assert!(found.own_share > 0.0 && found.own_share < 1.0, "{found:?}");
    // A cluster for each image: none is close but the image itself.
    let config = TrainConfig { num_clusters: Some(IMAGES), ..config };
    let found = run(&config, &splits, &folder.path().join("each")).unwrap().epochs[2].clusters.unwrap();
    assert_eq!((found.ari, found.close_size, found.close_purity, found.own_share), (Some(0.0), 0.0, None, 1.0));
}

#[test]
fn the_model_holds_torchvision_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    run(&TrainConfig { epochs: 1, ..config() }, &splits(IMAGES), folder.path()).unwrap();
    let (tensors, _) = read_tensors(&folder.path().join("model.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(tensors["conv1.weight"].dims(), [4, 3, 3, 3]);
    assert_eq!(tensors["fc.weight"].dims(), [16, 32]);
    let is_known =
        |name: &str| ["conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.", "fc."].iter().any(|prefix| name.starts_with(prefix));
    assert!(tensors.keys().all(|name| is_known(name)), "{:?}", tensors.keys());
}

fn network(folder: &Path) -> ResNet {
    ResNet::from_tensors(&read_tensors(&folder.join("model.safetensors"), &Device::Cpu).unwrap().0, &Device::Cpu).unwrap()
}

fn run_from(weights: &ResNet, config: &TrainConfig, folder: &Path) -> Result<Summary, Error> {
    train(config, &splits(IMAGES), &RunFolder::create(folder).unwrap(), Start::From(weights), &mut |_| ON)
}

/// Settings under which nothing moves.
fn still(first: &Path) -> TrainConfig {
    let sgd = SgdConfig { momentum: 0.0, weight_decay: 0.0 };
    TrainConfig { init: Some(first.into()), lr: 1e-12, sgd, epochs: 1, ..config() }
}

/// The largest difference between the values of two networks' tensors of this name.
fn difference(name: &str, a: &Path, b: &Path) -> f32 {
    let values = |folder: &Path| -> Vec<f32> {
        let tensors = read_tensors(&folder.join("model.safetensors"), &Device::Cpu).unwrap().0;
        tensors[name].flatten_all().unwrap().to_vec1().unwrap()
    };
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_new_run_starts_from_given_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    run(&config(), &splits(IMAGES), &first).unwrap();
    run_from(&network(&first), &still(&first), &second).unwrap();
    assert!(difference("layer3.0.conv1.weight", &first, &second) < 1e-6);
    assert!(difference("fc.weight", &first, &second) < 1e-6);
}

#[test]
fn kept_statistics_stay_while_the_weights_move() {
    let folder = tempfile::tempdir().unwrap();
    let [first, kept, moved] = ["first", "kept", "moved"].map(|name| folder.path().join(name));
    run(&TrainConfig { epochs: 1, ..config() }, &splits(IMAGES), &first).unwrap();
    let config = TrainConfig { init: Some(first.clone()), epochs: 1, ..config() };
    run_from(&network(&first), &config, &moved).unwrap();
    run_from(&network(&first), &TrainConfig { keep_statistics: true, ..config }, &kept).unwrap();
    assert_eq!(difference("layer3.0.bn1.running_mean", &first, &kept), 0.0);
    assert_eq!(difference("layer3.0.bn1.running_var", &first, &kept), 0.0);
    assert!(difference("layer3.0.bn1.running_mean", &first, &moved) > 0.0);
    assert!(difference("layer3.0.conv1.weight", &first, &kept) > 0.0);
    assert_eq!(difference("layer3.0.conv1.weight", &moved, &kept), 0.0, "batch statistics normalise in both");
}

#[test]
fn weights_of_another_embedding_dimension_give_all_but_their_last_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    run(&TrainConfig { epochs: 1, ..config() }, &splits(IMAGES), &first).unwrap();
    run_from(&network(&first), &TrainConfig { embedding_dim: 8, ..still(&first) }, &second).unwrap();
    assert!(difference("layer3.0.conv1.weight", &first, &second) < 1e-6);
    assert_eq!(network(&second).config().embedding_dim, 8);
    let notes = RunFolder::open(&second).unwrap().read_config().unwrap().notes;
    assert!(notes.iter().any(|note| note.starts_with("embedding-dim 8: the weights to begin with have 16")), "{notes:?}");
}

#[test]
fn a_run_stopped_before_its_first_checkpoint_begins_from_its_weights_again() {
    let folder = tempfile::tempdir().unwrap();
    let [first, whole, stopped] = ["first", "whole", "stopped"].map(|name| folder.path().join(name));
    run(&TrainConfig { epochs: 1, ..config() }, &splits(IMAGES), &first).unwrap();
    let (net, config) = (network(&first), TrainConfig { init: Some(first), ..config() });
    run_from(&net, &config, &whole).unwrap();
    run_until(2, &config, &stopped, Start::From(&net));
    let refusal = resume(&config, &splits(IMAGES), &stopped).unwrap_err().to_string();
    assert!(refusal.contains("first is missing, from which the run begins"), "{refusal}");
    train(&config, &splits(IMAGES), &RunFolder::open(&stopped).unwrap(), Start::From(&net), &mut |_| ON).unwrap();
    assert!(model(&stopped) == model(&whole));
}

#[test]
fn weights_of_another_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    run(&TrainConfig { epochs: 1, ..config() }, &splits(IMAGES), &first).unwrap();
    let other = TrainConfig { init: Some("first".into()), width: 8, ..config() };
    let message = run_from(&network(&first), &other, &folder.path().join("second")).unwrap_err().to_string();
    assert_eq!(message, "first: these weights are of another network: width 4, expected 8; width 4 asks for that one");
}

#[test]
fn each_epoch_logs_how_far_embeddings_are_spread_and_a_collapse_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    // Equal images have equal embeddings.
    let same = Blobs { pictures: vec![Blobs::new(1, 0).pictures.remove(0); 24], ..Blobs::new(24, 0) };
    let augment = AugmentConfig {
        crop_min_area: 1.0,
        gray_probability: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
        flip_probability: 0.0,
        ..AugmentConfig::default()
    };
    let config = TrainConfig { augment, bank_init: BankInit::Forward, ..config() };
    let (summary, events) = run_with_events(&config, &splits_of(same, None), &folder.path().join("run"));
    assert!(summary.unwrap().epochs.iter().all(|epoch| epoch.mean_cosine.unwrap() > 0.9 && epoch.effective_rank.unwrap() < 1.5));
    let told = events.iter().filter(|event| matches!(event, Event::Warning(Warning::Collapse { .. }))).count();
    assert_eq!(told, 1);
}

#[test]
fn a_resume_with_other_settings_names_them() {
    let folder = tempfile::tempdir().unwrap();
    run(&TrainConfig { epochs: 1, ..config() }, &splits(IMAGES), folder.path()).unwrap();
    let message = resume(&TrainConfig { epochs: 1, lr: 0.1, ..config() }, &splits(IMAGES), folder.path()).unwrap_err().to_string();
    assert!(message.contains("lr 0.03 there, 0.1 here"), "{message}");
}

#[test]
fn more_background_neighbors_than_images_are_refused_before_a_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { num_background: Some(IMAGES + 1), ..config() };
    let message = run(&config, &splits(IMAGES), folder.path()).unwrap_err().to_string();
    assert!(message.contains("num-background must be at most 48"), "{message}");
    assert!(!folder.path().join("config.json").exists());
}

#[test]
fn two_images_train_and_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let open = TrainConfig { num_background: None, num_clusters: None, num_clusterings: None, size: 16, ..config() };
    let two = splits_of(Blobs::new(2, 0), Some(Blobs::new(2, 1)));
    run(&open, &two, &folder.path().join("two")).unwrap();
    let one = splits_of(Blobs::new(1, 0), None);
    let message = run(&open, &one, &folder.path().join("one")).unwrap_err().to_string();
    assert!(message.contains("at least 2 images, got 1"), "{message}");
}
