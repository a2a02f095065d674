//! Loops over independent pieces of work, on the current rayon pool when the crate has threads.
//!
//! What a piece computes never depends on the number of threads: callers cut work by shape alone.

/// Calls `f(i)` for every `i` in `0..n`, in any order.
pub fn for_each(n: usize, f: impl Fn(usize) + Sync + Send) {
    #[cfg(feature = "train")]
    if n > 1 {
        use rayon::prelude::*;
        return (0..n).into_par_iter().with_max_len(1).for_each(f);
    }
    // One piece is not worth waking a thread for.
    (0..n).for_each(f);
}

/// Calls `f(i, chunk)` for every chunk of `len` items, the last perhaps shorter, in any order.
pub fn for_each_chunk<T: Send>(items: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    #[cfg(feature = "train")]
    {
        use rayon::prelude::*;
        items.par_chunks_mut(len).enumerate().with_max_len(1).for_each(|(i, chunk)| f(i, chunk));
    }
    #[cfg(not(feature = "train"))]
    items.chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i, chunk));
}

/// The results of `f(i)` for every `i` in `0..n`, in order.
pub fn map<T: Send>(n: usize, f: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    #[cfg(feature = "train")]
    {
        use rayon::prelude::*;
        (0..n).into_par_iter().with_max_len(1).map(f).collect()
    }
    #[cfg(not(feature = "train"))]
    (0..n).map(f).collect()
}

/// A pointer that pieces of work share; each writes only its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(pub *mut f32);

// SAFETY: whoever dereferences the pointer guarantees that pieces of work touch disjoint ranges.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// The pointer; a method, so that closures capture the wrapper and not the bare field.
    pub fn get(&self) -> *mut f32 {
        self.0
    }
}
