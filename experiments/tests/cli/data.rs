//! Tests of `foretoken data`, and of training on its token folders.

use super::*;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use foretoken_datasets::{Corpus, DocumentIndex, Split};

/// Returns small, distinct documents with many kinds of characters.
fn documents(count: usize) -> Vec<String> {
    let words = [
        "the",
        "fox",
        "naïve",
        "叫",
        "🦀",
        "don't",
        "  two",
        "\n\nlines",
        "<|endoftext|>",
        "42",
    ];
    (0..count)
        .map(|i| {
            let length = 3 + i * 7 % 40;
            let text: Vec<&str> = (0..length)
                .map(|j| words[(i * 31 + j * j) % words.len()])
                .collect();
            format!("{i} {}", text.join(" "))
        })
        .collect()
}

fn write_json_lines(path: &Path, documents: &[String]) {
    let lines: Vec<String> = documents
        .iter()
        .map(|text| serde_json::json!({ "id": 1, "text": text }).to_string())
        .collect();
    fs::write(path, lines.join("\n")).unwrap();
}

impl Bench {
    fn build(&self, inputs: &[&str], tokenizer: &str, out: &str, more: &[&str]) -> String {
        let mut args = vec!["data", "build"];
        args.extend(inputs);
        args.extend(["--tokenizer", tokenizer, "--out", out]);
        args.extend(more);
        self.succeed(&args)
    }

    /// Trains a tiny run on `path`, and returns its losses.
    fn losses_on(&self, path: &str, more: &[&str]) -> Vec<f64> {
        let out = format!("run-on-{}", path.replace('/', "-"));
        self.losses(
            &out,
            &[&["--set", &format!("data.path={path}")], more].concat(),
        )
    }

