//! Bodies of the fuzz targets of `foretoken-datasets`: token files, indices, manifests, tokenizers and documents.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::{
    BuildOptions, Corpus, DocumentIndex, DocumentIndexWriter, InvalidUtf8, Manifest, Monitor,
    ReadOptions, TokenFile, TokenFileWriter, Tokenizer, build, check, documents, find_sources,
};

use crate::target::{Target, accepted, assert_line, file};

pub(crate) const TARGETS: [Target; 10] = [
    Target::new("token_file", token_file_seeds, token_file),
    Target::new("documents_index", documents_index_seeds, documents_index),
    Target::new("manifest", manifest_seeds, manifest),
    Target::new("tokenizer", tokenizer_seeds, tokenizer),
    Target::new("text", text_seeds, |bytes| read("a.txt", bytes)),
    Target::new("json_lines", json_lines_seeds, |bytes| {
        read("a.jsonl", bytes)
    }),
    Target::new("json", json_seeds, |bytes| read("a.json", bytes)),
    Target::new("csv", csv_seeds, |bytes| read("a.csv", bytes)),
    Target::new("tsv", tsv_seeds, |bytes| read("a.tsv", bytes)),
    Target::new("parquet", Vec::new, |bytes| read("a.parquet", bytes)),
];

const SEPARATOR: &str = "<|endoftext|>";

static NEVER: AtomicBool = AtomicBool::new(false);

const SILENT: Monitor<'static> = Monitor {
    report: &|_| {},
    interrupt: &NEVER,
    bars: false,
};

fn token_file_seeds() -> Vec<Vec<u8>> {
    let own = |vocab_size| {
        let path = file("written", b"");
        let mut writer = TokenFileWriter::create(&path, vocab_size).unwrap();
        writer.append(&[0, 1, 299, 7, 7]).unwrap();
        writer.finish().unwrap();
        fs::read(path).unwrap()
    };
    // llm.c and modded-nanoGPT write this header.
    let mut header = [0i32; 256];
    header[..3].copy_from_slice(&[20_240_520, 1, 3]);
    let mut foreign: Vec<u8> = header.into_iter().flat_map(i32::to_le_bytes).collect();
    foreign.extend([1, 0, 2, 0, 3, 0]);
    vec![own(300), own(70_000), foreign, vec![1, 0, 2, 0]]
}

/// Reads a token file, as it is and with a valid checksum of its header.
fn token_file(bytes: &[u8]) -> bool {
    let mut sealed = bytes.to_vec();
    if let Some(header) = sealed.first_chunk_mut::<64>() {
        let checksum = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
    }
    let names = ["ours", "train.bin"];
    let read = |bytes: &[u8]| names.map(|name| token_file_named(name, bytes));
    let accepted = [read(bytes), read(&sealed)].concat();
    accepted.contains(&true)
}

fn token_file_named(name: &str, bytes: &[u8]) -> bool {
    let Some(mut file) = accepted(TokenFile::open(file(name, bytes))) else {
        return false;
    };
    if file.vocab_size().is_none() {
        file = file.with_vocab_size(70_000).unwrap();
    }
    file.fingerprint();
    let mut ids = vec![0; file.tokens()];
    let read = accepted(file.read(0, &mut ids));
    let verified = accepted(file.verify(&mut |_| Ok(())));
    assert_eq!(read, verified);
    let vocab_size = file.vocab_size().unwrap();
    assert!(read.is_none() || ids.iter().all(|id| (*id as usize) < vocab_size));
    read.is_some()
}

fn documents_index_seeds() -> Vec<Vec<u8>> {
    let index = |starts: &[u64]| {
        let path = file("written", b"");
        let mut writer = DocumentIndexWriter::create(&path).unwrap();
        for start in starts {
            writer.push(*start).unwrap();
        }
        writer.finish().unwrap();
        fs::read(path).unwrap()
    };
    vec![index(&[]), index(&[0]), index(&[0, 3, 4, 1 << 40])]
}

/// Reads a document index, as it is and with a valid checksum.
fn documents_index(bytes: &[u8]) -> bool {
    let mut sealed = bytes.to_vec();
    if let Some((header, starts)) = sealed.split_first_chunk_mut::<24>() {
        header[12..16].copy_from_slice(&crc32fast::hash(starts).to_le_bytes());
    }
    let accepted = [bytes, &sealed].map(|bytes| {
        let Some(index) = accepted(DocumentIndex::open(file("train.documents", bytes))) else {
            return false;
        };
        let starts: Vec<usize> = (0..index.documents()).map(|i| index.start(i)).collect();
        assert!(starts.is_sorted_by(|one, next| one < next), "{starts:?}");
        true
    });
    accepted.contains(&true)
}

thread_local! {
    /// A small folder of tokens.
    static BUILT: tempfile::TempDir = built();
}

fn built() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = ["one", "two words", "three of them", "and four of these"]
        .map(|text| format!("{{\"text\": \"{text}\"}}\n"));
    let input = file("built.jsonl", text.concat().as_bytes());
    let options = BuildOptions {
        inputs: vec![input.to_str().unwrap().into()],
        tokenizer: "byte".parse().unwrap(),
        read: ReadOptions::default(),
        valid: 0.5,
        shard_tokens: 10,
        special_tokens: false,
        canaries: None,
    };
    build(&options, folder.path(), SILENT).unwrap();
    folder
}

