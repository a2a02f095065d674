//! Progress: a bar with rate and time left on a terminal, a plain line now and then otherwise.

use crate::output::{self, remark};
use console::{measure_text_width, truncate_str, Term};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a plain line is written where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long a rate is not told, since the first units come in a burst.
const SETTLING: Duration = Duration::from_secs(1);
/// Cells of the bar itself; it is left out where there is room for few.
const BAR: std::ops::RangeInclusive<usize> = 8..=30;

/// The progress of one piece of work.
pub struct Progress {
    what: String,
    total: usize,
    first: usize,
    done: usize,
    bar: Option<ProgressBar>,
    message: Arc<Mutex<String>>,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Begins `total` units of `what`.
    pub fn new(what: &str, total: usize, unit: &'static str) -> Self {
        let message = Arc::default();
        let is_seen = std::io::stderr().is_terminal() && !output::is_quiet();
        let bar = is_seen.then(|| bar(what, total, unit, Arc::clone(&message)));
        Self { what: what.to_string(), total, first: 0, done: 0, bar, message, started: Instant::now(), last_line: Instant::now() }
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
        // A lock is lost only where a bar was drawn by a thread that panicked.
        if let (Some(bar), Ok(mut message)) = (&self.bar, self.message.lock()) {
            *message = text;
            drop(message);
            bar.tick();
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

fn bar(what: &str, total: usize, unit: &'static str, message: Arc<Mutex<String>>) -> ProgressBar {
    let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let what = what.to_string();
    let style = style.with_key("line", move |state: &ProgressState, out: &mut dyn Write| {
        let (done, total) = (state.pos(), state.len().unwrap_or(0));
        let moment = Moment {
            what: &what,
            done,
            total,
            unit,
            pace: (state.elapsed() >= SETTLING).then(|| (state.per_sec(), state.eta().as_secs_f64())),
            message: &message.lock().map_or(String::new(), |message| message.clone()),
        };
        // Measured anew each time, because windows change their width. A bar that cannot be written is not seen.
        let _ = out.write_str(&moment.line(usize::from(Term::stderr().size().1)));
    });
    ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(8)).with_style(style)
}

/// What a bar shows at a moment.
struct Moment<'a> {
    what: &'a str,
    done: u64,
    total: u64,
    unit: &'a str,
    /// Units a second, and seconds left, once they can be told.
    pace: Option<(f64, f64)>,
    message: &'a str,
}

impl Moment<'_> {
    /// As much of it as a line of a terminal of `columns` holds, what matters most first.
    fn line(&self, columns: usize) -> String {
        // A full line makes some terminals begin another one.
        let room = columns.saturating_sub(1);
        if room == 0 {
            return String::new();
        }
        let unit = if self.total == 1 { self.unit.trim_end_matches('s') } else { self.unit };
        let count = format!(" {}/{}", self.done, self.total);
        let mut used = measure_text_width(self.what) + measure_text_width(&count);
        let mut take = |text: String| {
            let is_taken = used + measure_text_width(&text) <= room;
            used += if is_taken { measure_text_width(&text) } else { 0 };
            if is_taken {
                text
            } else {
                String::new()
            }
        };
        let left = self.pace.map_or(String::new(), |(_, left)| take(format!(" · {} left", duration(left))));
        let unit = take(format!(" {unit}"));
        let has_bar = !take(" ".repeat(BAR.start() + 1)).is_empty();
        let message = if self.message.is_empty() { String::new() } else { take(format!(" · {}", self.message)) };
        let rate = self.pace.map_or(String::new(), |(rate, _)| take(format!(" · {rate:.1}/s")));
        let bar = if has_bar { format!(" {}", self.bar((BAR.start() + room - used).min(*BAR.end()))) } else { String::new() };
        truncate_str(&format!("{}{bar}{count}{unit}{left}{message}{rate}", self.what), room, "…").into_owned()
    }

    fn bar(&self, cells: usize) -> String {
        let full = (self.done as f64 / self.total.max(1) as f64 * cells as f64) as usize;
        format!("{}{}", "█".repeat(full.min(cells)), "░".repeat(cells - full.min(cells)))
    }
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

    #[test]
    fn a_bar_says_what_its_terminal_has_room_for() {
        let moment =
            Moment { what: "epoch 3/20 la", done: 4096, total: 9000, unit: "images", pace: Some((812.34, 200.0)), message: "loss 4.321" };
        let lines = [20, 40, 60, 80, 120].map(|columns| moment.line(columns));
        let bar = |cells: usize| moment.bar(cells);
        assert_eq!(
            lines,
            [
                "epoch 3/20 la 4096…".to_string(),
                format!("epoch 3/20 la {} 4096/9000 images", bar(8)),
                format!("epoch 3/20 la {} 4096/9000 images · 3 min 20 s left", bar(10)),
                format!("epoch 3/20 la {} 4096/9000 images · 3 min 20 s left · loss 4.321", bar(17)),
                format!("epoch 3/20 la {} 4096/9000 images · 3 min 20 s left · loss 4.321 · 812.3/s", bar(30)),
            ]
        );
        assert_eq!(bar(10), "████░░░░░░");
        assert!((0..200).all(|columns: usize| measure_text_width(&moment.line(columns)) <= columns.saturating_sub(1)));
        assert_eq!(Moment { done: 10_000, ..moment }.bar(4), "████");
        let first = Moment { what: "embedding", done: 0, total: 1, unit: "images", pace: None, message: "" };
        assert_eq!(first.line(60), format!("embedding {} 0/1 image", first.bar(30)));
    }
}
