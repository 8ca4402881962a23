//! Recognises by its first bytes a file that is not what its name says: compressed in an unsupported way, binary, in
//! another encoding of Unicode, or JSON under the name of a plain text.

use std::path::Path;

use serde::de::IgnoredAny;

use super::{compression::HEAD, message::NUL};
use crate::{DataError, Format};

/// Kinds of binary files: description, offset of the magic bytes, magic bytes, and advice.
const KINDS: [(&str, usize, &[u8], &str); 26] = [
    ("compressed twice", 0, b"\x1f\x8b\x08", UNPACK_ONCE),
    ("compressed twice", 0, b"\x28\xb5\x2f\xfd", UNPACK_ONCE),
    (
        "compressed with xz",
        0,
        b"\xfd7zXZ\0",
        "unpack it first (xz -d)",
    ),
    (
        "compressed with bzip2",
        4,
        b"1AY&SY",
        "unpack it first (bzip2 -d)",
    ),
    (
        "compressed with LZ4",
        0,
        b"\x04\x22\x4d\x18",
        "unpack it first (lz4 -d)",
    ),
    (
        "compressed with lzip",
        0,
        b"LZIP\x01",
        "unpack it first (lzip -d)",
    ),
    (
        "compressed with compress",
        0,
        b"\x1f\x9d",
        "unpack it first (uncompress)",
    ),
    (
        "compressed with Snappy",
        0,
        b"\xff\x06\0\0sNaPpY",
        "unpack it first",
    ),
    (
        "a ZIP archive (.docx, .xlsx, .npz and .pt files are ZIP archives, too)",
        0,
        b"PK\x03\x04",
        "unpack it, and name the files of text in it",
    ),
    (
        "an empty ZIP archive",
        0,
        b"PK\x05\x06",
        "name a file of text",
    ),
    ("a 7z archive", 0, b"7z\xbc\xaf\x27\x1c", UNPACK_ARCHIVE),
    ("a RAR archive", 0, b"Rar!\x1a\x07", UNPACK_ARCHIVE),
    ("a tar archive", 257, b"ustar", UNPACK_ARCHIVE),
    (
        "a Parquet file",
        0,
        b"PAR1\x15",
        "rename it to end in .parquet, or state its format with --format parquet (data.format in an experiment)",
    ),
    (
        "an Arrow file",
        0,
        b"ARROW1\0",
        "convert it to Parquet or JSON lines",
    ),
    (
        "an Avro file",
        0,
        b"Obj\x01",
        "convert it to Parquet or JSON lines",
    ),
    (
        "an HDF5 file",
        0,
        b"\x89HDF\r\n\x1a\n",
        "convert it to Parquet or JSON lines",
    ),
    ("a NumPy array", 0, b"\x93NUMPY", "name a file of text"),
    (
        "an SQLite database",
        0,
        b"SQLite format 3\0",
        "export its texts to CSV",
    ),
    (
        "a PDF document",
        0,
        b"%PDF-",
        "convert it to text first (pdftotext)",
    ),
    (
        "a PNG image",
        0,
        b"\x89PNG\r\n\x1a\n",
        "name a file of text",
    ),
    ("a JPEG image", 0, b"\xff\xd8\xff", "name a file of text"),
    ("a program", 0, b"\x7fELF", "name a file of text"),
    (
        "a file of tokens",
        0,
        b"FORETOKN",
        "name its folder as data.path, because it is already built",
    ),
    (
        "text in UTF-32",
        0,
        b"\xff\xfe\0\0",
        "convert it first (iconv -f UTF-32 -t UTF-8)",
    ),
    (
        "text in UTF-32",
        0,
        b"\0\0\xfe\xff",
        "convert it first (iconv -f UTF-32 -t UTF-8)",
    ),
];
const UNPACK_ONCE: &str = "unpack it once";
const UNPACK_ARCHIVE: &str = "unpack it, and name the files of text in it";

/// Refuses a file whose first decompressed bytes show that it is not text of the format. `stated` is the format that
/// the user states, if any; only a stated format allows reading JSON as plain text.
pub(super) fn check(
    path: &Path,
    format: Format,
    stated: Option<Format>,
    head: &[u8],
) -> Result<(), DataError> {
    if format == Format::Parquet {
        // The reader of Parquet gives better messages.
        return Ok(());
    }
    let reason = match binary(head) {
        Some(reason) => reason,
        None if format == Format::Text && stated.is_none() && is_json(head) => {
            "looks like JSON, but its name does not say so: state the format with --format jsonl for one object per \
             line, --format json for other JSON, or --format text for plain text (data.format in an experiment)"
                .into()
        }
        None => return Ok(()),
    };
    Err(DataError::Dataset {
        path: path.into(),
        reason,
    })
}

