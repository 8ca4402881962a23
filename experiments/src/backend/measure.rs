//! Measures how fast a device multiplies matrices, which is the denominator of model FLOP utilisation (MFU).

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};

use super::BackendError;

/// Shortest product that is timed, because overhead dominates shorter ones. Matrices grow until a product takes this
/// long, or until they have [`MAX_SIDE`] rows.
const LONG_ENOUGH: Duration = Duration::from_millis(50);
/// Rows and columns of the smallest matrices tried.
const MIN_SIDE: usize = 128;
/// Rows and columns of the largest matrices tried: 256 MiB each in f32.
const MAX_SIDE: usize = 8192;
/// Minimum time for which products of the final size are repeated, at least [`MIN_RUNS`] times.
const MEASURE_FOR: Duration = Duration::from_millis(600);
/// Smallest number of timed products of the final size.
const MIN_RUNS: usize = 3;

/// Returns the peak speed of square f32 matrix products on `device`, in GFLOP/s (10⁹ floating-point operations per
/// second, 2n³ of them in an n×n product).
///
/// Takes the best of several runs, each timed until the device has finished, after an untimed one that compiles and
/// tunes kernels. It takes about a second; [`peak`](super::peak()) keeps the result.
///
/// # Errors
///
/// Returns [`BackendError::Measure`] if the device fails.
pub fn matmul_gflops(device: &Device) -> Result<f64, BackendError> {
    let device = &device.clone().without_autodiff();
    let mut side = MIN_SIDE;
    loop {
        let (left, right) = (matrix(side, 0, device), matrix(side, 1, device));
        product(&left, &right, device)?;
        let mut best = product(&left, &right, device)?;
        if best >= LONG_ENOUGH || side == MAX_SIDE {
            let started = Instant::now();
            let mut runs = 1;
            while runs < MIN_RUNS || started.elapsed() < MEASURE_FOR {
                best = best.min(product(&left, &right, device)?);
                runs += 1;
            }
            let operations = 2.0 * (side as f64).powi(3);
            return Ok(operations / best.as_secs_f64() / 1e9);
        }
        side *= 2;
    }
}

/// Returns the time of one product, from an idle device to a finished result.
fn product(left: &Tensor<2>, right: &Tensor<2>, device: &Device) -> Result<Duration, BackendError> {
    let started = Instant::now();
    // The result lives until after the sync, so that no backend can skip the work.
    let result = left.clone().matmul(right.clone());
    device
        .sync()
        .map_err(|error| BackendError::Measure(format!("{error:?}")))?;
    let elapsed = started.elapsed();
    drop(result);
    Ok(elapsed)
}

/// Makes a [side, side] matrix of values in [-0.5, 0.5) on the host, because measuring must not change the
/// device's random state. The values differ, because equal ones would let a GPU draw less power and clock higher.
fn matrix(side: usize, stream: u32, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..(side * side) as u32)
        .map(|i| {
            // The golden-ratio sequence is evenly spread, and neighbours differ.
            let bits = (i ^ (stream << 31)).wrapping_mul(0x9E37_79B9);
            (bits >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [side, side]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;

    #[test]
    fn the_measured_peak_is_plausible() {
        let device = Backend::default_backend().device().expect("a device");
        let gflops = matmul_gflops(&device).expect("a measurement");
        // The range is from a slow emulator to a rack of accelerators. Outside it, the units are wrong.
        assert!((0.01..1e6).contains(&gflops), "{gflops} GFLOP/s");
    }

    #[test]
    fn matrices_are_spread_over_the_interval_and_differ() {
        let device = Backend::default_backend().device().expect("a device");
        let [left, right] = [0, 1].map(|stream| {
            matrix(64, stream, &device)
                .try_into_vec_as::<f32>()
                .expect("values")
        });
        assert_ne!(left, right);
        for values in [left, right] {
            assert!(values.iter().all(|value| (-0.5..0.5).contains(value)));
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            assert!(mean.abs() < 0.01, "{mean}");
        }
    }
}
