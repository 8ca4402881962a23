use std::{fs, io::Cursor};

use proptest::prelude::*;

use super::{text::Parts as TextParts, *};

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

/// Returns the documents between the separators, computed without reading in blocks.
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

/// Reads the documents, each as its parts.
fn parts_of(
    bytes: &[u8],
    separator: Option<&str>,
    sizes: [usize; 2],
    invalid: InvalidUtf8,
) -> Vec<Vec<Part>> {
    let reader = Cursor::new(bytes.to_owned());
    let parts: Vec<Part> = TextParts::new("x".into(), reader, separator, sizes, invalid)
        .map(|part| part.unwrap())
        .collect();
    parts
        .split_inclusive(|part| part.last)
        .map(<[Part]>::to_vec)
        .collect()
}

fn split(text: &str, separator: &str, block: usize, part: usize) -> Vec<String> {
    let sizes = [block, part];
    parts_of(text.as_bytes(), Some(separator), sizes, InvalidUtf8::Refuse)
        .into_iter()
        .map(|parts| parts.into_iter().map(|part| part.text).collect())
        .collect()
}

#[test]
fn one_newline_on_each_side_belongs_to_the_separator() {
    let text = "one\n<|x|>\ntwo\n\n<|x|>\r\n\r\nthree\r\n<|x|><|x|>\n<|x|>\n\n\n<|x|>\n";
    let expected = ["one", "two\n", "\r\nthree", "", "", "\n", ""];
    assert_eq!(split(text, "<|x|>", 1 << 16, 1 << 20), expected);
    assert_eq!(pieces(text, "<|x|>"), expected);
    assert_eq!(split("", "<|x|>", 4, 4), [""]);
    assert_eq!(split("\nno\n", "<|x|>", 4, 4), ["\nno\n"]);
}

proptest! {
    #[test]
    fn separators_are_found_across_blocks(
        parts in prop::collection::vec("[ab<é\r\n]{0,12}", 1..8),
        separator in prop::sample::select(vec!["<|endoftext|>", "aab", "aa", "\n\n", "<", "é"]),
        block in 1_usize..40,
        part in prop_oneof![1_usize..20, Just(1 << 20)],
    ) {
        let text = parts.join(separator);
        prop_assert_eq!(split(&text, separator, block, part), pieces(&text, separator));
    }

    #[test]
    fn parts_join_to_the_text_whatever_its_bytes(
        bytes in prop::collection::vec(
            prop_oneof![
                Just(b'a'), Just(b'\n'), Just(0xC3), Just(0xA9), Just(0x80), Just(0xF0), Just(0x9F),
                Just(0xA6), Just(0xFF), Just(0xE5), Just(0x8F), Just(0xAB), any::<u8>(),
            ],
            0..60,
        ),
        block in 1_usize..20,
        part in 1_usize..12,
    ) {
        let documents = parts_of(&bytes, None, [block, part], InvalidUtf8::Replace);
        prop_assert_eq!(documents.len(), 1);
        let expected = Document::new(bytes, InvalidUtf8::Replace).unwrap();
        let text: String = documents[0].iter().map(|part| part.text.as_str()).collect();
        prop_assert_eq!(text, expected.text);
        let replaced: usize = documents[0].iter().map(|part| part.replaced).sum();
        prop_assert_eq!(replaced, expected.replaced);
        let longest = documents[0].iter().map(|part| part.text.len()).max();
        prop_assert!(longest <= Some(3 * (part.max(2) + block + 4)));
    }
}

#[test]
fn empty_separator_is_refused() {
    let options = ReadOptions {
        separator: Some(String::new()),
        ..ReadOptions::default()
    };
    let error = read_all("a.txt", b"text", Format::Text, &options).unwrap_err();
    assert!(error.to_string().contains("separator"), "{error}");
}

#[test]
fn invalid_utf8_in_text_is_refused_or_replaced() {
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
fn json_lines_give_their_text_field() {
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
fn error_in_a_line_names_the_fault() {
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
fn only_the_text_field_of_a_line_must_be_valid() {
    let lines =
        br#"{"score": NaN, "text": "NaN \"Infinity\" is text", "low": [-Infinity, {"x": Infinity}]}
{"id": "\ud800", "text": "fine"}
{"name": "caf\xe9", "text": "too"}
"#;
    let lines = lines.to_vec();
    let latin = lines
        .windows(4)
        .position(|bytes| bytes == br"\xe9")
        .unwrap();
    let lines = [&lines[..latin], b"\xe9", &lines[latin + 4..]].concat();
    let found = read_lines(&lines, InvalidUtf8::Refuse).unwrap();
    let found: Vec<_> = found.into_iter().map(|document| document.text).collect();
    assert_eq!(found, ["NaN \"Infinity\" is text", "fine", "too"]);
    for (line, advice) in [
        (br#"{"text": NaN}"#.to_vec(), "--text-field"),
        (br#"{"score": NaN, "body": "x"}"#.to_vec(), "--text-field"),
        (br#"{"text": Nan}"#.to_vec(), "write an object"),
        (
            b"{\"text\": \"caf\xe9\"}".to_vec(),
            "--invalid-utf8 replace",
        ),
        (
            br#"{"text": "\ud800", "score": NaN}"#.to_vec(),
            "--invalid-utf8 replace",
        ),
    ] {
        let error = line_error(&line, InvalidUtf8::Refuse);
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn length_of_a_line_is_limited() {
    let line = |bytes: usize| format!("{{\"text\": \"{}\"}}\n", "x".repeat(bytes - 13));
    let longest = line(MAX_LINE_BYTES as usize);
    assert_eq!(longest.len() as u64, MAX_LINE_BYTES);
    let found = read_lines(longest.as_bytes(), InvalidUtf8::Refuse).unwrap();
    assert_eq!(found[0].text.len() as u64, MAX_LINE_BYTES - 13);
    let longer = line(MAX_LINE_BYTES as usize + 1);
    let error = line_error(longer.as_bytes(), InvalidUtf8::Refuse);
    assert!(
        error.contains("line 1") && error.contains("32 MiB"),
        "{error}"
    );
}

#[test]
fn invalid_unicode_in_json_is_refused_or_replaced() {
    let bytes = b"{\"text\": \"a\xff\"}";
    let error = line_error(bytes, InvalidUtf8::Refuse);
    assert!(
        error.contains("line 1: byte 12 of the line is not UTF-8"),
        "{error}"
    );
    let escape = br#"{"text": "a\ud800b\udc00\ud83e\udd80"}"#;
    let error = line_error(escape, InvalidUtf8::Refuse);
    assert!(
        error.contains("surrogate") && error.contains("--invalid-utf8 replace"),
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
    // Replacing characters does not excuse other errors.
    for line in [
        &b"{\"text\": \"a\tb\"}"[..],
        b"{\"text\": \"\xff",
        b"{\"text\": [\"\xff\"]}",
    ] {
        line_error(line, InvalidUtf8::Replace);
    }
}
