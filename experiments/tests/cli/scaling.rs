//! Tests of `foretoken scaling fit` and `foretoken scaling predict`.

use super::*;

use std::fs;

use serde_json::{Value, json};

/// Writes 30 runs on `L = 1.2 + 60 / N^0.35 + 200 / D^0.38`, with a fixed noise of 0.35 %, to `runs.csv`.
fn table(bench: &Bench) {
    let mut text = String::from("Params,Tokens,Loss,seed\n");
    for i in 0..5 {
        for j in 0..6 {
            let (n, d) = (1e5 * 3f64.powi(i), 1e6 * 3f64.powi(j));
            let noise = 0.005 * (12.9898 * f64::from(7 * i + 3 * j + 1).powi(2)).sin();
            let loss = (1.2 + 60.0 * n.powf(-0.35) + 200.0 * d.powf(-0.38)) * noise.exp();
            text += &format!("{n},{d},{loss},0\n");
        }
    }
    fs::write(bench.path("runs.csv"), text).unwrap();
}

/// Few draws, which are enough where intervals are not the question.
const FEW: [&str; 4] = ["--draws", "99", "--bootstrap", "99"];

fn fit(bench: &Bench, args: &[&str]) -> String {
    bench.succeed(&[&["scaling", "fit"], args, &FEW].concat())
}

fn json(bench: &Bench, args: &[&str]) -> Value {
    serde_json::from_str(&fit(bench, &[args, &["--json"]].concat())).unwrap()
}

fn estimate<'v>(fit: &'v Value, quantity: &str) -> &'v Value {
    let estimates = fit["estimates"].as_array().unwrap();
    estimates
        .iter()
        .find(|estimate| estimate["quantity"] == quantity)
        .unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Runs a command that must be refused, and returns its one line.
#[track_caller]
fn refusal(bench: &Bench, args: &[&str]) -> String {
    let output = bench.run(&[&["scaling"], args].concat());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    message
}

