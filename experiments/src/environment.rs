//! Where a run took place: versions, machine and device, as written to a run's `environment.json`.
//!
//! Nothing here influences a run. It is what a reader needs to judge whether two runs may be compared.

use std::num::NonZeroUsize;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, cpu_model};

/// The version of Burn in the workspace's lockfile; Burn does not tell its version itself.
const BURN_VERSION: &str = "0.22.1";

/// The circumstances of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// When this was recorded: RFC 3339, UTC, to the second.
    pub started: String,
    /// Version of foretoken.
    pub foretoken: String,
    /// Version of Burn.
    pub burn: String,
    /// Commit that the program was built from, with `-dirty` appended if tracked files differed from
    /// it; "unknown" when it was built outside a git checkout.
    pub git_revision: String,
    /// Compiler that built the program, as `rustc --version` says it.
    pub rustc: String,
    /// Cargo features of this build that concern backends.
    pub features: Vec<String>,
    /// Name of the backend used.
    pub backend: String,
    /// The GPU, or the CPU model, that the backend ran on; "none" if it has no usable device.
    pub device: String,
    /// The driver or library behind the device, with its version, where it says so.
    pub driver: Option<String>,
    /// Operating system, with its version.
    pub os: String,
    /// Processor architecture, such as `x86_64`.
    pub architecture: String,
    /// CPU model.
    pub cpu: String,
    /// Logical cores that this process may use.
    pub logical_cores: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
}

impl Environment {
    /// What is so here and now, for a run on `backend`. Never fails: what cannot be found out reads
    /// "unknown", or 0 for a count.
    pub fn capture(backend: Backend) -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let probe = backend.probe();
        Self {
            started: now(),
            foretoken: env!("CARGO_PKG_VERSION").to_owned(),
            burn: BURN_VERSION.to_owned(),
            git_revision: env!("FORETOKEN_GIT_REVISION").to_owned(),
            rustc: env!("FORETOKEN_RUSTC").to_owned(),
            features: features(),
            backend: backend.name().to_owned(),
            device: probe.device_name.unwrap_or_else(|| "none".to_owned()),
            driver: probe.driver,
            os: sysinfo::System::long_os_version()
                .unwrap_or_else(|| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu: cpu_model(),
            logical_cores: std::thread::available_parallelism().map_or(0, NonZeroUsize::get),
            memory_bytes: system.total_memory(),
        }
    }
}

impl Environment {
    /// Whether two runs of one backend took place on machines that cannot be told apart.
    pub(crate) fn is_same_machine(&self, other: &Self) -> bool {
        let machine = |of: &Self| {
            let Self {
                cpu,
                device,
                driver,
                os,
                ..
            } = of.clone();
            (cpu, device, driver, os)
        };
        machine(self) == machine(other)
    }
}

/// RFC 3339, UTC, to the second.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn features() -> Vec<String> {
    Backend::ALL
        .into_iter()
        .filter(|backend| backend.compiled_in())
        .map(Backend::feature)
        .chain(cfg!(feature = "wgpu-tuned").then_some("wgpu-tuned"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_from_json_and_holds_what_was_asked_for() {
        let backend = Backend::default_backend();
        let environment = Environment::capture(backend);
        let json = serde_json::to_string(&environment).expect("strings and numbers");
        let read: Environment = serde_json::from_str(&json).expect("what was just written");
        assert_eq!(read, environment);
        assert_eq!(environment.backend, backend.name());
        assert_ne!(environment.device, "none");
        assert!(environment.features.contains(&backend.name().to_owned()));
        assert!(environment.rustc.starts_with("rustc "));
        assert!(environment.logical_cores > 0 && environment.memory_bytes > 0);
    }

    #[test]
    fn the_time_is_rfc_3339_in_utc_and_now() {
        let before = SystemTime::now();
        let started = Environment::capture(Backend::default_backend()).started;
        assert!(started.ends_with('Z'), "{started}");
        let started = humantime::parse_rfc3339(&started).expect("RFC 3339");
        let late = started.duration_since(before).unwrap_or_default();
        assert!(late.as_secs() < 60, "{late:?}");
    }

    #[test]
    fn the_burn_version_is_the_lockfiles() {
        let lockfile = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lockfile = std::fs::read_to_string(lockfile).expect("the workspace's lockfile");
        let entry = format!("name = \"burn\"\nversion = \"{BURN_VERSION}\"\n");
        assert!(
            lockfile.contains(&entry),
            "Burn is no longer {BURN_VERSION}"
        );
    }

    #[test]
    fn the_revision_is_a_commit_or_unknown() {
        let revision = env!("FORETOKEN_GIT_REVISION");
        let commit = revision.trim_end_matches("-dirty");
        assert!(
            revision == "unknown"
                || commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{revision}"
        );
    }
}
