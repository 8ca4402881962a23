//! Tests that a built folder of tokens does not depend on threads, shards and interruptions.
#![allow(clippy::unwrap_used)] // a test may panic

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use foretoken_datasets::{
    BuildOptions, BuildProgress, Canaries, CanaryOptions, Corpus, DataError, InvalidUtf8,
    MAX_UNCUT_BYTES, Monitor, ReadOptions, SplitBy, TokenizerSpec, build, build_cached, check,
};

static NEVER: AtomicBool = AtomicBool::new(false);

const SILENT: Monitor<'static> = Monitor {
    report: &|_| {},
    interrupt: &NEVER,
    bars: false,
};

fn options(input: &Path, tokenizer: &str) -> BuildOptions {
    BuildOptions {
        inputs: vec![input.into()],
        tokenizer: tokenizer.parse().unwrap(),
        read: ReadOptions {
            format: None,
            text_field: "text".into(),
            separator: None,
            invalid_utf8: InvalidUtf8::Refuse,
        },
        valid: 0.1,
        shard_tokens: 50_000,
        special_tokens: false,
        canaries: None,
    }
}

/// Writes files of documents of many lengths, including empty ones.
fn corpus(folder: &Path) {
    for file in 0..3 {
        let lines: String = (0..4000)
            .map(|i| {
                let text = "a bé 叫 word, ".repeat((i * 7919 + file) % 23);
                format!(
                    "{{\"text\": \"{}{text}\"}}\n",
                    if i % 50 == 0 { "" } else { "x" }
                )
            })
            .collect();
        fs::write(folder.join(format!("{file}.jsonl")), lines).unwrap();
    }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn output_does_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    for tokenizer in ["byte", "char", "bpe:400"] {
        let built: Vec<_> = [1, 2, 7]
            .into_iter()
            .map(|threads| {
                let out = folder
                    .path()
                    .join(format!("out-{threads}-{}", tokenizer.replace(':', "-")));
                let options = options(&folder.path().join("*.jsonl"), tokenizer);
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| build(&options, &out, SILENT)).unwrap();
                contents(&out)
            })
            .collect();
        assert!(built[0] == built[1] && built[0] == built[2], "{tokenizer}");
        assert!(
            built[0].contains_key("train-00002.tokens"),
            "{:?}",
            built[0].keys()
        );
    }
}

/// Builds with one more report before the build is interrupted each time, until it is complete. Returns the bytes of
/// text that were done before the last one.
fn build_with_interruptions(options: &BuildOptions, out: &Path) -> u64 {
    for stop_after in 1.. {
        let reports = AtomicUsize::new(0);
        let interrupt = AtomicBool::new(false);
        let report = |progress: BuildProgress| {
            if matches!(progress, BuildProgress::Encoding { .. })
                && reports.fetch_add(1, Ordering::Relaxed) + 1 >= stop_after
            {
                interrupt.store(true, Ordering::Relaxed);
            }
        };
        let monitor = Monitor {
            report: &report,
            interrupt: &interrupt,
            bars: false,
        };
        match build(options, out, monitor) {
            Err(DataError::Interrupted) => {
                assert!(!out.join("manifest.json").exists());
                let error = Corpus::open(out, None).unwrap_err().to_string();
                assert!(error.contains("not finished"), "{error}");
            }
            built => return built.unwrap().resumed_bytes,
        }
    }
    unreachable!("the numbers do not end")
}

#[test]
fn output_does_not_depend_on_interruptions() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let plain = options(&folder.path().join("*.jsonl"), "bpe:400");
    for (name, canaries) in [("plain", None), ("canaries", Some(canaries(3)))] {
        let options = BuildOptions {
            canaries,
            ..plain.clone()
        };
        let undisturbed = folder.path().join(format!("{name}-undisturbed"));
        build(&options, &undisturbed, SILENT).unwrap();
        let out = folder.path().join(name);
        let resumed = build_with_interruptions(&options, &out);
        assert!(resumed > 0, "no build was resumed");
        assert!(contents(&out) == contents(&undisturbed), "{name}");
    }
}

