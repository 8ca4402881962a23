//! Tests of `foretoken report` on runs.

use std::fs;

use super::*;

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_report_of_a_run_is_in_its_directory() {
    let bench = Bench::new();
    let run = bench.tiny_run("run", &["--set", "train.sample_tokens=20"]);
    let printed = bench.succeed(&["report", "run"]);
    assert_eq!(printed, "run/report.html\n");
    let result = json_file(&run, "result.json");
    let number = |key: &str| result[key].as_f64().unwrap();
    let markdown = read(run.join("report.md"));
    for part in [
        format!("- Validation loss: {:.4} (", number("valid_loss")),
        format!("- Training loss: {:.4} (", number("train_loss")),
        format!(
            "floor of its windows {:.4}",
            number("window_floor_bits_per_byte")
        ),
        format!("- Best checkpoint: step {} (", result["best"]["step"]),
        format!("```text\n{}", read(run.join("sample.txt")).trim_end()),
        format!("```toml\n{}", read(run.join("experiment.toml")).trim_end()),
        "| CPU |".into(),
        format!(
            "- data: `{}`",
            json_file(&run, "identity.json")["data"].as_str().unwrap()
        ),
    ] {
        assert!(markdown.contains(&part), "{part}: {markdown}");
    }
    // A curve in the page has the numbers of the log, bit for bit in f32.
    let html = read(run.join("report.html"));
    let (_, data) = html.split_once("id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let curve = data["lines"]["loss"]["lines"][0]["values"]
        .as_array()
        .unwrap();
    let losses: Vec<f64> = metrics(&run)
        .iter()
        .filter(|line| line["kind"] == "step")
        .map(|line| line["loss"].as_f64().unwrap())
        .collect();
    assert_eq!(losses.len(), 25);
    let curve: Vec<f64> = curve.iter().map(|value| value.as_f64().unwrap()).collect();
    let same = |(drawn, logged): (&f64, &f64)| *drawn as f32 == *logged as f32;
    assert!(curve.len() == 25 && curve.iter().zip(&losses).all(same));
    for plot in [
        "loss",
        "bits-per-byte",
        "learning-rate",
        "gradient-norm",
        "speed",
        "accuracy",
    ] {
        assert!(run.join(format!("plots/{plot}.svg")).is_file(), "{plot}");
    }
    // A run with a report can be resumed.
    bench.succeed(&LONGER);
    let printed = bench.succeed(&["report", "run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(json, serde_json::json!({ "reports": ["run/report.html"] }));
    let markdown = read(run.join("report.md"));
    assert!(markdown.contains("after 30 steps") && markdown.contains("resumed at step 25"));
}

#[test]
fn an_interrupted_run_is_reported_up_to_its_last_step() {
    let bench = Bench::trained();
    let run = bench.path("run");
    let floor = json_file(&run, "result.json")["floor_bits_per_byte"]
        .as_f64()
        .unwrap();
    let log = read(run.join("metrics.jsonl"));
    let until: Vec<&str> = log.lines().take(13).collect();
    fs::write(
        run.join("metrics.jsonl"),
        until.join("\n") + "\n{\"kind\":\"st",
    )
    .unwrap();
    for file in ["result.json", "sample.txt"] {
        fs::remove_file(run.join(file)).unwrap();
    }
    bench.output(&["report", "run", "--out", "elsewhere"]);
    assert!(!run.join("report.html").exists());
    let markdown = read(bench.path("elsewhere/report.md"));
    for part in [
        "unfinished: 12 of 25",
        "The run is not complete",
        "incomplete and ignored",
        "To continue the run: foretoken train --resume --out run",
        // The floor is recomputed, because the run has no result.
        &format!("floor {floor:.4}"),
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    assert!(!markdown.contains("## Sample"));
}

#[test]
fn runs_share_a_report_and_comparisons_have_their_own() {
    let bench = Bench::trained();
    bench.tiny_run(
        "bytes",
        &["--set", "data.tokenizer=byte", "--set", "train.steps=12"],
    );
    bench.output(&["compare", "run", "run", "--out", "compared"]);
    let printed = bench.succeed(&["report", "run", "bytes", "compared"]);
    assert_eq!(printed, "compared/report.html\nruns/report-1/report.html\n");
    assert!(!bench.path("run/report.html").exists());
    let markdown = read(bench.path("runs/report-1/report.md"));
    for part in [
        "| run | flex:f32 | complete | 25 |",
        "| bytes | flex:f32 | complete | 12 |",
        "different tokenizers",
        "| ≠ data.tokenizer | char | byte |",
        "| ≠ train.steps | 25 | 12 |",
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
}

#[test]
fn the_error_of_an_unreportable_directory_is_one_line() {
    let bench = Bench::trained();
    fs::create_dir(bench.path("empty")).unwrap();
    let fresh = bench.path("fresh");
    fs::create_dir(&fresh).unwrap();
    fs::copy(
        bench.path("run/experiment.toml"),
        fresh.join("experiment.toml"),
    )
    .unwrap();
    bench.output(&["compare", "run", "run", "--out", "compared"]);
    for (args, parts) in [
        (&["missing"][..], &["missing", "no such directory"][..]),
        (&["empty"], &["empty", "neither a run nor a comparison"]),
        (
            &["run/experiment.toml"],
            &["run/experiment.toml", "is a file"],
        ),
        (
            &["fresh"],
            &["fresh", "has no metrics.jsonl", "nothing to report"],
        ),
        (&["run", "fresh"], &["fresh", "has no metrics.jsonl"]),
        (&["compared", "compared/"], &["compared", "is named twice"]),
        (&["run", "./run"], &["./run", "is named twice"]),
        (&["run", "--out", "empty/../run"], &["already exists"]),
        (&["compared", "--out", "x"], &["--out", "report of runs"]),
        (&[], &["DIR"]),
    ] {
        let output = bench.run(&[&["report"], args].concat());
        match args {
            [] => assert_eq!(output.status.code(), Some(2)),
            _ => assert_refused(&output, 2, parts),
        }
    }
    assert!(!bench.path("runs").exists() && !bench.path("x").exists());
    assert!(!bench.path("run/report.html").exists());
    fs::write(bench.path("run/result.json"), "{").unwrap();
    assert_refused(
        &bench.run(&["report", "run"]),
        2,
        &["result.json", "is damaged"],
    );
}
