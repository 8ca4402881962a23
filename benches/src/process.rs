//! A side as the race sees it: a process that is asked in lines, and that never outlives the race.
//!
//! Three things see to that. Dropping a [`Process`] ends it; Ctrl-C ends all of them, with what they started
//! themselves; and a side ends by itself when its input does, should the race be killed without a chance to act.

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

/// Lines of a side's errors that are kept for a message.
const LAST_WORDS: usize = 20;

type Shared = Arc<Mutex<Child>>;

static RUNNING: Mutex<Vec<Shared>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C, or another request to stop, ends all sides.
pub(crate) fn end_on_ctrl_c() -> Result<(), RaceError> {
    let end_all = || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        for child in locked(&RUNNING).iter() {
            end(&mut locked(child));
        }
    };
    let listening = signals::listen(end_all).map(drop);
    listening.map_err(RaceError::while_trying("listen for Ctrl-C".into()))
}

/// An error where the user has asked to stop.
pub(crate) fn go_on() -> Result<(), RaceError> {
    match INTERRUPTED.load(Ordering::SeqCst) {
        true => Err(RaceError::Interrupted),
        false => Ok(()),
    }
}

/// A side that is ready for requests.
pub(crate) struct Process {
    name: String,
    child: Shared,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    last_words: Option<JoinHandle<VecDeque<String>>>,
}

impl Process {
    /// Starts a side and waits until it is ready. What it cannot start without is the user's to mend.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<(Self, Ready), RaceError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own: Ctrl-C in a terminal reaches the race alone, which then ends the whole group.
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
        // Held while starting, so that Ctrl-C comes before or finds it in the list.
        let mut running = locked(&RUNNING);
        go_on()?;
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| match error.kind() {
            // The race starts itself, and what it finds in PATH: Python.
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
            last_words: Some(thread::spawn(|| last_lines(errors))),
        })
    }

    /// Has it take steps, and waits for them.
    pub(crate) fn run(&mut self, steps: usize) -> Result<Steps, RaceError> {
        match self.ask(Request::Run(steps))? {
            Answer::Steps(taken) => taken
                .check(steps)
                .map_err(|reason| RaceError::Failed(format!("{}: {reason}", self.name))),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Has it multiply matrices.
    pub(crate) fn peak(&mut self) -> Result<Peak, RaceError> {
        match self.ask(Request::Peak)? {
            Answer::Peak(peak) => Ok(peak),
            other => Err(self.unexpected(&other)),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Answer, RaceError> {
        go_on()?;
        // Where nobody reads, nobody answers either; reading then finds out why.
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
            other => format!("{} answered something else: {}", self.name, other.to_line()),
        })
    }

    fn died(&mut self) -> RaceError {
        let status = wait_a_moment(&self.child);
        end(&mut locked(&self.child));
        if let Err(interrupted) = go_on() {
            return interrupted;
        }
        let lines = self.last_words.take().and_then(|lines| lines.join().ok());
        let reason = lines.as_ref().and_then(last_sentence);
        RaceError::Failed(match (reason, status) {
            (Some(reason), _) => format!("{} ended early: {reason}", self.name),
            (None, Some(status)) => format!("{} ended early, with {status}", self.name),
            (None, None) => format!("{} closed its output", self.name),
        })
    }
}

/// How a process ended whose output is closed: what remains to be done by it takes no time.
fn wait_a_moment(child: &Shared) -> Option<ExitStatus> {
    (0..50).find_map(|_| {
        let status = locked(child).try_wait().ok().flatten();
        if status.is_none() {
            thread::sleep(Duration::from_millis(20));
        }
        status
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut locked(&self.child));
        locked(&RUNNING).retain(|child| !Arc::ptr_eq(child, &self.child));
    }
}

/// Kills it, unless it has ended, and waits for that.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    #[cfg(unix)]
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: it takes no pointer. The group is the child's own, and its number is not given away as long as
        // the child has not been waited for, which only happens here, under the lock of whoever holds `child`.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    // It has just ended, or there is no such group: both fine.
    child.kill().ok();
    child.wait().ok();
}

fn last_lines(errors: ChildStderr) -> VecDeque<String> {
    let mut last = VecDeque::new();
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}

/// What says most in a traceback of Python's, or in a panic's message.
fn last_sentence(lines: &VecDeque<String>) -> Option<&str> {
    lines
        .iter()
        .map(|line| line.trim())
        .rfind(|line| !line.is_empty() && !line.starts_with("note: "))
}

/// A panic elsewhere does not make a list of children wrong.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    fn a_side_is_asked_and_answers() {
        let answer = r#"read line; echo "{\"peak\":{\"matmul_gflops\":${#line}}}"; cat >/dev/null"#;
        let (mut process, ready) =
            Process::start("the peer", shell(&format!("{READY}; {answer}"))).unwrap();
        assert_eq!(ready.version, "sh");
        let peak = process.peak().unwrap();
        assert_eq!(peak.matmul_gflops, "peak".len() as f64);
    }

    #[test]
    fn what_a_side_cannot_start_without_is_the_users_to_mend() {
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
    fn a_side_that_dies_is_quoted() {
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
    fn nonsense_and_wrong_answers_are_errors() {
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
            error.to_string().contains("answered something else"),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_side_and_what_it_started_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; {READY}; wait", pid.display());
        let (process, _) = Process::start("the peer", shell(&script)).unwrap();
        let child: libc::pid_t = std::fs::read_to_string(pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // SAFETY: signal 0 only asks whether the process is there.
        let is_there = || unsafe { libc::kill(child, 0) } == 0 && !is_zombie(child);
        assert!(is_there());
        drop(process);
        // Whoever adopts it waits for it in a while.
        let gone = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(20));
            !is_there()
        });
        assert!(gone, "process {child} outlived its side");
    }

    /// Killed, and not yet waited for by its new parent.
    fn is_zombie(process: libc::pid_t) -> bool {
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" Z"))
        })
    }
}
