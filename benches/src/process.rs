//! Process of a competitor, which receives requests as lines and never outlives the race.
//!
//! Dropping a [`Process`] kills it. Ctrl-C kills all of them, with the processes that they have started. If the race
//! itself is killed, a competitor ends by itself at the end of its input.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use foretoken::show::signals;

use crate::error::RaceError;
use crate::protocol::{Answer, Peak, Ready, Request, Steps};

/// Number of last lines of stderr that are kept for a message.
const STDERR_LINES: usize = 20;

type Shared = Arc<Mutex<Child>>;

static RUNNING: Mutex<Vec<Shared>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C, or another signal to stop, kill all competitors.
pub(crate) fn kill_on_ctrl_c() -> Result<(), RaceError> {
    let kill_all = || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        for child in lock(&RUNNING).iter() {
            kill(&mut lock(child));
        }
    };
    let listening = signals::listen(kill_all).map(drop);
    listening.map_err(RaceError::cannot("listen for Ctrl-C".into()))
}

/// Returns an error if the user has interrupted the race.
pub(crate) fn check_interrupt() -> Result<(), RaceError> {
    match INTERRUPTED.load(Ordering::SeqCst) {
        true => Err(RaceError::Interrupted),
        false => Ok(()),
    }
}

/// Competitor that is ready for requests.
pub(crate) struct Process {
    name: String,
    child: Shared,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    stderr_lines: Option<JoinHandle<VecDeque<String>>>,
}

