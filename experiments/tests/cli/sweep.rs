//! Tests of `foretoken sweep`: plans, ladders, and sweeps that are interrupted, killed and shared between processes.

use super::*;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Keys of tiny runs: 1 layer of width 16, batches of 4 × 16 tokens.
const SET: &str = "\
[set]
data.world.train_bytes = 20000
data.world.valid_bytes = 2000
model.layers = 1
model.heads = 2
model.width = 16
model.context = 16
train.batch = 4
train.steps = 40
train.eval_every = 20
train.eval_windows = 8
train.final_eval_windows = 8
train.sample_tokens = 0
optimizer.warmup = 5
";

/// Returns a bench with a plan of tiny runs.
fn with_plan(rest: &str) -> Bench {
    let bench = Bench::new();
    write_plan(&bench, rest);
    bench
}

/// Writes the plan. A key of [`SET`] that the rest gives is left out.
fn write_plan(bench: &Bench, rest: &str) {
    let is_given = |line: &&str| {
        let key = line.split('=').next().unwrap();
        line.contains('=') && rest.contains(key)
    };
    let set: Vec<&str> = SET.lines().filter(|line| !is_given(line)).collect();
    let plan = format!("{}\n{rest}", set.join("\n"));
    fs::write(bench.path("plan.toml"), plan).unwrap();
}

/// Runs `foretoken sweep plan.toml ARGS`.
fn sweep(bench: &Bench, args: &[&str]) -> Output {
    bench.run(&[&["sweep", "plan.toml"], args].concat())
}

/// Runs a sweep to its end, and returns its index.
fn run_all(bench: &Bench, out: &str) -> BTreeMap<String, Value> {
    let output = sweep(bench, &["--run", "--jobs", "2", "--out", out]);
    assert!(output.status.success(), "{}", text(&output));
    index(bench, out)
}

/// Returns the lines of an index by the names of their runs.
fn index(bench: &Bench, out: &str) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(bench.path(out).join("index.jsonl")).unwrap();
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        (entry["name"].as_str().unwrap().to_owned(), entry)
    };
    text.lines().map(entry).collect()
}

/// Asserts that two run directories have the same numbers, except durations.
fn assert_same_run(run: &Path, reference: &Path) {
    assert_same_but(run, reference, &[]);
}

/// Asserts that two run directories have the same numbers, except durations and these keys of the result.
fn assert_same_but(run: &Path, reference: &Path, keys: &[&str]) {
    let lines = |run: &Path| {
        let mut lines = metrics(run);
        for line in &mut lines {
            line.as_object_mut().unwrap().remove("seconds");
        }
        lines
    };
    assert_eq!(lines(run), lines(reference), "{}", run.display());
    let result = |run: &Path| {
        let mut result = json_file(run, "result.json");
        for key in ["run", "seconds", "tokens_per_second", "mfu"]
            .iter()
            .chain(keys)
        {
            result.as_object_mut().unwrap().remove(*key);
        }
        result
    };
    assert_eq!(result(run), result(reference), "{}", run.display());
}

fn assert_same_runs(bench: &Bench, out: &str, reference: &str) {
    let runs = |out: &str| bench.path(out).join("runs");
    let names = |out: &str| -> BTreeSet<_> {
        let entries = fs::read_dir(runs(out)).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names(out), names(reference));
    for name in names(reference) {
        assert_same_run(&runs(out).join(&name), &runs(reference).join(&name));
    }
}

const WIDTHS: &str = "\
[axes]
train.seed = [1, 2]
[[tied]]
model.width = [16, 32]
model.heads = [2, 4]
[derive]
train.steps = \"parameters / tokens_per_step / 10\"
optimizer.learning_rate = \"0.01 * (16 / model.width) ^ 0.5\"
optimizer.min_learning_rate = \"optimizer.learning_rate / 10\"
";

