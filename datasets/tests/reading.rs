//! Tests that every format and compression gives the same documents, and that damaged files give documents or errors.
#![allow(clippy::unwrap_used)] // a test may panic

use std::{io::Write, path::Path, sync::Arc};

use foretoken_datasets::{
    DataError, Document, Format, InvalidUtf8, ReadOptions, SourceFile, documents, find_sources,
};
use parquet::{
    basic::{Compression, Encoding, GzipLevel, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};
use proptest::prelude::*;

const SEPARATOR: &str = "<|endoftext|>";

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "Once upon a time.",
        "",
        "é 叫 🦀\nsecond line",
        "\u{feff}\r\n\t\u{1}",
    ]
    .map(String::from)
    .into();
    texts.extend((0..3000).map(|n| format!("Story {n}, {}", "again and again ".repeat(n % 7))));
    texts
}

fn as_text(texts: &[String]) -> Vec<u8> {
    texts.join(&format!("\n{SEPARATOR}\n")).into_bytes()
}

fn as_json_lines(texts: &[String]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (id, text) in texts.iter().enumerate() {
        let line = serde_json::json!({"id": id, "text": text, "meta": {"text": ["no"]}});
        writeln!(lines, "{line}").unwrap();
    }
    lines
}

/// Writes one array with irregular white space.
fn as_json(texts: &[String]) -> Vec<u8> {
    let objects: Vec<_> = texts
        .iter()
        .map(|text| serde_json::json!({"meta": {"text": "]}"}, "text": text, "last": [[]]}))
        .collect();
    serde_json::to_vec_pretty(&objects).unwrap()
}

/// Writes the texts to the second of three columns.
fn as_table(texts: &[String], separator: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(separator)
        .from_writer(Vec::new());
    writer.write_record(["id", "text", "label"]).unwrap();
    for (id, text) in texts.iter().enumerate() {
        writer
            .write_record([&id.to_string(), text, "\"good\""])
            .unwrap();
    }
    writer.into_inner().unwrap()
}

