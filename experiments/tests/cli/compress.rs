//! Tests of `foretoken compress` and `foretoken decompress`.

use super::*;

use serde_json::Value;

fn json(bench: &Bench, args: &[&str]) -> Value {
    serde_json::from_str(&bench.succeed(&[args, &["--json"]].concat())).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Compresses a file, brings it back under another name, and returns its report.
#[track_caller]
fn round_trip(bench: &Bench, name: &str, content: &[u8], streams: &str) -> Value {
    std::fs::write(bench.path(name), content).unwrap();
    let packed = format!("{name}.{streams}.ftz");
    let args = [
        "compress",
        "run",
        name,
        "--streams",
        streams,
        "--out",
        &packed,
    ];
    let report = json(bench, &args);
    let back = format!("{name}.{streams}.back");
    bench.succeed(&["decompress", "run", &packed, "--out", &back]);
    assert!(
        std::fs::read(bench.path(&back)).unwrap() == content,
        "{name}"
    );
    let file = report["files"][0].clone();
    let length = std::fs::metadata(bench.path(&packed)).unwrap().len();
    assert_eq!(number(&file["compressed_bytes"]), length as f64);
    file
}

fn text(length: usize) -> String {
    let sentences = [
        "The cat is calm. ",
        "she likes music and rain. ",
        "Hugo is a judge. ",
        "The capital of Cydra is Galt. ",
    ];
    let mut text = String::new();
    for i in 0.. {
        if text.len() >= length {
            break;
        }
        text += sentences[(i * i + i / 3) % 4];
    }
    text.truncate(length);
    text
}

#[test]
fn the_size_is_the_information_and_the_loss_of_evaluate() {
    let bench = Bench::trained();
    let text = text(6000);
    for streams in ["1", "3", "16"] {
        let file = round_trip(&bench, "a.txt", text.as_bytes(), streams);
        let (bits, stream_bits) = (number(&file["model_bits"]), number(&file["stream_bits"]));
        let streams = number(&file["streams"]);
        let excess = stream_bits - bits;
        let bound = 2.0 * streams + number(&file["tokens"]) * 2f64.powi(-24);
        assert!(
            excess <= bound && excess > -8.0 * streams,
            "{excess} {bound}"
        );
        let parts = ["header_bytes", "edit_bytes", "stream_bytes"].map(|name| number(&file[name]));
        assert_eq!(parts.iter().sum::<f64>(), number(&file["compressed_bytes"]));
        assert_eq!(number(&file["stream_bytes"]), (stream_bits / 8.0).ceil());
        assert_eq!(file["edit_bytes"], 0);
        if streams == 1.0 {
            // A context of 16 tokens moves by 8. The first token is coded as one of equally probable ones.
            let args = ["evaluate", "run", "a.txt", "--stride", "8"];
            let evaluated = json(&bench, &args);
            let config = json(&bench, &["inspect", "run"]);
            let vocabulary = number(&config["config"]["vocab_size"]);
            let expected = number(&evaluated["bits"]) + vocabulary.log2();
            assert!(
                (bits - expected).abs() < 1e-5 * expected,
                "{bits} {expected}"
            );
        }
    }
}

#[test]
fn any_file_comes_back() {
    let bench = Bench::trained();
    let binary: Vec<u8> = (0..3000u32).map(|i| (i * i * 7 % 251) as u8).collect();
    for (name, content) in [
        ("empty", &b""[..]),
        ("one byte", b"T"),
        ("one unknown byte", b"\xff"),
        (
            "name with spaces.txt",
            "The cat is calm.\n猫 is not in the vocabulary.\n".as_bytes(),
        ),
        ("binary.bin", &binary),
    ] {
        for streams in ["1", "7"] {
            let file = round_trip(&bench, name, content, streams);
            assert_eq!(number(&file["bytes"]), content.len() as f64);
        }
    }
    let file = round_trip(&bench, "binary.bin", &binary, "2");
    assert!(number(&file["edited_bytes"]) > 1000.0, "{file}");
    // What no model and no compressor can shorten becomes little longer.
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..5000).map(|_| random()).collect();
    let file = round_trip(&bench, "noise.bin", &noise, "3");
    assert!(number(&file["compressed_bytes"]) < 5150.0, "{file}");
}

#[test]
fn several_files_are_compressed_and_verified() {
    let bench = Bench::trained();
    for name in ["a.txt", "b.txt"] {
        std::fs::write(bench.path(name), text(500)).unwrap();
    }
    let shown = bench.succeed(&["compress", "run", "a.txt", "b.txt", "--verify"]);
    assert_fits_and_shows(
        &shown,
        &["a.txt.ftz, verified", "b.txt.ftz, verified", "bits/byte"],
    );
    std::fs::remove_file(bench.path("a.txt")).unwrap();
    let shown = bench.succeed(&["decompress", "run", "a.txt.ftz"]);
    assert!(shown.contains("a.txt: 500 bytes"), "{shown}");
    assert_eq!(
        std::fs::read_to_string(bench.path("a.txt")).unwrap(),
        text(500)
    );
}

