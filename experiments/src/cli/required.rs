//! Backends on the command line, and those of them that have to be judged.

use std::str::FromStr;

use foretoken::Error;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::verify::compare::Entrant;

use super::model::refused;

/// `flex`, or `flex:f64`.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) name: Backend,
    pub(super) dtype: Option<Precision>,
}

impl FromStr for Named {
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
    One(Named),
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

/// Which of `entrants` have to be judged.
///
/// # Errors
///
/// When one is required that is not among them.
pub(super) fn required(asked: &[Required], entrants: &[Entrant]) -> Result<Vec<Entrant>, Error> {
    let mut required = Vec::new();
    for asked in asked {
        let Required::One(named) = asked else {
            required.extend(entrants);
            continue;
        };
        let meant = |entrant: &&Entrant| {
            entrant.name == named.name && named.dtype.is_none_or(|dtype| entrant.dtype == dtype)
        };
        let before = required.len();
        required.extend(entrants.iter().filter(meant));
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
