//! Peak memory of a run: of its device's pool if the device has one, else resident memory of the process.

use burn::tensor::Device;

use crate::engine::memory::{forget_peak, peak_resident_bytes, resident_bytes};

/// Measurement of peak memory since its creation.
pub(crate) struct Peak {
    device: Device,
    /// Peak of the device's pool, in bytes.
    pool: Option<u64>,
    /// Bytes resident at the start.
    before: Option<u64>,
}

impl Peak {
    /// Resets the peak and starts to measure. Resident memory is measured only on Linux, where the system can reset its
    /// peak.
    pub(crate) fn start(device: &Device) -> Self {
        device.memory_cleanup();
        let is_reset = forget_peak();
        let mut peak = Self {
            device: device.clone(),
            pool: None,
            before: is_reset.then(resident_bytes).flatten(),
        };
        peak.sample();
        peak
    }

    /// Reads the size of the device's pool, which reports no peak itself. Between steps it still holds what a step
    /// needed.
    pub(crate) fn sample(&mut self) {
        if let Some(usage) = self.device.memory_pool_usage() {
            self.pool = self.pool.max(Some(usage.bytes_reserved));
        }
    }

    /// Returns the peak in bytes: of the pool, or resident memory above that at the start.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.pool
            .or_else(|| Some(peak_resident_bytes()?.saturating_sub(self.before?)))
    }
}

#[cfg(all(test, target_os = "linux", feature = "flex"))]
mod tests {
    use super::*;

    /// Environment variable of the process that measures alone, because parallel tests allocate memory too.
    const ALONE: &str = "FORETOKEN_MEASURES_MEMORY_ALONE";

    #[test]
    fn peak_includes_freed_memory_and_excludes_earlier_peaks() {
        if std::env::var_os(ALONE).is_none() {
            let (_, module) = module_path!().split_once("::").unwrap();
            let name = format!("{module}::peak_includes_freed_memory_and_excludes_earlier_peaks");
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