#[test]
fn a_portable_file_comes_back_without_a_backend() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), text(500)).unwrap();
    let args = ["compress", "run", "a.txt", "--portable", "--verify"];
    let report = json(&bench, &args);
    assert_eq!(report["backend"], "portable");
    // The same probabilities but for rounding: a few bytes of header are all that differs.
    let usual = round_trip(&bench, "b.txt", text(500).as_bytes(), "1");
    let bits = [&report["files"][0], &usual].map(|file| number(&file["model_bits"]));
    assert!((bits[0] - bits[1]).abs() < 1e-4 * bits[1], "{bits:?}");
    let out = ["decompress", "run", "a.txt.ftz", "--out", "back.txt"];
    let refused = bench.run(&[&out[..], &["--backend", "flex"]].concat());
    assert_refused(&refused, 2, &["--backend", "a.txt.ftz is portable"]);
    assert_eq!(json(&bench, &out)["backend"], "portable");
    let back = std::fs::read_to_string(bench.path("back.txt")).unwrap();
    assert_eq!(back, text(500));
    let output = bench.run(&[&args, &["--backend", "flex"][..]].concat());
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn damage_is_found_and_located() {
    let bench = Bench::trained();
    let text = text(9000);
    round_trip(&bench, "a.txt", text.as_bytes(), "2");
    let packed = bench.path("a.txt.2.ftz");
    let whole = std::fs::read(&packed).unwrap();
    let refused = |bytes: &[u8], parts: &[&str]| {
        std::fs::write(&packed, bytes).unwrap();
        let output = bench.run(&["decompress", "run", "a.txt.2.ftz", "--out", "x"]);
        assert_refused(&output, 2, parts);
        assert!(!bench.path("x").exists());
    };
    // The second stream is at the end of the file; its second block begins behind 4096 tokens.
    let mut changed = whole.clone();
    let place = changed.len() - 3;
    changed[place] ^= 0x55;
    refused(
        &changed,
        &["a.txt.2.ftz: block 1 of stream 1 decodes to other bytes"],
    );
    refused(
        &whole[..whole.len() - 1],
        &["a.txt.2.ftz: is damaged, or is cut off"],
    );
    refused(&[], &["a.txt.2.ftz: is not a file of foretoken compress"]);
    refused(text.as_bytes(), &["is not a file of foretoken compress"]);
}

#[test]
fn other_conditions_are_refused_with_what_differs() {
    let bench = Bench::trained();
    bench.tiny_run("other", &["--set", "train.seed=6"]);
    round_trip(&bench, "a.txt", text(300).as_bytes(), "1");
    let decompress = |args: &[&str]| {
        let out = ["a.txt.1.ftz", "--out", "x"];
        bench.run(&[&["decompress"], args, &out].concat())
    };
    assert_refused(
        &decompress(&["other"]),
        2,
        &["a.txt.1.ftz", "other weights"],
    );
    let args = ["run", "--backend", "flex:f64"];
    // Weights of another precision are other weights.
    assert_refused(&decompress(&args), 2, &["a.txt.1.ftz"]);
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), "The cat").unwrap();
    std::fs::write(bench.path("there"), "").unwrap();
    for (args, parts) in [
        (
            &["compress", "run", "missing"][..],
            &["missing: there is no such file"][..],
        ),
        (&["compress", "run", "run"], &["run: is a directory"]),
        (
            &["compress", "run", "a.txt", "--out", "there"],
            &["there: already exists"],
        ),
        (
            &["compress", "run", "a.txt", "a.txt"],
            &["FILE: a.txt is named twice"],
        ),
        (
            &["compress", "run", "a.txt", "there", "--out", "x"],
            &["--out: names one"],
        ),
        (
            &["decompress", "run", "a.txt"],
            &["--out", "does not end in .ftz"],
        ),
        (
            &["compress", "run", "a.txt", "--out", "/dev/null"],
            &["/dev/null: is a device or a pipe, and only a new file is written"],
        ),
        (
            &["compress", "run", "a.txt", "--out", "run"],
            &["run: is a directory; name a file in it"],
        ),
        (
            &["decompress", "run", "missing.ftz"],
            &["missing.ftz: there is no such file"],
        ),
        (
            &["decompress", "run", "a.txt", "--out", "there"],
            &["there: already exists"],
        ),
    ] {
        assert_refused(&bench.run(args), 2, parts);
    }
    assert!(std::fs::read(bench.path("there")).unwrap().is_empty());
}
