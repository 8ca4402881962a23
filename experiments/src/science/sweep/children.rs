//! Child processes of a sweep, each of which trains one run.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::directory::{SweepDirectory, fixable};
use super::run::Shared;
use crate::Error;

/// Divides the threads of this process among jobs, and returns the number for each. Measurements in this process then
/// use as many threads as a run will.
pub fn divide_threads(jobs: usize) -> usize {
    let given = std::env::var("RAYON_NUM_THREADS").ok();
    let given = given
        .and_then(|threads| threads.parse().ok())
        .filter(|threads| *threads > 0);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (given.unwrap_or_else(cores) / jobs.max(1)).max(1);
    // A pool that exists already keeps its threads, and measurements are a little off.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    threads
}

/// Starts a child that claims a run and trains it, from a checkpoint of its trunk if one is named.
pub(super) fn spawn(
    sweep: &SweepDirectory,
    program: &Path,
    threads: usize,
    name: &str,
    claim: usize,
    shared: Option<Shared>,
) -> Result<Child, Error> {
    let path = sweep.log(name);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.map_err(Error::io("create", &path)).map_err(fixable)?;
    let mut command = Command::new(program);
    command
        .args(["sweep", "work"])
        .arg(sweep.path())
        .arg(name)
        .arg(format!("--claim={claim}"))
        .arg(format!("--parent={}", std::process::id()));
    if let Some(shared) = shared {
        command
            .arg(format!("--trunk={}", shared.trunk))
            .arg(format!("--step={}", shared.step));
    }
    for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS"] {
        command.env(variable, threads.to_string());
    }
    // A Ctrl-C at the terminal reaches this process only, which passes it on once.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(Error::io("start", program))
}

/// Asks a child to stop with a checkpoint.
#[cfg(unix)]
pub(super) fn terminate(child: &Child) {
    // SAFETY: `kill` takes no pointer, and the child was not waited for, so that its number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// A console of Windows sends Ctrl-C to the children itself.
#[cfg(not(unix))]
pub(super) fn terminate(_child: &Child) {}
