//! Parts of an answer, which the thread that computes sends to that of the connection.

use super::failure::Failure;
use super::probabilities::TokenProbability;
use crate::text::generation::Ending;

/// Part of an answer.
#[derive(Debug)]
pub(super) enum Event {
    /// Probabilities of the tokens of the prompt with this index.
    Prompt(usize, Vec<TokenProbability>),
    /// A choice has grown by a token and by text that is certain now.
    Token {
        choice: usize,
        token: TokenProbability,
        text: String,
    },
    /// A choice has ended. The text is what had been held back.
    End {
        choice: usize,
        text: String,
        ending: Ending,
    },
    /// There is no answer.
    Failed(Failure),
}