    /// Trains a tiny run on other data than the world, and returns its losses.
    fn losses(&self, out: &str, more: &[&str]) -> Vec<f64> {
        let output = self.on_text(&[&["--out", out], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        let losses = column(&self.path(out), "step", "loss");
        assert_eq!(losses.len(), 12);
        losses
    }

    fn on_text(&self, more: &[&str]) -> Output {
        let file = "[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 16\n\
                    [train]\nsteps = 12\nbatch = 4\neval_every = 12\nsample_tokens = 8\n\
                    [optimizer]\nwarmup = 2\n[data]\n";
        fs::write(self.path("text.toml"), file).unwrap();
        self.run(&[&["train", "text.toml"], more].concat())
    }
}

/// Returns every file of a folder, by name.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_built_folder_is_checked_and_shown() {
    let bench = Bench::new();
    let texts = documents(500);
    write_json_lines(&bench.path("docs.jsonl"), &texts);
    let built = bench.build(
        &["docs.jsonl"],
        "bpe:300",
        "out",
        &["--valid", "0.2", "--shard-tokens", "3k"],
    );
    assert!(
        built.contains("train") && built.contains("valid"),
        "{built}"
    );
    let names: Vec<String> = contents(&bench.path("out"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in [
        "manifest.json",
        "tokenizer.json",
        "train-00001.tokens",
        "train.documents",
        "valid-00000.tokens",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "{name} is missing among {names:?}"
        );
    }
    assert!(
        !names.iter().any(|name| name.starts_with("build")),
        "{names:?}"
    );

    assert!(
        bench
            .succeed(&["data", "check", "out"])
            .contains("every checksum")
    );
    let again = bench.build(
        &["docs.jsonl"],
        "bpe:300",
        "out",
        &["--valid", "0.2", "--shard-tokens", "3k"],
    );
    assert!(again.contains("complete already"), "{again}");

    let json = bench.succeed(&[
        "data",
        "show",
        "out",
        "--json",
        "--step",
        "3",
        "--context",
        "24",
    ]);
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    let (corpus, manifest) = Corpus::open_built(&bench.path("out")).unwrap();
    assert_eq!(shown["manifest"]["train"]["tokens"], manifest.train.tokens);
    let ids: Vec<u32> = serde_json::from_value(shown["window"]["ids"].clone()).unwrap();
    let offset = shown["window"]["offset"].as_u64().unwrap() as usize;
    assert_eq!(ids, corpus.train.to_vec(offset..offset + 24).unwrap());
    assert!(shown["most_frequent"].as_array().unwrap().len() == 20);
    let plain = bench.succeed(&["data", "show", "out"]);
    assert!(
        plain.contains("Most frequent") && plain.contains('|') && !plain.contains('\u{1b}'),
        "{plain}"
    );

    // Each document is in one split, once and complete, in the order of the file.
    let index = DocumentIndex::open(bench.path("out/train.documents")).unwrap();
    let decode = |split: &Split| {
        let ids = split.to_vec(0..split.tokens()).unwrap();
        let border = corpus.tokenizer.end_of_text().unwrap();
        ids.split(|id| *id == border)
            .map(|ids| corpus.tokenizer.decode(ids).unwrap())
            .collect::<Vec<_>>()
    };
    let (train, valid) = (decode(&corpus.train), decode(&corpus.valid));
    assert_eq!(train.len(), index.documents());
    let (mut train, mut valid) = (train.into_iter().peekable(), valid.into_iter().peekable());
    for text in &texts {
        let split = if train.peek() == Some(text) {
            &mut train
        } else {
            &mut valid
        };
        assert_eq!(split.next().as_ref(), Some(text));
    }
    assert!(train.next().is_none() && valid.next().is_none());
    let share = manifest.valid.documents as f64 / 500.0;
    assert!((share - 0.2).abs() < 0.08, "{share}");
    let bytes: usize = texts.iter().map(String::len).sum();
    assert_eq!(
        (manifest.train.bytes + manifest.valid.bytes) as usize,
        bytes
    );
}

#[test]
fn copies_of_a_document_are_in_the_same_split() {
    let bench = Bench::new();
    let texts = documents(200);
    write_json_lines(&bench.path("once.jsonl"), &texts);
    write_json_lines(
        &bench.path("more.jsonl"),
        &[&texts[50..], &texts[..150]].concat(),
    );
    bench.build(
        &["once.jsonl", "more.jsonl"],
        "byte",
        "out",
        &["--valid", "0.3"],
    );
    let manifest = Corpus::open_built(&bench.path("out")).unwrap().1;
    bench.build(&["once.jsonl"], "byte", "once", &["--valid", "0.3"]);
    let (once, once_manifest) = Corpus::open_built(&bench.path("once")).unwrap();
    assert!(once_manifest.valid.documents > 30);
    // 100 of the 200 documents are repeated twice and 100 once, but each split has the same distinct documents.
    let (corpus, _) = Corpus::open_built(&bench.path("out")).unwrap();
    let distinct = |split: &Split| {
        let ids = split.to_vec(0..split.tokens()).unwrap();
        let texts: std::collections::BTreeSet<Vec<u32>> =
            ids.split(|id| *id == 256).map(<[u32]>::to_vec).collect();
        texts
    };
    assert_eq!(distinct(&corpus.valid), distinct(&once.valid));
    assert_eq!(distinct(&corpus.train), distinct(&once.train));
    assert_eq!(manifest.train.documents + manifest.valid.documents, 500);
}

#[test]
fn a_killed_build_continues_to_the_same_bytes() {
    let bench = Bench::new();
    write_json_lines(&bench.path("docs.jsonl"), &documents(120_000));
    let args = [
        "data",
        "build",
        "docs.jsonl",
        "--tokenizer",
        "bpe:400",
        "--shard-tokens",
        "200k",
        "--valid",
        "0.05",
    ];
    bench.succeed(&[&args[..], &["--out", "undisturbed"]].concat());
    let undisturbed = contents(&bench.path("undisturbed"));
    let (mut killed, mut unfinished) = (0, 0);
    // The wait grows until the build completes.
    for wait in std::iter::successors(Some(40), |wait| Some(wait * 8 / 5)) {
        let mut child = bench
            .command(&[&args[..], &["--out", "killed"]].concat())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        if !bench.path("killed/manifest.json").exists() && bench.path("killed/.build.json").exists()
        {
            unfinished += 1;
            let output = bench.run(&["data", "check", "killed"]);
            assert_refused(&output, 2, &["killed", "not finished"]);
            let output = bench.on_text(&["--set", "data.path=killed"]);
            assert_refused(&output, 2, &["killed", "not finished"]);
        }
    }
    assert!(
        killed > 2 && unfinished > 0,
        "killed {killed} times, and {unfinished} folders were unfinished"
    );
    // As a process leaves them that is killed while it writes.
    for name in [".build.json.7-1.partial", "manifest.json.7-2.partial"] {
        fs::write(bench.path("killed").join(name), "{").unwrap();
    }
    bench.succeed(&[&args[..], &["--out", "killed"]].concat());
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    let killed = contents(&bench.path("killed"));
    assert_eq!(names(&killed), names(&undisturbed));
    assert!(killed == undisturbed, "files of these names differ");
}

#[test]
#[cfg(unix)]
fn an_interrupted_build_says_how_to_continue() {
    let bench = Bench::new();
    write_json_lines(&bench.path("docs.jsonl"), &documents(150_000));
    let args = [
        "data",
        "build",
        "docs.jsonl",
        "--tokenizer",
        "byte",
        "--out",
        "out",
    ];
    let child = bench
        .command(&args)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    while !bench.path("out/.build.json").exists() {
        assert!(started.elapsed().as_secs() < 60, "no build in a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(
        text(&output).contains("continues where it stopped"),
        "{}",
        text(&output)
    );
    bench.succeed(&args);
    bench.succeed(&["data", "check", "out"]);
}

#[test]
fn token_files_of_other_programs_train_to_the_same_losses() {
    let bench = Bench::new();
    write_json_lines(&bench.path("docs.jsonl"), &documents(400));
    bench.build(
        &["docs.jsonl"],
        "bpe:300",
        "ours",
        &["--valid", "0.2", "--shard-tokens", "1k"],
    );
    let (corpus, _) = Corpus::open_built(&bench.path("ours")).unwrap();
    fs::create_dir(bench.path("nanogpt")).unwrap();
    fs::create_dir(bench.path("llmc")).unwrap();
    for (name, short, split) in [
        ("train", "train", &corpus.train),
        ("valid", "val", &corpus.valid),
    ] {
        let ids = split.to_vec(0..split.tokens()).unwrap();
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| (id as u16).to_le_bytes())
            .collect();
        fs::write(bench.path(&format!("nanogpt/{short}.bin")), &bytes).unwrap();
        let mut header = [0i32; 256];
        (header[0], header[1], header[2]) = (20240520, 1, ids.len() as i32);
        let header: Vec<u8> = header
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        let file = bench.path(&format!("llmc/docs_{short}.bin"));
        fs::write(file, [header, bytes].concat()).unwrap();
        assert!(ids.len() > 100, "{name}");
    }
    fs::copy(
        bench.path("ours/tokenizer.json"),
        bench.path("llmc/tokenizer.json"),
    )
    .unwrap();
    let ours = bench.losses_on("ours", &[]);
    assert_eq!(bench.losses_on("llmc", &[]), ours);
    let with_tokenizer = ["--set", "data.tokenizer=ours/tokenizer.json"];
    assert_eq!(bench.losses_on("nanogpt", &with_tokenizer), ours);
    let output = bench.on_text(&["--set", "data.path=nanogpt"]);
    assert_refused(&output, 2, &["nanogpt", "data.tokenizer"]);
    for folder in ["nanogpt", "llmc"] {
        let check = bench.succeed(&[
            "data",
            "check",
            folder,
            "--tokenizer",
            "ours/tokenizer.json",
        ]);
        assert!(check.contains("no checksums"), "{check}");
    }
}

#[test]
fn text_is_built_into_the_cache_once() {
    let bench = Bench::new();
    write_json_lines(&bench.path("docs.jsonl"), &documents(300));
    let with = ["--set", "data.tokenizer=bpe:300", "--set", "data.valid=0.2"];
    let losses = bench.losses_on("docs.jsonl", &with);
    let cached = || fs::read_dir(bench.path("cache/data")).unwrap().count();
    assert_eq!(cached(), 1);
    fs::remove_dir_all(bench.path("run-on-docs.jsonl")).unwrap();
    assert_eq!(bench.losses_on("docs.jsonl", &with), losses);
    assert_eq!(cached(), 1);
    // A folder built by `data build` gives the same losses.
    bench.build(&["docs.jsonl"], "bpe:300", "out", &["--valid", "0.2"]);
    assert_eq!(bench.losses_on("out", &[]), losses);
    let other = bench.on_text(&["--set", "data.path=out", "--set", "data.tokenizer=char"]);
    assert_refused(&other, 2, &["data.tokenizer", "bpe:300"]);
}

/// `touch -r`, `rsync -t`, `tar` and backups can replace a text and keep its size and modification time.
#[test]
fn a_replaced_text_of_equal_size_and_time_is_read_anew() {
    let bench = Bench::new();
    let text = "aaaa and more\n".repeat(100);
    let file = bench.path("a.txt");
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        let file = fs::OpenOptions::new().append(true).open(&file).unwrap();
        file.set_modified(time).unwrap();
    };
    write(&text);
    let settings = ["--set", "data.tokenizer=char", "--set", "data.valid=0.2"];
    bench.losses(
        "one",
        &[&["--set", "data.path=a.txt"], &settings[..]].concat(),
    );
    write(&text.replace('a', "z"));
    bench.losses(
        "two",
        &[&["--set", "data.path=a.txt"], &settings[..]].concat(),
    );
    let vocabulary =
        |run: &str| fs::read_to_string(bench.path(run).join("tokenizer.json")).unwrap();
    assert!(vocabulary("one").contains("\"a\"") && !vocabulary("one").contains("\"z\""));
    assert!(vocabulary("two").contains("\"z\"") && !vocabulary("two").contains("\"a\""));
}

#[test]
fn tokenizers_are_compared_by_content_and_not_by_file_name() {
    let bench = Bench::new();
    write_json_lines(&bench.path("docs.jsonl"), &documents(300));
    bench.build(&["docs.jsonl"], "bpe:300", "out", &["--valid", "0.2"]);
    fs::copy(bench.path("out/tokenizer.json"), bench.path("copy.json")).unwrap();
    bench.build(&["docs.jsonl"], "copy.json", "again", &["--valid", "0.2"]);
    let same = ["--set", "data.tokenizer=out/tokenizer.json"];
    assert_eq!(bench.losses_on("again", &same), bench.losses_on("out", &[]));
    bench.build(&["docs.jsonl"], "byte", "bytes", &["--valid", "0.2"]);
    fs::copy(bench.path("bytes/tokenizer.json"), bench.path("copy.json")).unwrap();
    let other = bench.on_text(&[
        "--set",
        "data.path=again",
        "--set",
        "data.tokenizer=copy.json",
    ]);
    assert_refused(&other, 2, &["data.tokenizer", "copy.json", "id "]);
}

#[test]
fn mixtures_and_loss_weights_change_the_losses() {
    let bench = Bench::new();
    write_json_lines(&bench.path("a.jsonl"), &documents(300));
    write_json_lines(&bench.path("b.jsonl"), &documents(600)[300..]);
    bench.build(&["a.jsonl"], "bpe:300", "a", &["--valid", "0.2"]);
    bench.build(&["b.jsonl"], "a/tokenizer.json", "b", &["--valid", "0.2"]);
    bench.build(&["b.jsonl"], "byte", "bytes", &["--valid", "0.2"]);
    let mixture = |entries: &str| format!("data.mixture=[{entries}]");
    let losses = |out: &str, entries: &str| bench.losses(out, &["--set", &mixture(entries)]);

    // A mixture of one dataset is equal to that dataset, whatever its weight.
    let alone = bench.losses_on("a", &[]);
    assert_eq!(losses("one", "{path='a', weight=3}"), alone);
    let mixed = losses("two", "{path='a'}, {path='b'}");
    assert_ne!(mixed, alone);
    assert_eq!(
        losses("halves", "{path='a', weight=0.5}, {path='b', weight=0.5}"),
        mixed
    );

    // Loss weights of 1 change nothing, as a number or in a file.
    let tokens = Corpus::open(&bench.path("a"), None).unwrap().train.tokens();
    let write = |name: &str, weight: &dyn Fn(usize) -> f32| {
        let bytes: Vec<u8> = (0..tokens).flat_map(|i| weight(i).to_le_bytes()).collect();
        fs::write(bench.path(name), bytes).unwrap();
    };
    write("ones.f32", &|_| 1.0);
    write("odd.f32", &|i| (i % 2) as f32);
    write("short.f32", &|_| 1.0);
    fs::write(bench.path("short.f32"), [0; 12]).unwrap();
    assert_eq!(losses("rule", "{path='a', loss_weight=1.0}"), alone);
    let file = |name| format!("{{path='a', loss_weight='{name}'}}");
    assert_eq!(losses("ones", &file("ones.f32")), alone);
    // Equal weights change only rounding, and unequal weights change the losses.
    for (doubled, alone) in losses("doubled", "{path='a', loss_weight=2}")
        .iter()
        .zip(&alone)
    {
        assert!(relative_difference(*doubled, *alone) < 1e-6);
    }
    assert_ne!(losses("odd", &file("odd.f32")), alone);

    let refused = |entries: &str, contains: &[&str]| {
        let output = bench.on_text(&["--out", "refused", "--set", &mixture(entries)]);
        assert_refused(&output, 2, contains);
        assert!(!bench.path("refused").exists());
    };
    refused(
        "{path='a'}, {path='bytes'}",
        &["bytes", "another tokenizer"],
    );
    refused("{path='a', weight=0}", &["a", "weight"]);
    refused("{path='a', loss_weight=-1}", &["weight"]);
    refused(&file("short.f32"), &["short.f32", "12"]);
    refused("{path='absent'}", &["absent"]);
}

#[test]
fn windows_of_every_kind_train() {
    let bench = Bench::new();
    write_json_lines(&bench.path("docs.jsonl"), &documents(300));
    bench.build(&["docs.jsonl"], "byte", "out", &["--valid", "0.2"]);
    let losses_with = |kind: &str| {
        let out = format!("run-{kind}");
        let kind = format!("data.windows={kind}");
        bench.losses(&out, &["--set", "data.path=out", "--set", &kind])
    };
    let losses = ["epoch", "random", "documents"].map(losses_with);
    assert!(losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2]);
    // Rows of documents have different numbers of targets. The mean is over all targets of the step, however it is
    // divided into micro-batches.
    let settings = [
        "data.path=out",
        "data.windows=documents",
        "train.batch=1",
        "train.accumulation=4",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|value| ["--set", value]).collect();
    for (divided, whole) in bench.losses("divided", &settings).iter().zip(&losses[2]) {
        assert!(relative_difference(*divided, *whole) < 1e-5);
    }
    let output = bench.on_text(&["--set", "data.path=out", "--set", "data.windows=documnets"]);
    assert_refused(&output, 2, &["data.windows", "documents"]);
}

