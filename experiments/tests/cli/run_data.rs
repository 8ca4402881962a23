//! Tests of the data of a run, which commands that measure on them refuse if they have changed since training.

use super::*;

use std::fs;

/// Commands that read the data that a run was trained on.
const OF_RUN: [&[&str]; 4] = [
    &["evaluate", "run"],
    &["memory", "gap", "run"],
    &["memory", "extract", "run"],
    &["exposure", "run", "--oracle", "run", "--sequences", "20"],
];

/// Builds tokens of the digits of multiples of a number into `tokens`, of the same vocabulary and about as many.
fn build(bench: &Bench, factor: usize) {
    let text: String = (1000..3000)
        .map(|number| format!("{}\n", number * factor))
        .collect();
    fs::write(bench.path("digits.txt"), text).unwrap();
    let _ = fs::remove_dir_all(bench.path("tokens"));
    let build = ["data", "build", "digits.txt", "--tokenizer", "byte"];
    bench.succeed(&[&build[..], &["--valid", "0.2", "--out", "tokens"]].concat());
}

/// Trains `run` on `tokens`.
fn trained_on_tokens() -> Bench {
    let bench = Bench::new();
    build(&bench, 1);
    let file = "[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 16\n\
                [train]\nsteps = 6\nbatch = 4\neval_every = 6\nsample_tokens = 0\n\
                [optimizer]\nwarmup = 2\n[data]\npath = \"tokens\"\n";
    fs::write(bench.path("mine.toml"), file).unwrap();
    bench.succeed(&["train", "mine.toml", "--out", "run"]);
    bench
}

#[test]
fn tokens_that_were_rebuilt_are_refused() {
    let bench = trained_on_tokens();
    for args in OF_RUN {
        bench.succeed(args);
    }
    build(&bench, 2);
    for args in OF_RUN {
        let parts = [
            "tokens: has other tokens (fingerprint ",
            "when run was trained",
            "restore",
        ];
        assert_refused(&bench.run(args), 2, &parts);
    }
    // Text that the user names is not that of the run, and these commands read no data.
    bench.succeed(&["evaluate", "run", "--data", "tokens"]);
    bench.succeed(&["evaluate", "run", "digits.txt"]);
    bench.succeed(&[OF_RUN[3], &["--data", "tokens"]].concat());
    bench.succeed(&["predict", "run", "--prompt", "10"]);
    // Runs without identity.json have the fingerprint in their checkpoints.
    fs::remove_file(bench.path("run/identity.json")).unwrap();
    for args in OF_RUN {
        assert_refused(&bench.run(args), 2, &["tokens: has other tokens"]);
    }
    // The same tokens in another place are the run's.
    build(&bench, 1);
    fs::rename(bench.path("tokens"), bench.path("moved")).unwrap();
    let experiment = fs::read_to_string(bench.path("run/experiment.toml")).unwrap();
    let moved = experiment.replace("\"tokens\"", "\"moved\"");
    assert_ne!(moved, experiment);
    fs::write(bench.path("run/experiment.toml"), moved).unwrap();
    for args in OF_RUN {
        bench.succeed(args);
    }
}

#[test]
fn another_tokenizer_is_named() {
    let bench = trained_on_tokens();
    fs::remove_dir_all(bench.path("tokens")).unwrap();
    let build = ["data", "build", "digits.txt", "--tokenizer", "char"];
    bench.succeed(&[&build[..], &["--valid", "0.2", "--out", "tokens"]].concat());
    for args in OF_RUN {
        assert_refused(&bench.run(args), 2, &["tokens: has another tokenizer ("]);
    }
}

#[test]
fn a_world_that_was_edited_is_refused() {
    let bench = Bench::new();
    bench.tiny_run_on_documents("run");
    let commands: [&[&str]; 6] = [
        &["evaluate", "run"],
        &["memory", "gap", "run"],
        &["memory", "extract", "run", "--suffix", "2"],
        &["memory", "capacity", "run"],
        &["probe", "run", "--items", "4"],
        &["exposure", "run", "--sequences", "4"],
    ];
    for args in commands {
        bench.succeed(args);
    }
    let file = bench.path("run/experiment.toml");
    let experiment = fs::read_to_string(&file).unwrap();
    let edited = experiment.replace("facts = 100\n", "facts = 101\n");
    assert_ne!(edited, experiment);
    fs::write(&file, edited).unwrap();
    for args in commands {
        let parts = [
            "run/experiment.toml: [data.world] gives ",
            "when run was trained",
        ];
        assert_refused(&bench.run(args), 2, &parts);
    }
}
