//! Tests of ambiguous input, which is read in its true format or refused by name.

use super::*;
use std::fs;
use std::process::Stdio;

use foretoken_datasets::Corpus;

impl Bench {
    /// Returns the command `data build` with the byte tokenizer into `out`.
    fn building(&self, inputs: &[&str], out: &str, more: &[&str]) -> Command {
        let common = ["--tokenizer", "byte", "--valid", "0", "--out", out];
        self.command(&[&["data", "build"], inputs, &common, more].concat())
    }

    /// Runs `data build`, and returns the documents that it read.
    fn documents_of(&self, inputs: &[&str], out: &str, more: &[&str]) -> Vec<String> {
        let output = self.building(inputs, out, more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        self.built(out)
    }

    /// Returns the documents in a folder of tokens.
    fn built(&self, out: &str) -> Vec<String> {
        let corpus = Corpus::open(&self.path(out), None).unwrap();
        let ids = corpus.train.to_vec(0..corpus.train.tokens()).unwrap();
        let border = corpus.tokenizer.end_of_text();
        ids.split(|id| Some(*id) == border)
            .map(|ids| corpus.tokenizer.decode(ids).unwrap())
            .collect()
    }

    /// Writes a folder of token files with the byte tokenizer.
    fn token_folder(&self, folder: &str, files: &[(&str, Vec<u8>)]) {
        fs::create_dir_all(self.path(folder)).unwrap();
        if !self.path("b").exists() {
            fs::write(self.path("letters.txt"), "hello").unwrap();
            self.documents_of(&["letters.txt"], "b", &[]);
        }
        let tokenizer = self.path(folder).join("tokenizer.json");
        fs::copy(self.path("b/tokenizer.json"), tokenizer).unwrap();
        for (name, bytes) in files {
            fs::write(self.path(folder).join(name), bytes).unwrap();
        }
    }

    fn split_tokens(&self, args: &[&str]) -> (u64, u64) {
        let shown = self.succeed(&[&["data", "show", "--json"], args].concat());
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let tokens = |key: &str| shown[key].as_u64().unwrap();
        (tokens("train_tokens"), tokens("valid_tokens"))
    }
}

fn ids(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|i| (i * 7919 + 13) % 200)
}

fn narrow(count: u32) -> Vec<u8> {
    ids(count)
        .flat_map(|id| (id as u16).to_le_bytes())
        .collect()
}

