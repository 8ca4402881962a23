use std::{fs, io::Cursor};

use proptest::prelude::*;

use super::{text::Pieces, *};
use crate::Format;

fn read_all(
    name: &str,
    bytes: &[u8],
    format: Format,
    options: &ReadOptions,
) -> Result<Vec<Document>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let file = SourceFile::new(path, format, bytes.len() as u64);
    documents(&file, options)?.collect()
}

fn read_lines(lines: &[u8], invalid_utf8: InvalidUtf8) -> Result<Vec<Document>, DataError> {
    let options = ReadOptions {
        invalid_utf8,
        ..ReadOptions::default()
    };
    read_all("a.jsonl", lines, Format::JsonLines, &options)
}

fn line_error(lines: &[u8], invalid_utf8: InvalidUtf8) -> String {
    let error = read_lines(lines, invalid_utf8).unwrap_err();
    assert!(matches!(error, DataError::Document { .. }), "{error}");
    let error = error.to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// What stands between the separators, as one would write it without reading in blocks.
fn pieces(text: &str, separator: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split(separator).collect();
    let last = parts.len() - 1;
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let mut part = *part;
            if index > 0 {
                let rest = part.strip_prefix("\r\n");
                part = rest.or(part.strip_prefix('\n')).unwrap_or(part);
            }
            if index < last {
                let rest = part.strip_suffix("\r\n");
                part = rest.or(part.strip_suffix('\n')).unwrap_or(part);
            }
            part.to_owned()
        })
        .collect()
}

fn split(text: &str, separator: &str, block: usize) -> Vec<String> {
    let reader = Cursor::new(text.to_owned());
    Pieces::new("x".into(), reader, separator, block, InvalidUtf8::Refuse)
        .map(|document| document.unwrap().text)
        .collect()
}

#[test]
fn one_newline_on_each_side_belongs_to_the_separator() {
    let text = "one\n<|x|>\ntwo\n\n<|x|>\r\n\r\nthree\r\n<|x|><|x|>\n<|x|>\n\n\n<|x|>\n";
    let expected = ["one", "two\n", "\r\nthree", "", "", "\n", ""];
    assert_eq!(split(text, "<|x|>", 1 << 16), expected);
    assert_eq!(pieces(text, "<|x|>"), expected);
    assert_eq!(split("", "<|x|>", 4), [""]);
    assert_eq!(split("\nno\n", "<|x|>", 4), ["\nno\n"]);
}

proptest! {
    #[test]
    fn separators_are_found_across_blocks(
        parts in prop::collection::vec("[ab<é\r\n]{0,12}", 1..8),
        separator in prop::sample::select(vec!["<|endoftext|>", "aab", "aa", "\n\n", "<", "é"]),
        block in 1_usize..40,
    ) {
        let text = parts.join(separator);
        prop_assert_eq!(split(&text, separator, block), pieces(&text, separator));
    }
}

#[test]
fn an_empty_separator_is_refused() {
    let options = ReadOptions {
        separator: Some(String::new()),
        ..ReadOptions::default()
    };
    let error = read_all("a.txt", b"text", Format::Text, &options).unwrap_err();
    assert!(error.to_string().contains("separator"), "{error}");
}

#[test]
fn invalid_utf8_in_text() {
    let bytes = b"fine|caf\xc3\xa9 \xff\xfe|\xf0\x9f\xa6";
    let mut options = ReadOptions::default();
    for (separator, offset) in [(None, 11), (Some("|".to_owned()), 11)] {
        options.separator = separator;
        let error = read_all("a.txt", bytes, Format::Text, &options).unwrap_err();
        assert!(
            matches!(error, DataError::NotUtf8 { offset: at, .. } if at == offset),
            "{error}"
        );
    }
    options.invalid_utf8 = InvalidUtf8::Replace;
    let found = read_all("a.txt", bytes, Format::Text, &options).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|d| (d.text.as_str(), d.replaced))
        .collect();
    assert_eq!(
        found,
        [("fine", 0), ("café \u{fffd}\u{fffd}", 2), ("\u{fffd}", 1)]
    );
    options.separator = None;
    let whole = read_all("a.txt", bytes, Format::Text, &options).unwrap();
    assert_eq!(whole[0].text, String::from_utf8_lossy(bytes));
}

