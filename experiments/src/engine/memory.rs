//! Memory: how the process allocates it, how much it holds, and estimates of what training and loading need.

use burn::tensor::Device;
use foretoken_model::{ModelConfig, TrainingMemory};
use indicatif::BinaryBytes;

use crate::Error;
use crate::backend::precision::Precision;

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
            // No allocation is mapped on its own, the end of the heap is not given back, and threads share one heap.
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

/// Bytes of memory that the machine has, or that the process's control group may use; swap is counted. `None` where
/// that is not known.
fn machine_bytes() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system
        .cgroup_limits()
        .map_or(u64::MAX, |limits| limits.total_memory);
    let memory = system.total_memory();
    (memory > 0 && limit > 0).then(|| memory.min(limit).saturating_add(system.total_swap()))
}

/// Refuses what is more than all memory of the machine, whatever else may run on it. A device with memory of its own is
/// not judged.
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

/// Refuses what is more than all memory of the machine, whatever else may run on it.
fn refuse_beyond_machine(origin: &str, what: &str, needed: u64, advice: &str) -> Result<(), Error> {
    match machine_bytes() {
        Some(has) if needed > has => Err(Error::Experiment {
            origin: origin.into(),
            message: format!(
                "{what} needs {}, and this machine has {} of memory: {advice}",
                BinaryBytes(needed),
                BinaryBytes(has)
            ),
        }),
        _ => Ok(()),
    }
}

/// Refuses to train what the device's memory cannot hold, before any of it is allocated.
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
    // These estimates are for f32.
    let in_precision =
        |bytes: u64, precision: Precision| (bytes / 4).saturating_mul(precision.bytes());
    let of_model = in_precision(weights, precision)
        .saturating_add(in_precision(gradients, precision))
        .saturating_add(in_precision(moments, precision.of_statistics()));
    let parameters = config.parameters();
    refuse_beyond(
        "[model]",
        &format!("training {parameters} parameters in {precision}, with gradients and moments,"),
        of_model,
        "make the model smaller",
        device,
    )?;
    refuse_beyond(
        "train.batch",
        &format!(
            "training with {batch} windows of {} tokens at once, in {precision},",
            config.context
        ),
        of_model.saturating_add(in_precision(activations, precision)),
        "lower it, and raise train.accumulation by as much, or lower model.context",
        device,
    )
}

/// Refuses text of the synthetic world that memory cannot hold as text and as token ids of four bytes each.
pub(crate) fn refuse_world(key: &str, bytes: usize) -> Result<(), Error> {
    let needed = (bytes as u64).saturating_mul(5);
    let what = format!("text of {bytes} bytes, with its token ids,");
    refuse_beyond_machine(key, &what, needed, "lower it")
}

/// Refuses to load weights that the device's memory cannot hold.
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

/// Refuses to continue so many texts at once, of which the longest has `length` tokens already.
pub(crate) fn refuse_generating(
    config: &ModelConfig,
    texts: usize,
    length: usize,
    device: &Device,
) -> Result<(), Error> {
    let needed = config.generation_memory(texts, length.min(config.context));
    refuse_beyond(
        "--samples",
        &format!("continuing {texts} texts of {length} tokens at once"),
        needed.total(),
        "ask for fewer, or give fewer prompts",
        device,
    )
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
    // Writing 5 resets the "high water mark" of resident memory, proc(5).
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// A line of `/proc/self/status`, which counts in KiB.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(1024 * kib)
}
