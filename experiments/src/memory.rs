//! How the process asks for memory, and how much it has.

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

/// Bytes of the process that are resident; `None` elsewhere than on Linux.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// The most that ever was, or since it was [forgotten](forget_peak); `None` elsewhere than on Linux.
///
/// Not `getrusage`, whose maximum begins with that of the process which started this one.
pub fn peak_resident_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Lets the peak begin anew; whether the system can, which is on Linux alone.
///
/// Memory that is allocated and free goes back to the system, or what came before would hide what comes.
pub fn forget_peak() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
    // 5 resets the "high water mark" of resident memory, proc(5).
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// A line of `/proc/self/status`, which counts in KiB.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(1024 * kib)
}
