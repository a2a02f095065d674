//! What reaches the user: lines on standard output, each error once on standard error, never a panic.

use anyhow::{bail, Context};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

/// Standard output was closed by its reader, as `la-cli … | head` does: the command ends without a word.
#[derive(Debug)]
pub struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// Writes one line to standard output; fails with [`StdoutClosed`] where nobody reads any more.
pub fn write_line(line: fmt::Arguments) -> anyhow::Result<()> {
    write_bytes(format!("{}\n", plain(&line.to_string())).as_bytes())
}

/// The text without what a terminal takes for commands or shows in another order, as names of files may hold it: written as JSON does.
pub fn plain(text: &str) -> String {
    let is_plain = |c: char| {
        c == '\n' || !(c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_plain(c) {
            true => out.push(c),
            false => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out
}

/// A name on one line.
pub fn one_line(name: &str) -> String {
    plain(&name.replace('\n', "\\n"))
}

/// A field of a tab-separated file: on one line, and no formula to a spreadsheet.
pub fn tsv_field(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    match line.starts_with(['=', '+', '-', '@']) && line.parse::<f64>().is_err() {
        true => format!("'{line}"),
        false => line,
    }
}

/// The same of a comma-separated file: in quotes where it needs them.
pub fn csv_field(text: &str) -> String {
    let text = tsv_field(text);
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// Writes bytes to standard output; fails with [`StdoutClosed`] where nobody reads any more.
pub fn write_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(anyhow::anyhow!("standard output: {error}")),
    }
}

/// A line on standard output, like `println!`, that returns its failure.
macro_rules! say {
    ($($arg:tt)*) => { $crate::output::write_line(format_args!($($arg)*)) };
}
pub(crate) use say;

/// A remark on standard error, which `--json` and pipes leave alone and `--quiet` leaves out.
macro_rules! remark {
    ($($arg:tt)*) => { $crate::output::write_remark(format_args!($($arg)*)) };
}
pub(crate) use remark;

/// A warning on standard error, also with `--quiet`.
macro_rules! warning {
    ($($arg:tt)*) => { $crate::output::write_error_line(format_args!("warning: {}", format_args!($($arg)*))) };
}
pub(crate) use warning;

static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out remarks and progress from now on, as `--quiet` asks.
pub fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// Whether remarks and progress are left out.
pub fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

/// Writes one line to standard error, unless remarks are left out.
pub fn write_remark(line: fmt::Arguments) {
    if !is_quiet() {
        write_error_line(line);
    }
}

/// Writes one line to standard error.
pub fn write_error_line(line: fmt::Arguments) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{}", plain(&line.to_string()));
}

/// Prints an error and what it is due to, each once.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        // An error that quotes its cause has said it already.
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(la_core::Error::GpuMemory { .. }))) {
        text += GPU_MEMORY_WAY_OUT;
    }
    write_error_line(format_args!("error: {text}"));
    ExitCode::FAILURE
}

const GPU_MEMORY_WAY_OUT: &str =
    "; a smaller --batch-size or --size, or --precision bf16, needs less, and `nvidia-smi` shows who else uses it";

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps what the last panic said instead of printing it; `RUST_BACKTRACE` brings the usual report back too.
pub fn silence_panics() {
    let is_traced = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // An earlier one was caught: a decoder's on a broken file.
        if let Ok(mut last) = PANIC.lock() {
            *last = Some(info.to_string().replace('\n', " "));
        }
        if is_traced {
            usual(info);
        }
    }));
}

/// Prints what was kept as a signal ended the command.
pub fn fail_after_signal(kept: &dyn std::fmt::Display, code: u8) -> ExitCode {
    write_error_line(format_args!("{kept}"));
    ExitCode::from(code)
}

/// Prints the defect that [`silence_panics`] has kept.
pub fn fail_after_panic() -> ExitCode {
    let what = PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
    write_error_line(format_args!("error: internal error: {what}; please report it with the command that you ran"));
    ExitCode::FAILURE
}

