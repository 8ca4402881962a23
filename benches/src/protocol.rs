//! Protocol between a race and its two competitors. Each message is one line: requests are words, answers are JSON.
//!
//! ```text
//! competitor → race   {"ready":{"version":"PyTorch 2.9.0","parameters":809856,"threads":2}}
//! race → competitor   run 2
//! competitor → race   {"steps":{"seconds":[0.08,0.08],"losses":[4.25,3.73],"peak_memory_bytes":708751360}}
//! race → competitor   peak
//! competitor → race   {"peak":{"matmul_gflops":124.0}}
//! ```
//!
//! `{"error":"…"}` instead of an answer states in a sentence why there is none. A competitor ends when its input ends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Request to a competitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Take this number of training steps, at least one.
    Run(usize),
    /// Measure the speed of matrix products.
    Peak,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(steps) => write!(f, "run {steps}"),
            Self::Peak => f.write_str("peak"),
        }
    }
}

impl FromStr for Request {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["run", steps] => steps
                .parse()
                .ok()
                .filter(|steps| *steps > 0)
                .map(Self::Run)
                .ok_or_else(|| format!("\"{steps}\" is not a number of steps")),
            ["peak"] => Ok(Self::Peak),
            _ => Err(format!("\"{}\" is not a request", line.trim())),
        }
    }
}

/// Message of a competitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// First message, without a request: the model is loaded.
    Ready(Ready),
    /// Answer to [`Request::Run`].
    Steps(Steps),
    /// Answer to [`Request::Peak`].
    Peak(Peak),
    /// Reason why there is no answer.
    Error(String),
}

/// Description of a competitor that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Library and its version.
    pub(crate) version: String,
    /// Number of parameters of the model.
    pub(crate) parameters: usize,
    /// Number of threads that compute, if the library reports it.
    pub(crate) threads: Option<usize>,
}

/// Measurements of training steps, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// Seconds of each step, from the request for a batch until the loss has been read after the update.
    pub(crate) seconds: Vec<f64>,
    /// Loss of each step before its update, in nats per token.
    pub(crate) losses: Vec<f64>,
    /// Peak of resident memory of the process, if the system reports it.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// Upper bound for the speed of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peak {
    /// Speed of large square f32 products in 10⁹ floating-point operations per second.
    pub(crate) matmul_gflops: f64,
}

impl Answer {
    /// Returns the message as one line, without its line end.
    pub(crate) fn to_line(&self) -> String {
        // Names, numbers and sentences can always be written as JSON.
        serde_json::to_string(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"not JSON: {}\"}}", error.line()))
    }

    /// Parses a line.
    ///
    /// # Errors
    ///
    /// A line that is not an answer. A loss that is not finite cannot be written as JSON, so it is an error, too.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        serde_json::from_str(line)
            .map_err(|error| format!("\"{}\" is not an answer: {error}", shortened(line)))
    }
}

impl Steps {
    /// Checks the measurements of `steps` steps.
    ///
    /// # Errors
    ///
    /// Another number of steps, and a time that is not positive.
    pub(crate) fn check(self, steps: usize) -> Result<Self, String> {
        if self.seconds.len() != steps || self.losses.len() != steps {
            return Err(format!(
                "it reported {} times and {} losses for {steps} steps",
                self.seconds.len(),
                self.losses.len()
            ));
        }
        match self.seconds.iter().find(|seconds| **seconds <= 0.0) {
            Some(seconds) => Err(format!("a step took {seconds} s")),
            None => Ok(self),
        }
    }
}

/// Shortens a line for an error message.
fn shortened(line: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    let line = line.trim();
    match line.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_parsed_and_other_lines_are_refused() {
        for request in [Request::Run(1), Request::Run(250), Request::Peak] {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        assert_eq!(" run  3\r\n".parse(), Ok(Request::Run(3)));
        for line in [
            "", "run", "run 0", "run -1", "run 1.5", "run 1 2", "peak 1", "RUN 1",
        ] {
            let error = line.parse::<Request>().unwrap_err();
            assert!(error.contains("is not a"), "{line}: {error}");
        }
        let endless = format!("run {}", "9".repeat(40));
        assert!(endless.parse::<Request>().is_err());
    }

    #[test]
    fn answers_are_written_and_parsed() {
        let ready = Ready {
            version: "PyTorch 2.9.0".into(),
            parameters: 7,
            threads: Some(2),
        };
        let steps = Steps {
            seconds: vec![0.1, 0.3],
            losses: vec![4.174387269895637, 4.0],
            peak_memory_bytes: None,
        };
        for answer in [
            Answer::Ready(ready),
            Answer::Steps(steps),
            Answer::Peak(Peak {
                matmul_gflops: 99.5,
            }),
            Answer::Error("no \"torch\"\nhere".into()),
        ] {
            let line = answer.to_line();
            assert_eq!(line.lines().count(), 1, "{line}");
            assert_eq!(Answer::parse(&line), Ok(answer));
        }
    }

    #[test]
    fn error_of_an_invalid_answer_quotes_it() {
        for line in [
            "",
            "Traceback (most recent call last):",
            "{}",
            "[]",
            "{\"steps\":{}}",
            "{\"steps\":{\"seconds\":[0.1],\"losses\":[NaN],\"peak_memory_bytes\":1}}",
            "{\"steps\":{\"seconds\":[null],\"losses\":[1.0],\"peak_memory_bytes\":1}}",
            "{\"steps\":{\"seconds\":[0.1],\"losses\":[1.0],\"peak_memory_bytes\":-1}}",
            "{\"finished\":{}}",
            "{\"peak\":{\"matmul_gflops\":99.5}",
        ] {
            let error = Answer::parse(line).unwrap_err();
            assert!(error.contains("is not an answer"), "{error}");
        }
        let error = Answer::parse(&"ü".repeat(1000)).unwrap_err();
        assert!(error.chars().count() < 200, "{error}");
        let not_a_number = Answer::Peak(Peak {
            matmul_gflops: f64::NAN,
        });
        assert!(Answer::parse(&not_a_number.to_line()).is_err());
    }

    #[test]
    fn steps_have_the_requested_number_and_positive_times() {
        let steps = |seconds: &[f64], losses: &[f64]| Steps {
            seconds: seconds.to_vec(),
            losses: losses.to_vec(),
            peak_memory_bytes: Some(1),
        };
        assert!(steps(&[0.1, 0.2], &[4.0, 3.0]).check(2).is_ok());
        assert!(steps(&[0.1], &[4.0, 3.0]).check(2).is_err());
        assert!(steps(&[0.1, 0.2], &[4.0]).check(2).is_err());
        assert!(steps(&[0.1, 0.2], &[4.0, 3.0]).check(1).is_err());
        assert!(steps(&[0.1, 0.0], &[4.0, 3.0]).check(2).is_err());
    }
}
