//! What only the build knows: the revision of the source, the compiler, and where libtorch lies.
#![allow(clippy::print_stdout)] // Cargo reads it

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // Whatever changes the program compiles this crate again anyway, so looking at git then costs
    // nothing; a commit that changes no source is noticed through git's own log of HEAD.
    for source in ["build.rs", "src", "../model/src", "../datasets/src"] {
        println!("cargo:rerun-if-changed={source}");
    }
    if let Some(log) = output("git", &["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo:rerun-if-changed={log}");
    }
    let revision = output(
        "git",
        &[
            "describe",
            "--always",
            "--dirty",
            "--abbrev=40",
            "--exclude=*",
        ],
    );
    set("FORETOKEN_GIT_REVISION", revision);

    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set("FORETOKEN_RUSTC", output(&rustc, &["--version"]));

    // The directory that torch-sys linked against, which the program must find again when it starts.
    if let Ok(libraries) = env::var("DEP_TCH_LIBTORCH_LIB") {
        let libraries = lie_in(Path::new(&libraries)).display().to_string();
        if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{libraries}");
        }
        set(
            "FORETOKEN_LIBTORCH",
            libtorch_version(Path::new(&libraries)),
        );
    }
}

/// Makes `value`, or "unknown", readable with `env!(name)`.
fn set(name: &str, value: Option<String>) {
    println!(
        "cargo:rustc-env={name}={}",
        value.as_deref().unwrap_or("unknown")
    );
}

/// The first line that a command prints, if it exists and succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// The directory that libtorch's libraries lie in, where those of `libraries` are links.
fn lie_in(libraries: &Path) -> PathBuf {
    let library = libraries.join("libtorch_cpu.so").canonicalize();
    let directory = library
        .ok()
        .and_then(|library| Some(library.parent()?.to_owned()));
    directory.unwrap_or_else(|| libraries.to_owned())
}

/// The version that lies beside the libraries: `build-version` in a libtorch archive, `version.py` in
/// a PyTorch installation.
fn libtorch_version(libraries: &Path) -> Option<String> {
    let torch = libraries.parent()?;
    if let Ok(version) = std::fs::read_to_string(torch.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let python = std::fs::read_to_string(torch.join("version.py")).ok()?;
    let line = python
        .lines()
        .find(|line| line.starts_with("__version__"))?;
    Some(line.split('\'').nth(1)?.to_owned())
}
