//! Tests of `foretoken generate`: texts and their endings.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use serde_json::Value;

/// Runs `foretoken generate run` with more arguments, which must succeed.
fn generate(bench: &Bench, args: &[&str]) -> Output {
    bench.output(&[&["generate", "run"], args].concat())
}

/// Starts `foretoken generate` of a text that does not end by itself.
fn endless(bench: &Bench) -> Child {
    let args = [
        "generate",
        "run",
        "--prompt",
        "The ",
        "--tokens",
        "100000000",
    ];
    let mut command = bench.command(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Returns the JSON object that a call prints.
fn report(bench: &Bench, args: &[&str]) -> Value {
    let output = generate(bench, &[args, &["--json"]].concat());
    assert_eq!(stdout(&output).lines().count(), 1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(report: &Value) -> Vec<&str> {
    let samples = report["samples"].as_array().unwrap().iter();
    samples
        .map(|sample| sample["text"].as_str().unwrap())
        .collect()
}

/// Returns a bench with a run of one step, whose 257 tokens (bytes and `<|endoftext|>`) are about equally likely.
fn untrained() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("text.txt"), "Ein Käse, 君の名は。 ".repeat(200)).unwrap();
    let output = bench.run(&[
        "data",
        "build",
        "text.txt",
        "--tokenizer",
        "bpe:257",
        "--out",
        "data",
    ]);
    assert!(output.status.success(), "{}", text(&output));
    bench.tiny_run("warm-up", &[]);
    let toml = fs::read_to_string(bench.path("warm-up/experiment.toml")).unwrap();
    let mut experiment: toml::Table = toml.parse().unwrap();
    experiment["data"] = toml::Table::from_iter([("path".into(), "data".into())]).into();
    experiment["model"]
        .as_table_mut()
        .unwrap()
        .remove("vocab_size");
    experiment["train"]["steps"] = 1.into();
    fs::write(bench.path("bytes.toml"), experiment.to_string()).unwrap();
    let output = bench.run(&["train", "bytes.toml", "--out", "run"]);
    assert!(output.status.success(), "{}", text(&output));
    bench
}

#[test]
fn a_text_begins_with_the_prompt_and_depends_on_seed_and_sampling() {
    let bench = Bench::trained();
    let args = ["--prompt", "The cat", "--tokens", "40"];
    let output = generate(&bench, &args);
    let first = stdout(&output);
    assert!(first.starts_with("The cat"), "{first}");
    assert_eq!(first.trim_end_matches('\n').chars().count(), 7 + 40);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("prompt: 7 tokens at"), "{stderr}");
    assert!(stderr.contains("text: 40 tokens at"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");

    assert_eq!(stdout(&generate(&bench, &args)), first);
    let seeded = [&args[..], &["--seed", "1"]].concat();
    assert_ne!(stdout(&generate(&bench, &seeded)), first);
    // This test only checks that each option has an effect.
    for other in [
        &["--temperature", "2"][..],
        &["--top-k", "3"],
        &["--top-p", "0.3"],
        &["--min-p", "0.9"],
        &["--repetition-penalty", "5"],
        &["--greedy"],
    ] {
        assert_ne!(
            stdout(&generate(&bench, &[&args, other].concat())),
            first,
            "{other:?}"
        );
    }
    let fresh = [&args[..], &["--no-cache"]].concat();
    assert_eq!(stdout(&generate(&bench, &fresh)), first);
    let cold = [&args[..], &["--temperature", "0"]].concat();
    let greedy = [&args[..], &["--greedy"]].concat();
    assert_eq!(
        stdout(&generate(&bench, &cold)),
        stdout(&generate(&bench, &greedy))
    );
}

#[test]
fn a_text_does_not_depend_on_other_samples_and_prompts() {
    let bench = Bench::trained();
    let args = |more: &[&'static str]| [&["--tokens", "30", "--seed", "3"][..], more].concat();
    let alone = report(&bench, &args(&["--prompt", "The cat"]));
    let several = report(&bench, &args(&["--prompt", "The cat", "--samples", "3"]));
    let both = report(
        &bench,
        &args(&["--prompt", "It", "--prompt", "The cat", "--samples", "2"]),
    );
    let [one, many, pairs] = [&alone, &several, &both].map(texts);
    assert_eq!((one.len(), many.len(), pairs.len()), (1, 3, 4));
    assert_eq!(many[0], one[0]);
    assert_eq!(pairs[2..], many[..2]);
    assert!(many[0] != many[1] && many[1] != many[2]);
    let places: Vec<_> = both["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| (sample["prompt"].as_u64(), sample["sample"].as_u64()))
        .collect();
    assert_eq!(
        places,
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(p, s)| (Some(p), Some(s)))
    );

    let shown = stdout(&generate(
        &bench,
        &args(&["--prompt", "The cat", "--samples", "3"]),
    ));
    let expected: Vec<String> = (1..)
        .zip(&many)
        .map(|(i, text)| format!("--- {i} of 3 ---\nThe cat{}\n", text.trim_end_matches('\n')))
        .collect();
    let lines = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.is_empty())
            .map(String::from)
            .collect()
    };
    assert_eq!(lines(&shown), lines(&expected.join("\n")));
}

/// This test fails for a backend that is compiled in and finds no device.
#[test]
#[cfg(all(
    feature = "flex",
    any(feature = "ndarray", feature = "libtorch", feature = "wgpu")
))]
fn every_backend_samples_the_same_text() {
    use foretoken::backend::Backend;
    let bench = Bench::trained();
    let draw = |backend: &str| {
        let args = [
            "--prompt",
            "The ",
            "--tokens",
            "24",
            "--seed",
            "7",
            "--backend",
            backend,
        ];
        stdout(&generate(&bench, &args))
    };
    let reference = draw("flex");
    for backend in Backend::ALL
        .into_iter()
        .filter(|backend| backend.compiled_in())
    {
        assert_eq!(draw(backend.name()), reference, "{backend}");
    }
}