fn canaries(seed: u64) -> CanaryOptions {
    CanaryOptions {
        count: 6,
        copies: vec![1, 40],
        seed,
        prefix: "a word {}, ".into(),
        alphabet: Some("abé叫word".into()),
        symbols: 9,
    }
}

/// Returns the documents of a split, as text.
fn documents(corpus: &Corpus, split: &foretoken_datasets::Split) -> Vec<String> {
    let ids = split.to_vec(0..split.tokens()).unwrap();
    let end = corpus.tokenizer.end_of_text();
    ids.split(|id| Some(*id) == end)
        .map(|ids| corpus.tokenizer.decode(ids).unwrap())
        .collect()
}

#[test]
fn canaries_are_planted_as_often_as_told_and_change_no_other_document() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let plain = options(&folder.path().join("*.jsonl"), "char");
    let with = |seed| BuildOptions {
        canaries: Some(canaries(seed)),
        ..plain.clone()
    };
    let [without, planted] = ["without", "planted"].map(|name| folder.path().join(name));
    build(&plain, &without, SILENT).unwrap();
    let manifest = build(&with(5), &planted, SILENT).unwrap().manifest;
    check(&planted, None, None, &NEVER, &mut |_, _| {}).unwrap();
    assert!(Canaries::read(&without).unwrap().is_none());
    let drawn = Canaries::read(&planted).unwrap().unwrap();
    let copies: Vec<u64> = drawn.canaries.iter().map(|canary| canary.copies).collect();
    assert_eq!(copies, [1, 40, 1, 40, 1, 40, 0, 0, 0, 0, 0, 0]);
    assert_eq!(drawn.entropy_bits, 27.0);
    assert_eq!(manifest.canaries.unwrap().documents, 3 * 41);

    let open = |out| Corpus::open(out, None).unwrap();
    let (before, after) = (open(&without), open(&planted));
    assert_eq!(before.tokenizer, after.tokenizer);
    assert_eq!(
        documents(&before, &before.valid),
        documents(&after, &after.valid)
    );
    let all = documents(&after, &after.train);
    for canary in &drawn.canaries {
        let text = drawn.document(&canary.name, &canary.secret);
        let found = all.iter().filter(|document| **document == text).count();
        assert_eq!(found as u64, canary.copies, "{text}");
    }
    let is_canary = |text: &String| text.starts_with("a word ");
    // Copies are spread over the text.
    let places: Vec<usize> = (0..all.len()).filter(|i| is_canary(&all[*i])).collect();
    assert!(places[0] < all.len() / 10 && places[122] > all.len() / 10 * 9);
    let others: Vec<String> = all.into_iter().filter(|text| !is_canary(text)).collect();
    assert!(others == documents(&before, &before.train));
    assert_ne!(before.fingerprint().unwrap(), after.fingerprint().unwrap());

    assert!(build(&with(5), &planted, SILENT).unwrap().already);
    let error = build(&with(6), &planted, SILENT).unwrap_err().to_string();
    assert!(error.contains("other inputs or options"), "{error}");
    let other = folder.path().join("other");
    build(&with(6), &other, SILENT).unwrap();
    fs::copy(other.join(Canaries::FILE), planted.join(Canaries::FILE)).unwrap();
    for error in [
        Canaries::read(&planted).unwrap_err(),
        check(&planted, None, None, &NEVER, &mut |_, _| {}).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(
            error.contains("canaries.json") && error.contains("not of this dataset"),
            "{error}"
        );
    }
}

