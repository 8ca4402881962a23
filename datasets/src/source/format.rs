//! Formats of text files, and how the name of a file determines its format.

use std::{ffi::OsStr, fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

/// Format of the documents in a file, after decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain text.
    Text,
    /// JSON lines: one JSON object per line.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// JSON objects in sequence, or one array of objects.
    Json,
    /// Table with commas between columns, whose first row names the columns.
    Csv,
    /// Table with tabs between columns, whose first row names the columns.
    Tsv,
    /// Apache Parquet table, one document per row.
    Parquet,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] = [
        Self::Text,
        Self::JsonLines,
        Self::Json,
        Self::Csv,
        Self::Tsv,
        Self::Parquet,
    ];

    /// Returns the name by which a user states the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::JsonLines => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let format = Self::ALL.into_iter().find(|format| format.name() == name);
        format.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no format {name:?}: use one of {names}")
        })
    }
}

/// Extensions of the files that are read from a folder, for messages.
pub(crate) const DATA_EXTENSIONS: &str =
    ".txt, .text, .md, .jsonl, .ndjson, .json, .csv, .tsv or .parquet";

/// Kind of a file, judged by the extension of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtensionKind {
    /// A corpus in this format.
    Data(Format),
    /// Text without an extension, or markup or source code. It is not taken from a folder, because it may not belong
    /// to the corpus.
    Writing,
    /// Any other extension.
    Unknown,
}

impl ExtensionKind {
    /// Looks at the extension before that of a compression: `text.jsonl.gz` is JSON lines.
    pub(crate) fn from_path(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().to_ascii_lowercase();
        let name = [".gz", ".zst", ".zstd"]
            .iter()
            .find_map(|compression| name.strip_suffix(compression))
            .unwrap_or(&name);
        let Some((_, extension)) = name.rsplit_once('.') else {
            return Self::Writing;
        };
        match extension {
            "txt" | "text" | "md" => Self::Data(Format::Text),
            "jsonl" | "ndjson" => Self::Data(Format::JsonLines),
            "json" => Self::Data(Format::Json),
            "csv" => Self::Data(Format::Csv),
            "tsv" => Self::Data(Format::Tsv),
            "parquet" => Self::Data(Format::Parquet),
            // Markup written by hand, and logs.
            "markdown" | "rst" | "org" | "adoc" | "asciidoc" | "tex" | "log" => Self::Writing,
            // Source code.
            "c" | "h" | "cc" | "cpp" | "cxx" | "hh" | "hpp" | "hxx" | "cu" | "cuh" | "m" | "mm"
            | "rs" | "go" | "zig" | "d" | "java" | "kt" | "kts" | "scala" | "groovy" | "cs"
            | "fs" | "vb" | "swift" | "dart" | "py" | "pyi" | "pyx" | "rb" | "php" | "pl"
            | "pm" | "lua" | "r" | "jl" | "js" | "mjs" | "cjs" | "jsx" | "ts" | "tsx" | "vue"
            | "hs" | "ml" | "mli" | "lisp" | "el" | "clj" | "scm" | "rkt" | "erl" | "ex"
            | "exs" | "lean" | "v" | "sv" | "vhd" | "f" | "f90" | "f95" | "asm" | "s" | "pas"
            | "sql" | "sh" | "bash" | "zsh" | "fish" | "ps1" | "bat" | "cmake" | "css" | "scss" => {
                Self::Writing
            }
            _ => Self::Unknown,
        }
    }
}

/// Returns the extension of a file for messages, together with that of a compression: `.tar.gz`.
pub(crate) fn extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    let name = Path::new(name);
    let last = name.extension().unwrap_or_default();
    let compressed = ["gz", "zst", "zstd"].map(OsStr::new).contains(&last);
    let stem = Path::new(name.file_stem().unwrap_or_default());
    match stem.extension().filter(|_| compressed) {
        Some(inner) => format!(".{}.{}", inner.display(), last.display()),
        None => format!(".{}", last.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_determine_the_format() {
        let cases = [
            (
                ExtensionKind::Data(Format::Text),
                "a.txt a.text a.md b/a.TXT.zst a.b.md.gz a.txt.zstd",
            ),
            (
                ExtensionKind::Data(Format::JsonLines),
                "a.jsonl.gz a.ndjson",
            ),
            (
                ExtensionKind::Data(Format::Json),
                "a.json c4-train.00000-of-01024.json.gz",
            ),
            (ExtensionKind::Data(Format::Csv), "a.csv A.CSV.GZ"),
            (ExtensionKind::Data(Format::Tsv), "a.tsv"),
            (ExtensionKind::Data(Format::Parquet), "a.parquet.zst"),
            (
                ExtensionKind::Writing,
                "a LICENSE txt enwik8.gz txt/a main.rs paper.tex syslog.log",
            ),
            (
                ExtensionKind::Unknown,
                "a.txt.bz2 a.txt.gz.gz a.bin a.tar.gz a.xml a.ipynb a.docx .bashrc a.",
            ),
        ];
        for (named, names) in cases {
            for name in names.split(' ') {
                assert_eq!(ExtensionKind::from_path(Path::new(name)), named, "{name}");
            }
        }
        assert_eq!(extension(Path::new("b.c/a.tar.gz")), ".tar.gz");
        assert_eq!(extension(Path::new("a.gz")), ".gz");
        assert_eq!(extension(Path::new("a.xyz")), ".xyz");
    }

    #[test]
    fn formats_have_the_same_name_in_json_and_in_options() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(json, format!("{:?}", format.name()));
        }
        assert!("txt".parse::<Format>().unwrap_err().contains("text, jsonl"));
    }
}
