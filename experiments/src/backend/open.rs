//! Opens a backend's device, describes it, and tests whether it works.
//!
//! Drivers fail in different ways: CubeCL panics when CUDA's compiler library is missing, often on another thread; a
//! software Vulkan driver can take minutes for a kernel. A device is therefore opened once per process, on a helper
//! thread, and must add two numbers before it is used. A failure there becomes a one-line reason. A driver that crashes
//! the process cannot be caught this way, nor can a missing libtorch, which stops the program before it starts.

use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

#[cfg(feature = "wgpu")]
use burn::tensor::wgpu::WgpuInitError;
use burn::tensor::{DType, Device, Tensor};

use super::{Backend, BackendError};
use crate::backend::panics::PanicRecord;
use crate::backend::precision::Precision;

/// Longest time that a device may take to add two numbers. Compiling the first kernel takes seconds on a GPU, and
/// tens of seconds with a software Vulkan driver.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The element types that are listed for a device.
const DTYPES: [DType; 12] = [
    DType::F64,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U64,
    DType::U32,
    DType::U16,
    DType::U8,
];

/// Description of a backend on this machine, from [`Backend::probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The backend that was probed.
    pub backend: Backend,
    /// Whether this build contains it.
    pub compiled_in: bool,
    /// The Cargo feature that adds it.
    pub feature: &'static str,
    /// `Ok` if its device computes, and otherwise the reason why not.
    pub usable: Result<(), String>,
    /// The GPU, or the CPU model; `None` if not usable.
    pub device_name: Option<String>,
    /// The driver or library of the device, with its version; `None` if not reported.
    pub driver: Option<String>,
    /// Element types with storage and arithmetic, widest first; empty if not usable.
    pub dtypes: Vec<String>,
}

/// A device that passed the test.
struct OpenDevice {
    device: Device,
    name: String,
    driver: Option<String>,
}

impl Backend {
    /// Returns the backend's default device, without autodiff: the CPU, or the GPU that its driver lists first.
    ///
    /// The first call opens the device and tests it by adding two numbers, which also fixes its default
    /// element types to the backend's own. Later calls return the same device.
    ///
    /// # Errors
    ///
    /// Returns [`BackendError::NotCompiledIn`], or [`BackendError::NoDevice`] if there is no device or it does not
    /// compute.
    pub fn device(self) -> Result<Device, BackendError> {
        self.opened().map(|opened| opened.device.clone())
    }

    /// Returns the backend's device, for a model in `precision`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`device`](Self::device), and [`BackendError::Precision`] if the device does not compute
    /// in `precision`.
    pub fn device_for(self, precision: Precision) -> Result<Device, BackendError> {
        let device = self.device()?;
        match device.supports_dtype(precision.dtype()) {
            true => Ok(device),
            false => Err(BackendError::Precision {
                backend: self,
                precision,
            }),
        }
    }

    /// Returns everything known about the backend on this machine. It never fails, because errors are part of the
    /// description.
    pub fn probe(self) -> Probe {
        let opened = self.opened();
        Probe {
            backend: self,
            compiled_in: self.compiled_in(),
            feature: self.feature(),
            device_name: opened.as_ref().ok().map(|opened| opened.name.clone()),
            driver: opened
                .as_ref()
                .ok()
                .and_then(|opened| opened.driver.clone()),
            dtypes: opened
                .as_ref()
                .map(|opened| supported(&opened.device))
                .unwrap_or_default(),
            usable: opened.map(|_| ()).map_err(|error| match error {
                BackendError::NotCompiledIn { .. } => "not compiled in".to_owned(),
                BackendError::NoDevice { reason, .. } => reason,
                other => other.to_string(),
            }),
        }
    }

    fn opened(self) -> Result<&'static OpenDevice, BackendError> {
        static OPENED: [OnceLock<Result<OpenDevice, String>>; Backend::ALL.len()] =
            [const { OnceLock::new() }; Backend::ALL.len()];
        if !self.compiled_in() {
            return Err(BackendError::NotCompiledIn { backend: self });
        }
        OPENED[self as usize]
            .get_or_init(|| {
                run_guarded(move || {
                    let opened = open(self)?;
                    test(&opened.device)?;
                    Ok(opened)
                })
            })
            .as_ref()
            .map_err(|reason| BackendError::NoDevice {
                backend: self,
                reason: reason.clone(),
            })
    }
}

// NdArray and LibTorch are deprecated in Burn 0.22 and removed in 0.23. Burn 0.22 is pinned because it is the newest
// release that has them.
#[allow(deprecated)]
fn open(backend: Backend) -> Result<OpenDevice, String> {
    match backend {
        #[cfg(feature = "flex")]
        Backend::Flex => Ok(cpu_device(Device::flex(), None)),
        #[cfg(feature = "ndarray")]
        Backend::NdArray => Ok(cpu_device(Device::ndarray(), None)),
        #[cfg(feature = "libtorch")]
        Backend::LibTorch => Ok(cpu_device(
            Device::libtorch(),
            Some(concat!("libtorch ", env!("FORETOKEN_LIBTORCH"))),
        )),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => {
            let (device, setup) =
                Device::wgpu_options()
                    .init_with_setup()
                    .map_err(|error| match error {
                        WgpuInitError::AdapterUnavailable { message, .. } => message,
                        other => other.to_string(),
                    })?;
            let adapter = setup.adapter.get_info();
            // Drivers may leave either part empty.
            let mut driver = adapter.backend.to_string();
            for part in [adapter.driver, adapter.driver_info] {
                if !part.is_empty() {
                    driver = format!("{driver} {part}");
                }
            }
            Ok(OpenDevice {
                device,
                name: adapter.name,
                driver: Some(driver),
            })
        }
        #[cfg(feature = "cuda")]
        Backend::Cuda => first_device(
            burn::tensor::DeviceType::Cuda,
            "no NVIDIA GPU with a driver was found",
            std::fs::read_to_string("/proc/driver/nvidia/version")
                .ok()
                .and_then(|version| version.lines().next().map(str::to_owned)),
        ),
        #[cfg(feature = "rocm")]
        Backend::Rocm => first_device(
            burn::tensor::DeviceType::Rocm,
            "no AMD GPU with the HIP runtime was found",
            None,
        ),
        #[cfg(feature = "cubecl-cpu")]
        Backend::CubeclCpu => Ok(cpu_device(Device::cpu(), None)),
        #[allow(unreachable_patterns)] // unless every backend is compiled in
        _ => Err("not compiled in".to_owned()),
    }
}

