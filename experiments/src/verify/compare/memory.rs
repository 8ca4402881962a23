//! Peak memory of a run: of its device's pool where the device has one, else resident memory of the process.

use burn::tensor::Device;

use crate::engine::memory::{forget_peak, peak_resident_bytes, resident_bytes};

/// Measures from its creation on.
pub(crate) struct Peak {
    device: Device,
    /// The most that the device's pool has held.
    pool: Option<u64>,
    /// Bytes resident at the start.
    before: Option<u64>,
}

impl Peak {
    /// Forgets the peak so far. Resident memory is not measured where the system cannot forget: elsewhere than
    /// on Linux.
    pub(crate) fn start(device: &Device) -> Self {
        device.memory_cleanup();
        let forgotten = forget_peak();
        let mut peak = Self {
            device: device.clone(),
            pool: None,
            before: forgotten.then(resident_bytes).flatten(),
        };
        peak.sample();
        peak
    }

    /// Looks at the device's pool, which does not tell its peak itself: between steps it still holds what a step
    /// needed.
    pub(crate) fn sample(&mut self) {
        if let Some(usage) = self.device.memory_pool_usage() {
            self.pool = self.pool.max(Some(usage.bytes_reserved));
        }
    }

    /// Bytes in the pool at the peak; or resident, above those at the start.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.pool
            .or_else(|| Some(peak_resident_bytes()?.saturating_sub(self.before?)))
    }
}

#[cfg(all(test, target_os = "linux", feature = "flex"))]
mod tests {
    use super::*;

    /// Set in the process that has memory to itself: tests beside one another take and give it too.
    const ALONE: &str = "FORETOKEN_MEASURES_MEMORY_ALONE";

    #[test]
    fn a_peak_is_seen_after_it_is_over_and_forgotten_by_the_next() {
        if std::env::var_os(ALONE).is_none() {
            let (_, module) = module_path!().split_once("::").unwrap();
            let name =
                format!("{module}::a_peak_is_seen_after_it_is_over_and_forgotten_by_the_next");
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            alone.env(ALONE, "").args(["--exact", &name]);
            let output = alone.output().unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{printed}");
            assert!(printed.contains("1 passed"), "{printed}");
            return;
        }
        const BYTES: usize = 64 << 20;
        let device = Device::flex();
        let peak = Peak::start(&device);
        let memory = std::hint::black_box(vec![1u8; BYTES]);
        drop(memory);
        let first = peak.bytes().unwrap();
        // The system counts in batches of pages.
        assert!(first >= BYTES as u64 / 10 * 9, "{first}");
        let next = Peak::start(&device).bytes().unwrap();
        assert!(next < BYTES as u64 / 2, "{next}");
    }
}
