//! The environment of a run: versions, machine and device, as written to `environment.json` at the start and at each
//! resumption.
//!
//! Nothing here influences a run. A reader needs it to judge whether two runs can be compared.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backend::{BURN_VERSION, Backend, cpu_model, threads};
use crate::record::run::RunDirectory;
use crate::show::format::{self, NONE};

/// The environment of a run, at its start or at a resumption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The time of recording: RFC 3339, UTC, to the second.
    pub started: String,
    /// The number of optimizer steps taken before.
    #[serde(default)]
    pub step: usize,
    /// Version of foretoken.
    pub foretoken: String,
    /// Version of Burn.
    pub burn: String,
    /// Commit that the program was built from, with `-dirty` appended if tracked files differed from
    /// it; "unknown" if it was built outside a git checkout.
    pub git_revision: String,
    /// Compiler that built the program, as printed by `rustc --version`.
    pub rustc: String,
    /// Cargo features of this build that concern backends.
    pub features: Vec<String>,
    /// Name of the backend.
    pub backend: String,
    /// The GPU, or the CPU model, that the backend ran on; "none" if it has no usable device.
    pub device: String,
    /// The driver or library of the device, with its version; `None` if not reported.
    pub driver: Option<String>,
    /// Operating system, with its version.
    pub os: String,
    /// Processor architecture, such as `x86_64`.
    pub architecture: String,
    /// CPU model.
    pub cpu: String,
    /// Logical cores that this process may use.
    pub logical_cores: usize,
    /// The number of threads of each thread pool: `rayon` (Flex's and NdArray's operations, tokenizing), `loader`
    /// (reads batches ahead) and `libtorch`. Empty in files of older versions.
    #[serde(default)]
    pub threads: BTreeMap<String, usize>,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
}

impl Environment {
    /// Records the current environment, for a run on `backend`. It never fails: an unknown text is "unknown", and an
    /// unknown count 0.
    pub fn capture(backend: Backend) -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let probe = backend.probe();
        Self {
            started: now(),
            step: 0,
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
            threads: threads(backend),
            memory_bytes: system.total_memory(),
        }
    }
}

impl Environment {
    /// Several environments as rows of a table: the name of each row, whether a difference in it matters, and the
    /// values, one for each environment.
    pub(crate) fn side_by_side(all: &[&Self]) -> Vec<(&'static str, bool, Vec<String>)> {
        type Field = fn(&Environment) -> String;
        // The time always differs and says nothing.
        let fields: [(&str, bool, Field); 14] = [
            ("device", true, |e| e.device.clone()),
            ("driver", true, |e| e.driver.clone().unwrap_or(NONE.into())),
            ("operating system", true, |e| e.os.clone()),
            ("architecture", true, |e| e.architecture.clone()),
            ("CPU", true, |e| e.cpu.clone()),
            ("logical cores", true, |e| e.logical_cores.to_string()),
            ("threads", true, listed_threads),
            ("memory", true, |e| format::bytes(e.memory_bytes)),
            ("Burn", true, |e| e.burn.clone()),
            ("foretoken", true, |e| e.foretoken.clone()),
            ("revision", true, |e| short_revision(&e.git_revision)),
            ("compiler", true, |e| e.rustc.clone()),
            ("features", true, |e| e.features.join(" ")),
            ("started", false, |e| e.started.clone()),
        ];
        fields
            .into_iter()
            .map(|(name, matters, field)| {
                let values = all.iter().map(|environment| field(environment));
                (name, matters, values.collect())
            })
            .collect()
    }

    /// Returns whether two runs of one backend took place on machines that cannot be told apart.
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

/// Threads of each part, such as `loader 1, rayon 2`.
fn listed_threads(environment: &Environment) -> String {
    let parts = environment.threads.iter();
    let parts: Vec<_> = parts.map(|(part, n)| format!("{part} {n}")).collect();
    match parts.is_empty() {
        true => NONE.into(),
        false => parts.join(", "),
    }
}

/// The first digits of a commit, as people name it; what follows a dash stays.
fn short_revision(revision: &str) -> String {
    let (commit, rest) = match revision.split_once('-') {
        Some((commit, rest)) => (commit, format!("-{rest}")),
        None => (revision, String::new()),
    };
    let commit: String = commit.chars().take(12).collect();
    commit + &rest
}

/// The content of `environment.json`: the environment at the start of a run, with those at its resumptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The environment at the start.
    #[serde(flatten)]
    pub start: Environment,
    /// The environment at each resumption.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Environment>,
}