/// Shards divide the tokens between files, but change neither the tokens nor the windows.
#[test]
fn tokens_do_not_depend_on_shards() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let tokens = |shard_tokens: u64| {
        let out = folder.path().join(format!("out-{shard_tokens}"));
        let options = BuildOptions {
            shard_tokens,
            ..options(&folder.path().join("*.jsonl"), "byte")
        };
        let built = build(&options, &out, SILENT).unwrap();
        let shards = &built.manifest.train.shards;
        assert!(
            shards[..shards.len() - 1]
                .iter()
                .all(|shard| shard.tokens == shard_tokens)
        );
        check(&out, None, None, &NEVER, &mut |_, _| {}).unwrap();
        let corpus = Corpus::open(&out, None).unwrap();
        corpus.train.to_vec(0..corpus.train.tokens()).unwrap()
    };
    let whole = tokens(1_000_000);
    assert!(
        tokens(10_000) == whole && tokens(10_001) == whole && tokens(whole.len() as u64) == whole
    );
}

#[test]
fn single_text_is_split_by_position_without_an_end_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let text = "aé叫🦀bcd".repeat(30);
    let file = folder.path().join("text.txt");
    fs::write(&file, &text).unwrap();
    let out = folder.path().join("out");
    let built = build(&options(&file, "char"), &out, SILENT).unwrap();
    assert_eq!(built.manifest.recipe.split_by, SplitBy::Position);
    assert_eq!(built.manifest.tokenizer.end_of_text, None);
    let corpus = Corpus::open(&out, None).unwrap();
    assert_eq!(corpus.tokenizer.vocab_size(), 7);
    assert_eq!((corpus.train.tokens(), corpus.valid.tokens()), (189, 21));
    let in_memory = Corpus::from_text(
        &text.chars().take(189).collect::<String>(),
        &text.chars().skip(189).collect::<String>(),
        &TokenizerSpec::Char,
    )
    .unwrap();
    assert_eq!(corpus.tokenizer, in_memory.tokenizer);
    for (built, in_memory) in [
        (&corpus.train, &in_memory.train),
        (&corpus.valid, &in_memory.valid),
    ] {
        let all = 0..built.tokens();
        assert_eq!(
            built.to_vec(all.clone()).unwrap(),
            in_memory.to_vec(all).unwrap()
        );
        assert_eq!(built.bytes().unwrap(), in_memory.bytes().unwrap());
    }
}

/// The text is divided between two tokens, so the two splits together are the encoding of the text.
#[test]
fn text_that_is_split_by_position_keeps_its_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let text = "unbelievable understatements ".repeat(40);
    let file = folder.path().join("text.txt");
    fs::write(&file, &text).unwrap();
    for valid in [0.05, 0.11, 0.5, 0.93] {
        let out = folder.path().join(valid.to_string());
        let options = BuildOptions {
            valid,
            ..options(&file, "bpe:300")
        };
        let built = build(&options, &out, SILENT).unwrap().manifest;
        let corpus = Corpus::open(&out, None).unwrap();
        let ids = |split: &foretoken_datasets::Split| split.to_vec(0..split.tokens()).unwrap();
        let both = [ids(&corpus.train), ids(&corpus.valid)].concat();
        assert_eq!(both, corpus.tokenizer.encode(&text).unwrap());
        assert_eq!((built.train.bytes + built.valid.bytes) as usize, text.len());
        assert_eq!(built.train.bytes as usize, corpus.train.bytes().unwrap());
        let missed = built.valid.bytes as f64 - valid * text.len() as f64;
        assert!(missed.abs() < 15.0, "{missed} bytes off");
    }
}

/// Creates a text of several parts: lines, a run without a boundary of words, and lines again.
fn long_text() -> String {
    let lines = "It was the best of times, it wasn't the worst: 1859 叫 é.\n".repeat(30_000);
    format!(
        "{lines}{}{}{lines}",
        "ACGTTG ".repeat(20),
        "ACGTAACCGGTT".repeat(150_000)
    )
}

