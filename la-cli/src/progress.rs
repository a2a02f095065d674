//! Progress: a bar with rate and time left on a terminal, a plain line now and then otherwise.

use crate::output::remark;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line is written where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(30);

/// The progress of one piece of work.
pub struct Progress {
    what: String,
    total: usize,
    first: usize,
    done: usize,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Begins `total` units of `what`.
    pub fn new(what: &str, total: usize, unit: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total, unit));
        Self { what: what.to_string(), total, first: 0, done: 0, bar, started: Instant::now(), last_line: Instant::now() }
    }

    /// `done` units were done before: they count as progress, but not towards the rate.
    pub fn start_at(&mut self, done: usize) {
        self.first = done;
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.reset_eta();
        }
    }

    /// `done` units are done.
    pub fn set(&mut self, done: usize) {
        self.done = done;
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.last_line.elapsed() >= INTERVAL => self.line(),
            None => (),
        }
    }

    /// Words behind the bar.
    pub fn message(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints through `f` without tearing the bar.
    pub fn suspend<T>(&self, f: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(f),
            None => f(),
        }
    }

    fn line(&mut self) {
        self.last_line = Instant::now();
        let rate = (self.done - self.first) as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let left = (self.total.saturating_sub(self.done)) as f64 / rate.max(1e-9);
        remark!("{}: {} of {}, {rate:.1}/s, {} left", self.what, self.done, self.total, duration(left));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(what: &str, total: usize, unit: &str) -> ProgressBar {
    let template = format!("{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit} · {{per_sec}} · {{eta}} left {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("per_sec", |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
        // A rate that cannot be written is a bar that is not seen.
        let _ = write!(w, "{:.1}/s", state.per_sec());
    });
    ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(8)).with_style(style).with_prefix(what.to_string())
}

/// Seconds as `41 s`, `3 min 20 s` or `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let total = seconds.round().max(0.0) as u64;
    match total {
        0..=59 => format!("{total} s"),
        60..=3599 => format!("{} min {:02} s", total / 60, total % 60),
        _ => format!("{} h {:02} min", total / 3600, total % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!([0.4, 59.6, 200.0, 7500.0].map(duration), ["0 s", "1 min 00 s", "3 min 20 s", "2 h 05 min"]);
    }
}
