//! Ctrl-C and SIGTERM: long work asks whether one has come, keeps what is done, and ends.

use crate::output::remark;
use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The first signal that has come, 0 where none has.
static COME: AtomicUsize = AtomicUsize::new(0);
/// Whether the next signal ends the process.
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(true);
/// How many watches live: one may begin within another.
static NUM_WATCHES: AtomicUsize = AtomicUsize::new(0);
/// How soon a signal is answered in words.
const POLL: Duration = Duration::from_millis(100);

/// While one lives, the first signal is for [`requested`] to tell, and the second ends the process. Otherwise the first does.
pub struct Watch {
    is_over: Arc<AtomicBool>,
}

/// Begins to watch for signals.
pub fn watch() -> anyhow::Result<Watch> {
    static IS_LISTENING: OnceLock<()> = OnceLock::new();
    if IS_LISTENING.set(()).is_ok() {
        [SIGINT, SIGTERM].into_iter().try_for_each(listen).context("signals cannot be watched for")?;
    }
    ENDS_AT_ONCE.store(requested().is_some(), Ordering::SeqCst);
    let watch = Watch { is_over: Arc::default() };
    if NUM_WATCHES.fetch_add(1, Ordering::SeqCst) > 0 {
        // The outer one says that a signal was heard.
        return Ok(watch);
    }
    let is_over = watch.is_over.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || answer(&is_over)).context("signals cannot be answered")?;
    Ok(watch)
}

impl Drop for Watch {
    fn drop(&mut self) {
        if NUM_WATCHES.fetch_sub(1, Ordering::SeqCst) == 1 {
            ENDS_AT_ONCE.store(true, Ordering::SeqCst);
        }
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// What a signal does, in this order.
fn listen(signal: i32) -> std::io::Result<()> {
    flag::register_conditional_default(signal, &ENDS_AT_ONCE)?;
    flag::register_usize(signal, &COME, signal as usize)?;
    flag::register(signal, &ENDS_AT_ONCE)?;
    Ok(())
}

/// Says that a signal was heard, because the step under way may take a while.
fn answer(is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        if requested().is_some() {
            // Below what the terminal makes of Ctrl-C, and of a progress bar.
            return remark!("\nstopping (Ctrl-C again ends at once)");
        }
        std::thread::sleep(POLL);
    }
}

/// The signal that asks to keep what is done and to end, where one has come.
pub fn requested() -> Option<Signal> {
    match COME.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(Signal(signal as i32)),
    }
}

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// The exit code of a program that it has ended, as shells have it.
    pub fn exit_code(self) -> u8 {
        128 + self.0 as u8
    }

    /// The end that it brings, as an error; `kept` tells what was kept, and how to continue.
    pub fn stop(self, kept: impl Into<String>) -> anyhow::Error {
        Stopped { signal: self, kept: kept.into() }.into()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == SIGTERM { "SIGTERM" } else { "Ctrl-C" })
    }
}

/// A command was stopped by a signal, and has kept what was done.
#[derive(Debug)]
pub struct Stopped {
    /// The signal.
    pub signal: Signal,
    kept: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by {}: {}", self.signal, self.kept)
    }
}

impl std::error::Error for Stopped {}