fn wide(count: u32) -> Vec<u8> {
    ids(count).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn splits_of_bin_files_are_recognized_by_whole_words() {
    let bench = Bench::new();
    for (folder, train, valid) in [
        ("d1", "fineweb_train_000001.bin", "fineweb_val_000000.bin"),
        ("d2", "medieval_train.bin", "medieval_val.bin"),
        ("d3", "retrieval_train_0.bin", "retrieval_val_0.bin"),
        ("d4", "constrained_train.bin", "constrained_val.bin"),
    ] {
        let files = [
            (train, narrow(1000)),
            (valid, narrow(100)),
            ("._train.bin", vec![1]),
        ];
        bench.token_folder(folder, &files);
        assert_eq!(bench.split_tokens(&[folder]), (1000, 100), "{train}");
    }
    bench.token_folder("d1", &[("extra.bin", narrow(100))]);
    bench.token_folder("d2", &[("train_and_val.bin", narrow(100))]);
    for command in ["show", "check"] {
        for (folder, name) in [("d1", "extra.bin"), ("d2", "train_and_val.bin")] {
            assert_refused(&bench.run(&["data", command, folder]), 2, &[name, "rename"]);
        }
    }
}

#[test]
fn ids_of_4_bytes_are_never_read_as_2_bytes() {
    let bench = Bench::new();
    bench.token_folder(
        "narrow",
        &[("train.bin", narrow(1000)), ("val.bin", narrow(100))],
    );
    bench.token_folder("wide", &[("train.bin", wide(1000)), ("val.bin", wide(100))]);
    for command in ["show", "check"] {
        let output = bench.run(&["data", command, "wide"]);
        assert_refused(&output, 2, &["wide/train.bin", "data.id_bytes = 4"]);
        for (folder, wrong) in [("wide", "2"), ("narrow", "4")] {
            let output = bench.run(&["data", command, folder, "--id-bytes", wrong]);
            assert_refused(
                &output,
                2,
                &[&format!("{folder}/train.bin"), "data.id_bytes is"],
            );
        }
        let output = bench.run(&["data", command, "b", "--id-bytes", "2"]);
        assert_refused(&output, 2, &["not a folder of .bin files"]);
    }
    assert_eq!(bench.split_tokens(&["narrow"]), (1000, 100));
    assert_eq!(
        bench.split_tokens(&["narrow", "--id-bytes", "2"]),
        (1000, 100)
    );
    assert_eq!(
        bench.split_tokens(&["wide", "--id-bytes", "4"]),
        (1000, 100)
    );
    let checked = bench.succeed(&["data", "check", "wide", "--id-bytes", "4"]);
    assert!(checked.contains("1,100 tokens"), "{checked}");

    let train = |path: &str, more: &[&str]| {
        let path = format!("data.path={path}");
        let tiny = "[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 16\n\
                    [train]\nsteps = 2\nbatch = 2\neval_every = 2\nsample_tokens = 0\n[data]\n";
        fs::write(bench.path("tiny.toml"), tiny).unwrap();
        bench.run(&[&["train", "tiny.toml", "--set", &path], more].concat())
    };
    assert_refused(&train("wide", &[]), 2, &["wide/train.bin", "data.id_bytes"]);
    assert_refused(
        &train("wide", &["--set", "data.id_bytes=3"]),
        2,
        &["data.id_bytes", "3"],
    );
    assert_refused(
        &train("b", &["--set", "data.id_bytes=4"]),
        2,
        &["data.id_bytes", "remove"],
    );
    let losses = |path: &str, out: &str, more: &[&str]| {
        let output = train(path, &[&["--out", out], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        column(&bench.path(out), "step", "loss")
    };
    assert_eq!(
        losses("wide", "on-wide", &["--set", "data.id_bytes=4"]),
        losses("narrow", "on-narrow", &[])
    );
}

#[test]
fn known_formats_are_read_as_such() {
    let bench = Bench::new();
    let texts: Vec<String> = (0..50)
        .map(|i| format!("document {i}, \"quoted\"\nand more"))
        .collect();
    let objects: Vec<_> = texts
        .iter()
        .map(|text| serde_json::json!({"text": text, "url": "http://x", "timestamp": "2019"}))
        .collect();
    let lines: Vec<String> = objects.iter().map(|object| format!("{object}\n")).collect();
    let row = |text: &String| format!("7,\"{}\"\n", text.replace('"', "\"\""));
    let rows: String = texts.iter().map(row).collect();
    let csv = format!("id,text\n{rows}");
    fs::write(bench.path("c4.json"), lines.concat()).unwrap();
    fs::write(
        bench.path("all.json"),
        serde_json::to_string(&objects).unwrap(),
    )
    .unwrap();
    fs::write(bench.path("table.csv"), &csv).unwrap();
    fs::write(
        bench.path("table.tsv"),
        csv.replacen("id,", "id\t", 1).replace("\n7,", "\n7\t"),
    )
    .unwrap();
    fs::write(bench.path("shard-00000-of-00001"), lines.concat()).unwrap();
    let gzip = Command::new("gzip")
        .args(["-k", "c4.json"])
        .current_dir(bench.root.path())
        .status();
    assert!(gzip.unwrap().success());
    for (i, input) in [
        "c4.json",
        "c4.json.gz",
        "all.json",
        "table.csv",
        "table.tsv",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(
            bench.documents_of(&[input], &format!("d{i}"), &[]),
            texts,
            "{input}"
        );
    }
    fs::write(bench.path("notes.txt"), "a note").unwrap();
    let mixed = bench
        .building(&["table.csv", "notes.txt", "c4.json"], "mixed", &[])
        .output()
        .unwrap();
    assert!(
        stdout(&mixed).contains("read as: text (1), json (1), csv (1);"),
        "{}",
        text(&mixed)
    );
    // A file without an extension needs --format.
    let unnamed = ["shard-00000-of-00001"];
    let output = bench.building(&unnamed, "d", &[]).output().unwrap();
    assert_refused(&output, 2, &["shard-00000-of-00001", "--format jsonl"]);
    assert_eq!(
        bench.documents_of(&unnamed, "d", &["--format", "jsonl"]),
        texts
    );
    let as_text = bench.documents_of(&unnamed, "t", &["--format", "text"]);
    assert_eq!(as_text, [lines.concat()]);
    // The column of the text can have another name.
    let output = bench
        .building(&["table.csv"], "o", &["--text-field", "body"])
        .output()
        .unwrap();
    assert_refused(
        &output,
        2,
        &["table.csv", "\"id\", \"text\"", "--text-field"],
    );
    let ids = bench.documents_of(&["table.csv"], "o", &["--text-field", "id"]);
    assert_eq!(ids, vec!["7"; 50]);
    let output = bench.run(&["data", "build", "c4.json", "--format", "txt"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn binary_files_are_refused_without_advice_to_read_them_as_text() {
    let bench = Bench::new();
    let zeros = [
        &b"a text that a crash has cut short\n".repeat(300)[..],
        &[0; 100],
    ]
    .concat();
    for (name, bytes, said) in [
        ("a.txt.bz2", &b"BZh91AY&SY\x11\x12"[..], "bzip2"),
        ("b.txt", b"\xfd7zXZ\0\0\x04", "xz"),
        ("c.jsonl", b"PK\x03\x04\x14\0", "ZIP archive"),
        ("d.csv", b"PAR1\x15\x04", "Parquet"),
        ("e.txt", b"\xff\xfeT\0e\0x\0t\0", "UTF-16"),
        ("f", b"text\0\x01\x02", "byte 4 is NUL"),
        ("g.txt", &zeros, "byte 10200 is NUL"),
        ("h.pdf", b"%PDF-1.7\n", "PDF"),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
        for more in [&[][..], &["--invalid-utf8", "replace"]] {
            let output = bench.building(&[name], "out", more).output().unwrap();
            assert_refused(&output, 2, &[name, said]);
            assert!(
                !text(&output).contains("--format text"),
                "{}",
                text(&output)
            );
        }
    }
    fs::write(bench.path("i.xyz"), "some text").unwrap();
    let output = bench.building(&["i.xyz"], "out", &[]).output().unwrap();
    assert_refused(&output, 2, &["i.xyz", "--format"]);
    assert_eq!(
        bench.documents_of(&["i.xyz"], "out", &["--format", "text"]),
        ["some text"]
    );
    let tiny = "[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 4\n\
                [train]\nsteps = 1\nbatch = 2\neval_every = 1\nsample_tokens = 0\n[data]\nvalid = 0.5\n";
    fs::write(bench.path("tiny.toml"), tiny).unwrap();
    fs::write(bench.path("i.xyz"), "some text".repeat(20)).unwrap();
    let args = ["train", "tiny.toml", "--set", "data.path=i.xyz"];
    assert_refused(&bench.run(&args), 2, &["i.xyz", "data.format"]);
    bench.succeed(&[&args[..], &["--set", "data.format=text"]].concat());
}

#[test]
#[cfg(unix)]
fn names_of_any_bytes_are_read_and_recorded() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let bench = Bench::new();
    fs::create_dir(bench.path("texts")).unwrap();
    let name = |bytes: &[u8]| bench.path("texts").join(OsStr::from_bytes(bytes));
    fs::write(name(b"caf\xe9.txt"), "one").unwrap();
    fs::write(name(b"._caf\xe9.txt"), "hidden").unwrap();
    fs::write(name(b"z.txt"), "two").unwrap();
    for (out, input) in [
        ("folder", OsStr::new("texts")),
        ("glob", OsStr::new("texts/*.txt")),
        ("bytes", OsStr::from_bytes(b"texts/caf\xe9.txt")),
    ] {
        let mut build = bench.building(&[], out, &[]);
        let output = build.arg(input).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let both = ["one", "two"];
        assert_eq!(bench.built(out), both[..if out == "bytes" { 1 } else { 2 }]);
        let manifest = fs::read_to_string(bench.path(out).join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let source = &manifest["sources"][0];
        assert_eq!(source["path"], "texts/caf\u{fffd}.txt");
        assert_eq!(source["path_bytes"], "74657874732f636166e92e747874");
        assert_eq!(manifest["sources"][1].get("path_bytes"), None);
        // A second build is complete already, and can be checked.
        let again = bench.building(&[], out, &[]).arg(input).output().unwrap();
        assert!(
            stdout(&again).contains("complete already"),
            "{}",
            text(&again)
        );
        bench.succeed(&["data", "check", out]);
    }
    // A value that must be text is refused by name if it is not UTF-8.
    let mut train = bench.command(&["train", "--set"]);
    let output = train
        .arg(OsStr::from_bytes(b"data.path=caf\xe9.txt"))
        .output()
        .unwrap();
    assert_refused(&output, 2, &["data.path=caf\\xE9.txt", "UTF-8"]);
}

#[test]
#[cfg(unix)]
fn pipes_are_read_once_and_completely() {
    let bench = Bench::new();
    let line = "a line of text\n";
    let whole = line.repeat(20_000);
    fs::write(bench.path("a.txt"), &whole).unwrap();
    let in_shell = |command: &str, out: &str| {
        let program = env!("CARGO_BIN_EXE_foretoken");
        let command = command.replace(
            "BUILD",
            &format!("{program} data build --tokenizer byte --valid 0 --out {out}"),
        );
        let mut shell = Command::new("timeout");
        shell
            .args(["60", "bash", "-c", &command])
            .current_dir(bench.root.path());
        shell.stdin(Stdio::null()).output().unwrap()
    };
    for (out, command) in [
        ("named", "mkfifo p && cat a.txt > p & sleep 0.2; BUILD p"),
        (
            "late",
            "mkfifo q && { sleep 1; cat a.txt > q; } & sleep 0.2; BUILD q",
        ),
        ("substituted", "BUILD <(cat a.txt)"),
        ("standard", "cat a.txt | BUILD /dev/stdin"),
        ("redirected", "BUILD /dev/stdin < a.txt"),
        ("compressed", "gzip -c a.txt | BUILD /dev/stdin"),
        (
            "stated",
            "printf '{\"text\": \"%s\\\\n\"}' 'a line of text' | BUILD /dev/stdin --format jsonl",
        ),
    ] {
        let output = in_shell(command, out);
        assert!(output.status.success(), "{out}: {}", text(&output));
        let expected = if out == "stated" { line } else { &whole };
        assert!(bench.built(out) == [expected], "{out}");
        let names = fs::read_dir(bench.path(out)).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            names
                .iter()
                .all(|name| !name.to_string_lossy().starts_with("build")),
            "{names:?}"
        );
    }
    // A second build is complete already.
    let again = in_shell("cat a.txt | BUILD /dev/stdin", "standard");
    assert!(
        stdout(&again).contains("complete already"),
        "{}",
        text(&again)
    );

    let refused =
        |command: &str, contains: &[&str]| assert_refused(&in_shell(command, "x"), 2, contains);
    refused(
        "mkfifo nobody; BUILD nobody",
        &["nobody", "pipe", "no program"],
    );
    refused("BUILD /dev/null", &["/dev/null", "a device"]);
    refused(
        "printf 'PK\\003\\004' | BUILD /dev/stdin",
        &["/dev/stdin", "ZIP"],
    );
    refused("printf '' | BUILD /dev/stdin", &["/dev/stdin is empty"]);
    // Training reads its text several times, so it refuses pipes.
    let program = env!("CARGO_BIN_EXE_foretoken");
    fs::write(
        bench.path("tiny.toml"),
        "[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 4\n\
         [train]\nsteps = 1\nbatch = 2\neval_every = 1\n[data]\n",
    )
    .unwrap();
    let train = format!("{program} train tiny.toml --set data.path=");
    refused(
        &format!("mkfifo r; {train}r"),
        &["r: is a pipe", "foretoken data build"],
    );
    refused(
        &format!("cat a.txt | {train}/dev/stdin"),
        &["/dev/stdin: is a pipe"],
    );
    // A tokenizer is read several times, too.
    let tokenizer = format!("{program} data build a.txt --out y --tokenizer ");
    refused(
        &format!("mkfifo t.json; {tokenizer} t.json"),
        &["t.json", "pipe"],
    );
}
