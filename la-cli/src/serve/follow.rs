//! Follows the pictures of a folder: where they have changed, the page is made again while it is served.

use super::originals::Originals;
use crate::export::{MadeSite, SiteMaker};
use crate::index::Look;
use crate::interrupt;
use crate::output::warning;
use axum::http::HeaderName;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Every answer has it where pictures are followed: the page then asks for new ones.
pub const HEADER: HeaderName = HeaderName::from_static("la-follows");

/// Time between two looks at the folder.
const PAUSE: Duration = Duration::from_secs(2);
/// Where looking takes long, so many times as long: a twentieth of the time is spent on it.
const PAUSE_BY_LOOK: u32 = 20;
/// Pictures that keep changing are taken as they are after this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder, the page of its pictures, and what was last seen of them.
pub struct Follower {
    folder: PathBuf,
    maker: SiteMaker,
    originals: Option<Arc<Originals>>,
    /// What the page shows.
    shown: Look,
    last: Look,
    /// Since when the folder has been another than what is shown.
    since: Instant,
}

impl Follower {
    /// Of the page that `maker` has made of the pictures of a folder after they were `seen`; keeps `originals` up to date.
    pub fn new(maker: SiteMaker, folder: PathBuf, seen: Look, originals: Option<Arc<Originals>>) -> Self {
        Self { folder, maker, originals, shown: seen.clone(), last: seen, since: Instant::now() }
    }

    /// Follows on a thread of its own until the command is interrupted.
    pub fn start(mut self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("pictures".into()).spawn(move || {
            let mut pause = PAUSE;
            while waited(pause) {
                let start = Instant::now();
                // A folder that cannot be listed, as of a disk that is taken away, is no reason to show less.
                if let Ok(now) = Look::at(&self.folder) {
                    pause = PAUSE.max(PAUSE_BY_LOOK * start.elapsed());
                    self.see(now);
                }
            }
        })
    }

    /// Makes the page again where the pictures have changed and are no longer being copied.
    fn see(&mut self, now: Look) {
        let is_settled = now == self.last;
        if self.last == self.shown {
            self.since = Instant::now();
        }
        self.last = now;
        if self.last != self.shown && (is_settled || self.since.elapsed() >= PATIENCE) {
            self.shown = self.last.clone();
            self.make();
        }
    }

    fn make(&mut self) {
        let before = |made: &MadeSite| self.originals.iter().for_each(|originals| originals.add(made));
        match self.maker.make(&before) {
            Ok(_) => (),
            // What is done is kept, and the command ends.
            Err(_) if interrupt::requested().is_some() => (),
            Err(error) => warning!("the page stays as it was until the pictures change again: {error:#}"),
        }
    }
}

/// Whether `pause` went by without a signal.
fn waited(pause: Duration) -> bool {
    let end = Instant::now() + pause;
    while Instant::now() < end && interrupt::requested().is_none() {
        thread::sleep(super::POLL);
    }
    interrupt::requested().is_none()
}