/// Returns why these cannot be the first bytes of a text, if they cannot.
fn binary(head: &[u8]) -> Option<String> {
    let kind = KINDS.iter().find(|(_, offset, magic, _)| {
        let there = head.get(*offset..);
        there.is_some_and(|there| there.starts_with(magic))
    });
    if let Some((kind, _, _, advice)) = kind {
        return Some(format!("is {kind}: {advice}"));
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some("is text in UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)".into());
    }
    memchr::memchr(0, head).map(|offset| format!("byte {offset} is NUL: {NUL}"))
}

/// Whether a text begins with a JSON object that has a key, or with an array of such objects, as far as `head` shows.
fn is_json(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let object = match text {
        [b'[', rest @ ..] => rest.trim_ascii_start(),
        _ => text,
    };
    let [b'{', key @ ..] = object else {
        return false;
    };
    if !key.trim_ascii_start().starts_with(b"\"") {
        return false;
    }
    let mut values = serde_json::Deserializer::from_slice(object).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => true,
        Some(Err(error)) => error.is_eof() && head.len() >= HEAD,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(head: &[u8]) -> Option<String> {
        let checked = check(Path::new("a.txt"), Format::Text, None, head);
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn binary_files_are_recognised_by_their_first_bytes() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, kind) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "xz"),
            (b"BZh91AY&SY", "bzip2"),
            (b"PK\x03\x04\x14", "ZIP"),
            (b"PAR1\x15\x04", "Parquet"),
            (b"\x1f\x8b\x08\0", "twice"),
            (b"\xff\xfeT\0e\0", "UTF-16"),
            (b"\xfe\xff\0T\0e", "UTF-16"),
            (b"\xff\xfe\0\0T\0\0\0", "UTF-32"),
            (b"T\0e\0x\0t\0", "byte 1 is NUL"),
            (b"text, and then\0", "byte 14 is NUL"),
            (&tar, "tar"),
        ] {
            let error = refusal(head).unwrap_or_default();
            assert!(
                error.contains(kind) && error.starts_with("a.txt: "),
                "{error}"
            );
            assert!(!error.contains("--format text"), "{error}");
        }
        let parquet = check(Path::new("a"), Format::Parquet, None, b"PAR1\0");
        assert!(parquet.is_ok());
    }

    #[test]
    fn json_is_read_as_plain_text_only_if_stated() {
        let long = format!("{{\"id\": 7, \"text\": \"{}", "x".repeat(8000));
        let long = &long.as_bytes()[..HEAD];
        for head in [
            &b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n"[..],
            b"\xef\xbb\xbf\n [\n  {\"a\": 1},\n  {\"a\"",
            b"{\n  \"a\": [1, 2]\n}\n",
            long,
        ] {
            let error = refusal(head).unwrap_or_default();
            assert!(error.contains("looks like JSON"), "{error}");
            let stated = check(Path::new("a"), Format::Text, Some(Format::Text), head);
            assert!(stated.is_ok());
        }
        for text in [
            "",
            "[1] Smith et al.",
            "{",
            "{\"",
            "{\"quoted\" words in braces}",
            "{\\bf \"bold\"}",
            "[{braces}]",
            "\"text\": 1",
            "[[\"a\"]]",
        ] {
            assert_eq!(refusal(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn prose_is_text(text in "[a-zA-Z\"'.,;:!?\\[\\](){} \t\r\né叫🦀0-9-]{0,300}") {
            let is_json = text.trim_start().starts_with(['{', '[']);
            prop_assert!(is_json || refusal(text.as_bytes()).is_none(), "{text}");
        }

        #[test]
        fn objects_are_json(
            keys in prop::collection::vec(("[a-z]{0,5}", ".{0,40}"), 1..5),
            array in any::<bool>(),
        ) {
            let object: serde_json::Map<String, serde_json::Value> =
                keys.into_iter().map(|(key, text)| (key, text.into())).collect();
            let object = serde_json::Value::Object(object);
            let json = match array {
                true => serde_json::to_vec_pretty(&[&object, &object]).unwrap(),
                false => object.to_string().into_bytes(),
            };
            prop_assert!(is_json(&json));
        }
    }
}
