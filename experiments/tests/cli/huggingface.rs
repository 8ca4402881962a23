//! Tests of `foretoken import` and `foretoken export`.

use super::*;
use std::fs;

fn fixture(name: &str) -> String {
    format!(
        "{}/../model/tests/fixtures/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn an_imported_model_is_exported_unchanged() {
    let bench = Bench::new();
    for name in ["gpt2", "llama"] {
        let (imported, exported) = (format!("models/{name}"), format!("{name}-again"));
        let output = bench.run(&["import", &fixture(name), "--out", &imported]);
        assert!(output.status.success(), "{}", text(&output));
        let printed = String::from_utf8_lossy(&output.stdout);
        for part in [
            &format!("{name}: "),
            " parameters in f32",
            "2 layers of width 16",
            &imported,
        ] {
            assert!(printed.contains(part), "{part}: {printed}");
        }
        let output = bench.run(&["export", &imported, "--out", &exported]);
        assert!(output.status.success(), "{}", text(&output));
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            let theirs = fs::read(format!("{}/{file}", fixture(name))).unwrap();
            assert!(
                fs::read(bench.path(&exported).join(file)).unwrap() == theirs,
                "{name}, {file}"
            );
        }
        assert_refused(
            &bench.run(&["import", &fixture(name), "--out", &imported]),
            2,
            &[&imported, "already exists"],
        );
    }
}

#[test]
fn json_describes_the_imported_model() {
    let bench = Bench::new();
    let file = format!("{}/model.safetensors", fixture("llama"));
    let output = bench.run(&["import", &file, "--out", "llama", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["architecture"], "llama");
    assert_eq!(read["weight_types"], serde_json::json!(["f32"]));
    assert_eq!(read["config"]["kv_heads"], 2);
    assert_eq!(read["end_of_text"], serde_json::json!([256]));
    assert_eq!(read["tokenizer"], true);
    // Each of 2 layers has norms, queries and outputs, keys and values, and feed-forward. Then come embedding, head,
    // norm.
    let layer = 2 * 16 + 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24;
    assert_eq!(read["parameters"], 2 * layer + 2 * 257 * 16 + 16);
}

#[test]
fn half_precision_is_exported() {
    let bench = Bench::new();
    let args = [
        "export",
        &fixture("gpt2"),
        "--out",
        "half",
        "--dtype",
        "bf16",
    ];
    let output = bench.run(&args);
    assert!(output.status.success(), "{}", text(&output));
    let config = fs::read_to_string(bench.path("half/config.json")).unwrap();
    assert!(config.contains("\"dtype\": \"bfloat16\""), "{config}");
    let output = bench.run(&["import", "half", "--out", "imported", "--json"]);
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["weight_types"], serde_json::json!(["bf16"]));
}

#[test]
fn errors_are_one_line() {
    let bench = Bench::new();
    let import = |from: &str| bench.run(&["import", from, "--out", "out"]);
    assert_refused(
        &import("absent"),
        2,
        &["absent is not a model", "config.json"],
    );
    fs::create_dir(bench.path("empty")).unwrap();
    assert_refused(&import("empty"), 2, &["empty is not a model"]);

    let copy = |name: &str| {
        let folder = bench.path(name);
        fs::create_dir(&folder).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::write(
                folder.join(file),
                fs::read(format!("{}/{file}", fixture("gpt2"))).unwrap(),
            )
            .unwrap();
        }
        folder
    };
    let cut = copy("cut").join("model.safetensors");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    assert_refused(
        &import("cut"),
        2,
        &["cut/model.safetensors", "not a complete .safetensors"],
    );

    let config = copy("other").join("config.json");
    let json = fs::read_to_string(&config).unwrap();
    fs::write(&config, json.replace("\"gpt2\"", "\"bloom\"")).unwrap();
    assert_refused(
        &import("other"),
        2,
        &["other/config.json", "bloom", "gpt2, llama"],
    );

    fs::write(&config, json.replace("\"n_embd\": 16", "\"n_embd\": 20")).unwrap();
    let named = ["transformer.wte.weight", "[257, 16]", "[257, 20]"];
    assert_refused(&import("other"), 2, &named);

    // No partial file is left, and a file is not overwritten.
    assert!(!bench.path("out").exists());
    fs::write(bench.path("out"), "a file").unwrap();
    assert_refused(&import(&fixture("gpt2")), 2, &["out already exists"]);
    assert_eq!(fs::read(bench.path("out")).unwrap(), b"a file");
    let left: Vec<_> = fs::read_dir(bench.root.path()).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");

    let output = bench.run(&["export", &fixture("gpt2"), "--out", "x", "--dtype", "f64"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("weights are f32, f16, bf16"),
        "{}",
        text(&output)
    );
}

#[test]
fn an_exported_run_generates_the_same_text() {
    let bench = Bench::new();
    bench.tiny_run("run", &[]);
    let output = bench.run(&["export", "run", "--out", "exported", "--checkpoint", "last"]);
    assert!(output.status.success(), "{}", text(&output));
    let continuation = |model: &str, more: &[&str]| {
        let args = [
            "generate", model, "--prompt", "The ", "--greedy", "--tokens", "12",
        ];
        let output = bench.run(&[&args, more].concat());
        assert!(output.status.success(), "{}", text(&output));
        output.stdout
    };
    let expected = continuation("run", &["--checkpoint", "last"]);
    assert_eq!(continuation("exported", &[]), expected);
    bench.run(&["import", "exported", "--out", "imported"]);
    assert_eq!(continuation("imported", &[]), expected);
    assert!(expected.len() > 12, "{expected:?}");

    bench.tiny_run("bare", &["--set", "model.positions=none"]);
    assert_refused(
        &bench.run(&["export", "bare", "--out", "nothing"]),
        2,
        &["positions none", "LlamaForCausalLM"],
    );
    assert!(!bench.path("nothing").exists());
}