#[test]
fn fit_of_a_table_has_the_truth_in_its_intervals() {
    let bench = Bench::new();
    table(&bench);
    let fits = json(&bench, &["runs.csv"]);
    let fit = &fits["fits"][0];
    for (quantity, truth) in [
        ("e", 1.2),
        ("alpha", 0.35),
        ("beta", 0.38),
        ("optimal_exponent", 0.38 / 0.73),
    ] {
        let estimate = estimate(fit, quantity);
        let [low, high] = [0, 1].map(|end| number(&estimate["interval"][end]));
        assert!(low < truth && truth < high, "{estimate}");
        assert!(low < number(&estimate["value"]) && number(&estimate["value"]) < high);
    }
    let printed = self::fit(&bench, &["runs.csv", "--entropy", "1.2"]);
    for part in [
        "L = E + A/N^α + B/D^β\n30 runs;",
        "95 % interval",
        "conditioning",
        "the interval of E contains it",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let elsewhere = self::fit(&bench, &["runs.csv", "--entropy", "1.5"]);
    assert!(
        elsewhere.contains("the interval of E does not contain it"),
        "{elsewhere}"
    );
}

#[test]
fn result_depends_on_neither_threads_nor_the_order_of_rows() {
    let bench = Bench::new();
    table(&bench);
    let csv = fs::read_to_string(bench.path("runs.csv")).unwrap();
    let mut lines: Vec<&str> = csv.lines().collect();
    lines[1..].reverse();
    fs::write(bench.path("reversed.csv"), lines.join("\n")).unwrap();
    let numbers = |args: &[&str], threads: &str| {
        let output = bench
            .command(&[&["scaling", "fit", "--json"], args, &FEW].concat())
            .env("RAYON_NUM_THREADS", threads)
            .output();
        let fits: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let fit = fits["fits"][0].clone();
        [
            fit["estimates"].to_string(),
            fit["draws"].to_string(),
            fit["bootstrap"].to_string(),
        ]
    };
    let one = numbers(&["runs.csv"], "1");
    assert_eq!(one, numbers(&["runs.csv"], "3"));
    assert_eq!(one, numbers(&["reversed.csv"], "2"));
}

#[test]
fn columns_are_found_by_common_names_or_named() {
    let bench = Bench::new();
    table(&bench);
    let csv = fs::read_to_string(bench.path("runs.csv")).unwrap();
    let named = csv.replacen("Params,Tokens,Loss,seed", "how big,how long,nats,seed", 1);
    fs::write(bench.path("named.csv"), named).unwrap();
    let columns = "params=how big,tokens=how long,loss=nats,seed=seed";
    let fits = json(&bench, &["named.csv", "--columns", columns]);
    let expected = json(&bench, &["runs.csv"]);
    assert_eq!(
        fits["fits"][0]["estimates"],
        expected["fits"][0]["estimates"]
    );
    // Tokens follow from FLOPs.
    let mut flops = String::from("Model Size,Training FLOP,loss\n");
    for line in csv.lines().skip(1) {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        flops += &format!("{},{},{}\n", cells[0], 6.0 * cells[0] * cells[1], cells[2]);
    }
    fs::write(bench.path("flops.csv"), flops).unwrap();
    let fits = json(&bench, &["flops.csv"]);
    let values = |fits: &Value| number(&estimate(&fits["fits"][0], "alpha")["value"]);
    assert!((values(&fits) - values(&expected)).abs() < 1e-9);
}

#[test]
fn mistakes_in_a_table_are_one_line_with_file_and_line() {
    let bench = Bench::new();
    table(&bench);
    let good = fs::read_to_string(bench.path("runs.csv")).unwrap();
    let second = good.lines().nth(2).unwrap();
    for (row, problem) in [
        ("1e5,3e6,-1,0", "bad.csv: line 3: column \"Loss\" is \"-1\""),
        (
            "1e5,3e6,nan,0",
            "bad.csv: line 3: column \"Loss\" is \"nan\"",
        ),
        ("1e5,3e6,,0", "bad.csv: line 3: column \"Loss\" is empty"),
        ("0,3e6,2,0", "bad.csv: line 3: column \"Params\" is \"0\""),
        (
            "1e5,1e999,2,0",
            "bad.csv: line 3: column \"Tokens\" is \"1e999\"",
        ),
        (
            "1e5,3e6,2",
            "bad.csv: line 3: has 3 cells, and the first line has 4",
        ),
        ("1e5,3e6,\u{1b}[31m,0", "column \"Loss\" is"),
    ] {
        fs::write(bench.path("bad.csv"), good.replacen(second, row, 1)).unwrap();
        let message = refusal(&bench, &["fit", "bad.csv"]);
        assert!(message.contains(problem), "{row}: {message}");
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }
    let some: Vec<&str> = good.lines().take(5).collect();
    let one_size: Vec<&str> = good.lines().take(7).collect();
    let damaged = [good.as_bytes(), b"\xff\xfe,1,2,3\n"].concat();
    for (content, problem) in [
        (
            some.join("\n").into_bytes(),
            "has 4 different runs, and L = E + A/N^α + B/D^β has 5 parameters",
        ),
        (
            one_size.join("\n").into_bytes(),
            "has runs with 100000 parameters only",
        ),
        (
            b"Params,Tokens,Loss\n".to_vec(),
            "has no rows below its first line",
        ),
        (b"".to_vec(), "its first line has no names; is it empty?"),
        (
            b"a,b\n1,2\n".to_vec(),
            "has no column of losses under a common name; name it with --columns loss=NAME",
        ),
        (
            b"loss,tokens\n1,2\n".to_vec(),
            "has no column of parameters",
        ),
        (
            b"loss,params\n1,2\n".to_vec(),
            "has no column of tokens or FLOPs",
        ),
        (
            b"loss,Loss,params,tokens\n1,2,3,4\n".to_vec(),
            "has two columns for the same quantity",
        ),
        (
            b"loss;params;tokens\n2,1;1;1\n".to_vec(),
            "has columns that a semicolon separates",
        ),
        (damaged, "is not UTF-8"),
    ] {
        fs::write(bench.path("bad.csv"), content).unwrap();
        let message = refusal(&bench, &["fit", "bad.csv"]);
        assert!(message.contains(problem), "{message}");
    }
    for (args, problem) in [
        (&["fit", "missing.csv"][..], "missing.csv: does not exist"),
        (
            &["fit", "."],
            "is neither a run directory nor a directory with runs",
        ),
        (
            &["fit", "runs.csv", "--columns", "size"],
            "--columns: \"size\" is not KEY=NAME",
        ),
        (
            &["fit", "runs.csv", "--columns", "size=a"],
            "--columns: \"size\" is not a key",
        ),
        (
            &["fit", "runs.csv", "--columns", "loss=a"],
            "has no column \"a\"",
        ),
        (
            &["fit", "runs.csv", "--params", "with-head"],
            "has no count of",
        ),
        (
            &["fit", "runs.csv", "--threshold", "0"],
            "--threshold: 0 is not a number above 0",
        ),
        (
            &["fit", "runs.csv", "--hold-out=1"],
            "--hold-out: 1 is not a factor above 1",
        ),
        (
            &["fit", "runs.csv", "--hold-out=1e4"],
            "without 29 runs held out: has 1 different run, and",
        ),
        (
            &["fit", "runs.csv", "--test", "E=1"],
            "--test: needs every parameter",
        ),
        (
            &["fit", "runs.csv", "--test", "E=1,E=2"],
            "--test: has E twice; keep one of them",
        ),
        (
            &["fit", "runs.csv", "--columns", "loss=a,loss=b"],
            "--columns: names the column of loss twice; keep one of them",
        ),
        (
            &["fit", "runs.csv", "--test", "Q=1"],
            "--test: \"Q=1\" is not NAME=VALUE",
        ),
        (
            &[
                "fit",
                "runs.csv",
                "--law",
                "kaplan",
                "--method",
                "classical",
            ],
            "--method: classical is for --law chinchilla",
        ),
    ] {
        let message = refusal(&bench, args);
        assert!(message.contains(problem), "{args:?}: {message}");
    }
}

#[test]
fn report_has_figures_and_tables_and_predicts() {
    let bench = Bench::new();
    table(&bench);
    let printed = fit(
        &bench,
        &[
            "runs.csv",
            "--out",
            "report",
            "--hold-out=4",
            "--law",
            "chinchilla,kaplan",
        ],
    );
    assert!(
        printed.ends_with("Report: report/report.html\n"),
        "{printed}"
    );
    assert!(
        printed.contains("held out: ") && printed.contains("side by side"),
        "{printed}"
    );
    for file in [
        "fit.json",
        "runs.csv",
        "estimates.csv",
        "draws.csv",
        "held-out.csv",
        "report.html",
        "report.md",
        "plots/loss-by-compute.svg",
        "plots/surface.svg",
        "plots/residuals.svg",
        "plots/exponents.svg",
        "plots/irreducible.svg",
        "plots/predictions.svg",
        "plots/exponents-2.svg",
    ] {
        let content = fs::read_to_string(bench.path("report").join(file)).unwrap();
        assert!(!content.is_empty() && !content.contains("NaN"), "{file}");
    }
    let predict = |args: &[&str]| -> Value {
        serde_json::from_str(
            &bench.succeed(&[&["scaling", "predict", "report", "--json"], args].concat()),
        )
        .unwrap()
    };
    // Within the data the prediction is the law's.
    let loss = &predict(&["--params", "3e5", "--tokens", "9e6"])["loss"];
    let truth = 1.2 + 60.0 * 3e5f64.powf(-0.35) + 200.0 * 9e6f64.powf(-0.38);
    assert!(
        (number(&loss["loss"]["value"]) / truth - 1.0).abs() < 0.01,
        "{loss}"
    );
    let width = |interval: &Value| number(&interval[1]) - number(&interval[0]);
    assert!(
        width(&loss["run_interval"]) > width(&loss["loss"]["interval"]),
        "{loss}"
    );
    assert_eq!(loss["extrapolation"], serde_json::json!([]));
    let far = predict(&["--flops", "1e21"]);
    let optimum = &far["optimum"];
    let product =
        6.0 * number(&optimum["parameters"]["value"]) * number(&optimum["tokens"]["value"]);
    assert!((product / 1e21 - 1.0).abs() < 1e-9);
    assert_eq!(
        optimum["loss"]["extrapolation"].as_array().unwrap().len(),
        3,
        "{far}"
    );
    let printed = bench.succeed(&["scaling", "predict", "report/fit.json", "--flops", "1e21"]);
    assert!(
        printed.contains("extrapolation: ") && printed.contains("tokens/parameter"),
        "{printed}"
    );
}

#[test]
fn damaged_numbers_of_a_fit_are_refused() {
    let bench = Bench::new();
    table(&bench);
    fit(&bench, &["runs.csv", "--out", "report"]);
    let text = fs::read_to_string(bench.path("report/fit.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    for (place, value, problem) in [
        (
            "/fits/0/observations/3/loss",
            json!(0),
            "a number of a run is not above 0",
        ),
        (
            "/fits/0/fitted/values/0",
            json!(-1),
            "its parameters are not those of its law",
        ),
        (
            "/fits/0/fitted/values/1",
            json!(7),
            "its estimates are not those of its parameters",
        ),
        (
            "/fits/0/estimates/3/value",
            json!(9),
            "its estimates are not those of its parameters",
        ),
        (
            "/fits/0/estimates/3/interval/0",
            json!(1e9),
            "an interval of an estimate is not one",
        ),
        (
            "/fits/0/estimates/0/standard_error",
            json!(-1),
            "an interval of an estimate is not one",
        ),
        (
            "/fits/0/noise/deviation",
            json!(-1),
            "the noise of its losses is below 0",
        ),
        (
            "/fits/0/draws/5/2",
            json!(-1),
            "a number of a draw is below 0",
        ),
        (
            "/fits/0/bootstrap/5/0",
            json!(-1),
            "a number of a draw is below 0",
        ),
    ] {
        let mut damaged = whole.clone();
        let number = damaged.pointer_mut(place);
        *number.unwrap_or_else(|| panic!("{place}")) = value;
        fs::write(bench.path("damaged.json"), damaged.to_string()).unwrap();
        let message = refusal(&bench, &["predict", "damaged.json", "--flops", "1e21"]);
        let expected = format!("damaged.json: is not a fit: {problem}; give the file");
        assert!(message.contains(&expected), "{place}: {message}");
    }
    fs::write(bench.path("whole.json"), whole.to_string()).unwrap();
    bench.succeed(&["scaling", "predict", "whole.json", "--flops", "1e21"]);
}

#[test]
fn mistakes_in_predictions_are_one_line() {
    let bench = Bench::new();
    table(&bench);
    fit(&bench, &["runs.csv", "--out", "report"]);
    fs::write(bench.path("bad.json"), "{\"fits\":[1]}").unwrap();
    fs::write(
        bench.path("other.json"),
        "{\"sources\":[],\"skipped\":[],\"dropped\":0,\"fits\":[]}",
    )
    .unwrap();
    let spoilt = fs::read_to_string(bench.path("report/fit.json")).unwrap();
    let at = spoilt.find("\"observations\"").unwrap();
    let at = at + spoilt[at..].find("\"parameters\": ").unwrap();
    let spoilt =
        spoilt[..at].to_owned() + "\"parameters\": -" + &spoilt[at + "\"parameters\": ".len()..];
    fs::write(bench.path("spoilt.json"), spoilt).unwrap();
    for (args, problem) in [
        (
            &["predict", "bad.json", "--flops", "1"][..],
            "bad.json: is not a fit",
        ),
        (
            &["predict", "other.json", "--flops", "1"],
            "other.json: has no fit in it",
        ),
        (
            &["predict", "spoilt.json", "--flops", "1"],
            "spoilt.json: is not a fit",
        ),
        (
            &["predict", "missing", "--flops", "1"],
            "missing: does not exist",
        ),
        (
            &["predict", "report"],
            "--params: give --params and --tokens, or --flops",
        ),
        (&["predict", "report", "--flops", "-1"], "-1"),
        (
            &["predict", "report", "--flops", "nan"],
            "invalid value 'nan' for '--flops <C>': give a number above 0, such as 7e10, 70B or 1.4T",
        ),
        (
            &[
                "predict", "report", "--flops", "1", "--params", "1", "--tokens", "1",
            ],
            "--flops: is 6 N D",
        ),
        (
            &["predict", "report", "--flops", "1", "--count", "with-head"],
            "--law and --count: name none of the fits, which are L = E + A/N^α + B/D^β with --count total",
        ),
    ] {
        let output = bench.run(&[&["scaling"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(problem), "{args:?}: {message}");
    }
}

/// Tiny runs of three widths and three lengths, in a directory of runs; one is not finished.
#[test]
fn runs_of_the_program_are_read_with_every_count_of_their_parameters() {
    let bench = Bench::new();
    let heads = ["2", "4", "4"];
    for (index, width) in ["16", "32", "64"].into_iter().enumerate() {
        for steps in ["5", "10", "20"] {
            let sets = [
                format!("model.width={width}"),
                format!("model.heads={}", heads[index]),
                format!("train.steps={steps}"),
                "optimizer.warmup=2".into(),
            ];
            let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
            bench.tiny_run(&format!("sweep/runs/{width}-{steps}"), &set(&sets));
        }
    }
    fs::remove_file(bench.path("sweep/runs/16-5/result.json")).unwrap();
    let fits = json(
        &bench,
        &[
            "sweep", "--params", "all", "--law", "power", "--over", "tokens",
        ],
    );
    assert_eq!(
        fits["skipped"].as_array().unwrap().len(),
        1,
        "{}",
        fits["skipped"]
    );
    let fits = fits["fits"].as_array().unwrap();
    assert_eq!(fits.len(), 3);
    let sizes: Vec<f64> = fits
        .iter()
        .map(|fit| number(&fit["observations"][0]["parameters"]))
        .collect();
    assert!(sizes[1] < sizes[2] && sizes[2] < sizes[0], "{sizes:?}");
    let run = &fits[0]["observations"][0];
    let name = bench.path("sweep/runs").join("16-10");
    let result: Value =
        serde_json::from_str(&fs::read_to_string(name.join("result.json")).unwrap()).unwrap();
    assert_eq!(number(&run["tokens"]), number(&result["tokens"]));
    assert_eq!(number(&run["loss"]), number(&result["valid_loss"]));
    // The least loss for what the windows show is known, and compared with E in nats per token.
    let check = &fits[0]["entropy"];
    assert_eq!(check["floor"], "window");
    let [floor, loss, bits] = ["window_floor_bits_per_byte", "valid_loss", "bits_per_byte"]
        .map(|key| number(&result[key]));
    let entropy = number(&check["entropy"]);
    assert!(
        (entropy / (floor * loss / bits) - 1.0).abs() < 1e-6,
        "{check} {floor}"
    );
}

#[test]
fn runs_that_no_single_law_describes_are_refused_by_name() {
    let bench = Bench::new();
    let run = |name: &str, sets: &[&str]| {
        let sets = [&["train.steps=3", "optimizer.warmup=1"], sets].concat();
        bench.tiny_run(name, &set(&sets));
    };
    run("a", &[]);
    run("seed", &["train.seed=7", "optimizer.learning_rate=2e-3"]);
    run("world", &["data.world.seed=7"]);
    run("decay", &["optimizer.weight_decay=0.3"]);
    run("windows", &["data.windows=\"random\""]);
    for (name, problem) in [
        (
            "world",
            "world: has other data than a, so that no single law describes both: data.world.seed (7 here, ",
        ),
        (
            "windows",
            "windows: has other data than a, so that no single law describes both: data.windows (",
        ),
        (
            "decay",
            "decay: has the size, tokens and FLOPs of a, but is not another seed of it: optimizer.weight_decay (0.3 here, ",
        ),
        // Another seed and another learning rate are no reason to refuse; one size is.
        ("seed", "has 1 different run, and"),
    ] {
        let message = refusal(&bench, &["fit", "a", name]);
        assert!(message.contains(problem), "{name}: {message}");
    }
}

#[test]
fn undetermined_quantities_are_no_findings() {
    let bench = Bench::new();
    // The losses hardly fall with N and D, and their noise is larger than what they fall by.
    let mut text = String::from("Params,Tokens,Loss\n");
    for i in 0..4 {
        for j in 0..4 {
            let noise = 0.03 * (12.9898 * f64::from(7 * i + 3 * j + 1).powi(2)).sin();
            text += &format!(
                "{},{},{}\n",
                1e6 * 2f64.powi(i),
                1e7 * 2f64.powi(j),
                2.0 + noise - 0.002 * f64::from(i + j)
            );
        }
    }
    fs::write(bench.path("flat.csv"), text).unwrap();
    let printed = fit(&bench, &["flat.csv", "--entropy", "1", "--out", "flat"]);
    for part in [
        "E has no closed interval, so that nothing follows",
        "The runs do not determine how compute-optimal parameters grow",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains("grow as C^0"), "{printed}");
    let page = fs::read_to_string(bench.path("flat/report.md")).unwrap();
    assert!(page.contains("16 runs do not determine "), "{page}");
    assert!(!page.contains("grow as C^"), "{page}");
    let printed = bench.succeed(&["scaling", "predict", "flat", "--flops", "1e16"]);
    assert!(
        printed.contains("the data do not determine ")
            && printed.contains("do not rely on this prediction"),
        "{printed}"
    );
}

#[test]
fn losses_without_noise_have_no_intervals() {
    let bench = Bench::new();
    let mut text = String::from("Params,Tokens,Loss\n");
    for i in 0..4 {
        for j in 0..4 {
            let (n, d) = (1e6 * 4f64.powi(i), 1e7 * 4f64.powi(j));
            text += &format!(
                "{n},{d},{}\n",
                1.2 + 60.0 * n.powf(-0.35) + 200.0 * d.powf(-0.38)
            );
        }
    }
    fs::write(bench.path("exact.csv"), text).unwrap();
    let printed = fit(&bench, &["exact.csv", "--out", "exact"]);
    assert!(
        printed.contains("The losses follow the law exactly"),
        "{printed}"
    );
    assert!(printed.contains("  α      0.35000\n"), "{printed}");
    assert!(!printed.contains("grow as C^0"), "{printed}");
    let predicted = bench.succeed(&["scaling", "predict", "exact", "--flops", "1e16"]);
    assert!(predicted.contains("intervals mean nothing"), "{predicted}");
    let fits = json(&bench, &["exact.csv", "--entropy", "1.2"]);
    for estimate in fits["fits"][0]["estimates"].as_array().unwrap() {
        assert_eq!(estimate["interval"], json!([null, null]), "{estimate}");
        assert!(estimate["standard_error"].is_null(), "{estimate}");
    }
    assert!(fits["fits"][0]["entropy"]["inside"].is_null());
}

#[test]
fn prediction_takes_the_law_with_the_lower_objective_or_a_named_one() {
    let bench = Bench::new();
    table(&bench);
    fit(
        &bench,
        &["runs.csv", "--law", "pure-power,chinchilla", "--out", "two"],
    );
    let size = ["--params", "1M", "--tokens", "0.02B"];
    let predict =
        |args: &[&str]| bench.succeed(&[&["scaling", "predict", "two"], &size[..], args].concat());
    let default = predict(&[]);
    assert!(
        default.starts_with("L = E + A/N^α + B/D^β; N counts all parameters\n"),
        "{default}"
    );
    for part in ["of 2 fits in the file", "N = 1.00e6, D = 2.00e7,"] {
        assert!(default.contains(part), "{part}: {default}");
    }
    let named = predict(&["--law", "pure-power"]);
    assert!(
        named.starts_with("L = A/C^α; N counts all parameters\nN = "),
        "{named}"
    );
    let page = fs::read_to_string(bench.path("two/report.md")).unwrap();
    assert!(
        page.contains(". Of 2 fits, L = E + A/N^α + B/D^β has the lowest objective\n"),
        "{page}"
    );
}

#[test]
fn approach_1_needs_training_curves() {
    let bench = Bench::new();
    table(&bench);
    let printed = fit(&bench, &["runs.csv"]);
    assert!(!printed.contains("approach 1"), "{printed}");
    assert!(printed.contains("approach 2"), "{printed}");
}
