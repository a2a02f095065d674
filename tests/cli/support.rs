//! Runs `la-cli` in a folder of its own, on networks so small that a run takes a second.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

/// A run of two epochs on 200 images of the sample, one of each objective, in the precision that every processor has.
pub const TINY: [&str; 12] = ["--limit", "200", "--width", "8", "--size", "16", "--epochs", "2", "--ir-epochs", "1", "--precision", "f32"];

/// Dimension of its read-out: a quarter of its images.
pub const TINY_DIM: usize = 50;

/// What a command printed, and how it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program, to be run in `folder`.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_la-cli"));
    command.current_dir(folder).env_remove("RUST_BACKTRACE").env_remove("CARGO").env("LA_CACHE", shared_cache());
    command
}

/// Where these tests keep embeddings: not among the user's.
fn shared_cache() -> &'static Path {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    CACHE.get_or_init(folder).path()
}

/// Runs the program with `args` in `folder`.
pub fn la(folder: &Path, args: &[&str]) -> Ended {
    ended(command(folder).args(args).output().expect("the program was built with this test"))
}

/// Runs a line of bash in `folder`, where `$LA` is the program.
pub fn bash(folder: &Path, line: &str) -> Ended {
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(folder).env("LA", env!("CARGO_BIN_EXE_la-cli")).env_remove("RUST_BACKTRACE").env_remove("CARGO");
    command.env("LA_CACHE", shared_cache());
    ended(command.output().expect("these tests need bash"))
}

/// How a command ended.
pub fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ended {
    /// Standard output of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The one error of a command that must have failed as it should: exit code 1, no panic, said once.
    pub fn error(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panic") && !self.stderr.contains("defect"), "{}", self.stderr);
        self.stderr
    }
}

/// Asserts that `text` holds every one of `parts`.
pub fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// A new folder, removed at the end of the test.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A copy of the files of a folder, which a test may change.
pub fn copy_of(from: &Path) -> TempDir {
    let copy = folder();
    for entry in from.read_dir().expect("the folder is there") {
        let entry = entry.expect("its entries can be read");
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a file can be copied");
    }
    copy
}

/// Trains a tiny run `name` in `folder` with more flags.
pub fn train_tiny(folder: &Path, name: &str, more: &[&str]) -> Ended {
    la(folder, &[&["train", "--out", name], &TINY[..], more].concat())
}

/// A tiny run that all tests read and none changes.
pub fn shared_run() -> &'static Path {
    static RUN: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RUN.get_or_init(|| {
        let folder = folder();
        train_tiny(folder.path(), "run", &[]).ok();
        let path = folder.path().join("run");
        (folder, path)
    });
    path
}

/// The path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// The bytes of a file.
pub fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Writes `count` pictures of 20×20 pixels to `folder`, no two alike: stripes in the colour of their number.
pub fn write_pictures(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).expect("a temporary folder can be written to");
    for i in 0..count {
        write_picture(&folder.join(format!("{i:02}.png")), i);
    }
}

/// Writes picture number `i`.
pub fn write_picture(path: &Path, i: usize) {
    let color = |x: u32, y: u32| {
        let stripe = ((x + y * (i as u32 % 3)) / (2 + i as u32 % 4)) % 2;
        [(40 * i % 256) as u8, (255 * stripe) as u8, (90 * (i + 1) % 256) as u8]
    };
    image::RgbImage::from_fn(20, 20, |x, y| image::Rgb(color(x, y))).save(path).expect("a picture can be written");
}