/// The encoding does not depend on the parts in which a document is read.
#[test]
fn long_text_in_parts_has_the_encoding_of_the_whole_text() {
    let folder = tempfile::tempdir().unwrap();
    let text = long_text();
    assert!(text.len() > 5 << 20);
    let file = folder.path().join("text.txt");
    fs::write(&file, &text).unwrap();
    let lines = folder.path().join("text.jsonl");
    fs::write(&lines, serde_json::json!({ "text": text }).to_string()).unwrap();
    for tokenizer in ["byte", "char", "bpe:300"] {
        let mut encoded = vec![];
        for (name, input) in [("text", &file), ("lines", &lines)] {
            let out = folder
                .path()
                .join(format!("{name}-{}", tokenizer.replace(':', "-")));
            let manifest = build(&options(input, tokenizer), &out, SILENT)
                .unwrap()
                .manifest;
            check(&out, None, None, &NEVER, &mut |_, _| {}).unwrap();
            assert_eq!(manifest.text.inexact_documents, 0);
            assert_eq!(
                (manifest.train.bytes + manifest.valid.bytes) as usize,
                text.len()
            );
            assert_eq!((manifest.train.documents, manifest.valid.documents), (1, 1));
            let characters = text.chars().count();
            let train: String = text
                .chars()
                .take((characters as f64 * 0.9) as usize)
                .collect();
            assert!(manifest.train.bytes.abs_diff(train.len() as u64) < 8);
            let corpus = Corpus::open(&out, None).unwrap();
            let ids = |split: &foretoken_datasets::Split| split.to_vec(0..split.tokens()).unwrap();
            let both = [ids(&corpus.train), ids(&corpus.valid)].concat();
            assert!(
                both == corpus.tokenizer.encode(&text).unwrap(),
                "{tokenizer}"
            );
            encoded.push((both, corpus.tokenizer));
        }
        assert!(
            encoded[0] == encoded[1],
            "{tokenizer}: the format makes no difference"
        );
    }
}

/// The build is interrupted repeatedly within a document.
#[test]
fn output_does_not_depend_on_interruptions_within_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    let texts = [long_text(), "short".into(), long_text().repeat(6)];
    fs::write(&file, texts.join("<|x|>")).unwrap();
    let mut options = options(&file, "byte");
    options.read.separator = Some("<|x|>".into());
    options.shard_tokens = 3_000_000;
    let undisturbed = folder.path().join("undisturbed");
    build(&options, &undisturbed, SILENT).unwrap();
    let out = folder.path().join("out");
    let mut within = 0;
    loop {
        let reports = AtomicUsize::new(0);
        let interrupt = AtomicBool::new(false);
        let report = |progress: BuildProgress| {
            if matches!(progress, BuildProgress::Encoding { .. })
                && reports.fetch_add(1, Ordering::Relaxed) > 0
            {
                interrupt.store(true, Ordering::Relaxed);
            }
        };
        let monitor = Monitor {
            report: &report,
            interrupt: &interrupt,
            bars: false,
        };
        match build(&options, &out, monitor) {
            Err(DataError::Interrupted) => {
                let journal = fs::read_to_string(out.join(".build.json")).unwrap();
                let journal: serde_json::Value = serde_json::from_str(&journal).unwrap();
                within += u64::from(journal["state"]["open"]["pieces"] != 0);
            }
            built => {
                assert!(built.unwrap().resumed_bytes > 0);
                break;
            }
        }
    }
    assert!(within > 0, "no interruption within a document");
    assert!(contents(&out) == contents(&undisturbed));
}

/// The size of a document that cannot be encoded in parts is limited, and the message tells how to split it.
#[test]
fn document_that_cannot_be_divided_has_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let words = folder.path().join("words.txt");
    fs::write(&words, "some words of a text. ".repeat(100)).unwrap();
    let trained = folder.path().join("trained");
    build(&options(&words, "bpe:270"), &trained, SILENT).unwrap();
    let json = fs::read_to_string(trained.join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    json["pre_tokenizer"] = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let gpt2 = folder.path().join("gpt2.json");
    fs::write(&gpt2, json.to_string()).unwrap();
    let genome = folder.path().join("genome.txt");
    fs::write(&genome, "ACGT".repeat(MAX_UNCUT_BYTES / 4 + (2 << 20))).unwrap();
    let mut options = options(&genome, gpt2.to_str().unwrap());
    let error = build(&options, &folder.path().join("out"), SILENT)
        .unwrap_err()
        .to_string();
    for part in ["genome.txt", "16 MiB", "--separator"] {
        assert!(error.contains(part), "{error}");
    }
    // A tokenizer that is trained here limits words, so documents of any length are accepted.
    options.tokenizer = trained
        .join("tokenizer.json")
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    build(&options, &folder.path().join("out"), SILENT).unwrap();
}

