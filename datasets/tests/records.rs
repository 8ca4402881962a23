//! Tests that records of Parquet are those of JSON lines, and that hostile files are errors.
#![allow(clippy::unwrap_used)] // a test may panic

use std::{fs, path::Path, sync::Arc};

use foretoken_datasets::{Column, DataError, Format, Record, SourceFile, records};
use parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type},
    file::{
        properties::{WriterProperties, WriterPropertiesPtr},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use serde_json::json;

const fn column(name: &'static str, required: bool) -> Column {
    Column { name, required }
}

const COLUMNS: &[Column] = &[
    column("question", true),
    column("choices.text", true),
    column("choices.label", true),
    column("label", true),
    column("flag", false),
    column("old", false),
    column("absent", false),
];

const SCHEMA: &str = "message table {
    required binary question (string);
    required group choices {
        optional group text (LIST) { repeated group list { optional binary element (string); } }
        required group label (LIST) { repeated group list { required binary element (string); } }
    }
    optional int64 label;
    required boolean flag;
    required group old (LIST) { repeated binary array (string); }
}";

fn read(path: &Path, format: Format) -> Result<Vec<Record>, DataError> {
    let bytes = fs::metadata(path).unwrap().len();
    let file = SourceFile::new(path, format, bytes);
    records(&file, COLUMNS, "get another file")?.collect()
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    definitions: &[i16],
    repetitions: &[i16],
) {
    let mut column = group.next_column().unwrap().unwrap();
    let definitions = Some(definitions).filter(|levels| !levels.is_empty());
    let repetitions = Some(repetitions).filter(|levels| !levels.is_empty());
    column
        .typed::<T>()
        .write_batch(values, definitions, repetitions)
        .unwrap();
    column.close().unwrap();
}

fn texts(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

/// Writes three rows, in which a list has a null, is empty, and is null.
fn table(properties: WriterPropertiesPtr) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    write::<ByteArrayType>(&mut group, &texts(&["q", "", "é"]), &[], &[]);
    let choices = texts(&["a", ""]);
    write::<ByteArrayType>(&mut group, &choices, &[3, 2, 3, 1, 0], &[0, 1, 1, 0, 0]);
    let labels = texts(&["A", "B", "C"]);
    write::<ByteArrayType>(&mut group, &labels, &[1, 1, 1, 0], &[0, 1, 0, 0]);
    write::<Int64Type>(&mut group, &[7, -1], &[1, 0, 1], &[]);
    write::<BoolType>(&mut group, &[true, false, true], &[], &[]);
    let old = texts(&["x", "y"]);
    write::<ByteArrayType>(&mut group, &old, &[1, 1, 0, 0], &[0, 1, 0, 0]);
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_and_json_lines_give_the_same_records() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        json!({"question": "q", "choices": {"text": ["a", null, ""], "label": ["A", "B"]}, "label": 7, "flag": true,
               "old": ["x", "y"], "other": {}}),
        json!({"question": "", "choices": {"text": [], "label": ["C"]}, "label": null, "flag": false, "old": []}),
        json!({"question": "é", "choices": {"text": [], "label": []}, "label": -1, "flag": true, "old": []}),
    ];
    let path = folder.path().join("a.jsonl");
    let text = lines.map(|line| line.to_string()).join("\n\n");
    fs::write(&path, text).unwrap();
    let expected = read(&path, Format::JsonLines).unwrap();
    assert_eq!(expected.len(), 3);
    assert_eq!(expected[1].place, "line 3");
    assert!(!expected[0].values.contains_key("absent"));

    let path = folder.path().join("a.parquet");
    for version in [
        WriterProperties::builder(),
        WriterProperties::builder().set_dictionary_enabled(false),
        WriterProperties::builder()
            .set_writer_version(parquet::file::properties::WriterVersion::PARQUET_2_0)
            .set_dictionary_enabled(false),
    ] {
        fs::write(&path, table(Arc::new(version.build()))).unwrap();
        let found = read(&path, Format::Parquet).unwrap();
        assert_eq!(found[2].place, "row 3");
        let values = |records: &[Record]| -> Vec<_> {
            records.iter().map(|record| record.values.clone()).collect()
        };
        assert_eq!(values(&found), values(&expected));
    }
}

#[test]
fn missing_columns_and_other_formats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema = "message table { required binary question (string); optional double label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    fs::write(&path, writer.into_inner().unwrap()).unwrap();
    let error = read(&path, Format::Parquet).unwrap_err().to_string();
    for part in [
        "a.parquet",
        "\"choices.text\"",
        "\"question\", \"label\"",
        "get another file",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let path = folder.path().join("a.csv");
    fs::write(&path, "question\na\n").unwrap();
    let error = read(&path, Format::Csv).unwrap_err().to_string();
    assert!(error.contains("JSON lines and Parquet"), "{error}");
}

/// A page of a few hundred kilobytes can name one long text thousands of times. It is not copied as often.
#[test]
fn a_row_that_repeats_a_long_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = Arc::new(
        WriterProperties::builder()
            .set_dictionary_page_size_limit(1 << 20)
            .build(),
    );
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    write::<ByteArrayType>(&mut group, &texts(&["q"]), &[], &[]);
    let long = "x".repeat(300_000);
    let count = 20_000;
    let many = vec![ByteArray::from(long.as_str()); count];
    let mut repetitions = vec![1; count];
    repetitions[0] = 0;
    write::<ByteArrayType>(&mut group, &many, &vec![3; count], &repetitions);
    write::<ByteArrayType>(&mut group, &texts(&["A"]), &[1], &[0]);
    write::<Int64Type>(&mut group, &[7], &[1], &[]);
    write::<BoolType>(&mut group, &[true], &[], &[]);
    write::<ByteArrayType>(&mut group, &[], &[0], &[0]);
    group.close().unwrap();
    let bytes = writer.into_inner().unwrap();
    assert!(bytes.len() < 2 << 20, "{}", bytes.len());
    let path = folder.path().join("a.parquet");
    fs::write(&path, bytes).unwrap();
    let error = read(&path, Format::Parquet).unwrap_err().to_string();
    assert!(
        error.contains("row 1: \"choices.text\"") && error.contains("1 MiB"),
        "{error}"
    );
}

/// Every prefix and every single changed byte of a file gives records or an error of one line.
#[test]
fn damaged_tables_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let bytes = table(Arc::new(WriterProperties::builder().build()));
    let mut errors = 0;
    let mut check = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        if let Err(error) = read(&path, Format::Parquet) {
            errors += 1;
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    };
    for place in (0..bytes.len()).step_by(3) {
        check(&bytes[..place]);
        for mask in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= mask;
            check(&changed);
        }
    }
    assert!(errors > bytes.len() / 3);
}
