//! Backend names on the command line, and the value of `--require`.

use std::str::FromStr;

use foretoken::Error;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::verify::compare::Entrant;

use super::model::refused;

/// A backend with an optional precision, such as `flex` or `flex:f64`.
#[derive(Clone, Copy)]
pub(super) struct BackendName {
    pub(super) name: Backend,
    pub(super) dtype: Option<Precision>,
}

impl BackendName {
    /// Returns the backend and the precision of a name, or the first backend compiled in, in f32, without one.
    pub(super) fn or_default(named: Option<Self>) -> (Backend, Precision) {
        let backend = named.map_or(Backend::default_backend(), |named| named.name);
        let precision = named.and_then(|named| named.dtype);
        (backend, precision.unwrap_or_default())
    }
}

impl FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, dtype) = match text.split_once(':') {
            Some((name, dtype)) => (name, Some(dtype.parse()?)),
            None => (text, None),
        };
        let name = name.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { name, dtype })
    }
}

/// A value of `--require`.
#[derive(Clone, Copy)]
pub(super) enum Required {
    All,
    One(BackendName),
}

impl FromStr for Required {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            name => name.parse().map(Self::One),
        }
    }
}

/// Returns the backends under test that `--require` names.
///
/// # Errors
///
/// Returns an error if a required backend is not under test.
pub(super) fn required(values: &[Required], backends: &[Entrant]) -> Result<Vec<Entrant>, Error> {
    let mut required = Vec::new();
    for value in values {
        let Required::One(named) = value else {
            required.extend(backends);
            continue;
        };
        let matches = |backend: &&Entrant| {
            backend.name == named.name && named.dtype.is_none_or(|dtype| backend.dtype == dtype)
        };
        let before = required.len();
        required.extend(backends.iter().filter(matches));
        if required.len() == before {
            let dtype = named
                .dtype
                .map_or(String::new(), |dtype| format!(":{dtype}"));
            let message = format!(
                "{}{dtype} is not among the backends that are compared; add it to --backends",
                named.name
            );
            return Err(refused("--require", message));
        }
    }
    Ok(required)
}
