//! A pool for where threads cannot be started from Rust: a page starts them, and each calls [`Pool::help`].
//!
//! One thread calls at a time. Helpers take pieces while its call is open; one that comes late holds nobody up.

use std::hint::spin_loop;
use std::mem::transmute;
use std::sync::{
    atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*},
    Condvar, Mutex, MutexGuard, PoisonError, RwLock,
};

/// Looks at a shared number before a thread sleeps: some 50 µs, longer than most gaps between two layers of a network.
const SPINS: u32 = 60_000;
/// In `door`, while there may be pieces to take; the other bits count the helpers inside.
const OPEN: u32 = 1 << 31;

type Piece = dyn Fn(usize) + Sync;

/// A call: its pieces, and how many.
#[derive(Clone, Copy)]
struct Call {
    piece: *const Piece,
    n: usize,
}

// SAFETY: a piece is `Sync`; the pointer is read only by helpers inside, for whom the caller waits.
unsafe impl Send for Call {}
// SAFETY: as above.
unsafe impl Sync for Call {}

/// Threads that take pieces of each other's loops.
pub struct Pool {
    call: RwLock<Option<Call>>,
    next: AtomicUsize,
    door: AtomicU32,
    /// Counts calls: helpers sleep until it changes.
    calls: AtomicU32,
    helpers: AtomicUsize,
    is_busy: AtomicBool,
    is_broken: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Pool {
    /// A pool that nobody helps yet.
    pub const fn new() -> Self {
        Self {
            call: RwLock::new(None),
            next: AtomicUsize::new(0),
            door: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            helpers: AtomicUsize::new(0),
            is_busy: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// The caller and its helpers.
    pub fn threads(&self) -> usize {
        1 + self.helpers.load(Acquire)
    }

    /// Calls `piece(i)` for every `i` in `0..n`, in any order. Calls from within a piece run on the piece's own thread.
    ///
    /// Panics where a helper was lost within a piece.
    pub fn for_each(&self, n: usize, piece: impl Fn(usize) + Sync) {
        // One piece is not worth waking a thread for.
        if n < 2 || self.threads() == 1 || self.is_broken.load(Acquire) || self.is_busy.swap(true, Acquire) {
            return (0..n).for_each(piece);
        }
        let piece: &(dyn Fn(usize) + Sync) = &piece;
        // SAFETY: only the lifetime changes; `Calling` lets nobody use the piece after this function has ended.
        let piece: &'static Piece = unsafe { transmute::<&(dyn Fn(usize) + Sync), &'static Piece>(piece) };
        let calling = Calling::open(self, Call { piece, n });
        self.take(Call { piece, n });
        drop(calling);
        assert!(!self.is_broken.load(Acquire), "a helping thread was lost");
    }

    /// Takes pieces of every call from now on.
    pub fn help(&self) -> ! {
        self.helpers.fetch_add(1, AcqRel);
        let mut seen = self.calls.load(Acquire);
        loop {
            seen = self.wait_for(|| Some(self.calls.load(Acquire)).filter(|&calls| calls != seen));
            if let Some(inside) = Inside::enter(self) {
                let call = *self.call.read().unwrap_or_else(PoisonError::into_inner);
                call.into_iter().for_each(|call| self.take(call));
                drop(inside);
            }
        }
    }

    /// To be called where a helper ended within a piece without unwinding, as a WebAssembly thread does: its caller then panics.
    pub fn abandon(&self) {
        self.is_broken.store(true, Release);
        let _ = self.door.fetch_update(AcqRel, Acquire, |door| (door & !OPEN > 0).then(|| door - 1));
        self.wake_all();
    }

    fn take(&self, call: Call) {
        // SAFETY: the caller's piece lives while the door is open or someone is inside; whoever comes here is inside or the caller.
        let piece = unsafe { &*call.piece };
        loop {
            let i = self.next.fetch_add(1, AcqRel);
            if i >= call.n {
                return;
            }
            piece(i);
        }
    }

    /// Spins, then sleeps, until `ready` gives something.
    fn wait_for<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        for _ in 0..SPINS {
            if let Some(value) = ready() {
                return value;
            }
            spin_loop();
        }
        let mut asleep = self.lock();
        loop {
            if let Some(value) = ready() {
                return value;
            }
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What `ready` looks at was changed before: taking the lock, no thread is between its look and its sleep.
    fn wake_all(&self) {
        drop(self.lock());
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

/// An open call; where it ends, by return or by unwinding, no helper is inside any more.
struct Calling<'a>(&'a Pool);

impl<'a> Calling<'a> {
    fn open(pool: &'a Pool, call: Call) -> Self {
        *pool.call.write().unwrap_or_else(PoisonError::into_inner) = Some(call);
        pool.next.store(0, Release);
        pool.door.fetch_or(OPEN, AcqRel);
        pool.calls.fetch_add(1, AcqRel);
        pool.wake_all();
        Self(pool)
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let pool = self.0;
        pool.next.store(usize::MAX / 2, Release);
        pool.door.fetch_and(!OPEN, AcqRel);
        pool.wait_for(|| (pool.door.load(Acquire) == 0).then_some(()));
        pool.is_busy.store(false, Release);
    }
}

/// A helper that looks at the open call; the caller waits for it.
struct Inside<'a>(&'a Pool);

impl<'a> Inside<'a> {
    fn enter(pool: &'a Pool) -> Option<Self> {
        pool.door.fetch_update(AcqRel, Acquire, |door| (door & OPEN != 0).then(|| door + 1)).ok().map(|_| Self(pool))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let pool = self.0;
        if std::thread::panicking() {
            pool.is_broken.store(true, Release);
            pool.helpers.fetch_sub(1, AcqRel);
        }
        if pool.door.fetch_sub(1, AcqRel) == 1 {
            pool.wake_all();
        }
    }
}
