//! The other competitor of a race: PyTorch, started with the script `peers/gpt.py`.

use std::fmt;
use std::process::Command;

use clap::ValueEnum;
use foretoken_benches::Shape;
use serde::Serialize;

use crate::inputs::{Inputs, LEARNING_RATE};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/gpt.py");

/// Mode in which PyTorch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// Each operation by itself
    Eager,
    /// Through torch.compile (needs a C++ compiler)
    Compile,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Eager => "eager",
            Self::Compile => "compile",
        })
    }
}

impl Peer {
    /// Returns the command that starts the script with these inputs.
    pub(crate) fn command(self, shape: &Shape, inputs: &Inputs, threads: usize) -> Command {
        let mut command = Command::new("python3");
        command.arg(SCRIPT);
        let sizes = [
            ("--vocab-size", shape.vocab_size),
            ("--context", shape.context),
            ("--batch", shape.batch),
            ("--layers", shape.layers),
            ("--heads", shape.heads),
            ("--width", shape.width),
            ("--threads", threads),
        ];
        for (name, size) in sizes {
            command.arg(name).arg(size.to_string());
        }
        command
            .arg("--learning-rate")
            .arg(LEARNING_RATE.to_string());
        command.arg("--text").arg(inputs.text());
        command.arg("--windows").arg(inputs.windows());
        command.arg("--weights").arg(inputs.weights());
        if self == Self::Compile {
            command.arg("--compile");
        }
        // Otherwise the compiler keeps a process per core, which needs memory and would have to be killed.
        command.env("TORCHINDUCTOR_COMPILE_THREADS", "1");
        command
    }
}