#[test]
fn text_is_not_interpreted() {
    let text = "\u{feff}line\r\n\tnext\u{1b}\u{7f} ";
    let found = read_all("a", text.as_bytes(), Format::Text, &ReadOptions::default()).unwrap();
    assert_eq!(found[0].text, text);
}

#[test]
fn lines_of_json() {
    let lines = concat!(
        "\u{feff}{\"text\": \"one\\nline\", \"n\": [1, {\"text\": \"inner\"}]}\r\n",
        "\r\n  \n",
        "{\"meta\": null, \"text\": null}\n",
        "{\"text\": \"\"}\n",
        " {\"te\\u0078t\": \"é \\ud83e\\udd80\"}"
    );
    let found = read_lines(lines.as_bytes(), InvalidUtf8::Refuse).unwrap();
    let found: Vec<_> = found.into_iter().map(|document| document.text).collect();
    assert_eq!(found, ["one\nline", "", "", "é 🦀"]);
}

#[test]
fn what_is_wrong_with_a_line_is_named() {
    let wrong = |line: &str| {
        let lines = format!("{{\"text\": \"fine\"}}\n\n{line}\n");
        let error = line_error(lines.as_bytes(), InvalidUtf8::Refuse);
        assert!(error.contains("a.jsonl, line 3: "), "{error}");
        error
    };
    let error = wrong(r#"{"id": 1, "content": "x"}"#);
    assert!(
        error.contains(r#""text""#) && error.contains(r#""id", "content""#),
        "{error}"
    );
    assert!(wrong("{}").contains("none"));
    assert!(wrong(r#"{"text": 3}"#).contains("a number"));
    assert!(wrong(r#"{"text": ["x"]}"#).contains("an array"));
    assert!(wrong(r#"{"text": {"a": 1}}"#).contains("an object"));
    for line in [
        r#"{"text": "x"#,
        "[1]",
        "text",
        r#"{"text": "x"} {}"#,
        r#"{"text": "\q"}"#,
    ] {
        assert!(wrong(line).contains("column"), "{line}");
    }
    let many = (0..50)
        .map(|key| format!("\"k\\n{key}\": 0"))
        .collect::<Vec<_>>();
    assert!(wrong(&format!("{{{}}}", many.join(","))).contains("and 38 more"));
    assert!(wrong(&"[".repeat(100_000)).contains("column"));
}

#[test]
fn invalid_unicode_in_json() {
    let bytes = b"{\"text\": \"a\xff\"}";
    let error = line_error(bytes, InvalidUtf8::Refuse);
    assert!(
        error.contains("line 1: byte 12 of the line is not UTF-8"),
        "{error}"
    );
    let escape = br#"{"text": "a\ud800b\udc00\ud83e\udd80"}"#;
    let error = line_error(escape, InvalidUtf8::Refuse);
    assert!(
        error.contains("surrogate") || error.contains("hex escape"),
        "{error}"
    );

    let replaced = |line: &[u8]| {
        let found = read_lines(line, InvalidUtf8::Replace).unwrap();
        (found[0].text.clone(), found[0].replaced)
    };
    assert_eq!(replaced(bytes), ("a\u{fffd}".into(), 1));
    assert_eq!(replaced(escape), ("a\u{fffd}b\u{fffd}🦀".into(), 2));
    let elsewhere = b"{\"other\": \"\xff\", \"text\": \"fine\"}";
    assert_eq!(replaced(elsewhere), ("fine".into(), 0));
    // Replacing characters is no licence for other errors.
    for line in [
        &b"{\"text\": \"a\tb\"}"[..],
        b"{\"text\": \"\xff",
        b"{\"text\": [\"\xff\"]}",
    ] {
        line_error(line, InvalidUtf8::Replace);
    }
}
