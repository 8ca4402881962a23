//! `foretoken compare`: one experiment on several backends, and finished runs.

use super::*;

/// A comparison of [`TINY`] over its first 8 steps.
fn compare(bench: &Bench, args: &[&str]) -> Command {
    compare_steps(bench, "8", args)
}

fn compare_steps(bench: &Bench, steps: &str, args: &[&str]) -> Command {
    let mut command = bench.command(&["compare", "--steps", steps]);
    for assignment in TINY {
        command.args(["--set", assignment]);
    }
    command.args(args);
    command
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_comparison_is_one_object_and_a_directory() {
    let bench = Bench::new();
    let output = compare(&bench, &["--backends", "flex", "--out", "c", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let object = json(&output);
    assert_eq!(
        keys(&object),
        ["reference", "experiment_hash", "backends", "report"]
    );
    assert_eq!(object["reference"], "flex:f64");
    assert_eq!(
        keys(&object["backends"][0]),
        [
            "name",
            "dtype",
            "fused",
            "verdict",
            "first_step",
            "max_abs_loss_difference",
            "envelope",
            "final_loss",
            "tokens_per_second",
            "peak_memory_bytes",
            "reason"
        ]
    );
    let flex = &object["backends"][0];
    assert_eq!([&flex["name"], &flex["dtype"]], ["flex", "f32"]);
    assert_eq!(flex["fused"], true);
    // Flex in f32 has the bits of the reference's own run in f32, and they are not those of f64. That it agrees with
    // itself is no evidence.
    assert_eq!(flex["verdict"], "own");
    let reason = flex["reason"].as_str().unwrap();
    assert!(reason.contains("the same bits"), "{reason}");
    let report = std::fs::read_to_string(bench.path("c/report.md")).unwrap();
    assert!(
        report.contains("Only the reference's own backend was compared with flex:f64"),
        "{report}"
    );
    let difference = flex["max_abs_loss_difference"].as_f64().unwrap();
    assert!(difference > 0.0 && difference < flex["envelope"].as_f64().unwrap());
    if cfg!(target_os = "linux") {
        assert!(flex["peak_memory_bytes"].as_u64().unwrap() > 10_000);
    }

    for name in [
        "comparison.json",
        "report.html",
        "report.md",
        "flex-f32/experiment.toml",
        "flex-f32/environment.json",
        "flex-f32/identity.json",
        "flex-f32/metrics.jsonl",
        "flex-f32/envelope.json",
    ] {
        assert!(bench.path("c").join(name).is_file(), "{name} is missing");
    }
    assert!(bench.path("c/plots").read_dir().unwrap().count() > 2);
    let comparison = read(&bench.path("c/comparison.json"));
    assert_eq!(comparison["steps"], 8);
    assert_eq!(comparison["tokens_per_step"], 64);
    assert_eq!(comparison["seeds"]["seeds"], serde_json::json!([5, 6, 7]));
    let seeds = &comparison["seeds"];
    assert!(seeds["spread"].as_f64().unwrap() > 1e-4, "{seeds}");
    let checks = comparison["backends"][0]["checks"].as_array().unwrap();
    let of = |what| checks.iter().filter(|check| check["of"] == what).count();
    // Two layers of 12 parameters and 4 outside: every one has a gradient and an update.
    assert_eq!(
        ["loss", "logits", "gradient", "update"].map(of),
        [1, 1, 28, 28]
    );

    // What is compared is what `train` trains.
    let run = bench.tiny_run("run", &[]);
    let (compared, trained) = (bench.path("c/flex-f32"), run);
    for name in ["loss", "gradient_norm", "learning_rate", "tokens"] {
        let (compared, trained) = (
            column(&compared, "step", name),
            column(&trained, "step", name),
        );
        assert_eq!(compared, trained[..8], "{name}");
    }
    let identity = |run: &Path| read(&run.join("identity.json"));
    assert_eq!(identity(&compared), identity(&trained));
}

#[test]
fn burns_own_operations_are_compared_where_they_are_asked_for() {
    let bench = Bench::new();
    let plain = ["--set", "backend.fused=false"];
    let args = ["--backends", "flex", "--seeds", "1", "--out", "c", "--json"];
    let output = compare(&bench, &[&args[..], &plain].concat())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let flex = &json(&output)["backends"][0];
    // The reference's own run in f32, whose bits these are, is made of Burn's operations as well.
    assert_eq!(flex["verdict"], "own", "{flex}");
    assert_eq!(flex["fused"], false);
    assert_eq!(
        read(&bench.path("c/comparison.json"))["backends"][0]["fused"],
        false
    );
    let report = std::fs::read_to_string(bench.path("c/report.md")).unwrap();
    assert!(report.contains("flex:f32 unfused"), "{report}");

    // What is compared is what `train` trains.
    let losses = |run: &Path| column(run, "step", "loss");
    let trained = losses(&bench.tiny_run("run", &plain));
    assert_eq!(losses(&bench.path("c/flex-f32")), trained[..8]);
}

#[test]
fn what_cannot_run_here_is_listed_and_the_rest_goes_on() {
    let bench = Bench::new();
    let output = compare(&bench, &["--backends", "rocm,flex", "--seeds", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = stdout(&output);
    for part in [
        "flex:f32",
        "◇ own",
        "Only the reference's own backend was compared",
        "rocm:f32",
        "– unavailable",
        "--features rocm",
        "No other seed",
        "Envelope: 10 times the largest difference over 5 runs of flex:f32",
        "Report: runs/compare-world-1/report.html",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(bench.path("runs/compare-world-1/report.html").is_file());

    let output = compare(&bench, &["--backends", "rocm"]).output().unwrap();
    assert_refused(&output, 2, &["rocm", "not compiled in"]);
}

#[test]
fn in_lockstep_the_distance_of_weights_is_measured() {
    let bench = Bench::new();
    let args = ["--backends", "flex", "--lockstep", "--out", "c", "--json"];
    let output = compare(&bench, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let flex = &json(&output)["backends"][0];
    assert_eq!(flex["verdict"], "own");
    assert!(flex["peak_memory_bytes"].is_null());
    let comparison = read(&bench.path("c/comparison.json"));
    let distances = comparison["backends"][0]["weights_distance"]
        .as_array()
        .unwrap();
    assert_eq!(distances.len(), 8);
    // Weights of about 0.02 in f32, 8 updates from those in f64.
    for distance in distances {
        let distance = distance.as_f64().unwrap();
        assert!((1e-9..1e-3).contains(&distance), "{distance}");
    }
    let envelope = &comparison["envelopes"][0];
    assert_eq!(envelope["weights"].as_array().unwrap().len(), 8);

    // Lockstep changes the order of work and no number.
    let output = compare(&bench, &["--backends", "flex", "--out", "d"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let losses = |out: &str| column(&bench.path(out).join("flex-f32"), "step", "loss");
    assert_eq!(losses("c"), losses("d"));
}

#[test]
fn finished_runs_are_judged_by_an_envelope() {
    let bench = Bench::new();
    let measured = compare_steps(&bench, "25", &["--backends", "flex", "--out", "c"])
        .output()
        .unwrap();
    assert!(measured.status.success(), "{}", text(&measured));
    let one = bench.tiny_run("one", &[]);
    bench.tiny_run("two", &["--set", "train.eval_every=25"]);
    bench.tiny_run("wide", &["--set", "backend.dtype=f64"]);
    bench.tiny_run("plain", &["--set", "backend.fused=false"]);

    let judge = |args: &[&str]| {
        let output = bench.command(&["compare", "--json"]).args(args).output();
        let output = output.unwrap();
        (output.status.code(), json(&output)["backends"].clone())
    };
    // Of runs alone nobody knows what rounding does: the same bits are all that can be told.
    let (code, backends) = judge(&["one", "two"]);
    assert_eq!(code, Some(0));
    assert_eq!(backends[1]["verdict"], "identical");
    let (code, backends) = judge(&["one", "wide"]);
    assert_eq!(code, Some(0));
    assert_eq!(backends[1]["verdict"], "unavailable");
    assert!(
        backends[1]["reason"]
            .as_str()
            .unwrap()
            .contains("no envelope")
    );

    // One that is named, one that a run carries. Operations that are fused, and those that are not, are the same
    // experiment.
    for args in [
        &["one", "two", "plain", "--envelope", "c"][..],
        &["c/flex-f32", "one", "plain"],
    ] {
        let (code, backends) = judge(args);
        assert_eq!(code, Some(0), "{backends}");
        let backends = backends.as_array().unwrap();
        for backend in backends {
            let verdict = backend["verdict"].as_str().unwrap();
            assert!(["identical", "rounding"].contains(&verdict), "{backend}");
        }
        let fused = backends.iter().map(|backend| &backend["fused"]);
        assert_eq!(fused.collect::<Vec<_>>(), [true, true, false]);
    }
    let shown = bench.succeed(&["compare", "one", "plain", "--envelope", "c"]);
    assert!(shown.contains("\nflex:f32 unfused"), "{shown}");

    // A loss that rounding does not explain, at one step: as long as the end is as good as another seed's, it
    // agrees in outcome.
    let add = |kind: &str, step: usize, nats: f64| {
        let metrics = std::fs::read_to_string(one.join("metrics.jsonl")).unwrap();
        let lines = metrics.lines().map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            if record["kind"] == kind && record["step"] == step {
                record["loss"] = (record["loss"].as_f64().unwrap() + nats).into();
            }
            format!("{record}\n")
        });
        std::fs::write(one.join("metrics.jsonl"), lines.collect::<String>()).unwrap();
    };
    add("step", 17, 0.01);
    let (code, backends) = judge(&["one", "two", "--envelope", "c"]);
    assert_eq!(code, Some(0));
    assert_eq!(backends[0]["verdict"], "outcome");
    assert_eq!(backends[0]["first_step"], 17);
    add("evaluation", 25, 10.0);
    let (code, backends) = judge(&["one", "two", "--envelope", "c", "--out", "report"]);
    assert_eq!(code, Some(3));
    assert_eq!(backends[0]["verdict"], "differs");
    assert_eq!(backends[0]["first_step"], 17);
    assert!(bench.path("report/report.html").is_file());
    assert_eq!(read(&bench.path("report/comparison.json"))["steps"], 25);
}

#[test]
fn runs_of_different_experiments_are_refused_by_what_differs() {
    let bench = Bench::trained();
    bench.tiny_run("other", &["--set", "train.seed=6"]);
    bench.tiny_run("data", &["--set", "data.world.seed=9"]);
    let output = bench.run(&["compare", "run", "other"]);
    assert_refused(
        &output,
        2,
        &[
            "other: is not comparable with run",
            "train.seed (5 here, 6 there)",
            "initial weights (",
        ],
    );
    let output = bench.run(&["compare", "run", "data"]);
    assert_refused(&output, 2, &["data.world.seed", "data ("]);
    // What decides no number is free.
    bench.tiny_run(
        "named",
        &["--set", "name=\"mine\"", "--set", "train.eval_every=5"],
    );
    assert!(bench.run(&["compare", "run", "named"]).status.success());

    let output = bench.run(&["compare", "run", "run/checkpoints"]);
    assert_refused(&output, 2, &["run/checkpoints", "not a run directory"]);
    std::fs::remove_file(bench.path("named/identity.json")).unwrap();
    let output = bench.run(&["compare", "run", "named"]);
    assert_refused(&output, 2, &["named", "identity.json"]);
    let envelope = ["compare", "run", "other", "--envelope", "run"];
    assert_refused(&bench.run(&envelope), 2, &["initial weights"]);
    let envelope = ["compare", "run", "run", "--envelope", "run"];
    assert_refused(&bench.run(&envelope), 2, &["neither comparison.json nor"]);
}

#[test]
fn mistakes_are_one_line() {
    let bench = Bench::trained();
    for (args, parts) in [
        (&["--steps", "0"][..], &["--steps", "at least 1"][..]),
        (&["--rounding-runs", "0"], &["--rounding-runs"]),
        (&["--envelope", "run"], &["--envelope", "finished runs"]),
        (&["run"], &["compared with nothing"]),
        (&["a.toml", "b.toml"], &["b.toml", "one experiment file"]),
        (&["missing.toml"], &["missing.toml", "no such experiment"]),
        (&["--reference", "rocm:f32"], &["rocm", "not compiled in"]),
        (&["--backends", "flex", "--out", "run"], &["already exists"]),
        (&["--dashboard", "tui"], &["needs a terminal"]),
    ] {
        let args = [&["compare"], args].concat();
        assert_refused(&bench.run(&args), 2, parts);
    }
    // What the parser refuses names what there is.
    for (args, part) in [
        (["--backends", "flx"], "the nearest is \"flex\""),
        (["--dtypes", "f31"], "there are f64, f32, bf16, f16"),
    ] {
        let output = bench.run(&["compare", args[0], args[1]]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(part), "{}", text(&output));
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_comparison() {
    let bench = Bench::new();
    let mut command = compare_steps(&bench, "100000", &["--backends", "flex", "--out", "c"]);
    command.args(["--set", "train.steps=100000", "--dashboard", "none"]);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let started = std::time::Instant::now();
    while !bench.path("c").exists() {
        assert!(started.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(
        text(&output).contains("nothing was judged"),
        "{}",
        text(&output)
    );
    assert!(!bench.path("c/report.html").exists());
}

/// Every backend that runs without a GPU agrees with the reference, in 4 steps.
#[test]
#[cfg(any(feature = "ndarray", feature = "libtorch", feature = "wgpu"))]
fn all_backends_agree_within_rounding() {
    let bench = Bench::new();
    let args = ["--seeds", "1", "--out", "c", "--json"];
    let output = compare_steps(&bench, "4", &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let object = json(&output);
    for backend in object["backends"].as_array().unwrap() {
        println!("{backend}");
        let verdict = backend["verdict"].as_str().unwrap();
        let expected = match backend["name"] == "flex" {
            true => &["own"][..],
            false => &["identical", "rounding"],
        };
        assert!(expected.contains(&verdict), "{backend}");
    }
}