/// Time is proportional to the length of a word, in training and in encoding.
#[test]
fn genome_without_line_ends_is_built_in_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("genome.txt");
    let mut state = 1_u64;
    let genome: String = (0..2_000_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ['A', 'C', 'G', 'T'][(state >> 62) as usize]
        })
        .collect();
    fs::write(&file, &genome).unwrap();
    let began = std::time::Instant::now();
    let out = folder.path().join("out");
    build(&options(&file, "bpe:400"), &out, SILENT).unwrap();
    // With quadratic time, a fifth of this text took 43 s on an idle machine.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    let tokenizer = Corpus::open(&out, None).unwrap().tokenizer;
    assert_eq!(tokenizer.vocab_size(), 400);
    assert!(tokenizer.encode(&genome).unwrap().len() < genome.len() / 2);
}

#[cfg(unix)]
#[test]
fn cache_notices_a_replaced_file_of_equal_size_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let (file, root) = (folder.path().join("text.txt"), folder.path().join("cache"));
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        let file = fs::OpenOptions::new().append(true).open(&file).unwrap();
        file.set_modified(time).unwrap();
    };
    let built = || build_cached(&options(&file, "char"), &root, SILENT).unwrap();
    write("aaaa bbbb cccc dddd");
    let first = built();
    assert_eq!(built(), first);
    // Once its time of change is old enough, the hash of the file is remembered, and so is that of the other content.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(built(), first);
    assert_eq!(
        fs::read_dir(root.with_extension("known")).unwrap().count(),
        1
    );
    write("aaaa bbbb zzzz dddd");
    let second = built();
    assert_ne!(second, first);
    assert_eq!(
        Corpus::open(&second, None)
            .unwrap()
            .tokenizer
            .decode(&[1])
            .unwrap(),
        "a"
    );
    assert!(
        Corpus::open(&second, None)
            .unwrap()
            .tokenizer
            .encode("z")
            .is_ok()
    );
    // The old text gives the old tokens again, also under another name of the same format.
    write("aaaa bbbb cccc dddd");
    assert_eq!(built(), first);
}

#[test]
fn cache_notices_a_changed_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, root) = (folder.path().join("text.txt"), folder.path().join("cache"));
    fs::write(&file, "some text that is long enough").unwrap();
    let first = build_cached(&options(&file, "byte"), &root, SILENT).unwrap();
    assert_eq!(
        build_cached(&options(&file, "byte"), &root, SILENT).unwrap(),
        first
    );
    assert_ne!(
        build_cached(&options(&file, "char"), &root, SILENT).unwrap(),
        first
    );
    fs::write(&file, "some text that is longer than the one before").unwrap();
    assert_ne!(
        build_cached(&options(&file, "byte"), &root, SILENT).unwrap(),
        first
    );
}

/// Two concurrent builds of the same folder give the same bytes: one waits for the other, or finds its result.
#[test]
fn concurrent_builds_of_one_cache_are_safe() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let (options, root) = (
        options(folder.path(), "bpe:300"),
        folder.path().join("cache"),
    );
    let built: Vec<_> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| build_cached(&options, &root, SILENT).unwrap());
        let threads = [start(), start(), start()];
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(built.iter().all(|path| *path == built[0]));
    check(
        &built[0],
        None,
        None,
        &AtomicBool::new(false),
        &mut |_, _| {},
    )
    .unwrap();
}
