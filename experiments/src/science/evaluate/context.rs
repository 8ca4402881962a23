//! How much of a text precedes each token when it is predicted.

use std::ops::Range;
use std::str::FromStr;

use serde::Serialize;

/// Rule for the tokens that a model sees before each predicted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextPolicy {
    /// Windows as long as the context, each this many tokens further: every token is predicted once, from at least
    /// context − stride + 1 tokens if as many precede it. The last window is shorter. A stride as long as the context gives
    /// disjoint windows, as evaluations in training have: the last one is as long as the others.
    Stride(usize),
    /// Every document by itself, from its start. Windows over a longer document overlap by half.
    Documents,
}

/// The value of `--stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrideArgument {
    /// A number of tokens.
    Tokens(usize),
    /// The whole context.
    Context,
    /// Documents by themselves.
    Documents,
}

impl FromStr for StrideArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("context", _) => Ok(Self::Context),
            ("documents", _) => Ok(Self::Documents),
            (_, Ok(tokens)) if tokens > 0 => Ok(Self::Tokens(tokens)),
            _ => Err("give a number of tokens from 1 on, `context`, or `documents`".into()),
        }
    }
}

/// Tokens that the model reads at once, and the targets that it is scored on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Positions of the inputs. The target of an input is the token after it.
    pub(super) inputs: Range<usize>,
    /// Position of the first scored target, from `inputs.start + 1` to `inputs.end`.
    pub(super) first: usize,
}

impl Window {
    /// Returns the positions of the scored targets.
    pub(super) fn targets(&self) -> Range<usize> {
        self.first..self.inputs.end + 1
    }
}

/// Returns the windows that score each token of a segment from `first` on once. A segment of `tokens` tokens begins at
/// position 0, and `first` is at least 1.
pub(super) fn windows(
    tokens: usize,
    first: usize,
    context: usize,
    policy: ContextPolicy,
) -> Vec<Window> {
    let stride = match policy {
        ContextPolicy::Stride(stride) => stride.min(context),
        ContextPolicy::Documents => (context / 2).max(1),
    };
    // The last token is a target only.
    let inputs = tokens.saturating_sub(1);
    let mut windows = Vec::new();
    let mut first = first;
    for start in (0..).step_by(stride) {
        let end = (start + context).min(inputs);
        if first > inputs {
            break;
        }
        if end >= first {
            let start = match stride == context {
                true => end.saturating_sub(context),
                false => start,
            };
            windows.push(Window {
                inputs: start..end,
                first,
            });
            first = end + 1;
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_scored_once_with_the_context_that_was_promised() {
        for context in [1, 2, 7, 16] {
            for stride in 1..=context {
                for tokens in 0..60 {
                    for first in 1..6 {
                        let windows =
                            windows(tokens, first, context, ContextPolicy::Stride(stride));
                        let mut next = first;
                        for window in &windows {
                            assert_eq!(window.first, next, "no gap and no overlap");
                            assert!(window.inputs.len() <= context);
                            assert!(window.inputs.end < tokens);
                            for target in window.targets() {
                                let seen = target - window.inputs.start;
                                assert!(seen >= (context - stride + 1).min(target), "{window:?}");
                            }
                            next = window.inputs.end + 1;
                        }
                        assert_eq!(
                            next,
                            tokens.max(first),
                            "{context} {stride} {tokens} {first}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_stride_of_the_context_gives_the_windows_of_an_evaluation_in_training() {
        for tokens in 17..80 {
            let training = foretoken_datasets::EvaluationWindows::new(tokens, 16).unwrap();
            let expected: Vec<Window> = (0..training.count())
                .map(|index| training.window(index))
                .map(|window| Window {
                    inputs: window.offset..window.offset + 16,
                    first: window.offset + window.counted.start + 1,
                })
                .collect();
            assert_eq!(windows(tokens, 1, 16, ContextPolicy::Stride(16)), expected);
        }
    }

    #[test]
    fn a_stride_is_a_number_or_a_word() {
        assert_eq!("64".parse(), Ok(StrideArgument::Tokens(64)));
        assert_eq!("context".parse(), Ok(StrideArgument::Context));
        assert_eq!("documents".parse(), Ok(StrideArgument::Documents));
        for wrong in ["0", "-1", "", "whole", "1.5"] {
            assert!(wrong.parse::<StrideArgument>().is_err());
        }
    }
}