#[test]
fn the_listing_has_exact_costs_and_writes_nothing() {
    let bench = with_plan(WIDTHS);
    let output = sweep(&bench, &["--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let listed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let runs = listed["runs"].as_array().unwrap();
    let names: Vec<_> = runs
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "seed1-width16",
            "seed1-width32",
            "seed2-width16",
            "seed2-width32"
        ]
    );
    let wide = &runs[1];
    fs::write(
        bench.path("wide.toml"),
        "[data.world]\ntrain_bytes = 20000\nvalid_bytes = 2000\n\
        [model]\nlayers = 1\nheads = 4\nwidth = 32\ncontext = 16\n\
        [train]\nsteps = 1\nbatch = 4\neval_every = 1\n",
    )
    .unwrap();
    let inspected = bench.succeed(&["inspect", "wide.toml", "--json"]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(wide["parameters"], inspected["parameters"]);
    let parameters = inspected["parameters"].as_f64().unwrap();
    let steps = (parameters / 64.0 / 10.0).round();
    assert_eq!(wide["steps"].as_f64(), Some(steps));
    assert_eq!(wide["tokens"].as_f64(), Some(64.0 * steps));
    let flops = inspected["training_flops_per_token"].as_f64().unwrap();
    assert_eq!(wide["flops"].as_f64(), Some(flops * 64.0 * steps));
    let memory = inspected["training_memory"].as_object().unwrap();
    let memory: u64 = memory.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(wide["memory_bytes"].as_u64(), Some(memory));
    let parts = inspected["parts"].as_array().unwrap();
    let embeddings = parts
        .iter()
        .find(|part| part["part"] == "embeddings")
        .unwrap();
    let inner = parameters - embeddings["parameters"].as_f64().unwrap();
    assert_eq!(wide["non_embedding_parameters"].as_f64(), Some(inner));
    assert_eq!(wide["keys"]["model.heads"], 4);
    assert_eq!(
        wide["keys"]["optimizer.learning_rate"],
        0.01 * 0.5_f64.sqrt()
    );
    assert!(wide["seconds"].as_f64().unwrap() > 0.0, "{wide}");
    assert!(!bench.path("sweeps").exists());

    let table = stdout(&sweep(&bench, &[]));
    assert_fits_and_shows(
        &table,
        &[
            "seed2-width32",
            "4 runs",
            "--run trains them in sweeps/plan",
        ],
    );
    // What was measured once is not measured again.
    let again = sweep(&bench, &[]);
    assert!(!text(&again).contains("measuring"), "{}", text(&again));
}

#[test]
fn runs_are_ordinary_run_directories() {
    let bench = with_plan(WIDTHS);
    let index = run_all(&bench, "out");
    assert_eq!(index.len(), 4);
    for (name, entry) in &index {
        assert_eq!(entry["state"], "done");
        let run = bench.path("out/runs").join(name);
        let loss = json_file(&run, "result.json")["valid_loss"].clone();
        assert_eq!(entry["result"]["valid_loss"], loss);
        // The experiment of a run gives the same run by itself.
        let file = format!("out/experiments/{name}.toml");
        bench.succeed(&["train", &file, "--out", &format!("alone/{name}")]);
        assert_same_run(&run, &bench.path("alone").join(name));
    }
    let reported = bench.succeed(&["report", "out/runs/seed1-width16", "out/runs/seed2-width16"]);
    assert!(reported.contains("report.html"), "{reported}");
    let status = bench.succeed(&["sweep", "status", "out"]);
    assert_fits_and_shows(&status, &["seed1-width16", "done", "4 of 4 done"]);
}

const LADDER: &str = "\
schedule.name = \"wsd\"
schedule.decay = 0.25
[axes]
train.steps = [40, 90, 60]
train.seed = [1, 2]
";

#[test]
fn branches_of_a_ladder_have_the_bits_of_whole_runs() {
    for schedule in ["", "schedule.name = \"constant\"\n"] {
        let plan = match schedule {
            "" => LADDER.to_owned(),
            schedule => {
                LADDER.replace("schedule.name = \"wsd\"\nschedule.decay = 0.25\n", schedule)
            }
        };
        let bench = with_plan(&plan);
        let index = run_all(&bench, "out");
        // The longest runs are the trunks. The others branch where their own decay begins, or where they end.
        for (name, entry) in &index {
            let steps = entry["steps"].as_u64().unwrap();
            let trunk = format!("steps90-{}", name.split_once('-').unwrap().1);
            let expected = match (steps, schedule) {
                (90, _) => Value::Null,
                (steps, "") => serde_json::json!({ "trunk": trunk, "step": steps * 3 / 4 }),
                (steps, _) => serde_json::json!({ "trunk": trunk, "step": steps }),
            };
            assert_eq!(entry["shared"], expected, "{name}");
            let run = bench.path("out/runs").join(name);
            assert_eq!(run.join("branch.json").exists(), steps != 90);
            let alone = format!("alone/{name}");
            let file = format!("out/experiments/{name}.toml");
            let keep = ["--set", "train.keep=[]"];
            bench.succeed(&[&["train", &file, "--out", &alone], &keep[..]].concat());
            // The weights of evaluations before the branch stay with the trunk.
            let alone = bench.path(&alone);
            let best = json_file(&alone, "result.json")["best"]["step"].as_u64();
            let is_before = best < entry["shared"]["step"].as_u64();
            let keys: &[&str] = if is_before { &["best"] } else { &[] };
            assert_same_but(&run, &alone, keys);
            let own = json_file(&run, "result.json")["best"]["step"].as_u64();
            assert!(own >= entry["shared"]["step"].as_u64(), "{own:?}: {entry}");
        }
        // A trunk takes its steps once, and each branch only its own.
        let processes = index.keys().map(|name| claims(&bench, "out", name));
        assert!(processes.into_iter().all(|claims| claims == 1));
    }
}

#[test]
fn the_listing_says_what_ladders_save() {
    let bench = with_plan(LADDER);
    let listed = stdout(&sweep(&bench, &[]));
    // Of 2 × 190 steps, 2 × 75 are shared.
    assert_fits_and_shows(
        &listed,
        &[
            "OWN",
            "4 runs branch from 2 trunks, which saves 39 % of the operations",
        ],
    );
}

#[test]
fn the_listing_shows_the_runs_that_exist() {
    let bench = with_plan("[axes]\ntrain.seed = [1, 2]\n");
    run_all(&bench, "out");
    let listed = |args: &[&str]| {
        let output = sweep(&bench, args);
        assert!(output.status.success(), "{}", text(&output));
        stdout(&output)
    };
    let all = listed(&["--out", "out"]);
    assert_fits_and_shows(
        &all,
        &[
            "STATE",
            "seed2  done",
            "2 of 2 done",
            "every run in out has ended; nothing is left for --run",
        ],
    );
    write_plan(&bench, "[axes]\ntrain.seed = [3, 1, 2]\n");
    let grown = listed(&["--out", "out"]);
    for part in [
        "seed3  waiting",
        "2 of 3 done, 1 waiting; about ",
        "--run goes on with them in out",
    ] {
        assert!(grown.contains(part), "no {part:?} in {grown}");
    }
    let json: Value = serde_json::from_str(&listed(&["--out", "out", "--json"])).unwrap();
    let left = json["seconds_left"].as_f64().unwrap();
    assert_eq!(json["runs"][0]["state"], "done");
    assert_eq!(json["runs"][2]["seconds"].as_f64(), Some(left));
    // The directory that --run uses by default does not exist.
    assert_fits_and_shows(&listed(&[]), &["--run trains them in sweeps/plan"]);
    // That of another plan is named before anything is trained.
    write_plan(&bench, "[axes]\ntrain.seed = [2, 3]\n");
    let before = index(&bench, "out");
    let output = sweep(&bench, &["--out", "out"]);
    assert!(stdout(&output).contains("seed3"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("out: belongs to another plan"),
        "{}",
        text(&output)
    );
    assert_eq!(index(&bench, "out"), before);
}

#[test]
fn a_plan_of_which_no_run_can_be_trained_is_refused() {
    let bench = with_plan("[axes]\nmodel.heads = [3, 5]\n");
    let message =
        "error: plan.toml: nothing can be trained, because all of its 2 runs are refused: heads3: ";
    for args in [&[][..], &["--json"], &["--run"]] {
        assert_refused(&sweep(&bench, args), 2, &[message]);
    }
    assert!(!bench.path("sweeps").exists());
    write_plan(&bench, "[axes]\nmodel.heads = [2, 3]\n");
    let some = sweep(&bench, &[]);
    assert!(some.status.success(), "{}", text(&some));
    assert!(
        stdout(&some).contains("\n2 runs, 1 of them refused, "),
        "{}",
        text(&some)
    );
}

#[test]
fn tokens_are_the_targets_that_count() {
    // Documents of 7 bytes in windows of 16.
    let bench = with_plan(
        "data.windows = \"documents\"\ndata.world.kind = \"facts\"\ndata.world.facts = 50\n\
         data.world.answer = 3\n[axes]\ntrain.seed = [1]\n",
    );
    let listed = stdout(&sweep(&bench, &[]));
    assert_fits_and_shows(&listed, &["TOKENS  POSITIONS", "POSITIONS are computed"]);
    let entry = run_all(&bench, "out").remove("seed1").unwrap();
    let tokens = entry["tokens"].as_u64().unwrap();
    assert_eq!(entry["positions"].as_u64(), Some(40 * 4 * 16));
    assert_eq!(tokens, 40 * 4 * 7);
    assert_eq!(entry["result"]["tokens"].as_u64(), Some(tokens));
    let log = fs::read_to_string(bench.path("out/logs/seed1.log")).unwrap_or_default();
    assert!(!log.contains("error"), "{log}");
    let trained = bench.succeed(&["train", "out/experiments/seed1.toml", "--out", "alone"]);
    assert!(
        trained.contains(" 28 tokens in 64 positions a step,"),
        "{trained}"
    );
    bench.succeed(&["report", "alone"]);
    let report = fs::read_to_string(bench.path("alone/report.md")).unwrap();
    assert!(
        report.contains("28 tokens per step in 64 positions"),
        "{report}"
    );
}

/// Returns the number of the latest claim of a run: how many processes have trained it.
fn claims(bench: &Bench, out: &str, name: &str) -> usize {
    let entries = fs::read_dir(bench.path(out).join("claims")).unwrap();
    let numbers = entries.filter_map(|entry| {
        let file = entry.unwrap().file_name().into_string().unwrap();
        file.strip_prefix(&format!("{name}."))?.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

/// A ladder and single runs that take a few seconds together.
const LONG: &str = "\
schedule.name = \"wsd\"
[axes]
train.steps = [200, 300, 400]
train.seed = [1, 2]
";

fn start(bench: &Bench, args: &[&str]) -> Child {
    let mut command = bench.command(&[&["sweep", "plan.toml", "--run"], args].concat());
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the runs of a sweep have written `lines` lines of metrics more than `before`.
fn wait_for_metrics(bench: &Bench, out: &str, lines: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let before = metrics_lines(bench, out);
    while metrics_lines(bench, out) < before + lines {
        assert!(Instant::now() < deadline, "no metrics in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn metrics_lines(bench: &Bench, out: &str) -> usize {
    let runs = fs::read_dir(bench.path(out).join("runs"));
    let logs = runs.into_iter().flatten();
    let lines = logs.map(|run| {
        let log = fs::read_to_string(run.unwrap().path().join("metrics.jsonl"));
        log.map_or(0, |text| text.lines().count())
    });
    lines.sum()
}

/// Kills a process with its children, so that none of them can do anything more.
#[cfg(target_os = "linux")]
fn kill_all(mut child: Child) {
    let id = child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    child.kill().unwrap();
    for process in children.split_whitespace() {
        let mut kill = Command::new("kill");
        let _ = kill.args(["-KILL", process]).stderr(Stdio::null()).status();
    }
    child.wait().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_sweep_goes_on_to_the_same_bits() {
    let bench = with_plan(LONG);
    run_all(&bench, "reference");
    for lines in [1, 150, 400, 90, 333] {
        let child = start(&bench, &["--jobs", "2", "--out", "out"]);
        wait_for_metrics(&bench, "out", lines);
        kill_all(child);
    }
    let before = index(&bench, "out");
    assert!(
        before.values().any(|entry| entry["state"] != "done"),
        "{before:?}"
    );
    let index = run_all(&bench, "out");
    assert!(
        index.values().all(|entry| entry["state"] == "done"),
        "{index:?}"
    );
    assert_same_runs(&bench, "out", "reference");
}

#[test]
#[cfg(target_os = "linux")]
fn four_processes_of_which_two_are_killed_do_every_run_once() {
    let bench = with_plan(&LONG.replace("seed = [1, 2]", "seed = [1, 2, 3, 4]"));
    let mut children: Vec<Child> = (0..4).map(|_| start(&bench, &["--out", "out"])).collect();
    wait_for_metrics(&bench, "out", 250);
    // Of one process only the parent is killed, and its child has to notice.
    kill_all(children.remove(0));
    let mut parent = children.remove(0);
    parent.kill().unwrap();
    parent.wait().unwrap();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let index = index(&bench, "out");
    assert_eq!(index.len(), 12);
    let mut repeated = 0;
    for (name, entry) in &index {
        assert_eq!(entry["state"], "done", "{entry}");
        let run = bench.path("out/runs").join(name);
        let steps = entry["steps"].as_u64().unwrap();
        let written = column(&run, "step", "step");
        let expected: Vec<f64> = (0..steps).map(|step| step as f64).collect();
        assert_eq!(written, expected, "{name}");
        repeated += claims(&bench, "out", name) - 1;
    }
    // Only the two runs that lost their process had a second one.
    assert!(repeated <= 2, "{repeated} runs had another process");
    run_all(&bench, "reference");
    assert_same_runs(&bench, "out", "reference");
}

#[test]
#[cfg(unix)]
fn ctrl_c_stops_the_runs_with_checkpoints() {
    let bench = with_plan(LONG);
    run_all(&bench, "reference");
    let child = start(&bench, &["--jobs", "2", "--out", "out"]);
    wait_for_metrics(&bench, "out", 100);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(
        text(&output).contains("to go on:\n  foretoken sweep out --run"),
        "{}",
        text(&output)
    );
    let stopped = index(&bench, "out");
    let stopped: Vec<_> = stopped
        .values()
        .filter(|entry| entry["state"] == "stopped")
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(stopped.len(), 2, "{stopped:?}");
    for name in stopped {
        let checkpoints = bench.path("out/runs").join(name).join("checkpoints");
        assert!(fs::read_dir(checkpoints).unwrap().count() > 0);
    }
    let output = bench.run(&["sweep", "out", "--run", "--jobs", "2", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let printed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(printed["seconds_left"], 0.0);
    assert_same_runs(&bench, "out", "reference");
}

#[test]
fn runs_that_diverge_or_are_refused_are_recorded_and_the_sweep_goes_on() {
    let bench = with_plan(
        "optimizer.clip = 0\n[axes]\noptimizer.learning_rate = [0.01, 1e30]\nmodel.heads = [2, 3]\n",
    );
    let index = run_all(&bench, "out");
    let state = |rate: &str, heads: usize| {
        let entry = &index[&format!("learning_rate{rate}-heads{heads}")];
        let reason = entry["reason"].as_str().unwrap_or_default();
        (entry["state"].as_str().unwrap(), reason)
    };
    assert_eq!(state("0.01", 2).0, "done");
    let (diverged, reason) = state("1e30", 2);
    assert_eq!(diverged, "diverged");
    assert!(reason.contains("lower optimizer.learning_rate"), "{reason}");
    for rate in ["0.01", "1e30"] {
        let (refused, reason) = state(rate, 3);
        assert_eq!(refused, "refused");
        assert!(
            reason.contains("width 16 is not divisible by heads 3"),
            "{reason}"
        );
    }
    // A second time, nothing is left to do.
    assert_eq!(run_all(&bench, "out"), index);
    assert_eq!(claims(&bench, "out", "learning_rate1e30-heads2"), 1);
    let status = bench.succeed(&["sweep", "status", "out"]);
    assert!(
        status.contains("1 of 4 done, 1 diverged, 2 refused"),
        "{status}"
    );
}

#[test]
fn a_run_is_refused_by_its_data_and_tried_again() {
    let bench = Bench::new();
    let plan = SET.replace(
        "data.world.train_bytes = 20000\ndata.world.valid_bytes = 2000\n",
        "",
    ) + "model.vocab_size = 300\n[axes]\ntrain.seed = [1]\n";
    let text = "experiment = \"base.toml\"\n".to_owned() + &plan;
    fs::write(bench.path("plan.toml"), text).unwrap();
    fs::write(
        bench.path("base.toml"),
        "[data]\npath = \"text.txt\"\ntokenizer = \"byte\"\n[model]\n[train]\nsteps = 1\nbatch = 1\neval_every = 1\n",
    )
    .unwrap();
    let refused = run_all(&bench, "out");
    assert_eq!(refused["seed1"]["state"], "refused");
    let reason = refused["seed1"]["reason"].as_str().unwrap();
    assert!(reason.contains("text.txt"), "{reason}");
    fs::write(bench.path("text.txt"), "abcd ".repeat(2000)).unwrap();
    assert_eq!(run_all(&bench, "out")["seed1"]["state"], "done");
}

#[test]
fn shards_divide_a_sweep() {
    let bench = with_plan(LADDER);
    let run = |shard: &str| sweep(&bench, &["--run", "--out", "out", "--shard", shard]);
    let output = run("1/2");
    assert!(output.status.success(), "{}", text(&output));
    let done = |bench: &Bench| -> Vec<String> {
        let index = index(bench, "out");
        let done = index
            .into_iter()
            .filter(|(_, entry)| entry["state"] == "done");
        done.map(|(name, _)| name).collect()
    };
    // A shard has whole ladders.
    assert_eq!(
        done(&bench),
        ["steps40-seed1", "steps60-seed1", "steps90-seed1"]
    );
    let output = run("2/2");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(done(&bench).len(), 6);
    for (name, _) in index(&bench, "out") {
        assert_eq!(claims(&bench, "out", &name), 1, "{name}");
    }
}

#[test]
fn a_plan_may_grow_and_its_runs_may_not_change() {
    let bench = with_plan("[axes]\ntrain.seed = [1]\n");
    run_all(&bench, "out");
    write_plan(&bench, "[axes]\ntrain.seed = [1, 2]\n");
    assert_eq!(run_all(&bench, "out").len(), 2);
    assert_eq!(claims(&bench, "out", "seed1"), 1);
    for other in [
        "[axes]\ntrain.seed = [2, 3]\n",
        "optimizer.beta_1 = 0.8\n[axes]\ntrain.seed = [1, 2]\n",
    ] {
        write_plan(&bench, other);
        let output = sweep(&bench, &["--run", "--out", "out"]);
        assert_refused(
            &output,
            2,
            &["out: belongs to another plan: its run seed1 is not"],
        );
    }
}

#[cfg(unix)]
#[test]
fn a_file_without_an_end_is_refused() {
    let bench = Bench::new();
    fs::write(bench.path("plan.toml"), "experiment = \"/dev/zero\"\n").unwrap();
    for args in [
        ["sweep", "/dev/zero"],
        ["sweep", "plan.toml"],
        ["train", "/dev/zero"],
    ] {
        let output = bench.run(&args);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(
            text(&output).contains("/dev/zero: is larger than"),
            "{}",
            text(&output)
        );
    }
}

#[test]
fn a_damaged_run_and_a_lost_index_do_not_end_a_sweep() {
    let bench = with_plan("[axes]\ntrain.seed = [1, 2]\n");
    let reference = run_all(&bench, "out");
    let result = bench.path("out/runs/seed1/result.json");
    fs::write(&result, "garbage").unwrap();
    fs::remove_file(bench.path("out/index.jsonl")).unwrap();
    // The plan is in the directory, and the index is written again.
    let output = bench.run(&["sweep", "out", "--run"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let entries = index(&bench, "out");
    assert_eq!(entries["seed1"]["state"], "failed");
    let reason = entries["seed1"]["reason"].as_str().unwrap();
    assert!(reason.contains("result.json"), "{reason}");
    assert_eq!(entries["seed2"], reference["seed2"]);

    fs::remove_dir_all(bench.path("out/runs/seed1")).unwrap();
    bench.succeed(&["sweep", "out", "--run"]);
    // An index that was cut off is not believed.
    let whole = fs::read_to_string(bench.path("out/index.jsonl")).unwrap();
    fs::write(bench.path("out/index.jsonl"), "").unwrap();
    let output = bench.run(&["sweep", "status", "out"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("does not list the run seed"));
    fs::write(bench.path("out/index.jsonl"), whole).unwrap();
    let entries = index(&bench, "out");
    let loss = |entries: &BTreeMap<String, Value>| entries["seed1"]["result"]["valid_loss"].clone();
    assert_eq!(loss(&entries), loss(&reference));
}

#[test]
fn the_slurm_script_is_a_job_array_of_shards() {
    let bench = with_plan(LADDER);
    let script = bench.succeed(&["sweep", "script", "slurm", "plan.toml", "--tasks", "99"]);
    for part in [
        "#!/bin/bash\n",
        "#SBATCH --array=1-2\n",
        "--shard \"$SLURM_ARRAY_TASK_ID/2\"",
        "#SBATCH --signal=B:TERM@120\n",
        "exec foretoken sweep 'plan.toml' --run --out 'sweeps/plan'",
    ] {
        assert!(script.contains(part), "{part} is missing from:\n{script}");
    }
    let run = script
        .lines()
        .last()
        .unwrap()
        .replace("exec foretoken", env!("CARGO_BIN_EXE_foretoken"));
    for task in ["1", "2"] {
        let mut bash = Command::new("bash");
        bash.args(["-c", &run]).env("SLURM_ARRAY_TASK_ID", task);
        bash.current_dir(bench.root.path())
            .env("FORETOKEN_CACHE", bench.path("cache"));
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let index = index(&bench, "sweeps/plan");
    assert!(index.values().all(|entry| entry["state"] == "done"));
}

#[test]
fn mistakes_in_plans_are_one_line() {
    let bench = Bench::new();
    for (rest, message) in [
        (
            "[axis]\n",
            "line 15: unknown key `axis`; did you mean `axes`?",
        ),
        ("[axes]\n", "line 15: [axes] is empty"),
        (
            "[axes]\ntrain.seed = []\n",
            "line 16: train.seed: has no values",
        ),
        (
            "[axes]\ntrain.seed = 3\n",
            "line 16: train.seed: expected a list such as [1, 2]",
        ),
        (
            "[axes]\ntrain.seed = [3, 3]\n",
            "line 16: train.seed: has 3 twice",
        ),
        (
            "[axes]\nmodel.widht = [16]\n",
            "line 16: model.widht: unknown key `widht`; did you mean `width`?",
        ),
        (
            "[axes]\nmodel.width = [16]\n",
            "line 16: model.width is given twice",
        ),
        (
            "[axes]\nname = [\"a\"]\n",
            "line 16: name: the sweep names its runs",
        ),
        (
            "[axes]\ntrain.seed = [\"a\"]\n",
            "run seed-a: train.seed=\"a\": invalid type",
        ),
        (
            "[axes]\nflops = [1e9]\n",
            "line 16: flops: no formula of [derive] refers to this variable",
        ),
        (
            "[axes]\nparameters = [1]\n",
            "line 16: parameters: every run has its own",
        ),
        (
            "[axes]\ntrain.seed = { from = 9, to = 1, points = 3 }\n",
            "line 16: train.seed: from 9 to 1 is no range",
        ),
        (
            "[[tied]]\ntrain.seed = [1, 2]\nmodel.dropout = [0]\n",
            "line 15: tied: train.seed has 2 values",
        ),
        (
            "[[tied]]\nmodel.dropout = [0, 0]\ntrain.seed = [1, 2]\n",
            "line 16: model.dropout: has 0 twice, and names the runs; put a key first whose values differ",
        ),
        (
            "[derive]\nmodel.dropout = 3\n",
            "line 16: model.dropout: expected a formula as text",
        ),
        (
            "[derive]\nmodel.dropout = \"1 +\"\n",
            "formula \"1 +\" ends where a number",
        ),
        (
            "[derive]\nmodel.dropout = \"paramters / 2\"\n",
            "paramters is neither a number of the experiment nor a variable; did you mean parameters?",
        ),
        (
            "[derive]\nmodel.dropout = \"1 / 0\"\n",
            "run run: model.dropout: 1 / 0 is inf",
        ),
        (
            "[derive]\nmodel.dropout = \"a\"\na = \"model.dropout\"\n",
            "line 16: derive: the formulas of model.dropout, a refer to each other in a circle",
        ),
        (
            "[derive]\ndata.tokenizer = \"1\"\n",
            "line 16: data.tokenizer: is not a number",
        ),
        (
            "[axes]\nx = [1, 2]\n[derive]\nmodel.dropout = \"0 * x\"\n",
            "runs x1 and x2 have the same keys",
        ),
        ("not toml", "line 15: "),
    ] {
        fs::write(bench.path("plan.toml"), format!("{SET}{rest}")).unwrap();
        assert_refused(&sweep(&bench, &[]), 2, &["error: plan.toml: ", message]);
    }
    let seeds: Vec<usize> = (0..5001).collect();
    write_plan(
        &bench,
        &format!("[axes]\ntrain.seed = {seeds:?}\noptimizer.clip = [1, 2]\n"),
    );
    let message = "the axes have 5001 × 2 combinations; a sweep has at most 10000 runs";
    assert_refused(&sweep(&bench, &[]), 2, &[message]);
    fs::write(bench.path("plan.toml"), "experiment = \"none.toml\"\n").unwrap();
    assert_refused(
        &sweep(&bench, &[]),
        2,
        &[
            "experiment: none.toml does not exist; name an experiment beside the plan, or \"embedded\"",
        ],
    );
    assert_refused(
        &bench.run(&["sweep", "none.toml"]),
        2,
        &["none.toml: no such plan"],
    );
    assert_eq!(bench.run(&["sweep"]).status.code(), Some(2));
}

#[test]
fn mistakes_in_arguments_are_one_line() {
    let bench = with_plan("[axes]\ntrain.seed = [1, 2]\n");
    for (shard, message) in [
        ("0/4", "parts are counted from 1: the first of 4 is 1/4"),
        ("5/4", "there is no part 5 of 4"),
        ("1/0", "there are no 0 parts"),
        ("one", "expected i/n, such as 1/4"),
    ] {
        let output = sweep(&bench, &["--run", "--shard", shard]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(message), "{}", text(&output));
    }
    fs::create_dir(bench.path("mine")).unwrap();
    fs::write(bench.path("mine/precious.txt"), "").unwrap();
    let output = sweep(&bench, &["--run", "--out", "mine"]);
    assert_refused(
        &output,
        2,
        &["mine: already exists and is not the directory of a sweep"],
    );
    let output = sweep(&bench, &["--run", "--out", "mine/precious.txt"]);
    assert_refused(&output, 2, &["is a file"]);
    assert_refused(
        &bench.run(&["sweep", "status", "mine"]),
        2,
        &["is not the directory of a sweep"],
    );
    assert_refused(
        &bench.run(&["sweep", "mine", "--run"]),
        2,
        &["is not the directory of a sweep"],
    );
    if cfg!(target_os = "linux") {
        let output = sweep(&bench, &["--run", "--out", "/proc/sweep"]);
        assert_refused(&output, 2, &["/proc/sweep", "name another --out"]);
    }
}

#[test]
fn thousands_of_runs_are_listed() {
    let seeds: Vec<usize> = (0..3000).collect();
    let bench = with_plan(&format!("[axes]\ntrain.seed = {seeds:?}\n"));
    let listed = stdout(&sweep(&bench, &[]));
    assert_eq!(
        listed
            .lines()
            .filter(|line| line.starts_with("seed"))
            .count(),
        3000
    );
    assert!(
        listed.contains("3000 runs"),
        "{}",
        &listed[listed.len() - 300..]
    );
}

/// Returns the kept measurements of a bench.
fn measurements(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.path("cache/measured")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_peak_is_measured_once_and_kept() {
    let bench = Bench::new();
    let peak = |out: &str| {
        let output = bench.tiny(&["--out", out]).output().unwrap();
        let headline = stdout(&output).lines().next().unwrap().to_owned();
        let (_, rest) = headline.split_once("matrix-product peak ").unwrap();
        rest.split_once(' ').unwrap().0.parse::<f64>().unwrap()
    };
    peak("a");
    let [file] = &measurements(&bench)[..] else {
        panic!("one measurement is kept");
    };
    let kept = json_file(
        &bench.path("cache/measured"),
        file.file_name().unwrap().to_str().unwrap(),
    );
    let changed = |value: Value| {
        let mut kept = kept.clone();
        kept["value"] = value;
        fs::write(file, kept.to_string()).unwrap();
    };
    changed(123_456.into());
    assert_eq!(peak("b"), 123_456.0);
    // What is damaged or impossible is measured again.
    for damage in ["", "{", "[]", "{\"key\":\"another\",\"value\":123456}"] {
        fs::write(file, damage).unwrap();
        assert_ne!(peak(&format!("c{}", damage.len())), 123_456.0);
    }
    changed((-1).into());
    assert!(peak("d") > 0.0);
    changed(123_456.into());
    bench.succeed(&["backends", "--measure"]);
    assert_ne!(peak("e"), 123_456.0);
    // Without a place to keep it, it is measured each time.
    let mut command = bench.tiny(&["--out", "f"]);
    let output = command
        .env("FORETOKEN_CACHE", "/dev/null/none")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
