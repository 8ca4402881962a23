//! Memory: settings of the allocator, use by the process, and limits from estimates for training and loading.

use burn::tensor::Device;
use foretoken_model::{ModelConfig, TrainingMemory};
use indicatif::BinaryBytes;

use crate::Error;
use crate::backend::precision::Precision;

/// Makes the allocator keep freed memory for the next tensor. Does nothing without glibc.
///
/// By default, glibc returns large blocks to the system when they are freed. A step frees hundreds of them, and the
/// system would clear their pages each time. Must be called before there is a second thread.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Increment of the heap in bytes.
        const INCREMENT: i32 = 16 << 20;
        let settings = [
            // No allocation has a mapping of its own, the heap is never trimmed, and all threads share it.
            (libc::M_MMAP_MAX, 0),
            (libc::M_TRIM_THRESHOLD, i32::MAX),
            (libc::M_TOP_PAD, INCREMENT),
            (libc::M_ARENA_MAX, 1),
        ];
        for (parameter, value) in settings {
            // SAFETY: `mallopt` takes no pointer, and sets a parameter of the allocator.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Returns the memory of the machine or of the process's control group, in bytes and including swap; `None` if unknown.
fn machine_bytes() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system
        .cgroup_limits()
        .map_or(u64::MAX, |limits| limits.total_memory);
    let memory = system.total_memory();
    (memory > 0 && limit > 0).then(|| memory.min(limit).saturating_add(system.total_swap()))
}

/// Returns an error if `needed` bytes exceed the total memory of the machine. A device with memory of its own is not
/// checked.
fn refuse_beyond(
    origin: &str,
    what: &str,
    needed: u64,
    advice: &str,
    device: &Device,
) -> Result<(), Error> {
    match device.memory_pool_usage() {
        Some(_) => Ok(()),
        None => refuse_beyond_machine(origin, what, needed, advice),
    }
}

/// Returns an error if `needed` bytes exceed the total memory of the machine.
fn refuse_beyond_machine(origin: &str, what: &str, needed: u64, advice: &str) -> Result<(), Error> {
    match machine_bytes() {
        Some(has) if needed > has => Err(Error::Experiment {
            origin: origin.into(),
            message: format!(
                "{what} needs {}, but this machine has {} of memory; {advice}",
                BinaryBytes(needed),
                BinaryBytes(has)
            ),
        }),
        _ => Ok(()),
    }
}

/// Returns an error if training does not fit into the device's memory, before any of it is allocated.
pub(crate) fn refuse_training(
    config: &ModelConfig,
    batch: usize,
    precision: Precision,
    device: &Device,
) -> Result<(), Error> {
    let TrainingMemory {
        weights,
        gradients,
        moments,
        activations,
    } = config.training_memory(batch, config.context);
    // The estimates are for f32.
    let in_precision =
        |bytes: u64, precision: Precision| (bytes / 4).saturating_mul(precision.bytes());
    let model_bytes = in_precision(weights, precision)
        .saturating_add(in_precision(gradients, precision))
        .saturating_add(in_precision(moments, precision.of_statistics()));
    let parameters = config.parameters();
    refuse_beyond(
        "[model]",
        &format!("training {parameters} parameters in {precision}, with gradients and moments,"),
        model_bytes,
        "make the model smaller",
        device,
    )?;
    refuse_beyond(
        "train.batch",
        &format!(
            "training with {batch} windows of {} tokens at once, in {precision},",
            config.context
        ),
        model_bytes.saturating_add(in_precision(activations, precision)),
        "lower it, and raise train.accumulation by as much, or lower model.context",
        device,
    )
}

/// Refuses text of a synthetic world that does not fit into memory with token ids of four bytes each.
///
/// # Errors
///
/// Returns an error that names `key`.
pub fn refuse_world(key: &str, bytes: u64) -> Result<(), Error> {
    let needed = bytes.saturating_mul(5);
    let what = format!("text of {bytes} bytes, with its token ids,");
    refuse_beyond_machine(key, &what, needed, "lower it")
}

/// Returns an error if the weights of a model do not fit into the device's memory.
pub(crate) fn refuse_loading(
    origin: &str,
    config: &ModelConfig,
    device: &Device,
) -> Result<(), Error> {
    let parameters = config.parameters();
    let needed = config.generation_memory(0, 0).weights;
    let what = format!("a model of {parameters} parameters, in f32,");
    refuse_beyond(origin, &what, needed, "use a smaller one", device)
}

/// Returns an error that names `origin` if generation does not fit into the device's memory. The longest of the texts has
/// `length` tokens.
pub(crate) fn refuse_generating(
    origin: &str,
    config: &ModelConfig,
    texts: usize,
    length: usize,
    device: &Device,
) -> Result<(), Error> {
    let needed = config.generation_memory(texts, length.min(config.context));
    refuse_beyond(
        origin,
        &format!("continuing {texts} texts of {length} tokens at once"),
        needed.total(),
        "ask for fewer at once",
        device,
    )
}

/// Returns an error if coding `streams` texts side by side does not fit into the device's memory.
pub(crate) fn refuse_streams(
    origin: &str,
    config: &ModelConfig,
    streams: usize,
    device: &Device,
) -> Result<(), Error> {
    let needed = config.generation_memory(streams, config.context).total();
    let what = format!("coding {streams} streams at once");
    refuse_beyond(origin, &what, needed, "fewer take less", device)
}

/// Returns an error if the machine's memory cannot hold a file of `bytes` bytes.
pub(crate) fn refuse_file(origin: &str, bytes: u64) -> Result<(), Error> {
    refuse_beyond_machine(origin, "the file that it names", bytes, "it may be damaged")
}

/// Returns the resident bytes of the process; `None` except on Linux.
pub fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Returns the peak of resident bytes since the start or the last [reset](forget_peak); `None` except on Linux.
///
/// Does not use `getrusage`, whose maximum includes that of the parent process.
pub fn peak_resident_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Resets the peak to the present use. Returns whether the system supports it, which only Linux does.
///
/// Free memory of the allocator is returned to the system, because it would hide later allocations.
pub fn forget_peak() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes no pointer, and any thread can call it at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
    // Writing 5 resets the "high water mark" of resident memory (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Reads a line of `/proc/self/status`, which has KiB, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(1024 * kib)
}