impl Process {
    /// Starts a competitor and waits until it is ready. A failure to start is an error that the user can correct.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<(Self, Ready), RaceError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The process gets its own group, so that Ctrl-C in a terminal reaches the race only, which then kills the
        // group.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = Self::spawn(name, command)?;
        match process.read()? {
            Answer::Ready(ready) => Ok((process, ready)),
            Answer::Error(reason) => Err(RaceError::Usage(reason)),
            other => Err(process.unexpected(&other)),
        }
    }

    fn spawn(name: &str, mut command: Command) -> Result<Self, RaceError> {
        // The lock is held while starting, so that Ctrl-C comes earlier or finds the process in the list.
        let mut running = lock(&RUNNING);
        check_interrupt()?;
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| match error.kind() {
            // Apart from this program, only Python is started, which is searched for in PATH.
            ErrorKind::NotFound => RaceError::Usage(format!(
                "there is no {program}: run `source .ci/env.sh` first"
            )),
            _ => RaceError::Failed(format!("cannot start {program}: {error}")),
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        running.push(child.clone());
        let (Some(requests), Some(answers), Some(errors)) = pipes else {
            return Err(RaceError::Failed(format!("{name} has no pipes")));
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            requests,
            answers: BufReader::new(answers),
            stderr_lines: Some(thread::spawn(|| last_lines(errors))),
        })
    }

    /// Requests training steps and waits for them.
    pub(crate) fn run(&mut self, steps: usize) -> Result<Steps, RaceError> {
        match self.ask(Request::Run(steps))? {
            Answer::Steps(taken) => taken
                .check(steps)
                .map_err(|reason| RaceError::Failed(format!("{}: {reason}", self.name))),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Requests the speed of matrix products and waits for it.
    pub(crate) fn peak(&mut self) -> Result<Peak, RaceError> {
        match self.ask(Request::Peak)? {
            Answer::Peak(peak) => Ok(peak),
            other => Err(self.unexpected(&other)),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Answer, RaceError> {
        check_interrupt()?;
        // If the process has ended, reading the answer reports why.
        writeln!(self.requests, "{request}").ok();
        self.read()
    }

    fn read(&mut self) -> Result<Answer, RaceError> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(self.died()),
            Ok(_) => Answer::parse(&line)
                .map_err(|reason| RaceError::Failed(format!("{}: {reason}", self.name))),
            Err(error) => Err(RaceError::Failed(format!("{}: {error}", self.name))),
        }
    }

    fn unexpected(&self, answer: &Answer) -> RaceError {
        RaceError::Failed(match answer {
            Answer::Error(reason) => format!("{}: {reason}", self.name),
            other => format!(
                "{} sent an unexpected answer: {}",
                self.name,
                other.to_line()
            ),
        })
    }

    fn died(&mut self) -> RaceError {
        let status = wait_briefly(&self.child);
        kill(&mut lock(&self.child));
        if let Err(interrupted) = check_interrupt() {
            return interrupted;
        }
        let lines = self.stderr_lines.take().and_then(|lines| lines.join().ok());
        let reason = lines.as_ref().and_then(last_message);
        RaceError::Failed(match (reason, status) {
            (Some(reason), _) => format!("{} ended early: {reason}", self.name),
            (None, Some(status)) => format!("{} ended early, with {status}", self.name),
            (None, None) => format!("{} closed its output", self.name),
        })
    }
}

/// Waits up to a second for the exit status of a process whose output is closed.
fn wait_briefly(child: &Shared) -> Option<ExitStatus> {
    (0..50).find_map(|_| {
        let status = lock(child).try_wait().ok().flatten();
        if status.is_none() {
            thread::sleep(Duration::from_millis(20));
        }
        status
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(&mut lock(&self.child));
        lock(&RUNNING).retain(|child| !Arc::ptr_eq(child, &self.child));
    }
}

/// Kills a process, unless it has ended, and waits for its end.
fn kill(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    #[cfg(unix)]
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: the call takes no pointer. The group is that of the child, and its number is not reused until the
        // child has been waited for, which happens only in `try_wait` and `wait` under the lock of `child`.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    // An error means that the process has just ended or that there is no such group.
    child.kill().ok();
    child.wait().ok();
}

fn last_lines(errors: ChildStderr) -> VecDeque<String> {
    let mut last = VecDeque::new();
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if last.len() == STDERR_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}

/// Returns the most informative line of a traceback of Python or of a panic: the last one that is not a note.
fn last_message(lines: &VecDeque<String>) -> Option<&str> {
    lines
        .iter()
        .map(|line| line.trim())
        .rfind(|line| !line.is_empty() && !line.starts_with("note: "))
}

/// Locks a mutex. A panic of another thread does not invalidate the list of children.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const READY: &str = r#"echo '{"ready":{"version":"sh","parameters":1,"threads":1}}'"#;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn start_error(command: Command) -> RaceError {
        match Process::start("the peer", command) {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    }

    #[test]
    fn competitor_answers_a_request() {
        let answer = r#"read line; echo "{\"peak\":{\"matmul_gflops\":${#line}}}"; cat >/dev/null"#;
        let (mut process, ready) =
            Process::start("the peer", shell(&format!("{READY}; {answer}"))).unwrap();
        assert_eq!(ready.version, "sh");
        let peak = process.peak().unwrap();
        assert_eq!(peak.matmul_gflops, "peak".len() as f64);
    }

    #[test]
    fn failure_to_start_is_a_mistake_of_the_user() {
        let error = start_error(shell(r#"echo '{"error":"no PyTorch"}'"#));
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("no PyTorch", 2)
        );
        let error = start_error(Command::new("/nowhere/python3"));
        let expected = "there is no /nowhere/python3: run `source .ci/env.sh` first";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn error_of_a_dead_competitor_quotes_it() {
        let error = start_error(shell(
            "echo Traceback >&2; echo 'ValueError: no' >&2; exit 1",
        ));
        assert_eq!(error.to_string(), "the peer ended early: ValueError: no");
        assert_eq!(error.exit_code(), 1);
        let error = start_error(shell("exit 1"));
        assert_eq!(
            error.to_string(),
            "the peer ended early, with exit status: 1"
        );
    }

    #[test]
    fn invalid_and_unexpected_answers_are_errors() {
        let error = start_error(shell("echo hello"));
        assert!(
            error.to_string().contains("\"hello\" is not an answer"),
            "{error}"
        );
        let peak = r#"read line; echo '{"peak":{"matmul_gflops":1}}'; cat >/dev/null"#;
        let (mut process, _) =
            Process::start("the peer", shell(&format!("{READY}; {peak}"))).unwrap();
        let error = process.run(1).unwrap_err();
        assert!(
            error.to_string().contains("sent an unexpected answer"),
            "{error}"
        );
    }

    #[test]
    fn dropping_a_competitor_kills_it_and_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; {READY}; wait", pid.display());
        let (process, _) = Process::start("the peer", shell(&script)).unwrap();
        let child: libc::pid_t = std::fs::read_to_string(pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // SAFETY: signal 0 only checks whether the process exists.
        let exists = || unsafe { libc::kill(child, 0) } == 0 && !is_zombie(child);
        assert!(exists());
        drop(process);
        // The process that adopts it waits for it after some time.
        let gone = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(20));
            !exists()
        });
        assert!(gone, "process {child} outlived its competitor");
    }

    /// Whether a killed process has not been waited for by its new parent yet.
    fn is_zombie(process: libc::pid_t) -> bool {
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" Z"))
        })
    }
}
