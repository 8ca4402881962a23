//! Synthetic worlds: training on each kind, their floors, and `foretoken data world`.

use foretoken_datasets::world::{Size, Stream, World, WorldConfig, WorldKind};

use super::*;

/// Returns the overrides of a kind.
fn kind(name: &str) -> Vec<String> {
    let mut overrides = vec![format!("data.world.kind={name}")];
    let more: &[&str] = match name {
        // Documents of 7 bytes, which is no divisor of the context.
        "facts" => &["data.world.facts=50", "data.world.answer=3"],
        "markov" => &[
            "data.world.symbols=4",
            "data.world.order=1",
            "data.world.branches=2",
        ],
        _ => &[],
    };
    overrides.extend(more.iter().map(|one| (*one).to_owned()));
    overrides
}

/// Trains a tiny run with overrides, and returns its result.
fn trained(bench: &Bench, out: &str, overrides: &[String]) -> serde_json::Value {
    let arguments: Vec<&str> = overrides
        .iter()
        .flat_map(|one| ["--set", one.as_str()])
        .collect();
    json_file(&bench.tiny_run(out, &arguments), "result.json")
}

fn number(value: &serde_json::Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn each_kind_trains_towards_its_floor() {
    let bench = Bench::new();
    for name in WorldKind::ALL.map(WorldKind::name) {
        let mut overrides = kind(name);
        overrides.push("train.steps=200".into());
        let result = trained(&bench, name, &overrides);
        let [bits, floor, windows, cut] = [
            "bits_per_byte",
            "floor_bits_per_byte",
            "window_floor_bits_per_byte",
            "cut_targets",
        ]
        .map(|key| number(&result[key]));
        assert!(bits > windows && windows > floor && floor > 0.0, "{result}");
        assert!(cut > 0.0 && cut < 1.0, "{result}");
        let losses = column(&bench.path(name), "evaluation", "loss");
        assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    }
}

#[test]
fn windows_of_documents_have_the_entropy_as_their_floor() {
    let bench = Bench::new();
    let mut overrides = kind("facts");
    overrides.extend(["data.windows=documents", "train.eval_windows=0"].map(String::from));
    let result = trained(&bench, "run", &overrides);
    assert_eq!(number(&result["cut_targets"]), 0.0);
    assert_eq!(
        result["window_floor_bits_per_byte"],
        result["floor_bits_per_byte"]
    );
    // The evaluation of training reads the documents one by one, and every byte of each. So does `evaluate` by itself.
    let shown = bench.succeed(&["evaluate", "run", "--checkpoint", "last", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let close = |ours: f64, theirs: f64| assert!((ours - theirs).abs() < 1e-5, "{ours}, {theirs}");
    close(
        number(&report["bits_per_byte"]["value"]),
        number(&result["bits_per_byte"]),
    );
    assert_eq!(report["not_scored"], 0);
    assert_eq!(report["bytes"].as_u64().unwrap() % 7, 0);

    // Each text begins where documents of the training began, so that its first token is predicted, too.
    let document = &bench.path("train.txt");
    let world = bench.succeed(&["data", "world", "facts", "--facts", "50", "--answer", "3"]);
    let line = world.lines().last().unwrap().trim().to_owned();
    std::fs::write(document, &line).unwrap();
    let shown = bench.succeed(&["evaluate", "run", "train.txt", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(report["not_scored"], 0);
    assert_eq!(report["tokens"], line.len());

    // A document that is longer than a window has no known floor, and the share is named.
    overrides.extend(["data.world.answer=20", "data.windows=documents"].map(String::from));
    let result = trained(&bench, "long", &overrides);
    assert!((number(&result["cut_targets"]) - 8.0 / 24.0).abs() < 1e-12);
    let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
    let arguments = [&["--out", "again"], &set(&overrides)[..]].concat();
    let shown = stdout(&bench.tiny(&arguments).output().unwrap());
    assert!(
        shown.contains("documents are longer than a window; raise model.context"),
        "{shown}"
    );
    assert!(result["window_floor_bits_per_byte"].is_null());
}

#[test]
fn a_run_prints_the_floor_of_cut_windows() {
    let bench = Bench::new();
    let output = bench
        .tiny(&["--set", "data.world.kind=markov"])
        .output()
        .unwrap();
    let stdout = stdout(&output);
    let summary = &stdout[stdout.find("25 steps, ").unwrap()..];
    assert_fits_and_shows(
        summary,
        &[
            "(floor ",
            "% of targets lack the start of their document;",
            "their floor is ",
            "MFU",
            "Run directory",
        ],
    );
    let shown = bench.succeed(&["evaluate", "runs/world-flex-1"]);
    assert_fits_and_shows(
        &shown,
        &[
            "% of the targets lack the start",
            "the floor of these windows is",
        ],
    );
}

#[test]
fn windows_that_begin_at_few_places_of_documents_are_noted() {
    let bench = Bench::new();
    let noted = |more: &[&str]| {
        let overrides = [&["data.world.kind=facts", "data.world.facts=50"], more].concat();
        let output = bench.tiny(&set(&overrides)).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8_lossy(&output.stderr).contains("note: all documents have 8 bytes")
    };
    assert!(noted(&[]));
    assert!(!noted(&["model.context=15"]));
    assert!(!noted(&["data.windows=random"]));
    assert!(!noted(&["data.windows=documents"]));
}

#[test]
fn a_run_on_facts_can_be_resumed() {
    let bench = Bench::new();
    trained(&bench, "run", &kind("facts"));
    let output = bench.run(&LONGER);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(json_file(&bench.path("run"), "result.json")["steps"], 30);
    let resolved = std::fs::read_to_string(bench.path("run/experiment.toml")).unwrap();
    assert!(resolved.contains("kind = \"facts\"\n"), "{resolved}");
}

#[test]
fn invalid_worlds_are_refused() {
    let bench = Bench::new();
    for (overrides, message) in [
        (
            &["data.world.kind=fact"][..],
            "`fact` is not a value of this key, whose values are grammar, facts, markov; did you mean `facts`?",
        ),
        (
            &["data.world.fcats=5"],
            "unknown key `fcats`; did you mean `facts`?",
        ),
        (
            &["data.world.facts=5"],
            "data.world.facts=5: is a key of data.world.kind = \"facts\", and the kind is \"grammar\"",
        ),
        (
            &["data.world.kind=facts", "data.world.facts=0"],
            "data.world.facts=0: is 0; it must be a whole number from 1 to 10000000",
        ),
        (
            &["data.world.kind=facts", "data.world.facts=-3"],
            "expected a whole number",
        ),
        (
            &["data.world.kind=facts", "data.world.exponent=nan"],
            "data.world.exponent=nan: is NaN; it must be a number from -1",
        ),
        (
            &[
                "data.world.kind=facts",
                "data.world.facts=100000",
                "data.world.exponent=4.0",
            ],
            "data.world.exponent: is 4, with which the last of 100000 facts",
        ),
        (
            &["data.world.kind=markov", "data.world.order=9"],
            "data.world.order=9: is 9; 16 symbols then have 16^9 contexts",
        ),
        (
            &["data.world.kind=markov", "data.world.lengths=poisson"],
            "`poisson` is not a value of this key, whose values are fixed, geometric",
        ),
        (
            &["data.world.valid_documents=0"],
            "data.world.valid_documents=0: must be at least 1",
        ),
        (
            &["data.world.train_documents=1000000000000000"],
            "data.world.train_documents: text of",
        ),
        (
            &["data.world.kind=facts", "data.world.valid_documents=1"],
            "the evaluation text has 9 tokens, fewer than the 17 of one window",
        ),
    ] {
        let output = bench.tiny(&set(overrides)).output().unwrap();
        assert_refused(&output, 2, &[message]);
    }
    assert!(!bench.path("runs").exists());
}

#[test]
fn data_world_writes_the_text_that_training_reads() {
    let bench = Bench::new();
    let shown = bench.succeed(&[
        "data",
        "world",
        "facts",
        "--facts",
        "50",
        "--seed",
        "7",
        "--documents",
        "300",
        "--valid-documents",
        "100",
        "--out",
        "texts",
    ]);
    assert_fits_and_shows(
        &shown,
        &[
            "facts, seed 7: 50 facts",
            "bits per byte",
            "D^-0.3333",
            "valid",
        ],
    );
    let config = WorldConfig {
        kind: WorldKind::Facts,
        seed: 7,
        facts: Some(50),
        ..WorldConfig::default()
    };
    let world = World::new(&config).unwrap();
    let manifest = json_file(&bench.path("texts"), "world.json");
    for (stream, name, documents) in [(Stream::Train, "train", 300), (Stream::Valid, "valid", 100)]
    {
        let text = world.text(stream, Size::Documents(documents));
        let written = std::fs::read_to_string(bench.path(&format!("texts/{name}.txt"))).unwrap();
        assert_eq!(written, text.text);
        assert_eq!(manifest[name]["documents"], documents);
        assert_eq!(number(&manifest[name]["bits"]), text.bits);
    }
    assert_eq!(
        number(&manifest["bits_per_document"]),
        world.expected().bits
    );
    assert_eq!(manifest["parameters"]["exponent"], 0.5);
    let again = bench.run(&["data", "world", "grammar", "--out", "texts"]);
    assert_refused(&again, 2, &["texts: is not empty: name a new folder"]);
}

#[test]
fn data_world_describes_each_kind() {
    let bench = Bench::new();
    let grammar = bench.succeed(&["data", "world", "grammar", "--scale", "3"]);
    assert_fits_and_shows(
        &grammar,
        &["grammar, seed 1: lexicon × 3", "bits per document"],
    );
    let chain = bench.succeed(&["data", "world", "markov", "--geometric", "--json"]);
    let chain: serde_json::Value = serde_json::from_str(&chain).unwrap();
    assert_eq!(chain["parameters"]["lengths"], "geometric");
    assert_eq!(chain["bytes_per_document"], 65.0);
    // The end of a document is a choice of its own, and its first symbols are uniform.
    assert!(number(&chain["bits_per_byte"]) > number(&chain["chain_bits_per_symbol"]));
    assert!(chain.get("data_exponent").is_none());
    let chain = bench.succeed(&["data", "world", "markov"]);
    assert_fits_and_shows(
        &chain,
        &[
            "bits per symbol of an endless chain",
            "documents begin with 2 symbols of 4.0000 bits each",
            "newline is a byte more, of 0 bits",
        ],
    );
    for (exponent, parts) in [
        (
            "0.5",
            [
                "1,000 facts with frequencies i^-1.5",
                "while there are many more facts",
            ],
        ),
        (
            "0",
            ["facts with frequencies i^-1,", "predicted  no power law"],
        ),
        (
            "-1",
            ["1,000 equally frequent facts,", "predicted  no power law"],
        ),
    ] {
        let exponent = format!("--exponent={exponent}");
        let facts = bench.succeed(&["data", "world", "facts", &exponent]);
        assert_fits_and_shows(&facts, &parts);
    }
    for (arguments, message) in [
        (&["poem"][..], "invalid value 'poem'"),
        (&["facts", "--order", "3"], "data.world.order: is a key of"),
        (&["markov", "--symbols", "1"], "data.world.symbols: is 1"),
    ] {
        let output = bench.run(&[&["data", "world"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(message), "no {message:?} in {stderr}");
    }
}