#[test]
fn errors_of_data_name_the_file() {
    let bench = Bench::new();
    fs::write(
        bench.path("text.txt"),
        "some text, long enough to be split in two ".repeat(200),
    )
    .unwrap();
    fs::write(
        bench.path("bad.jsonl"),
        "{\"text\": \"one\"}\n{\"txt\": \"two\"}\n",
    )
    .unwrap();
    fs::write(bench.path("latin1.txt"), b"caf\xe9 ".repeat(50)).unwrap();
    fs::write(bench.path("empty.txt"), "").unwrap();
    fs::create_dir(bench.path("mine")).unwrap();
    fs::write(bench.path("mine/precious.txt"), "precious").unwrap();
    let build = |inputs: &[&str], tokenizer: &str, out: &str, more: &[&str]| {
        let args = [
            &["data", "build"],
            inputs,
            &["--tokenizer", tokenizer, "--out", out],
            more,
        ]
        .concat();
        bench.run(&args)
    };
    assert_refused(
        &build(&["absent.txt"], "byte", "out", &[]),
        2,
        &["absent.txt"],
    );
    assert_refused(
        &build(&["text.txt"], "words", "out", &[]),
        2,
        &["words", "bpe:VOCAB"],
    );
    assert_refused(&build(&["text.txt"], "bpe:12", "out", &[]), 2, &["bpe:12"]);
    assert_refused(
        &build(&["text.txt"], "absent/tokenizer.json", "out", &[]),
        2,
        &["absent/tokenizer.json"],
    );
    assert_refused(
        &build(&["bad.jsonl"], "byte", "out", &[]),
        2,
        &["bad.jsonl", "line 2", "txt"],
    );
    assert_refused(
        &build(&["latin1.txt"], "byte", "out", &[]),
        2,
        &["latin1.txt", "byte 3", "--invalid-utf8 replace"],
    );
    assert_refused(
        &build(&["empty.txt"], "byte", "out", &[]),
        2,
        &["empty.txt", "empty"],
    );
    assert_refused(
        &build(&["text.txt"], "byte", "out", &["--valid", "1.5"]),
        2,
        &["1.5"],
    );
    assert_refused(
        &build(&["text.txt"], "byte", "mine", &[]),
        2,
        &["mine", "no build has written"],
    );
    assert_eq!(fs::read_dir(bench.path("mine")).unwrap().count(), 1);

    let replaced = build(
        &["latin1.txt"],
        "byte",
        "replaced",
        &["--invalid-utf8", "replace"],
    );
    assert!(
        replaced.status.success() && text(&replaced).contains("50 U+FFFD"),
        "{}",
        text(&replaced)
    );

    assert!(build(&["text.txt"], "byte", "built", &[]).status.success());
    assert_refused(
        &build(&["text.txt"], "char", "built", &[]),
        2,
        &["built", "other inputs or options"],
    );
    let tokens = bench.path("built/train-00000.tokens");
    let whole = fs::read(&tokens).unwrap();
    let check = || bench.run(&["data", "check", "built"]);
    let mut flipped = whole.clone();
    flipped[200] ^= 4;
    fs::write(&tokens, &flipped).unwrap();
    assert_refused(&check(), 2, &["train-00000.tokens", "byte"]);
    assert_refused(
        &bench.on_text(&["--out", "refused", "--set", "data.path=built"]),
        1,
        &["train-00000.tokens", "byte"],
    );
    fs::write(&tokens, &whole[..whole.len() - 1]).unwrap();
    assert_refused(&check(), 2, &["train-00000.tokens", "byte"]);
    fs::write(&tokens, &whole).unwrap();
    assert!(check().status.success());
    assert_refused(
        &bench.run(&["data", "show", "mine"]),
        2,
        &["mine", "manifest.json"],
    );
    assert_refused(&bench.run(&["data", "check", "absent"]), 2, &["absent"]);
}

