//! Tests on a terminal: dashboards, signals from keys, and hang-ups.
#![cfg(unix)]

use super::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Escape sequence that enters the alternate screen.
const ENTER: &str = "\x1b[?1049h";
/// Escape sequence that leaves the alternate screen.
const LEAVE: &str = "\x1b[?1049l";

/// A process on its own terminal.
struct OnTerminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    closing: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let (mut master, mut slave) = (0, 0);
        let size = libc::winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the pointers are valid or null, and both descriptors are new and owned below.
        let (master, slave) = unsafe {
            let nothing = std::ptr::null_mut();
            let opened = libc::openpty(
                &raw mut master,
                &raw mut slave,
                nothing,
                std::ptr::null_mut(),
                &raw const size as *mut _,
            );
            assert_eq!(opened, 0);
            libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(master, libc::F_SETFL, libc::O_NONBLOCK);
            (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        if command.get_envs().all(|(name, _)| name != "TERM") {
            command.env("TERM", "xterm-256color");
        }
        // SAFETY: both calls are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop((command, slave));
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        let (all, closed) = (shown.clone(), closing.clone());
        let read = move || {
            let mut bytes = [0; 1 << 16];
            while !closed.load(Ordering::SeqCst) {
                match screen.read(&mut bytes) {
                    Ok(n) => all.lock().unwrap().extend(&bytes[..n]),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        };
        Self {
            child,
            keyboard,
            shown,
            closing,
            reader: Some(thread::spawn(read)),
        }
    }

    fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until the terminal shows `what` after the first `from` bytes. Returns the end of `what`.
    #[track_caller]
    fn wait_for(&self, what: &str, from: usize) -> usize {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let shown = self.shown();
            if let Some(at) = shown.get(from..).and_then(|later| later.find(what)) {
                return from + at + what.len();
            }
            assert!(Instant::now() < deadline, "no {what:?} in {shown:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the terminal, and returns the process.
    fn hang_up(mut self) -> Child {
        self.closing.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        drop(self.keyboard);
        self.child
    }
}

fn send(child: &Child, signal: libc::c_int) {
    // SAFETY: the process is a child that has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// Returns the status of a process that must end in time. Kills it otherwise.
#[track_caller]
fn ends(child: &mut Child, within: Duration, what: &str) -> ExitStatus {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: still running after {within:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the command of a tiny run that does not end by itself.
fn endless(bench: &Bench, out: &str) -> Command {
    let args = [
        "--set",
        "train.steps=1000000",
        "--set",
        "train.eval_every=200",
        "--out",
        out,
    ];
    bench.tiny(&args)
}

fn comparison(bench: &Bench, out: &str) -> Command {
    let mut command = bench.command(&["compare", "--backends", "flex", "--steps", "1000000"]);
    for assignment in TINY {
        command.args(["--set", assignment]);
    }
    command.args(["--set", "train.steps=1000000", "--out", out]);
    command
}

fn steps(run: &Path) -> usize {
    std::fs::read_to_string(run.join("metrics.jsonl"))
        .map_or(0, |text| text.matches("\"step\",").count())
}

/// Makes a command start with a signal ignored, as `nohup` does.
fn ignoring(mut command: Command, signal: libc::c_int) -> Command {
    // SAFETY: the call is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal, libc::SIG_IGN);
            Ok(())
        });
    }
    command
}

#[test]
fn a_hang_up_ends_the_program_and_saves_the_run() {
    let bench = Bench::trained();
    // Hang-ups are before the dashboard opens, and up to well into the run, for each command.
    let moments: Vec<(usize, u64)> = (0..20)
        .map(|k| (k % 3, 15 * (k as u64 / 3).pow(2)))
        .collect();
    for group in moments.chunks(7) {
        let started = group.iter().map(|&(kind, after)| {
            let out = format!("{kind}-{after}");
            let command = match kind {
                0 => endless(&bench, &out),
                1 => comparison(&bench, &out),
                _ => bench.command(&["generate", "run", "--interactive", "--tokens", "100000000"]),
            };
            (kind, after, out, OnTerminal::start(command))
        });
        let mut gone: Vec<_> = started
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(kind, after, out, terminal)| {
                if after > 0 {
                    match kind {
                        2 => {
                            terminal.wait_for("> ", 0);
                            if after > 100 {
                                terminal.press("The \r");
                            }
                        }
                        _ => {
                            terminal.wait_for(ENTER, 0);
                        }
                    }
                }
                thread::sleep(Duration::from_millis(after));
                (kind, after, out, terminal.hang_up())
            })
            .collect();
        for (kind, after, out, child) in &mut gone {
            let what = format!("command {kind}, {after} ms");
            let status = ends(child, Duration::from_secs(20), &what);
            // The signal itself ends a program that does not listen yet, or only reads a prompt.
            let by_signal = status.signal() == Some(libc::SIGHUP);
            assert!(status.code() == Some(130) || by_signal, "{what}: {status}");
            let run = bench.path(out);
            let steps = steps(&run);
            if *kind == 0 && steps > 0 {
                let checkpoint = run.join(format!("checkpoints/step-{steps}"));
                assert!(checkpoint.is_dir(), "{what}: no {}", checkpoint.display());
            }
        }
    }
}

#[test]
fn a_run_that_ignores_hang_ups_continues_without_its_terminal() {
    let bench = Bench::new();
    let args = [
        "--set",
        "train.steps=1500",
        "--set",
        "train.eval_every=300",
        "--out",
        "run",
    ];
    let command = ignoring(bench.tiny(&args), libc::SIGHUP);
    let terminal = OnTerminal::start(command);
    terminal.wait_for(ENTER, 0);
    thread::sleep(Duration::from_millis(200));
    let mut child = terminal.hang_up();
    let status = ends(&mut child, Duration::from_secs(60), "the run");
    assert_eq!(status.code(), Some(0));
    assert!(bench.path("run/result.json").is_file());
}

#[test]
fn signals_ignored_at_the_start_stay_ignored() {
    let bench = Bench::new();
    for signal in [libc::SIGHUP, libc::SIGINT] {
        let out = format!("run-{signal}");
        let args = ["--set", "train.steps=400", "--out", &out];
        let mut child = ignoring(bench.tiny(&args), signal)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let run = bench.path(&out);
        while steps(&run) < 5 {
            assert!(child.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(2));
        }
        send(&child, signal);
        let status = ends(&mut child, Duration::from_secs(60), "the run");
        assert_eq!(status.code(), Some(0), "signal {signal}");
        assert_eq!(steps(&run), 400);
    }
}

#[test]
fn repeated_sigterm_still_writes_a_checkpoint() {
    let bench = Bench::new();
    let run = bench.path("run");
    let mut child = endless(&bench, "run")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while steps(&run) < 20 {
        assert!(child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(2));
    }
    let status = loop {
        send(&child, libc::SIGTERM);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(status.code(), Some(130));
    let checkpoint = run.join(format!("checkpoints/step-{}", steps(&run)));
    assert!(checkpoint.is_dir(), "no {}", checkpoint.display());
}

/// Returns a shell with job control that runs `command`, prints its status, and continues it if it is stopped.
fn in_a_shell(command: &Command) -> Command {
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted)
        .collect();
    let script = format!(
        "ulimit -c 0; {}; echo \"status=$?\"; stty -a; echo first-end; fg; echo \"status=$?\"; stty -a; echo last-end",
        words.join(" ")
    );
    let mut shell = Command::new("sh");
    shell.args(["-m", "-c", &script]);
    shell.current_dir(command.get_current_dir().unwrap());
    crate::reset_signals(&mut shell);
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell
}

/// Asserts that the terminal is restored: main screen, line mode and echo, visible cursor, no mouse reports.
#[track_caller]
fn assert_restored(shown: &str) {
    let since = |on: &str, off: &str| (shown.rfind(on), shown.rfind(off));
    for (on, off) in [
        (ENTER, LEAVE),
        ("\x1b[?25l", "\x1b[?25h"),
        ("\x1b[?1003h", "\x1b[?1003l"),
    ] {
        let (on_at, off_at) = since(on, off);
        assert!(on_at <= off_at, "{on:?} after {off:?} in {shown:?}");
    }
    let settings = &shown[shown.rfind("status=").unwrap()..];
    for setting in ["isig icanon", " echo "] {
        assert!(settings.contains(setting), "no {setting:?} in {settings}");
    }
}

#[test]
fn a_suspended_dashboard_restores_the_terminal_and_comes_back() {
    let bench = Bench::new();
    for (command, picture) in [
        (endless(&bench, "run"), "Loss"),
        (comparison(&bench, "compared"), "flex"),
    ] {
        let terminal = OnTerminal::start(in_a_shell(&command));
        let opened = terminal.wait_for(ENTER, 0);
        terminal.wait_for(picture, opened);
        terminal.press("\x1a");
        let end = terminal.wait_for("first-end", opened);
        assert_restored(&terminal.shown()[..end]);
        // The shell has continued the process, which draws the complete screen again.
        let opened = terminal.wait_for(ENTER, end);
        terminal.wait_for(picture, opened);
        terminal.press("\x03");
        let end = terminal.wait_for("last-end", opened);
        assert_restored(&terminal.shown()[..end]);
        assert!(terminal.shown().contains("status=130"));
    }
}

#[test]
fn a_quit_dashboard_restores_the_terminal() {
    let bench = Bench::new();
    for command in [endless(&bench, "run"), comparison(&bench, "compared")] {
        let terminal = OnTerminal::start(in_a_shell(&command));
        let opened = terminal.wait_for(ENTER, 0);
        thread::sleep(Duration::from_millis(300));
        terminal.press("\x1c");
        let end = terminal.wait_for("first-end", opened);
        assert_restored(&terminal.shown()[..end]);
        let quit = format!("status={}", 128 + libc::SIGQUIT);
        assert!(terminal.shown().contains(&quit), "{}", terminal.shown());
    }
}

#[test]
fn a_terminated_line_editor_restores_the_terminal() {
    let bench = Bench::trained();
    let command = bench.command(&["generate", "run", "--interactive"]);
    let mut terminal = OnTerminal::start(command);
    terminal.wait_for("> ", 0);
    let takes_lines = |terminal: &OnTerminal| {
        let settings = rustix::termios::tcgetattr(&terminal.keyboard).unwrap();
        settings
            .local_modes
            .contains(rustix::termios::LocalModes::ICANON)
    };
    assert!(!takes_lines(&terminal));
    send(&terminal.child, libc::SIGTERM);
    let status = ends(&mut terminal.child, Duration::from_secs(20), "the dialogue");
    assert_eq!(status.code(), Some(130));
    assert!(takes_lines(&terminal));
}

#[test]
fn a_dumb_terminal_shows_lines() {
    let bench = Bench::new();
    let mut command = bench.tiny(&["--out", "run"]);
    command.env("TERM", "dumb");
    let mut terminal = OnTerminal::start(command);
    let status = ends(&mut terminal.child, Duration::from_secs(60), "the run");
    assert_eq!(status.code(), Some(0));
    terminal.wait_for("Run directory: run", 0);
    let shown = terminal.shown();
    assert!(shown.contains("valid loss"), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn training_of_a_tokenizer_can_be_interrupted() {
    let bench = Bench::new();
    // Hardly any word occurs twice, so there are many pairs to merge in a text that is read quickly.
    let mut state = 1u64;
    let mut letter = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        char::from(b'a' + (state >> 33) as u8 % 26)
    };
    let words: String = (0..600_000)
        .flat_map(|_| {
            [' ']
                .into_iter()
                .chain((0..9).map(|_| letter()).collect::<Vec<_>>())
        })
        .collect();
    std::fs::write(bench.path("words.txt"), words).unwrap();
    let args = [
        "data",
        "build",
        "words.txt",
        "--tokenizer",
        "bpe:60000",
        "--out",
        "tokens",
    ];
    let mut child = bench.command(&args).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    let requested = Instant::now();
    send(&child, libc::SIGINT);
    let status = ends(&mut child, Duration::from_secs(10), "the build");
    assert_eq!(status.code(), Some(130));
    assert!(
        requested.elapsed() < Duration::from_secs(3),
        "{:?}",
        requested.elapsed()
    );
    assert!(!bench.path("tokens/manifest.json").exists());
}