#[test]
fn json_has_tokens_speeds_and_ending() {
    let bench = Bench::trained();
    let report = report(&bench, &["--prompt", "The ", "--tokens", "12"]);
    assert_eq!(
        keys(&report),
        [
            "model",
            "backend",
            "seed",
            "sampling",
            "prompts",
            "samples",
            "prompt_tokens",
            "prefill_seconds",
            "decode_seconds",
            "prefill_tokens_per_second",
            "tokens_per_second"
        ]
    );
    assert!(report["model"].as_str().unwrap().starts_with("run, step "));
    assert_eq!(report["prompts"][0], "The ");
    assert_eq!(report["prompt_tokens"], 4);
    let sample = &report["samples"][0];
    assert_eq!(sample["ending"], "length");
    assert_eq!(sample["tokens"].as_array().unwrap().len(), 12);
    assert!(report["tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_stop_string_ends_a_text_before_itself() {
    let bench = Bench::trained();
    let args = ["--prompt", "The ", "--tokens", "60"];
    let whole = report(&bench, &args);
    let whole = texts(&whole)[0].to_string();
    // The stop string is three characters from the middle, which are three tokens.
    let stop: String = whole.chars().skip(20).take(3).collect();
    let stopped = report(
        &bench,
        &[&args[..], &["--stop", "never", "--stop", &stop]].concat(),
    );
    let end = whole.find(&stop).unwrap();
    assert_eq!(texts(&stopped), [&whole[..end]]);
    assert_eq!(stopped["samples"][0]["ending"], "stop");
    let tokens = stopped["samples"][0]["tokens"].as_array().unwrap().len();
    assert_eq!(tokens, whole[..end].chars().count() + 3);
}

#[test]
fn end_of_text_ends_a_text_unless_it_is_ignored() {
    let bench = untrained();
    let args = ["--prompt", "K", "--tokens", "2000"];
    let ended = report(&bench, &args);
    let sample = &ended["samples"][0];
    assert_eq!(sample["ending"], "end-of-text");
    let tokens = sample["tokens"].as_array().unwrap();
    assert_eq!(tokens.last().unwrap(), 256);
    assert!(tokens.len() < 2000);
    assert!(!texts(&ended)[0].contains("endoftext"));

    let all = report(&bench, &[&args[..], &["--ignore-eos"]].concat());
    assert_eq!(all["samples"][0]["tokens"].as_array().unwrap().len(), 2000);
    assert!(texts(&all)[0].contains("<|endoftext|>"));
    // No prompt and an `<|endoftext|>` prompt both start a new text.
    let nothing = report(&bench, &["--tokens", "50"]);
    let named = report(&bench, &["--tokens", "50", "--prompt", "<|endoftext|>"]);
    assert_eq!(texts(&nothing), texts(&named));
    assert_eq!(nothing["prompt_tokens"], 1);
}

#[test]
fn only_complete_characters_are_printed() {
    let bench = untrained();
    // The text is random bytes, so most of them are invalid UTF-8 and replaced.
    let args = ["--prompt", "名", "--tokens", "300", "--ignore-eos"];
    let report = report(&bench, &args);
    let tokenizer = foretoken_datasets::Tokenizer::load(bench.path("run/tokenizer.json")).unwrap();
    let tokens = report["samples"][0]["tokens"].as_array().unwrap().iter();
    let ids: Vec<u32> = tokens.map(|id| id.as_u64().unwrap() as u32).collect();
    assert_eq!(texts(&report), [tokenizer.decode(&ids).unwrap()]);
    let shown = stdout(&generate(&bench, &args));
    assert_eq!(
        shown.trim_end_matches('\n'),
        format!("名{}", texts(&report)[0]).trim_end_matches('\n')
    );
}

#[test]
fn prompts_are_read_from_standard_input() {
    let bench = Bench::trained();
    let feed = |args: &[&str], input: &str| {
        let mut child = bench
            .command(&["generate", "run", "--tokens", "10"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        stdout(&output)
    };
    let given = |prompt: &str| stdout(&generate(&bench, &["--tokens", "10", "--prompt", prompt]));
    assert_eq!(feed(&["--prompt", "-"], "The cat\n"), given("The cat"));
    assert_eq!(feed(&["--prompt", "-"], "The cat\n\n"), given("The cat\n"));
    // Each line is a prompt, and empty lines are skipped.
    let lines = feed(&["--interactive"], "The cat\n\nIt is\nThe cat\n");
    assert_eq!(
        lines,
        [given("The cat"), given("It is"), given("The cat")].concat()
    );
    let objects = feed(&["--interactive", "--json"], "The cat\nIt is\n");
    let prompts: Vec<Value> = objects
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["prompts"][0].clone())
        .collect();
    assert_eq!(prompts, ["The cat", "It is"]);
}

#[test]
fn a_closed_pipe_ends_the_text_quietly() {
    let bench = Bench::trained();
    let mut child = endless(&bench);
    let mut start = [0; 30];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"));
    assert!(start.starts_with(b"The "));
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_text_at_once() {
    let bench = Bench::trained();
    let mut child = endless(&bench);
    // The first line shows that generation is under way.
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    shown.read_line(&mut first).unwrap();
    interrupt(&child);
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    // The text may already end with a line break.
    let shown = first + &rest;
    assert!(
        shown.starts_with("The ") && shown.ends_with('\n'),
        "{shown}"
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("tokens/s"), "{stderr}");
}

#[test]
fn a_checkpoint_is_chosen_as_best_last_or_by_its_step() {
    let bench = Bench::new();
    // The weights do not change, so the first evaluation stays the best.
    let frozen = ["optimizer.learning_rate=0", "optimizer.min_learning_rate=0"];
    let frozen: Vec<_> = frozen.iter().flat_map(|arg| ["--set", arg]).collect();
    bench.tiny_run("run", &frozen);
    let model = |which: &[&str]| {
        let args = [&["--prompt", "The ", "--tokens", "3"], which].concat();
        report(&bench, &args)["model"].as_str().unwrap().to_string()
    };
    assert_eq!(model(&[]), "run, step 10 (best)");
    assert_eq!(model(&["--checkpoint", "last"]), "run, step 25 (last)");
    assert_eq!(model(&["--checkpoint", "25"]), "run, step 25");
    let with = |which| bench.run(&["generate", "run", "--prompt", "T", "--checkpoint", which]);
    assert_refused(&with("11"), 2, &["no checkpoint of step 11", "10, 25"]);

    let weights = bench.path("run/checkpoints/step-10/model.bpk");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert_refused(
        &with("best"),
        2,
        &["step-10", "model.bpk is damaged", "--checkpoint"],
    );
    // The state of the optimizer is not read.
    fs::remove_file(bench.path("run/checkpoints/step-25/optimizer.bpk")).unwrap();
    assert_eq!(model(&["--checkpoint", "last"]), "run, step 25 (last)");
}

#[test]
fn a_hugging_face_prompt_begins_with_the_start_token_of_its_tokenizer() {
    let bench = Bench::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/llama");
    fs::create_dir(bench.path("run")).unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(fixture.join(name), bench.path("run").join(name)).unwrap();
    }
    let tokenizer = fs::read_to_string(fixture.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    let tokens = |bench: &Bench, prompt: &[&str]| {
        report(bench, &[&["--tokens", "3"], prompt].concat())["prompt_tokens"].clone()
    };
    for (start, expected) in [(false, [3, 1, 4]), (true, [4, 1, 4])] {
        if start {
            let special =
                serde_json::json!({ "SpecialToken": { "id": "<|endoftext|>", "type_id": 0 } });
            let text =
                |id, type_id| serde_json::json!({ "Sequence": { "id": id, "type_id": type_id } });
            tokenizer["post_processor"] = serde_json::json!({
                "type": "TemplateProcessing",
                "single": [special, text("A", 0)],
                "pair": [text("A", 0), text("B", 1)],
                "special_tokens": {
                    "<|endoftext|>": { "id": "<|endoftext|>", "ids": [256], "tokens": ["<|endoftext|>"] }
                },
            });
        }
        fs::write(bench.path("run/tokenizer.json"), tokenizer.to_string()).unwrap();
        let counts = [
            tokens(&bench, &["--prompt", "abc"]),
            tokens(&bench, &[]),
            // An explicit start token is not added twice.
            tokens(&bench, &["--prompt", "<|endoftext|>abc"]),
        ];
        assert_eq!(counts, expected.map(Value::from));
    }
}

/// The expected tokens are from `transformers` 5.23: `generate(max_new_tokens=15, do_sample=False)`, without and with
/// `repetition_penalty=1.7`.
#[test]
fn hugging_face_models_generate_the_tokens_of_transformers() {
    let expected = [
        (
            "gpt2",
            [95, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23],
            [
                95, 23, 71, 94, 23, 44, 137, 135, 170, 243, 128, 194, 131, 238, 8,
            ],
        ),
        (
            "llama",
            [
                63, 109, 236, 78, 188, 161, 69, 23, 238, 59, 205, 56, 23, 8, 151,
            ],
            [
                63, 109, 236, 161, 139, 66, 62, 188, 132, 44, 147, 92, 28, 126, 249,
            ],
        ),
    ];
    let bench = Bench::new();
    for (name, plain, penalised) in expected {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/fixtures/");
        let folder = format!("{folder}{name}");
        for (tokens, penalty) in [(plain, "1"), (penalised, "1.7")] {
            let output = bench.run(&[
                "generate",
                &folder,
                "--prompt",
                "A sign of",
                "--tokens",
                "15",
                "--greedy",
                "--repetition-penalty",
                penalty,
                "--json",
            ]);
            assert!(output.status.success(), "{}", text(&output));
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                report["samples"][0]["tokens"],
                serde_json::json!(tokens),
                "{name}"
            );
        }
        let chosen = bench.run(&["generate", &folder, "--prompt", "A", "--checkpoint", "last"]);
        assert_refused(
            &chosen,
            2,
            &[
                "is not a run, so that it has no checkpoints",
                "leave out --checkpoint",
            ],
        );
    }
}

#[test]
fn errors_name_the_argument() {
    let bench = Bench::trained();
    let refused = |args: &[&str], parts: &[&str]| {
        assert_refused(&bench.run(&[&["generate"], args].concat()), 2, parts);
    };
    refused(&["absent"], &["absent: there is no such model"]);
    refused(&["gpt2"], &["gpt2: is a preset without weights"]);
    fs::create_dir(bench.path("empty")).unwrap();
    refused(
        &["empty"],
        &["empty: is not a model", "experiment.toml", "config.json"],
    );
    refused(
        &["run/checkpoints/step-25"],
        &["is a checkpoint", "name its run directory, and the step"],
    );
    refused(&["run", "--prompt", "ünd"], &["'ü'"]);
    // The tokenizer of the world has no token between texts, so it needs a prompt.
    refused(&["run"], &["the prompt: give some text"]);
    for (args, part) in [
        (["--temperature", "-1"], "--temperature: is -1; it must be"),
        (["--top-k", "0"], "--top-k: is 0"),
        (["--top-p", "1.5"], "--top-p: is 1.5"),
        (["--min-p", "nan"], "--min-p: is NaN"),
        (["--repetition-penalty", "0"], "--repetition-penalty: is 0"),
        (["--stop", ""], "--stop: is empty"),
        (["--backend", "flx"], "the nearest is \"flex\""),
        (["--tokenizer", "absent.json"], "absent.json"),
    ] {
        refused(&[&["run", "--prompt", "The "], &args[..]].concat(), &[part]);
    }
    let long = [
        "run",
        "--prompt",
        "The cat is",
        "--tokens",
        "10",
        "--overflow",
        "error",
    ];
    refused(&long, &["10 tokens", "context of 16"]);
    fs::remove_file(bench.path("run/tokenizer.json")).unwrap();
    refused(
        &["run", "--prompt", "The "],
        &["run: has no tokenizer.json", "--tokenizer FILE"],
    );
    fs::remove_dir_all(bench.path("run/checkpoints")).unwrap();
    refused(
        &["run", "--prompt", "The "],
        &["run: has no checkpoint yet"],
    );
}

#[test]
fn help_has_examples_and_main_options() {
    let bench = Bench::new();
    for (command, parts) in [
        ("generate", ["Examples:", "--stop", "--interactive"]),
        ("predict", ["Examples:", "--target", "bits"]),
        ("inspect", ["Examples:", "--batch", "PRESET"]),
    ] {
        let help = stdout(&bench.run(&[command, "--help"]));
        for part in parts {
            assert!(help.contains(part), "{part} is missing from:\n{help}");
        }
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
}
