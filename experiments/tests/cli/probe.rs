//! Tests of `foretoken probe` and of the section `[probes]` of an experiment.

use super::*;

use serde_json::Value;

/// A context in which items of most families fit.
const CONTEXT: [&str; 2] = ["--set", "model.context=64"];

/// Trains a tiny run that keeps some checkpoints, in `run`.
fn trained() -> Bench {
    let bench = Bench::new();
    let keep = ["--set", "train.keep=[5,15]"];
    bench.tiny_run("run", &[&CONTEXT[..], &keep].concat());
    bench
}

fn probed(bench: &Bench, args: &[&str]) -> Value {
    let shown = bench.succeed(&[&["probe", "run", "--json"], args].concat());
    let mut record: Value = serde_json::from_str(&shown).unwrap();
    // Everything else is a function of the run and the arguments.
    record.as_object_mut().unwrap().remove("seconds").unwrap();
    record
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn every_measure_has_an_interval_and_follows_from_the_items() {
    let bench = trained();
    let few = ["--items", "12", "--checkpoints", "last"];
    let record = probed(&bench, &few);
    assert_eq!(
        record,
        probed(&bench, &few),
        "a repetition has the same bits"
    );
    let checkpoint = &record["checkpoints"][0];
    let result = json_file(&bench.path("run"), "result.json");
    assert_eq!(checkpoint["step"], 25);
    let valid_loss = column(&bench.path("run"), "evaluation", "loss");
    assert!(
        relative_difference(
            number(&checkpoint["valid_loss"]),
            *valid_loss.last().unwrap()
        ) < 1e-6
    );
    assert!(
        result["probes"].is_null(),
        "a run without [probes] has none"
    );

    let families = record["families"].as_array().unwrap();
    let scored = checkpoint["families"].as_array().unwrap();
    assert_eq!(families.len(), 5);
    // Contexts of recall are longer than 64 characters.
    assert_eq!(families[4]["family"], "recall");
    assert_eq!(
        (scored.len(), &families[4]["left_out"]),
        (4, &Value::from(12))
    );
    let ceiling = &scored[3]["ceiling"];
    assert_eq!(
        (&scored[3]["family"], &ceiling["items"]),
        (&Value::from("register"), &Value::from(12))
    );
    assert!(
        (0.1..0.9).contains(&number(&ceiling["exact_match"])),
        "{ceiling}"
    );
    assert_eq!(number(&ceiling["p_right"]), 1.0);
    for (items, scores) in families.iter().zip(scored) {
        assert_eq!(items["family"], scores["family"]);
        let answers = items["items"].as_array().unwrap().iter();
        let chance =
            answers.map(|item| 1.0 / (1.0 + item["wrong"].as_array().unwrap().len() as f64));
        let chance = chance.sum::<f64>() / items["items"].as_array().unwrap().len() as f64;
        assert!((number(&scores["chance"]) - chance).abs() < 1e-12);
        let of = |key: &str| -> Vec<f64> {
            let scores = scores["scores"].as_array().unwrap().iter();
            scores
                .map(|score| match &score[key] {
                    Value::Bool(is) => f64::from(u8::from(*is)),
                    value => number(value),
                })
                .collect()
        };
        let mean = |key: &str| of(key).iter().sum::<f64>() / of(key).len() as f64;
        assert_eq!(of("bytes").len(), items["items"].as_array().unwrap().len());
        for (measure, key) in [
            ("accuracy", "is_right"),
            ("exact_match", "is_exact"),
            ("log_likelihood", "log_likelihood"),
            ("wrong_log_likelihood", "wrong_log_likelihood"),
            ("p_right", "p_right"),
            ("brier", "brier"),
            ("edit_distance", "edit_distance"),
        ] {
            let estimate = &scores["means"][measure];
            assert!(
                (number(&estimate["value"]) - mean(key)).abs() < 1e-12,
                "{measure}"
            );
            let [low, high] = [0, 1].map(|end| number(&estimate["interval"][end]));
            assert!(
                low <= mean(key) + 1e-12 && mean(key) <= high + 1e-12,
                "{measure}"
            );
        }
        let bits = -of("log_likelihood").iter().sum::<f64>() / std::f64::consts::LN_2;
        let per_byte = bits / of("bytes").iter().sum::<f64>();
        assert!((number(&scores["means"]["bits_per_byte"]["value"]) - per_byte).abs() < 1e-12);
    }
}

#[test]
fn checkpoints_are_chosen_by_name_and_step() {
    let bench = trained();
    let steps = |which: &str| -> Vec<u64> {
        let args = [
            "--items",
            "4",
            "--families",
            "agreement",
            "--checkpoints",
            which,
        ];
        let record = probed(&bench, &args);
        let checkpoints = record["checkpoints"].as_array().unwrap();
        checkpoints
            .iter()
            .map(|checkpoint| checkpoint["step"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(steps("all"), [5, 15, 25]);
    assert_eq!(steps("last,5"), [5, 25]);
    assert_eq!(steps("15"), [15]);
    assert_eq!(steps("best"), [25]);
    let output = bench.run(&["probe", "run", "--checkpoints", "7"]);
    assert_refused(&output, 2, &["no checkpoint of step 7", "5, 15, 25"]);
}

#[test]
fn table_and_report_show_levels_and_say_what_few_checkpoints_cannot() {
    let bench = trained();
    let args = [
        "probe",
        "run",
        "--items",
        "12",
        "--checkpoints",
        "all",
        "--out",
        "page",
    ];
    let shown = bench.succeed(&args);
    assert_fits_and_shows(
        &shown,
        &[
            "3 words between",
            "right  95 %      chance",
            "register: the ceiling is exact match",
            "two digits, held out",
            "step 15, loss",
            "Too few checkpoints",
            "Report: page/report.html",
        ],
    );
    let page = std::fs::read_to_string(bench.path("page/report.html")).unwrap();
    for part in [
        "not in the training text",
        "Emergence or artefact: sums",
        "Brier",
        "exact match of the world",
        "chance 33.3",
        "register: the ceiling is exact match",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        bench
            .path("page/plots/agreement-shares-by-loss.svg")
            .is_file()
    );
    let json = json_file(&bench.path("page"), "probes.json");
    assert_eq!(json["emergence"][0]["prediction"]["outcome"], "too_few");
}

#[test]
fn probes_in_training_change_no_bit_and_are_logged() {
    let bench = Bench::new();
    let plain = bench.tiny_run("plain", &CONTEXT);
    let probes = set(&[
        "probes.every=10",
        "probes.items=6",
        "probes.families=[\"agreement\", \"sums\"]",
    ]);
    let output = bench
        .tiny(&[&CONTEXT[..], &probes, &["--out", "probed"]].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let probed = bench.path("probed");
    for (kind, name) in [
        ("step", "loss"),
        ("step", "gradient_norm"),
        ("evaluation", "loss"),
    ] {
        assert_eq!(
            column(&plain, kind, name),
            column(&probed, kind, name),
            "{kind} {name}"
        );
    }
    let identity = |run: &Path| json_file(run, "identity.json");
    assert_eq!(
        identity(&plain),
        identity(&probed),
        "the identity is that of the training"
    );
    assert!(
        !std::fs::read_to_string(plain.join("experiment.toml"))
            .unwrap()
            .contains("probes")
    );

    assert_eq!(column(&probed, "probe", "step"), [10.0, 20.0, 25.0]);
    let lines: Vec<Value> = metrics(&probed);
    let last = lines
        .iter()
        .rev()
        .find(|line| line["kind"] == "probe")
        .unwrap();
    assert_eq!(last["families"][0]["chance"], 0.5);
    let names: Vec<&Value> = last["families"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["name"])
        .collect();
    assert_eq!(names, ["agreement", "sums"]);
    let shown = stdout(&output);
    assert!(
        shown.contains("step 20/25  probes right: agreement "),
        "{shown}"
    );
    let line = shown.lines().find(|line| line.contains("probes right: "));
    assert_eq!(line.unwrap().matches("/6").count(), 2, "{shown}");
    assert!(shown.contains("probes           3 times, "), "{shown}");
    assert_eq!(json_file(&probed, "result.json")["probes"]["count"], 3);

    // The same items, afterwards.
    let shown = bench.succeed(&[
        "probe",
        "probed",
        "--items",
        "6",
        "--families",
        "agreement,sums",
        "--checkpoints",
        "last",
        "--json",
    ]);
    let record: Value = serde_json::from_str(&shown).unwrap();
    for (family, logged) in record["checkpoints"][0]["families"]
        .as_array()
        .unwrap()
        .iter()
        .zip(last["families"].as_array().unwrap())
    {
        for measure in ["accuracy", "exact_match", "brier", "bits_per_byte"] {
            let [ours, theirs] = [
                &family["means"][measure]["value"],
                &logged["measures"][measure]["value"],
            ];
            assert!(
                (number(ours) - number(theirs)).abs() < 1e-9,
                "{measure}: {ours} {theirs}"
            );
        }
    }
}

#[test]
fn resumed_run_has_every_probe_once() {
    let bench = Bench::new();
    let probes = set(&[
        "probes.every=5",
        "probes.items=3",
        "probes.families=[\"agreement\"]",
    ]);
    let run = bench.tiny_run("run", &[&CONTEXT[..], &probes].concat());
    let first = metrics(&run);
    bench.succeed(&[&LONGER[..], &["--dashboard", "none"]].concat());
    assert_eq!(
        column(&run, "probe", "step"),
        [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    );
    let kept = |lines: &[Value]| -> Vec<Value> {
        let probes = lines.iter().filter(|line| line["kind"] == "probe");
        probes.take(5).cloned().collect()
    };
    assert_eq!(kept(&metrics(&run)), kept(&first));
}

#[test]
fn worlds_of_facts_have_their_own_families() {
    let bench = Bench::new();
    bench.tiny_run(
        "run",
        &set(&["data.world.kind=facts", "data.world.facts=200"]),
    );
    let record = probed(&bench, &["--items", "20"]);
    let families = record["checkpoints"][0]["families"].as_array().unwrap();
    assert_eq!(families[0]["family"], "facts");
    let levels = families[0]["levels"].as_array().unwrap();
    assert!(levels.len() >= 3, "{levels:?}");
    let output = bench.run(&["probe", "run", "--families", "sums"]);
    assert_refused(&output, 2, &["--families", "has no sums", "facts, recall"]);
}

#[test]
fn a_sweep_gives_signal_to_noise() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("runs")).unwrap();
    for (name, width) in [("a", "model.width=16"), ("b", "model.width=32")] {
        let keep = set(&["train.keep=[15,20]", width]);
        bench.tiny_run(&format!("runs/{name}"), &[&CONTEXT[..], &keep].concat());
    }
    let args = [
        "probe",
        "runs/a",
        "--items",
        "8",
        "--families",
        "agreement,register",
        "--sweep",
        "runs",
    ];
    let shown = bench.succeed(&args);
    assert_fits_and_shows(
        &shown,
        &[
            "signal to noise over 2 runs of runs",
            "register, Brier score",
        ],
    );
    let shown = bench.succeed(&[&args[..], &["--json"]].concat());
    let record: Value = serde_json::from_str(&shown).unwrap();
    let rows = record["signal"]["rows"].as_array().unwrap();
    let bits: Vec<&Value> = rows
        .iter()
        .filter(|row| row["measure"] == "bits_per_byte")
        .collect();
    assert_eq!(bits.len(), 2);
    for row in bits {
        let ratio = number(&row["signal"]) / number(&row["noise"]);
        assert!((number(&row["ratio"]) - ratio).abs() < 1e-9);
        assert!(number(&row["interval"][0]) < number(&row["interval"][1]));
    }
    let families = ["--families", "agreement", "--sweep", "runs/a/checkpoints"];
    let output = bench.run(&[&["probe", "runs/a"], &families[..]].concat());
    assert_refused(&output, 2, &["has 0 runs with two checkpoints"]);
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let bench = trained();
    let others: String = (0..4000).map(|n| format!("{n} ")).collect();
    std::fs::write(bench.path("text.txt"), others).unwrap();
    let toml = "[data]\npath = \"text.txt\"\n[model]\nlayers = 1\nheads = 1\nwidth = 8\ncontext = 8\n[train]\nsteps = 1\n\
                batch = 1\neval_every = 1\nsample_tokens = 0\n";
    std::fs::write(bench.path("text.toml"), toml).unwrap();
    bench.succeed(&["train", "text.toml", "--out", "text", "--dashboard", "none"]);
    for (args, parts) in [
        (&["missing"][..], &["missing", "not a run directory"][..]),
        (
            &["text"],
            &["text: was not trained on a world", "[data.world]"],
        ),
        (&["run", "--items", "0"], &["--items", "from 1 to 10000"]),
        (&["run", "--families", "recall"], &["context of 64 tokens"]),
        (
            &["run", "--families", "agreement", "--sweep", "nowhere"],
            &["nowhere: is not a directory"],
        ),
    ] {
        assert_refused(&bench.run(&[&["probe"], args].concat()), 2, parts);
    }
    for args in [
        &["run", "--families", "sum"],
        &["run", "--checkpoints", "first"],
    ] {
        let output = bench.run(&[&["probe"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    }
    let probes = set(&["probes.every=5", "data.world.kind=markov"]);
    let output = bench.tiny(&probes).output().unwrap();
    assert_refused(&output, 2, &["probes: needs a world"]);
}

#[test]
#[cfg(unix)]
fn an_interrupted_probe_leaves_nothing_behind() {
    let bench = trained();
    let before = std::fs::read_dir(bench.path("")).unwrap().count();
    // While the world is drawn, and while items are scored.
    for wait in [0, 300] {
        let child = bench
            .command(&["probe", "run", "--checkpoints", "all", "--items", "10000"])
            .args(["--out", "a/probes"])
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        while !bench.path("a/probes/foretoken.lock").exists() {
            assert!(started.elapsed().as_secs() < 60, "no probe in a minute");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::sleep(std::time::Duration::from_millis(wait));
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
        let after = std::fs::read_dir(bench.path("")).unwrap().count();
        assert_eq!(after, before, "{}", text(&output));
    }
}
