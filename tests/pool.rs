//! The pool that a browser's threads help: here with threads of this process.

use la_core::ops::parallel::pool::Pool;
use std::collections::HashSet;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Mutex;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// A pool with helpers that live until the process ends.
fn helped(helpers: usize) -> &'static Pool {
    let pool: &'static Pool = Box::leak(Box::new(Pool::new()));
    (0..helpers).for_each(|_| drop(thread::spawn(|| pool.help())));
    wait(|| pool.threads() == 1 + helpers);
    pool
}

fn wait(until: impl Fn() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing happened in a minute");
        thread::yield_now();
    }
}

fn counts(pool: &Pool, n: usize) -> Vec<usize> {
    let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
    pool.for_each(n, |i| {
        counts[i].fetch_add(1, SeqCst);
    });
    counts.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_piece_is_done_once_whatever_the_number_of_helpers() {
    for helpers in [0, 1, 3] {
        let pool = helped(helpers);
        for round in 0..3000 {
            let n = round % 50;
            assert_eq!(counts(pool, n), vec![1; n], "{helpers} helpers, round {round}");
        }
    }
}

#[test]
fn helpers_that_sleep_wake_for_the_next_call() {
    let pool = helped(2);
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(30));
        let threads: Mutex<HashSet<ThreadId>> = Mutex::default();
        // Each piece waits for a second thread, so that one alone cannot do both.
        pool.for_each(2, |_| {
            threads.lock().unwrap().insert(thread::current().id());
            wait(|| threads.lock().unwrap().len() == 2);
        });
    }
}

#[test]
fn a_call_within_a_piece_stays_on_its_thread() {
    let pool = helped(2);
    let done = AtomicUsize::new(0);
    pool.for_each(20, |_| {
        let own = thread::current().id();
        pool.for_each(10, |_| {
            assert_eq!(thread::current().id(), own);
            done.fetch_add(1, SeqCst);
        });
    });
    assert_eq!(done.into_inner(), 200);
}

#[test]
fn a_piece_that_panics_reaches_the_caller_after_all_helpers_have_left() {
    let pool = helped(2);
    for bad in [0, 7, 39] {
        let inside = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.for_each(40, |i| {
                inside.fetch_add(1, SeqCst);
                thread::sleep(Duration::from_micros(200));
                inside.fetch_sub(1, SeqCst);
                assert_ne!(i, bad, "piece {bad} is bad");
            });
        }));
        assert!(outcome.is_err());
        assert_eq!(inside.into_inner(), 0);
    }
    assert_eq!(counts(pool, 9), [1; 9], "the pool goes on, if only on the caller's thread");
}

#[test]
fn a_helper_that_is_lost_without_unwinding_stops_its_caller() {
    let pool = helped(1);
    let caller = thread::current().id();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        pool.for_each(2, |_| {
            if thread::current().id() == caller {
                return thread::sleep(Duration::from_millis(300));
            }
            // As the page does for a thread that trapped; this one then never comes back.
            pool.abandon();
            loop {
                thread::park();
            }
        });
    }));
    assert!(outcome.is_err(), "a piece that nobody ended was taken for done");
    assert_eq!(counts(pool, 5), [1; 5]);
}