/// Fails, before any work is done, where a file cannot be made at `path`.
pub fn check_writable(flag: &str, path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        _ if path.is_dir() => bail!("{flag} {}: expected the name of a file, got a folder", path.display()),
        Some(folder) if !folder.is_dir() => bail!("{flag} {}: there is no folder {}; make it first", path.display(), folder.display()),
        _ => {
            // As it is written later on: under another name, then renamed.
            let trial = la_core::files::temporary_path(path);
            std::fs::File::create_new(&trial)
                .and_then(|_| std::fs::remove_file(&trial))
                .with_context(|| format!("{flag} {}", path.display()))
        }
    }
}

/// Fails, before any work is done, where a file cannot be made at `path`, or something is there that is not to be replaced:
/// `force` replaces a regular file and nothing else.
pub fn check_replaceable(flag: &str, path: &Path, force: bool) -> anyhow::Result<()> {
    check_writable(flag, path)?;
    let shown = path.display();
    // Of a link itself, which is what a new file would replace.
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!("{flag} {shown}: {error}"),
        Ok(found) if !found.is_file() => {
            bail!("{flag} {shown}: expected a new file or a regular one, got a link or a device; name another")
        }
        Ok(_) if !force => bail!("{flag} {shown}: this file exists; replace it with --force, or name another"),
        Ok(_) => Ok(()),
    }
}

/// `9000` as `9,000`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 image`, `9,000 images`: a number with what it counts, named in the singular.
pub fn counted(n: usize, noun: &str) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", thousands(n))
}

/// Bytes as `11.3 MB`, those below a hundredth of that as `5.2 kB`.
pub fn file_size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A number as it was typed: without an exponent, and an f32 that became an f64 by its own digits.
pub fn decimal(value: f64) -> String {
    match value as f32 {
        single if f64::from(single) == value => single.to_string(),
        _ => value.to_string(),
    }
}

/// A command of this program to be copied: `words` as a shell reads them back, through cargo where that started the program.
pub fn command(words: &[&str]) -> String {
    let program = if std::env::var_os("CARGO").is_some() { "cargo run --release -p la-cli --" } else { "la-cli" };
    format!("{program} {}", shell_line(words))
}

/// Words as a line that a shell reads back as them.
pub fn shell_line(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A word, in quotes where a shell would read something else without.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A fraction as `87.3 %`.
pub fn percent(fraction: f32) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1281167].map(thousands), ["0", "999", "1,000", "1,281,167"]);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(
            [0, 1, 2, 9000].map(|n| counted(n, "test image")),
            ["0 test images", "1 test image", "2 test images", "9,000 test images"]
        );
        assert_eq!([1, 2].map(|n| counted(n, "class")), ["1 class", "2 classes"]);
    }

    #[test]
    fn numbers_and_sizes_read_as_people_write_them() {
        assert_eq!([0.5, 1e-4, 1.0, f64::from(0.2f32), 1e-7].map(decimal), ["0.5", "0.0001", "1", "0.2", "0.0000001"]);
        assert_eq!([512, 9999, 11_250_000].map(file_size), ["0.5 kB", "10.0 kB", "11.2 MB"]);
    }

    #[test]
    fn nothing_commands_the_terminal_or_a_spreadsheet() {
        assert_eq!(plain("a\u{1b}[31mb\r\u{9b}\u{202e}é\n"), "a\\u001b[31mb\\u000d\\u009b\\u202eé\n");
        assert_eq!(one_line("two\nlines\t"), "two\\nlines\\u0009");
        assert_eq!(["=1+1", "-dash.png", "a\tb", "plain"].map(tsv_field), ["'=1+1", "'-dash.png", "a b", "plain"]);
        assert_eq!(["-0.25", "-1+1", "a, \"b\""].map(csv_field), ["-0.25", "'-1+1", "\"a, \"\"b\"\"\""]);
    }

    #[test]
    fn a_shell_reads_the_line_back() {
        let words = ["la-cli", "--data", "my photos", "it's", ""];
        assert_eq!(shell_line(&words), r"la-cli --data 'my photos' 'it'\''s' ''");
    }
}
