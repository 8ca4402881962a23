//! Names and devices of backends: which exist, which are compiled in, and which work on this machine.
//!
//! Only this module names Burn's devices. Other modules take a [`Backend`] by name and a [`Device`] from
//! [`Backend::device`], so that no other code depends on the backends of a build.
//!
//! [`Device`]: burn::tensor::Device

mod measure;
mod open;
pub(crate) mod panics;
mod peak;
pub mod precision;
mod threads;

pub use measure::matmul_gflops;
pub use open::Probe;
pub(crate) use open::cpu_model;
pub(crate) use peak::machine;
pub use peak::{measured_peak, peak};
pub(crate) use threads::threads;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::precision::Precision;
use crate::spelling::nearest;

/// The version of Burn in the workspace's lockfile, because Burn does not export its version.
pub(crate) const BURN_VERSION: &str = "0.22.1";

#[cfg(not(any(
    feature = "flex",
    feature = "ndarray",
    feature = "libtorch",
    feature = "wgpu",
    feature = "cuda",
    feature = "rocm",
    feature = "cubecl-cpu"
)))]
compile_error!(
    "foretoken needs at least one backend: enable one or more of the features flex, ndarray, \
     libtorch, wgpu, wgpu-tuned, cuda, rocm, cubecl-cpu (flex is the default)"
);

/// A Burn backend, whether or not this build contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Backend {
    /// Burn's own CPU kernels in Rust.
    Flex,
    /// The `ndarray` crate on the CPU. Deprecated in Burn 0.22, removed in 0.23.
    NdArray,
    /// PyTorch's tensor library on the CPU. Deprecated in Burn 0.22, removed in 0.23.
    LibTorch,
    /// Vulkan, Metal or DirectX 12 through WGSL, whichever the machine has; OpenGL if it has none of them.
    Wgpu,
    /// NVIDIA GPUs.
    Cuda,
    /// AMD GPUs.
    Rocm,
    /// CubeCL's kernels compiled for the CPU by LLVM.
    CubeclCpu,
}

impl Backend {
    /// Every backend; the first one that is compiled in is the default.
    pub const ALL: [Self; 7] = [
        Self::Flex,
        Self::NdArray,
        Self::LibTorch,
        Self::Wgpu,
        Self::Cuda,
        Self::Rocm,
        Self::CubeclCpu,
    ];

    /// Returns the name on the command line, in experiment files and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::LibTorch => "libtorch",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::CubeclCpu => "cubecl-cpu",
        }
    }

    /// Returns the Cargo feature that compiles this backend in, which has the same name.
    pub fn feature(self) -> &'static str {
        self.name()
    }

    /// Returns whether this build contains the backend.
    pub fn compiled_in(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::LibTorch => cfg!(feature = "libtorch"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::CubeclCpu => cfg!(feature = "cubecl-cpu"),
        }
    }

    /// Returns the first backend of [`Backend::ALL`] that is compiled in. It may have no device here, which
    /// [`Backend::device`] reports.
    pub fn default_backend() -> Self {
        Self::ALL
            .into_iter()
            .find(|backend| backend.compiled_in())
            .expect("a build without any backend does not compile")
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Backend> for String {
    fn from(backend: Backend) -> Self {
        backend.name().to_owned()
    }
}

impl TryFrom<String> for Backend {
    type Error = BackendError;

    fn try_from(name: String) -> Result<Self, BackendError> {
        name.parse()
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| BackendError::Unknown(name.to_owned()))
    }
}

/// The reason why a backend cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No backend has this name.
    #[error("unknown backend \"{0}\"{nearest}; the backends are {all}", nearest = suggestion(.0), all = names())]
    Unknown(String),
    /// The backend exists, but this build does not contain it.
    #[error("backend {backend} is not compiled in: rebuild with --features {feature}", feature = .backend.feature())]
    NotCompiledIn {
        /// The requested backend.
        backend: Backend,
    },
    /// The backend is compiled in, but this machine has no device for it, or the device does not work.
    #[error("backend {backend} does not work here: {reason}; {advice}", advice = open::advice(*.backend))]
    NoDevice {
        /// The requested backend.
        backend: Backend,
        /// The message of the driver or of Burn, if there is one.
        reason: String,
    },
    /// The device does not compute in this precision.
    #[error(
        "backend {backend} does not compute in {precision} here; choose another of the element types that \
         `foretoken backends` lists"
    )]
    Precision {
        /// The backend.
        backend: Backend,
        /// The requested precision.
        precision: Precision,
    },
    /// The device failed while its speed was measured.
    #[error("the device failed while its speed was measured: {0}")]
    Measure(String),
}

/// Returns `, the nearest is "flex"` if a known name is similar, and otherwise an empty text.
fn suggestion(name: &str) -> String {
    nearest(name, Backend::ALL.map(Backend::name))
        .map(|name| format!(", the nearest is \"{name}\""))
        .unwrap_or_default()
}

fn names() -> String {
    Backend::ALL.map(Backend::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_backend() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
    }

    #[test]
    fn the_error_of_an_unknown_name_suggests_the_nearest_and_lists_all() {
        for (typed, meant) in [
            ("wgpuu", "wgpu"),
            ("Flex", "flex"),
            ("torch", "libtorch"),
            ("cubecl", "cubecl-cpu"),
            ("nd-array", "ndarray"),
        ] {
            let error = typed
                .parse::<Backend>()
                .expect_err("not a backend")
                .to_string();
            assert!(
                error.contains(&format!("the nearest is \"{meant}\"")),
                "{error}"
            );
            assert!(error.contains("flex, ndarray, libtorch"), "{error}");
        }
        let error = "xyzzy"
            .parse::<Backend>()
            .expect_err("not a backend")
            .to_string();
        assert!(!error.contains("nearest"), "{error}");
    }

    #[test]
    fn the_default_is_the_first_one_compiled_in() {
        let default = Backend::default_backend();
        assert!(default.compiled_in());
        assert!(
            Backend::ALL
                .iter()
                .take_while(|backend| **backend != default)
                .all(|backend| !backend.compiled_in())
        );
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_names_its_feature() {
        for backend in Backend::ALL.into_iter().filter(|b| !b.compiled_in()) {
            let error = backend.device().expect_err("not compiled in");
            assert_eq!(error, BackendError::NotCompiledIn { backend });
            assert!(
                error
                    .to_string()
                    .ends_with(&format!("rebuild with --features {}", backend.feature())),
                "{error}"
            );
        }
    }
}