/// Writes a table with an id, the text as a required column, and the text as a nullable column within a group (null for
/// an empty text), in row groups of 1000 rows.
fn as_parquet(texts: &[String], properties: WriterPropertiesBuilder) -> Vec<u8> {
    let schema = "message table {
        required int64 id;
        required binary text (string);
        optional group meta { optional binary body (string); repeated binary tags (string); }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(properties.set_data_page_row_count_limit(300).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for texts in texts.chunks(1000) {
        let bytes = |text: &String| ByteArray::from(text.as_bytes().to_vec());
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        let required: Vec<_> = texts.iter().map(bytes).collect();
        let optional: Vec<_> = texts
            .iter()
            .filter(|text| !text.is_empty())
            .map(bytes)
            .collect();
        let levels: Vec<i16> = texts
            .iter()
            .enumerate()
            .map(|(row, text)| match text.is_empty() {
                true => (row % 2) as i16,
                false => 2,
            })
            .collect();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&ids, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&required, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&optional, Some(&levels), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let none = vec![0; texts.len()];
        column
            .typed::<ByteArrayType>()
            .write_batch(&[], Some(&none), Some(&none))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// Chooses an encoding that stores the lengths of texts, or of the prefixes shared with the previous text, before the
/// texts.
fn with_lengths(encoding: Encoding) -> WriterPropertiesBuilder {
    let columns = [
        ColumnPath::from("text"),
        vec!["meta".into(), "body".into()].into(),
    ];
    columns.into_iter().fold(
        WriterProperties::builder().set_dictionary_enabled(false),
        |builder, column| builder.set_column_encoding(column, encoding),
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Two members, as written by `cat a.gz b.gz`.
    let (first, second) = bytes.split_at(bytes.len() / 3);
    let mut out = Vec::new();
    for member in [first, second] {
        let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
        encoder.write_all(member).unwrap();
        encoder.finish().unwrap();
    }
    out
}

fn zstd_frames(bytes: &[u8]) -> Vec<u8> {
    // A skippable frame, as written by pzstd, and two frames with content.
    let mut out = vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7];
    let (first, second) = bytes.split_at(bytes.len() / 3);
    for frame in [first, second] {
        out.extend(zstd::encode_all(frame, 1).unwrap());
    }
    out
}

fn read(path: &Path, options: &ReadOptions) -> Result<Vec<Document>, DataError> {
    let sources = find_sources(&[path.into()], None)?;
    let file = &sources.files[0];
    let mut documents = documents(file, options)?;
    let mut found = Vec::new();
    let mut position = 0;
    while let Some(document) = documents.next() {
        found.push(document?);
        assert!((position..=file.bytes).contains(&documents.bytes_read()));
        position = documents.bytes_read();
    }
    assert_eq!(documents.bytes_read(), file.bytes, "all is read");
    Ok(found)
}

fn assert_read(name: &str, bytes: &[u8], options: &ReadOptions, expected: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let found = read(&path, options).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(found.len(), expected.len(), "{name}");
    for (document, text) in found.iter().zip(expected) {
        assert_eq!((&document.text, document.replaced), (text, 0), "{name}");
    }
}

fn with_separator() -> ReadOptions {
    ReadOptions {
        separator: Some(SEPARATOR.into()),
        ..ReadOptions::default()
    }
}

#[test]
fn every_format_and_compression_gives_the_same_documents() {
    let texts = texts();
    let files = [
        ("a.txt", as_text(&texts)),
        ("a.jsonl", as_json_lines(&texts)),
        ("a.json", as_json_lines(&texts)),
        ("b.json", as_json(&texts)),
        ("a.csv", as_table(&texts, b',')),
        ("a.parquet", as_parquet(&texts, WriterProperties::builder())),
    ];
    for (name, bytes) in files {
        let options = with_separator();
        assert_read(name, &bytes, &options, &texts);
        assert_read(&format!("{name}.gz"), &gzip(&bytes), &options, &texts);
        assert_read(
            &format!("{name}.zst"),
            &zstd_frames(&bytes),
            &options,
            &texts,
        );
        // Compression is recognised by the first bytes, not by the name.
        assert_read(name, &gzip(&bytes), &options, &texts);
        assert_read(&format!("{name}.gz"), &bytes, &options, &texts);
    }
}

#[test]
fn file_without_a_separator_is_one_document() {
    let bytes = as_text(&texts());
    let text = [String::from_utf8(bytes.clone()).unwrap()];
    assert_read("a.txt", &bytes, &ReadOptions::default(), &text);
    assert_read("a.txt.gz", &gzip(&bytes), &ReadOptions::default(), &text);
    assert_read("empty.txt", b"", &ReadOptions::default(), &[String::new()]);
    assert_read("empty.jsonl", b"", &ReadOptions::default(), &[]);
}

#[test]
fn parquet_pages_of_every_kind_are_read() {
    let texts = texts();
    let builder = WriterProperties::builder;
    let kinds = [
        builder().set_compression(Compression::SNAPPY),
        builder().set_compression(Compression::ZSTD(ZstdLevel::default())),
        builder().set_compression(Compression::GZIP(GzipLevel::default())),
        builder().set_compression(Compression::LZ4_RAW),
        builder().set_compression(Compression::LZ4),
        builder().set_dictionary_enabled(false),
        builder().set_writer_version(WriterVersion::PARQUET_2_0),
        with_lengths(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        with_lengths(Encoding::DELTA_BYTE_ARRAY).set_writer_version(WriterVersion::PARQUET_2_0),
    ];
    for kind in kinds {
        let bytes = as_parquet(&texts, kind);
        for field in ["text", "meta.body"] {
            let options = ReadOptions {
                text_field: field.into(),
                ..ReadOptions::default()
            };
            assert_read("a.parquet", &bytes, &options, &texts);
        }
    }
}

#[test]
fn error_of_a_parquet_column_without_text_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, as_parquet(&texts(), WriterProperties::builder())).unwrap();
    let error = |field: &str| {
        let options = ReadOptions {
            text_field: field.into(),
            ..ReadOptions::default()
        };
        let error = read(&path, &options).unwrap_err();
        assert!(matches!(error, DataError::Document { .. }));
        error.to_string()
    };
    assert!(error("content").contains(r#""id", "text", "meta.body", "meta.tags""#));
    assert!(error("id").contains("INT64"));
    assert!(error("meta.tags").contains("lists"));
    assert!(error("meta").contains("no column"));
}

#[test]
fn parquet_rows_that_are_not_utf8_are_refused_or_replaced() {
    let mut bytes = as_parquet(&texts(), WriterProperties::builder());
    let at = bytes
        .windows(12)
        .position(|window| window == b"Story 1500, ")
        .unwrap();
    bytes[at] = 0xff;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, bytes).unwrap();
    let error = read(&path, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("row 1505: byte 1 of the text is not UTF-8"),
        "{error}"
    );
    let options = ReadOptions {
        invalid_utf8: InvalidUtf8::Replace,
        ..ReadOptions::default()
    };
    let found = read(&path, &options).unwrap();
    assert_eq!(
        found
            .iter()
            .map(|document| document.replaced)
            .sum::<usize>(),
        1
    );
    assert!(found[1504].text.starts_with("\u{fffd}tory 1500"));
}

#[test]
fn truncated_file_is_an_error_that_names_it() {
    let texts = texts();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.txt.gz", gzip(&as_text(&texts))),
        ("b.txt.zst", zstd_frames(&as_text(&texts))),
        ("c.jsonl.gz", gzip(&as_json_lines(&texts))),
        ("d.parquet", as_parquet(&texts, WriterProperties::builder())),
        (
            "e.parquet.zst",
            zstd_frames(&as_parquet(&texts, WriterProperties::builder())),
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        for options in [ReadOptions::default(), with_separator()] {
            let error = read(&path, &options).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(error.contains("damaged"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}

/// Creates a small file of each format and compression, so that a random change is likely to have an effect.
fn samples() -> Vec<(Format, Vec<u8>)> {
    let texts = &texts()[..40];
    let mut samples = vec![
        (Format::Text, as_text(texts)),
        (Format::JsonLines, as_json_lines(texts)),
        (
            Format::Parquet,
            as_parquet(texts, WriterProperties::builder()),
        ),
        (Format::Json, as_json(texts)),
        (Format::Json, as_json_lines(texts)),
        (Format::Csv, as_table(texts, b',')),
        (Format::Tsv, as_table(texts, b'\t')),
    ];
    for builder in [
        WriterProperties::builder().set_compression(Compression::SNAPPY),
        WriterProperties::builder().set_compression(Compression::LZ4_RAW),
        with_lengths(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        with_lengths(Encoding::DELTA_BYTE_ARRAY).set_writer_version(WriterVersion::PARQUET_2_0),
    ] {
        samples.push((Format::Parquet, as_parquet(texts, builder)));
    }
    let (text, table) = (samples[0].1.clone(), samples[2].1.clone());
    samples.push((Format::Text, gzip(&text)));
    samples.push((Format::Text, zstd_frames(&text)));
    samples.push((Format::Parquet, gzip(&table)));
    samples
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(1000, |cases| cases.parse().unwrap()),
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_file_gives_documents_or_an_error(
        sample in prop::sample::select(samples()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        nested in any::<bool>(),
        replace in any::<bool>(),
    ) {
        let (format, mut bytes) = sample;
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let source = SourceFile::new(file.path(), format, bytes.len() as u64);
        let options = ReadOptions {
            format: None,
            text_field: if nested { "meta.body" } else { "text" }.into(),
            separator: nested.then(|| SEPARATOR.into()),
            invalid_utf8: if replace { InvalidUtf8::Replace } else { InvalidUtf8::Refuse },
        };
        match documents(&source, &options) {
            Ok(documents) => {
                let found: Vec<_> = documents.collect();
                let errors = found.iter().filter(|document| document.is_err()).count();
                prop_assert!(errors <= 1);
                if let Some(Err(error)) = found.last() {
                    prop_assert_eq!(error.to_string().lines().count(), 1);
                }
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
}
