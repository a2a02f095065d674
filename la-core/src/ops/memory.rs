//! The process's memory: large tensors come and go at every step, and their pages are worth keeping.

/// Tells mimalloc to keep freed pages for the next step instead of giving them back to the system.
///
/// Ten ResNet-18 steps at 224 px, batch 16: system time falls from 1.8 s to 0.4 s. Has an effect only in programs whose
/// global allocator is mimalloc.
pub fn keep_freed_pages() {
    /// `mi_option_purge_delay`; -1 means never. The bindings do not name it.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: setting an option has no precondition but that no other thread sets one at the same time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}