/// Returns what to do about a backend that is compiled in and does not work.
pub(super) fn advice(backend: Backend) -> &'static str {
    match backend {
        Backend::Wgpu => {
            "install a Vulkan driver (the GPU vendor's, or a software one), or use another backend: \
             `foretoken backends` lists what works here"
        }
        Backend::Cuda => {
            "check that `nvidia-smi` lists a GPU and that the CUDA toolkit (NVRTC) is installed, or \
             use another backend: `foretoken backends` lists what works here"
        }
        Backend::Rocm => {
            "check that `rocminfo` lists a GPU and that the HIP runtime is installed, or use another \
             backend: `foretoken backends` lists what works here"
        }
        Backend::Flex | Backend::NdArray | Backend::LibTorch | Backend::CubeclCpu => {
            "use another backend: `foretoken backends` lists what works here"
        }
    }
}

fn cpu_device(device: Device, library: Option<&str>) -> OpenDevice {
    OpenDevice {
        device,
        name: cpu_model(),
        driver: library.map(str::to_owned),
    }
}

/// Returns the first device of a GPU runtime whose devices can be listed without opening them.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn first_device(
    kind: burn::tensor::DeviceType,
    nothing: &str,
    driver: Option<String>,
) -> Result<OpenDevice, String> {
    let device = Device::enumerate(kind)
        .into_iter()
        .next()
        .ok_or_else(|| nothing.to_owned())?;
    let name = device.identity().map(|identity| identity.name);
    Ok(OpenDevice {
        name: name.unwrap_or_else(|| format!("{device:?}")),
        device,
        driver,
    })
}

/// Returns the CPU's name, or its architecture if it has no name.
pub(crate) fn cpu_model() -> String {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    system
        .cpus()
        .first()
        .map(|cpu| cpu.brand().trim().to_owned())
        .filter(|brand| !brand.is_empty())
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn supported(device: &Device) -> Vec<String> {
    DTYPES
        .into_iter()
        .filter(|dtype| device.supports_dtype(*dtype))
        .map(|dtype| dtype.name().to_owned())
        .collect()
}

/// Tests the device by adding 1 to [1, 2].
fn test(device: &Device) -> Result<(), String> {
    let sum = (Tensor::<1>::from_floats([1.0, 2.0], device) + 1.0)
        .try_into_vec_as::<f32>()
        .map_err(|error| format!("{error:?}"))?;
    if sum == [2.0, 3.0] {
        Ok(())
    } else {
        Err(format!("the device computes [1, 2] + 1 as {sum:?}"))
    }
}

/// Runs `work` on another thread, and turns a panic or a time longer than [`TIMEOUT`] into a reason.
fn run_guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let panics = PanicRecord::start();
    let (sender, receiver) = mpsc::channel();
    // If sending fails, the receiver has already reported the timeout.
    thread::spawn(move || sender.send(work()).ok());
    match receiver.recv_timeout(TIMEOUT) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!(
            "the device did not answer within {} s",
            TIMEOUT.as_secs()
        )),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(panics
            .first()
            .unwrap_or("the device stopped without a message")
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "flex")]
    fn flex_works_everywhere() {
        let probe = Backend::Flex.probe();
        assert_eq!(probe.usable, Ok(()));
        assert!(probe.compiled_in);
        assert!(probe.device_name.is_some_and(|name| !name.is_empty()));
        assert!(probe.dtypes.iter().any(|dtype| dtype == "f32"));
    }

    #[test]
    fn every_backend_can_be_probed_without_a_panic() {
        for backend in Backend::ALL {
            let probe = backend.probe();
            assert_eq!(probe.usable.is_ok(), backend.device().is_ok());
            assert_eq!(probe.usable.is_ok(), !probe.dtypes.is_empty());
            if !probe.compiled_in {
                assert_eq!(probe.usable, Err("not compiled in".to_owned()));
            }
        }
    }

    #[test]
    fn a_panic_on_another_thread_becomes_the_reason() {
        let outcome: Result<(), _> = run_guarded(|| {
            let runner = thread::spawn(|| panic!("no libexample.so"));
            runner.join().map_err(|_| "broken channel").expect("runner")
        });
        assert_eq!(outcome, Err("no libexample.so".to_owned()));
    }

    #[test]
    fn errors_and_results_are_passed_on() {
        assert_eq!(
            run_guarded(|| Err::<(), _>("no adapter".to_owned())),
            Err("no adapter".to_owned())
        );
        assert_eq!(run_guarded(|| Ok(3)), Ok(3));
    }
}