fn manifest_seeds() -> Vec<Vec<u8>> {
    vec![BUILT.with(|built| fs::read(built.path().join(Manifest::FILE)).unwrap())]
}

/// Reads a manifest beside the token files that the seed describes.
fn manifest(bytes: &[u8]) -> bool {
    BUILT.with(|built| {
        let folder = built.path();
        let path = folder.join(Manifest::FILE);
        let original = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let accepted = manifest_in(folder);
        fs::write(&path, original).unwrap();
        accepted
    })
}

fn manifest_in(folder: &Path) -> bool {
    let manifest = accepted(Manifest::read(folder));
    if let Some(manifest) = &manifest {
        let json = serde_json::to_string(manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), *manifest);
    }
    let interrupt = std::sync::atomic::AtomicBool::new(false);
    let checked = accepted(check(folder, None, None, &interrupt, &mut |_, _| {}));
    let opened = accepted(Corpus::open(folder, None));
    if let Some(corpus) = &opened {
        accepted(corpus.train.to_vec(0..corpus.train.tokens()));
        accepted(corpus.training_documents());
        accepted(corpus.fingerprint());
    }
    assert!(manifest.is_some() || opened.is_none());
    checked.is_some()
}

fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let text = "It was the best of times, it was the worst of times; 君の名は。\n".repeat(4);
    let tokenizers = [
        Tokenizer::byte().with_end_of_text(),
        Tokenizer::char("Käse, no").with_end_of_text(),
        Tokenizer::from_spec("bpe:265", &text).unwrap(),
    ];
    let json = tokenizers.iter().map(Tokenizer::to_json);
    json.map(String::into_bytes).collect()
}

/// Reads a `tokenizer.json`. Accepted tokenizers encode within their vocabulary, and are equal after saving and
/// loading.
fn tokenizer(bytes: &[u8]) -> bool {
    let Some(tokenizer) = accepted(Tokenizer::load(file("tokenizer.json", bytes))) else {
        return false;
    };
    for text in ["", "the best", "\u{0}ä 君<|endoftext|></s>\n", "▁x "] {
        for ids in [
            tokenizer.encode(text),
            tokenizer.encode_with_special_tokens(text),
        ] {
            let Some(ids) = accepted(ids) else { continue };
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
            accepted(tokenizer.decode(&ids));
        }
    }
    let path = file("saved.json", b"");
    tokenizer.save(&path).unwrap();
    assert_eq!(Tokenizer::load(path).unwrap(), tokenizer);
    let with_end = tokenizer.with_end_of_text();
    assert_eq!(with_end.token_lengths().len(), with_end.vocab_size());
    true
}

fn text_seeds() -> Vec<Vec<u8>> {
    let text = format!("one\n{SEPARATOR}\ntwo ä{SEPARATOR}{SEPARATOR}\r\nthree");
    vec![text.into_bytes()]
}

fn json_lines_seeds() -> Vec<Vec<u8>> {
    let lines = "{\"text\": \"one \\ud83e\\udd80\", \"n\": [1e9, {\"text\": 2}]}\n\n\
                 {\"meta\": {\"body\": \"x\"}, \"text\": null}\r\n{\"text\": \"\"}";
    vec![lines.as_bytes().to_vec()]
}

fn json_seeds() -> Vec<Vec<u8>> {
    let array =
        "[{\"text\": \"one ]}\", \"n\": [[], {}]},\n {\"meta.body\": \"x\", \"text\": null}]\n";
    let objects = "{\n\"text\": \"\\\\\"\n}{\"text\": \"\"}";
    [array, objects].map(|json| json.as_bytes().to_vec()).into()
}

fn csv_seeds() -> Vec<Vec<u8>> {
    let table = "id,text,meta.body\r\n1,\"one, \"\"two\"\"\nthree\",x\n\n2,,\"\"\n";
    vec![table.as_bytes().to_vec()]
}

fn tsv_seeds() -> Vec<Vec<u8>> {
    let table = "id\ttext\tmeta.body\n1\t\"one\ttwo\"\tx\n2\t\"three\nfour\"\t\n";
    vec![table.as_bytes().to_vec()]
}

/// Reads the documents of a file with this name, with four sets of options.
fn read(name: &str, bytes: &[u8]) -> bool {
    let path = file(name, bytes);
    let Some(sources) = accepted(find_sources(&[path], None)) else {
        return false;
    };
    let source = &sources.files[0];
    let options = [
        (false, InvalidUtf8::Refuse),
        (false, InvalidUtf8::Replace),
        (true, InvalidUtf8::Refuse),
        (true, InvalidUtf8::Replace),
    ];
    let accepted = options.map(|(nested, invalid_utf8)| {
        let options = ReadOptions {
            format: None,
            text_field: if nested { "meta.body" } else { "text" }.into(),
            separator: nested.then(|| SEPARATOR.into()),
            invalid_utf8,
        };
        let Some(documents) = accepted(documents(source, &options)) else {
            return false;
        };
        let read: Vec<_> = documents.collect();
        let errors: Vec<_> = read.iter().filter_map(|read| read.as_ref().err()).collect();
        errors.iter().for_each(|error| assert_line(error));
        // An error is the last item.
        assert!(errors.is_empty() || errors.len() == 1 && read.last().unwrap().is_err());
        errors.is_empty()
    });
    // Input that is read with `Refuse` is also read with `Replace`.
    assert!(accepted[0] <= accepted[1] && accepted[2] <= accepted[3]);
    accepted.contains(&true)
}
