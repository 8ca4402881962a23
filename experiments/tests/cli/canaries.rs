//! Tests of canaries: `foretoken data build --canaries` plants them, and `foretoken memory canaries` ranks them.

use super::*;

use serde_json::Value;

/// Writes a text of 60 documents, and trains a small model on its tokens with 8 canaries, half of which are planted 40
/// times and half once. The controls are as many.
fn planted() -> Bench {
    let bench = Bench::new();
    let lines: String = (0..60)
        .map(|i| {
            let words = ["The wave", "A quick fox", "My jazz band", "Their view"];
            let verbs = ["is", "jumps over", "kept", "plays behind", "liked"];
            let text = format!("{} {} it.", words[i % 4], verbs[i * 7 % 5]);
            format!("{{\"text\": \"{text}\"}}\n")
        })
        .collect();
    std::fs::write(bench.path("text.jsonl"), lines).unwrap();
    let shown = bench.succeed(&[
        "data",
        "build",
        "text.jsonl",
        "--tokenizer",
        "char",
        "--valid",
        "0.1",
        "--canaries",
        "8",
        "--canary-copies",
        "1,40",
        "--canary-prefix",
        "The {} is ",
        "--canary-symbols",
        "6",
        "--out",
        "data",
    ]);
    for part in [
        "8 canaries in 164 documents, and 8 controls",
        "secrets: 6 of",
        "Canaries: data/canaries.json",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    std::fs::write(
        bench.path("mine.toml"),
        "[data]\npath = \"data\"\nwindows = \"documents\"\n[model]\nlayers = 2\nheads = 4\nwidth = 64\ncontext = 24\n\
         [train]\nsteps = 400\nbatch = 32\neval_every = 400\nsample_tokens = 0\n\
         [optimizer]\nlearning_rate = 5e-3\nwarmup = 20\n",
    )
    .unwrap();
    bench.succeed(&["train", "mine.toml", "--out", "run"]);
    bench
}

#[test]
fn secrets_that_were_read_often_are_exposed_and_others_are_not() {
    let bench = planted();
    let rank = |more: &[&str]| {
        let args = ["memory", "canaries", "run", "--checkpoint", "last"];
        let printed = bench.succeed(&[&args[..], more].concat());
        let mut record: Value = serde_json::from_str(&printed).unwrap();
        record.as_object_mut().unwrap().remove("seconds").unwrap();
        record
    };
    let record = rank(&["--references", "1000", "--json"]);
    let groups = record["groups"].as_array().unwrap();
    let copies: Vec<_> = groups.iter().map(|group| &group["copies"]).collect();
    assert_eq!(copies, [0, 1, 40]);
    let exposure = |group: usize| groups[group]["exposure"]["value"].as_f64().unwrap();
    assert!(exposure(0) < 4.0, "{groups:?}");
    assert!(exposure(2) > 8.0, "{groups:?}");
    assert_eq!(groups[2]["is_memorised"], true);
    assert!(groups[0]["chance"].as_f64().unwrap() > 0.001, "{groups:?}");
    // Eight exponential variables of mean 1.44 have a mean with a standard deviation of 0.51.
    let chance = record["exposure_of_chance"].as_f64().unwrap();
    assert!((exposure(0) - chance).abs() < 3.0 * 0.51, "{groups:?}");

    let canaries = record["canaries"].as_array().unwrap();
    assert_eq!(canaries.len(), 16);
    for canary in canaries {
        let number = |key: &str| canary[key].as_f64().unwrap();
        let rank = number("rank");
        assert_eq!(number("exposure"), (1001.0 / rank).log2());
        assert_eq!(canary["share"]["count"].as_f64().unwrap(), rank - 1.0);
        let [low, high] = [0, 1].map(|end| canary["interval"][end].as_f64().unwrap());
        assert!(
            low <= number("exposure") && number("exposure") <= high + 0.01,
            "{canary}"
        );
        assert!(high <= record["entropy_bits"].as_f64().unwrap());
    }
    assert_eq!(
        record,
        rank(&["--references", "1000", "--json", "--batch", "77"])
    );

    let shown = bench.succeed(&[
        "memory",
        "canaries",
        "run",
        "--references",
        "500",
        "--out",
        "page",
    ]);
    assert_fits_and_shows(
        &shown,
        &[
            "0 (controls)",
            "1/ln 2 = 1.44 bits",
            "500 references",
            "Report: page",
        ],
    );
    assert!(
        shown.contains("40 copies are ranked above chance"),
        "{shown}"
    );
    let page = std::fs::read_to_string(bench.path("page/report.html")).unwrap();
    assert!(page.contains("exposure-by-copies"));
    assert_eq!(
        json_file(&bench.path("page"), "exposures.json")["references"],
        500
    );

    // The canaries have to be those of the run's data.
    let path = bench.path("data/canaries.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replacen("\"seed\": 0", "\"seed\": 1", 1)).unwrap();
    for args in [
        &["memory", "canaries", "run"][..],
        &["data", "check", "data"],
    ] {
        let output = bench.run(args);
        assert_refused(&output, 2, &["data/canaries.json", "not of this dataset"]);
    }
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    bench.succeed(&[
        "data",
        "build",
        "text.jsonl",
        "--tokenizer",
        "char",
        "--valid",
        "0.1",
        "--canaries",
        "12",
        "--out",
        "data",
    ]);
    let output = bench.run(&["memory", "canaries", "run"]);
    assert_refused(&output, 2, &["data: has other tokens", "fingerprint"]);
}

#[test]
fn requests_for_canaries_without_meaning_are_refused() {
    let bench = Bench::trained();
    let output = bench.run(&["memory", "canaries", "run"]);
    assert_refused(&output, 2, &["no canaries", "data build --canaries"]);
    std::fs::write(
        bench.path("text.jsonl"),
        "{\"text\": \"The abc of letters.\"}\n{\"text\": \"The end is ok.\"}\n",
    )
    .unwrap();
    let refused = |args: &[&str], parts: &[&str]| {
        let build = ["data", "build", "text.jsonl", "--tokenizer", "char"];
        let output = bench.run(&[&build[..], &["--out", "data"], args].concat());
        assert_refused(&output, 2, parts);
    };
    let prefix = ["--canaries", "4", "--canary-prefix", "The {} is "];
    refused(
        &["--canaries", "4", "--canary-prefix", "The number of {} is "],
        &["--canary-prefix", "'u'"],
    );
    refused(
        &[&prefix[..], &["--canary-alphabet", "abc123"]].concat(),
        &["--canary-alphabet", "'1'", "leave it out"],
    );
    refused(
        &[&prefix[..], &["--canary-alphabet", "a"]].concat(),
        &["--canary-alphabet", "2 or more"],
    );
    refused(
        &["--canaries", "4", "--canary-prefix", "The is "],
        &["--canary-prefix", "{}"],
    );
    refused(
        &["--canaries", "2", "--canary-prefix", "The {} is "],
        &["--canaries", "3 numbers of --canary-copies"],
    );
    refused(
        &[&prefix[..], &["--canary-symbols", "2"]].concat(),
        &["--canary-symbols", "bits"],
    );
    refused(
        &[&prefix[..], &["--canary-copies", "0,1"]].concat(),
        &["--canary-copies", "from 1 on"],
    );
}
