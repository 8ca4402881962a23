//! The peak of a device, measured once on each machine and kept for later processes.

use super::measure::matmul_gflops;
use super::{BURN_VERSION, Backend, BackendError, cpu_model, threads};
use crate::cache;

/// Returns the speed of [`matmul_gflops`] on a backend's device, in GFLOP/s, from an earlier measurement on this machine
/// if there is one.
///
/// # Errors
///
/// Returns an error if there is no device, or if it fails.
pub fn peak(backend: Backend) -> Result<f64, BackendError> {
    let is_plausible = |gflops: &f64| gflops.is_finite() && *gflops > 0.0;
    match cache::kept_measurement(&key(backend)).filter(is_plausible) {
        Some(gflops) => Ok(gflops),
        None => measured_peak(backend),
    }
}

/// Measures the speed of [`matmul_gflops`] on a backend's device, in GFLOP/s, and keeps it for [`peak`].
///
/// # Errors
///
/// Returns an error if there is no device, or if it fails.
pub fn measured_peak(backend: Backend) -> Result<f64, BackendError> {
    let gflops = matmul_gflops(&backend.device()?)?;
    cache::keep_measurement(&key(backend), gflops);
    Ok(gflops)
}

fn key(backend: Backend) -> String {
    format!("matmul f32 {}", machine(backend))
}

/// Describes everything of this machine and this program that decides how fast a backend computes.
pub(crate) fn machine(backend: Backend) -> String {
    let probe = backend.probe();
    format!(
        "foretoken {} burn {BURN_VERSION} {backend} device {:?} driver {:?} cpu {:?} cores {} threads {:?} tuned {}",
        env!("CARGO_PKG_VERSION"),
        probe.device_name,
        probe.driver,
        cpu_model(),
        std::thread::available_parallelism().map_or(0, usize::from),
        threads(backend),
        cfg!(feature = "wgpu-tuned"),
    )
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn machines_differ_by_backend_and_threads() {
        let here = machine(Backend::Flex);
        assert_ne!(here, machine(Backend::NdArray));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let other = pool.unwrap().install(|| machine(Backend::Flex));
        assert_eq!(here == other, rayon::current_num_threads() == 3);
    }
}
