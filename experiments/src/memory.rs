//! How the process asks for memory.

/// Keeps what is freed, for the next tensor of that size.
///
/// glibc gives a large block back to the system as soon as it is freed, and a step makes and frees hundreds: each
/// time, the system clears its pages anew. To be called before there is a second thread; elsewhere than on glibc it does
/// nothing.
pub fn keep_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Bytes by which the heap grows.
        const AT_ONCE: i32 = 16 << 20;
        let settings = [
            // Nothing is mapped for itself, the end of the heap is not given back, and threads share one heap.
            (libc::M_MMAP_MAX, 0),
            (libc::M_TRIM_THRESHOLD, i32::MAX),
            (libc::M_TOP_PAD, AT_ONCE),
            (libc::M_ARENA_MAX, 1),
        ];
        for (parameter, value) in settings {
            // SAFETY: it sets a parameter of the allocator.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