impl History {
    /// Name of its file in a run directory.
    pub const FILE: &str = "environment.json";

    /// Reads the history of a run; `None` if it has none.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub fn of_run(run: &RunDirectory) -> Result<Option<Self>, Error> {
        run.read_json(Self::FILE)
    }

    /// Adds the current environment to a run's history, at `step`.
    pub(crate) fn add(run: &RunDirectory, backend: Backend, step: usize) -> Result<(), Error> {
        let here = Environment {
            step,
            ..Environment::capture(backend)
        };
        let history = match Self::of_run(run)? {
            Some(mut history) => {
                history.resumed.push(here);
                history
            }
            None => Self {
                start: here,
                resumed: Vec::new(),
            },
        };
        run.write(Self::FILE, serde_json::to_vec_pretty(&history)?)
    }

    /// Returns one environment that summarises all. Values that changed are joined in order, as `A, then B`.
    pub fn summary(&self) -> Environment {
        let all = || std::iter::once(&self.start).chain(&self.resumed);
        let text = |of: fn(&Environment) -> &str| {
            let mut values: Vec<&str> = all().map(of).collect();
            values.dedup();
            values.join(", then ")
        };
        let last = self.resumed.last().unwrap_or(&self.start);
        Environment {
            started: self.start.started.clone(),
            step: self.start.step,
            foretoken: text(|e| &e.foretoken),
            burn: text(|e| &e.burn),
            git_revision: text(|e| &e.git_revision),
            rustc: text(|e| &e.rustc),
            device: text(|e| &e.device),
            driver: last
                .driver
                .is_some()
                .then(|| text(|e| e.driver.as_deref().unwrap_or("none"))),
            os: text(|e| &e.os),
            architecture: text(|e| &e.architecture),
            cpu: text(|e| &e.cpu),
            ..last.clone()
        }
    }
}

/// Returns the current time in RFC 3339, UTC, to the second.
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
    fn an_environment_reads_back_from_json() {
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

    fn history(devices: &[&str]) -> History {
        let mut all = devices
            .iter()
            .enumerate()
            .map(|(number, device)| Environment {
                device: (*device).into(),
                step: 10 * number,
                ..Environment::capture(Backend::default_backend())
            });
        History {
            start: all.next().expect("at least one"),
            resumed: all.collect(),
        }
    }

    #[test]
    fn a_history_reads_back_and_its_start_reads_as_one_environment() {
        let history = history(&["a CPU", "another CPU"]);
        let json = serde_json::to_string(&history).expect("strings and numbers");
        assert_eq!(
            serde_json::from_str::<History>(&json).expect("what was just written"),
            history
        );
        assert_eq!(
            serde_json::from_str::<Environment>(&json).expect("what was just written"),
            history.start
        );
    }

    #[test]
    fn a_file_of_an_older_version_reads_as_a_history_without_resumptions() {
        let old = r#"{"started": "2026-01-02T03:04:05Z", "foretoken": "0.1.0", "burn": "0.22.1",
            "git_revision": "unknown", "rustc": "rustc 1.95.0", "features": ["flex"], "backend": "flex",
            "device": "a CPU", "driver": null, "os": "Linux", "architecture": "x86_64", "cpu": "a CPU",
            "logical_cores": 2, "memory_bytes": 1000}"#;
        let history: History = serde_json::from_str(old).expect("an old file");
        assert!(history.resumed.is_empty() && history.start.threads.is_empty());
        assert_eq!(history.start.device, "a CPU");
    }

    #[test]
    fn a_summary_joins_values_that_changed() {
        assert_eq!(history(&["a", "a"]).summary().device, "a");
        let summary = history(&["a", "b", "b", "a"]).summary();
        assert_eq!(summary.device, "a, then b, then a");
        assert!(!summary.os.contains("then"), "{}", summary.os);
    }

    #[test]
    fn the_start_is_the_current_time_in_rfc_3339_and_utc() {
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
