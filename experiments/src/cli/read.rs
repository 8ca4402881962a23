//! Arguments of all commands that read text: how files become documents.

use clap::{Args, ValueEnum};
use foretoken_datasets::{Format, InvalidUtf8, ReadOptions};

/// Arguments that choose the text in files, and divide it into documents.
#[derive(Args)]
pub(super) struct ReadArgs {
    /// Format of all files: text, jsonl, json, csv, tsv or parquet; with it, all files of a folder are read
    /// [default: by the extension]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Field of JSON, or column of CSV, TSV and Parquet, that contains the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_field: String,
    /// Text between documents in plain text; \n and \t stand for a newline and a tab [default: the end of the file]
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// Treatment of bytes that are not UTF-8
    #[arg(long, value_enum, default_value_t = InvalidUtf8Arg::Refuse)]
    invalid_utf8: InvalidUtf8Arg,
}

#[derive(Clone, Copy, ValueEnum)]
enum InvalidUtf8Arg {
    /// Stop and name the file and the place
    Refuse,
    /// Replace them by U+FFFD, and count them
    Replace,
}

impl ReadArgs {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            format: self.format,
            text_field: self.text_field.clone(),
            separator: self.separator.as_deref().map(unescaped),
            invalid_utf8: match self.invalid_utf8 {
                InvalidUtf8Arg::Refuse => InvalidUtf8::Refuse,
                InvalidUtf8Arg::Replace => InvalidUtf8::Replace,
            },
        }
    }
}

/// Replaces the escapes `\n`, `\t` and `\r`, which shells leave as they are.
fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("\\r", "\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_white_space_are_replaced() {
        assert_eq!(unescaped("a\\nb\\t\\r<|end|>\n"), "a\nb\t\r<|end|>\n");
    }
}
