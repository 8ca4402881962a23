//! Errors within a file, and texts that several of their messages share.

use std::path::Path;

use crate::DataError;

/// Advice for text that is not UTF-8.
pub(super) const NOT_UTF8_ADVICE: &str = "convert the file first, for example with iconv -t UTF-8, or give \
                                          --invalid-utf8 replace to `foretoken data build` or `evaluate`";

/// Advice for a missing or unsuitable text field.
pub(super) const FIELD_ADVICE: &str =
    "name the field of the text with --text-field, or in an experiment with data.text_field";

/// Reason to refuse a NUL byte, with advice.
pub(super) const NUL: &str = "this is not text, or it is text in UTF-16, which iconv -f UTF-16 -t UTF-8 \
                              converts; name a file of text";

/// Describes a key that an object of JSON has twice.
pub(super) fn twice(key: &str) -> String {
    format!("it has the key {key:?} twice")
}

/// Creates the error for a place in a file.
pub(super) fn wrong(path: &Path, place: impl Into<String>, reason: impl Into<String>) -> DataError {
    DataError::Document {
        path: path.into(),
        place: place.into(),
        reason: reason.into(),
    }
}

/// Lists names as `"id", "url" and 3 more`, in one line whatever characters they contain.
pub(super) fn name_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match names.len() {
        0 => "none".into(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}
