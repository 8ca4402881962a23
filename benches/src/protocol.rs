//! What a race and its two sides say to each other, a line at a time: requests are words, answers are JSON.
//!
//! ```text
//! side → race   {"ready":{"version":"PyTorch 2.9.0","parameters":809856,"threads":2}}
//! race → side   run 2
//! side → race   {"steps":{"seconds":[0.08,0.08],"losses":[4.25,3.73],"peak_memory_bytes":708751360}}
//! race → side   peak
//! side → race   {"peak":{"matmul_gflops":124.0}}
//! ```
//!
//! In place of any answer, `{"error":"…"}` says in a sentence why there is none. A side ends when its input does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a side is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// To take so many training steps, one or more.
    Run(usize),
    /// To measure how fast matrices can be multiplied.
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

/// What a side says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// Once, unasked: the model is there, and no step is taken.
    Ready(Ready),
    /// To [`Request::Run`].
    Steps(Steps),
    /// To [`Request::Peak`].
    Peak(Peak),
    /// There is no answer, and why.
    Error(String),
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The library, with its version.
    pub(crate) version: String,
    /// Of the model.
    pub(crate) parameters: usize,
    /// That compute, if the library tells.
    pub(crate) threads: Option<usize>,
}

/// Steps that were taken, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// From before a batch was asked for until the loss was read after the update.
    pub(crate) seconds: Vec<f64>,
    /// Nats per token, before the update.
    pub(crate) losses: Vec<f64>,
    /// The most that the process ever had resident, if the system tells.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// A ceiling for the speed of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peak {
    /// 10⁹ floating-point operations per second in large square f32 products.
    pub(crate) matmul_gflops: f64,
}

impl Answer {
    /// One line, without its end.
    pub(crate) fn to_line(&self) -> String {
        // A sentence is always JSON, and so is all else here: names and numbers.
        serde_json::to_string(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"not JSON: {}\"}}", error.line()))
    }

    /// The answer that a line holds.
    ///
    /// # Errors
    /// A line that is none. A loss that is not finite is not JSON, and thus none.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        serde_json::from_str(line)
            .map_err(|error| format!("\"{}\" is not an answer: {error}", shortened(line)))
    }
}

impl Steps {
    /// # Errors
    /// Another number of steps, or times in which nothing can have been done.
    pub(crate) fn check(self, steps: usize) -> Result<Self, String> {
        if self.seconds.len() != steps || self.losses.len() != steps {
            return Err(format!(
                "asked for {steps} steps, it took {} and told {} losses",
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

/// What fits an error message.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 80;
    let line = line.trim();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_back_and_others_are_refused() {
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
    fn answers_read_back() {
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
    fn a_line_that_is_no_answer_is_an_error_that_quotes_it() {
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
    fn steps_are_as_many_as_were_asked_for_and_take_time() {
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
