//! Loops over independent pieces of work: on the current rayon pool when the crate has threads of its own, else on [`HELPED`].
//!
//! What a piece computes never depends on the number of threads: callers cut work by shape alone, or so that no sum changes.

pub mod pool;

use pool::Pool;

/// The pool of a browser's threads; alone, without helpers, where there are none.
pub static HELPED: Pool = Pool::new();

/// How many threads share the pieces.
pub fn threads() -> usize {
    #[cfg(feature = "train")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "train"))]
    HELPED.threads()
}

/// Calls `f(i)` for every `i` in `0..n`, in any order.
pub fn for_each(n: usize, f: impl Fn(usize) + Sync + Send) {
    #[cfg(feature = "train")]
    if n > 1 {
        use rayon::prelude::*;
        return (0..n).into_par_iter().with_max_len(1).for_each(f);
    }
    // One piece is not worth waking a thread for.
    #[cfg(feature = "train")]
    (0..n).for_each(f);
    #[cfg(not(feature = "train"))]
    HELPED.for_each(n, f);
}

/// Calls `f(i, chunk)` for every chunk of `len` items, the last perhaps shorter, in any order.
pub fn for_each_chunk<T: Send>(items: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    #[cfg(feature = "train")]
    {
        use rayon::prelude::*;
        items.par_chunks_mut(len).enumerate().with_max_len(1).for_each(|(i, chunk)| f(i, chunk));
    }
    #[cfg(not(feature = "train"))]
    {
        let (start, total) = (SharedMut(items.as_mut_ptr()), items.len());
        HELPED.for_each(total.div_ceil(len), |i| {
            // SAFETY: chunk `i` lies within `items`, which no other piece's chunk overlaps.
            f(i, unsafe { std::slice::from_raw_parts_mut(start.get().add(i * len), len.min(total - i * len)) });
        });
    }
}

/// The results of `f(i)` for every `i` in `0..n`, in order.
pub fn map<T: Send>(n: usize, f: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    #[cfg(feature = "train")]
    {
        use rayon::prelude::*;
        (0..n).into_par_iter().with_max_len(1).map(f).collect()
    }
    #[cfg(not(feature = "train"))]
    {
        let mut results: Vec<Option<T>> = (0..n).map(|_| None).collect();
        for_each_chunk(&mut results, 1, |i, result| result[0] = Some(f(i)));
        results.into_iter().flatten().collect()
    }
}

/// A pointer that pieces of work share; each writes only its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T = f32>(pub *mut T);

// SAFETY: whoever dereferences the pointer guarantees that pieces of work touch disjoint ranges.
unsafe impl<T> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// The pointer; a method, so that closures capture the wrapper and not the bare field.
    pub fn get(&self) -> *mut T {
        self.0
    }
}
