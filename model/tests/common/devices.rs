//! The backends that a test runs on.

use burn::tensor::Device;

/// Every backend that is compiled in and needs no GPU.
#[allow(deprecated)] // NdArray and LibTorch: Burn 0.22 is the last to have them
pub(crate) fn devices() -> Vec<(&'static str, Device)> {
    vec![
        #[cfg(feature = "flex")]
        ("flex", Device::flex()),
        #[cfg(feature = "ndarray")]
        ("ndarray", Device::ndarray()),
        #[cfg(feature = "libtorch")]
        ("libtorch", Device::libtorch()),
        #[cfg(feature = "wgpu")]
        (
            "wgpu",
            Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        ),
    ]
}
