//! Ways of choosing the next token when a model runs freely.

use std::str::FromStr;

use foretoken_model::SamplingConfig;
use serde::Serialize;

/// Strategies that are measured by default.
pub const DEFAULT_STRATEGIES: &str =
    "greedy,temperature=1,temperature=0.7,top-k=5,top-p=0.9,min-p=0.1";

/// A way of choosing the next token, by the name that it was given: `greedy`, or settings such as
/// `temperature=0.8+top-p=0.9`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Strategy {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub sampling: SamplingConfig,
}

impl Strategy {
    /// Returns whether tokens are drawn from the model's own distribution.
    pub fn is_ancestral(&self) -> bool {
        self.sampling == SamplingConfig::default()
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut sampling = match name {
            "greedy" => SamplingConfig::greedy(),
            _ => SamplingConfig::default(),
        };
        let settings = name.split('+').filter(|_| name != "greedy");
        for setting in settings {
            let unknown = || {
                format!(
                    "{setting:?} is no strategy; use greedy, temperature=T, top-k=K, top-p=P or min-p=P, with + between \
                     settings that act together"
                )
            };
            let (key, value) = setting.split_once('=').ok_or_else(unknown)?;
            let number = || value.parse::<f64>().map_err(|_| unknown());
            match key {
                "temperature" => sampling.temperature = number()?,
                "top-p" => sampling.top_p = Some(number()?),
                "min-p" => sampling.min_p = Some(number()?),
                "top-k" => sampling.top_k = Some(value.parse().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            }
        }
        sampling
            .validate()
            .map_err(|error| format!("{name:?}: {error}"))?;
        Ok(Self {
            name: name.into(),
            sampling,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_settings() {
        let parse = |name: &str| name.parse::<Strategy>().unwrap();
        assert_eq!(parse("greedy").sampling, SamplingConfig::greedy());
        assert!(parse("temperature=1").is_ancestral());
        let both = parse("temperature=0.8+top-p=0.9").sampling;
        assert_eq!((both.temperature, both.top_p), (0.8, Some(0.9)));
        assert_eq!(parse("top-k=3").sampling.top_k, Some(3));
        assert_eq!(parse("min-p=0.1").sampling.min_p, Some(0.1));
        let defaults = DEFAULT_STRATEGIES.split(',').map(parse);
        assert_eq!(defaults.filter(Strategy::is_ancestral).count(), 1);
    }

    #[test]
    fn settings_without_meaning_are_refused() {
        for (name, part) in [
            ("beam", "no strategy"),
            ("top-k", "no strategy"),
            ("top-k=0", "at least 1"),
            ("top-k=1.5", "no strategy"),
            ("top-p=2", "at most 1"),
            ("temperature=-1", "0 (greedy) or more"),
            ("greedy+top-k=3", "no strategy"),
            ("", "no strategy"),
        ] {
            let message = name.parse::<Strategy>().unwrap_err();
            assert!(message.contains(part), "{name}: {message}");
        }
    }
}