#[test]
fn fetch_errors_name_the_corpus() {
    let bench = Bench::new();
    let listed = bench.succeed(&["data", "fetch"]);
    for name in [
        "tinyshakespeare",
        "tinystories",
        "wikitext-103",
        "fineweb-edu",
        "enwik8",
    ] {
        assert!(listed.contains(name), "{name} is missing from:\n{listed}");
    }
    assert_refused(
        &bench.run(&["data", "fetch", "shakespear"]),
        2,
        &["shakespear", "tinyshakespeare"],
    );

    // No server listens on a port that was just released.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mirror = format!("http://{closed}");
    let output = bench.run(&["data", "fetch", "tinyshakespeare", "--mirror", &mirror]);
    assert_refused(&output, 1, &["cannot reach", "texts/tinyshakespeare"]);

    // This server has other content under that name.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwrong",
            );
        }
    });
    let output = bench.run(&["data", "fetch", "tinyshakespeare", "--mirror", &mirror]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_refused(&output, 1, &["tinyshakespeare"]);
}

#[test]
#[ignore = "needs python3 with tokenizers: source .ci/env.sh"]
fn hugging_face_tokenizers_encode_to_the_same_ids() {
    let bench = Bench::new();
    let texts: Vec<String> = documents(60)
        .iter()
        .map(|text| text.replace("<|endoftext|>", "end"))
        .collect();
    let whole = texts.join("\n");
    fs::write(bench.path("text.txt"), &whole).unwrap();
    for tokenizer in ["byte", "char", "bpe:500"] {
        let out = tokenizer.replace(':', "-");
        bench.build(&["text.txt"], tokenizer, &out, &["--valid", "0"]);
        let corpus = Corpus::open(&bench.path(&out), None).unwrap();
        let ids = corpus.train.to_vec(0..corpus.train.tokens()).unwrap();
        let program = "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); \
                       print(t.encode(open(sys.argv[2], newline='', encoding='utf-8').read()).ids)";
        let output = std::process::Command::new("python3")
            .current_dir(bench.root.path())
            .args(["-c", program, &format!("{out}/tokenizer.json"), "text.txt"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let theirs: Vec<u32> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(theirs == ids, "{tokenizer}");
    }
}

/// Libraries panic on some damaged files, and the user must still see one line.
#[test]
fn errors_of_damaged_files_are_one_line() {
    let bench = Bench::new();
    fs::write(bench.path("text.txt"), "some text ".repeat(200)).unwrap();
    // Its merge makes a token that is not in the vocabulary, and its byte alphabet is incomplete.
    let tokenizer = r#"{"version":"1.0","added_tokens":[],"pre_tokenizer":null,"decoder":null,"model":
        {"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}}"#;
    fs::write(bench.path("tokenizer.json"), tokenizer).unwrap();
    fs::write(
        bench.path("damaged.parquet"),
        b"PAR1 nothing of a table PAR1",
    )
    .unwrap();
    let build = |input: &str, tokenizer: &str| {
        bench.run(&[
            "data",
            "build",
            input,
            "--tokenizer",
            tokenizer,
            "--out",
            "out",
        ])
    };
    assert_refused(
        &build("text.txt", "./tokenizer.json"),
        2,
        &["tokenizer.json"],
    );
    assert_refused(&build("damaged.parquet", "byte"), 2, &["damaged.parquet"]);
}

#[test]
fn validation_text_that_is_in_the_training_text_is_found() {
    let bench = Bench::new();
    let document = |number: usize| -> String {
        let words = (0..30).map(|word| format!("{} ", number * 37 % 101 + word * number));
        words.collect()
    };
    // Every third document has another ending, so that most of it is there twice, in either split.
    let lines: Vec<String> = (0..240)
        .map(|i| {
            let text = match i % 3 {
                2 => format!("{}and {i}", document(i - 1)),
                _ => document(i),
            };
            serde_json::json!({ "text": text }).to_string()
        })
        .collect();
    fs::write(bench.path("docs.jsonl"), lines.join("\n")).unwrap();
    bench.build(&["docs.jsonl"], "byte", "out", &["--valid", "0.2"]);
    let shown = bench.succeed(&["data", "check", "out", "--overlap"]);
    assert!(shown.contains("every checksum"), "{shown}");
    let line = shown
        .lines()
        .find(|line| line.contains("at least half"))
        .unwrap();
    let numbers: Vec<usize> = line
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    // About two thirds have a twin, four fifths of which are in the training text.
    let share = numbers[0] as f64 / numbers[1] as f64;
    assert!((0.3..0.8).contains(&share), "{shown}");
    assert!(shown.contains("sequences of 50 tokens"), "{shown}");
    let all = bench.succeed(&["data", "check", "out", "--overlap=1"]);
    assert!(
        all.contains("100.0 % of"),
        "every digit is in the training text: {all}"
    );
    let none = bench.succeed(&["data", "check", "out", "--overlap=5000"]);
    assert!(
        none.contains("nothing was compared") && none.contains("than 5,000 tokens;"),
        "{none}"
    );
    assert!(!none.contains("0.0 %"), "{none}");
    for shown in [shown, all, none] {
        let mut lines = shown.lines().skip(1);
        assert!(lines.all(|line| line.chars().count() <= 80), "{shown}");
    }
}

/// Writes a folder of nanoGPT with these training ids, and the vocabulary of bytes.
fn write_ids(bench: &Bench, folder: &str, train: &[u16], valid: &[u16]) {
    write_json_lines(&bench.path("few.jsonl"), &documents(20));
    bench.build(&["few.jsonl"], "byte", "few", &[]);
    fs::create_dir(bench.path(folder)).unwrap();
    for (name, ids) in [("train", train), ("val", valid)] {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        fs::write(bench.path(&format!("{folder}/{name}.bin")), bytes).unwrap();
    }
    let tokenizer = bench.path(&format!("{folder}/tokenizer.json"));
    fs::copy(bench.path("few/tokenizer.json"), tokenizer).unwrap();
}

/// Arguments that look for long sequences in a folder of [`write_ids`].
const LONG_OVERLAP: [&str; 5] = ["data", "check", "ids", "--id-bytes=2", "--overlap=1000"];

#[test]
fn long_sequences_in_repetitive_text_are_found_in_linear_time() {
    let bench = Bench::new();
    let ids = vec![u16::from(b'a'); 1_000_000];
    write_ids(&bench, "ids", &ids, &ids);
    let began = std::time::Instant::now();
    let shown = bench.succeed(&LONG_OVERLAP);
    assert!(shown.contains("100.0 % of 1,000,000"), "{shown}");
    // Comparing every sequence would read 4 TB; this takes about 0.1 s.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
#[cfg(unix)]
fn an_interrupted_check_ends_by_itself() {
    use std::io::{BufRead, BufReader, Read};

    let bench = Bench::new();
    let ids: Vec<u16> = (0..60_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u16)
        .collect();
    write_ids(&bench, "ids", &ids, &ids[..100_000]);
    let mut child = bench
        .command(&LONG_OVERLAP)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The first line is printed before the comparison, which takes seconds.
    let mut first = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    assert!(first.contains("ids: 60,100,000 tokens"), "{first}");
    interrupt(&child);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "the comparison was not finished");
    // A process that ends by force says only "interrupted".
    assert_refused(
        &child.wait_with_output().unwrap(),
        130,
        &["error: interrupted"],
    );
}
