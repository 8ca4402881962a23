//! JSON for values that JSON does not support: non-finite numbers, and paths that are not Unicode.
//!
//! JSON has no non-finite numbers: `serde_json` writes null, which is read back as NaN here, so that the files of a run
//! whose loss exploded can still be read. JSON's strings are Unicode: other paths are written as displayed, with
//! U+FFFD for invalid bytes. Such a path is only for a reader; no file is opened by it.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serializer};

/// Reads a number; null becomes NaN.
pub(crate) fn number<'de, D: Deserializer<'de>>(json: D) -> Result<f64, D::Error> {
    Option::deserialize(json).map(or_nan)
}

/// Reads a list of numbers; null becomes NaN.
pub(crate) fn numbers<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<f64>, D::Error> {
    Vec::deserialize(json).map(all_or_nan)
}

/// Reads lists of numbers; null becomes NaN.
pub(crate) fn curves<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<Vec<f64>>, D::Error> {
    Vec::deserialize(json).map(|curves: Vec<_>| curves.into_iter().map(all_or_nan).collect())
}

fn all_or_nan(numbers: Vec<Option<f64>>) -> Vec<f64> {
    numbers.into_iter().map(or_nan).collect()
}

fn or_nan(number: Option<f64>) -> f64 {
    number.unwrap_or(f64::NAN)
}

/// Writes a path as text, with U+FFFD for invalid bytes.
pub fn path<S: Serializer>(path: &Path, json: S) -> Result<S::Ok, S::Error> {
    json.serialize_str(&path.to_string_lossy())
}

/// Writes a path as [`path`] does, or null for `None`.
pub fn optional_path<S: Serializer, P: AsRef<Path>>(
    path: &Option<P>,
    json: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => json.serialize_some(&path.as_ref().to_string_lossy()),
        None => json.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde::Serialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct File {
        #[serde(deserialize_with = "number")]
        one: f64,
        #[serde(deserialize_with = "numbers")]
        some: Vec<f64>,
        #[serde(deserialize_with = "curves")]
        lists: Vec<Vec<f64>>,
        #[serde(serialize_with = "path")]
        place: PathBuf,
        #[serde(serialize_with = "optional_path")]
        other: Option<PathBuf>,
    }

    #[test]
    fn non_finite_numbers_read_back_as_nan() {
        let file = File {
            one: f64::INFINITY,
            some: vec![1.0 / 3.0, f64::NAN],
            lists: vec![vec![], vec![f64::NEG_INFINITY, 2.0]],
            place: "runs/a".into(),
            other: None,
        };
        let json = serde_json::to_string(&file).unwrap();
        let read: File = serde_json::from_str(&json).unwrap();
        assert!(read.one.is_nan() && read.some[1].is_nan() && read.lists[1][0].is_nan());
        assert_eq!((read.some[0], read.lists[1][1]), (1.0 / 3.0, 2.0));
        assert_eq!(read.place, file.place);
        assert_eq!(read.other, None);
    }

    #[test]
    #[cfg(unix)]
    fn a_path_that_is_not_unicode_is_written_as_text() {
        use std::os::unix::ffi::OsStrExt;
        let place = PathBuf::from(std::ffi::OsStr::from_bytes(b"caf\xe9/run"));
        let file = File {
            one: 0.0,
            some: vec![],
            lists: vec![],
            place: place.clone(),
            other: Some(place),
        };
        let json = serde_json::to_value(&file).unwrap();
        assert_eq!(json["place"], "caf\u{fffd}/run");
        assert_eq!(json["other"], "caf\u{fffd}/run");
    }
}
