//! A text that grows, and the parts of the answer that it sends.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use foretoken_model::Sampler;

use super::completion::Completion;
use super::failure::Failure;
use super::probabilities::TokenProbability;
use crate::text::generation::{Ending, GrowingText};

/// A request on its way, and where its answer goes.
pub(super) struct Job {
    pub(super) completion: Completion,
    pub(super) reply: Sender<Event>,
}

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

/// A text that grows.
pub(super) struct Row<'t> {
    pub(super) job: Arc<Job>,
    pub(super) choice: usize,
    pub(super) sampler: Sampler,
    /// Prompt and continuation.
    pub(super) ids: Vec<u32>,
    pub(super) text: GrowingText<'t, Vec<String>>,
    /// Number of tokens that may still be drawn.
    pub(super) left: usize,
    pub(super) is_running: bool,
}

impl Row<'_> {
    /// Draws the next token. The text ends if that is its last one, or if the client is gone.
    pub(super) fn draw(&mut self, logits: &[f32], end_of_text: &[u32]) {
        let drawn = self.sampler.sample(logits, &self.ids);
        let result = drawn.map_err(crate::Error::from).and_then(|id| {
            self.left -= 1;
            self.ids.push(id);
            if end_of_text.contains(&id) {
                self.end(Ending::EndOfText);
                return Ok(());
            }
            let text = self.text.push(id)?;
            let alternatives = self.job.completion.logprobs.unwrap_or(0);
            let token = TokenProbability::new(id, logits, alternatives)?;
            let choice = self.choice;
            self.send(Event::Token {
                choice,
                token,
                text,
            });
            if self.text.ending().is_some() {
                self.finish(String::new());
            } else if self.left == 0 {
                self.end(Ending::Length);
            }
            Ok(())
        });
        if let Err(error) = result {
            fail(&self.job, &error.to_string());
            self.is_running = false;
        }
    }

    /// Ends the text.
    pub(super) fn end(&mut self, ending: Ending) {
        match self.text.end(ending) {
            Ok(text) => self.finish(text),
            Err(error) => {
                fail(&self.job, &error.to_string());
                self.is_running = false;
            }
        }
    }

    fn finish(&mut self, text: String) {
        let choice = self.choice;
        let ending = self.text.ending().unwrap_or(Ending::Length);
        self.send(Event::End {
            choice,
            text,
            ending,
        });
        self.is_running = false;
    }

    fn send(&mut self, event: Event) {
        if self.job.reply.send(event).is_err() {
            self.is_running = false;
        }
    }
}

/// Answers a request with a failure of the computation.
pub(super) fn fail(job: &Job, reason: &str) {
    let reason = foretoken_datasets::files::printable(reason);
    let failure = Failure::new(500, format!("the computation failed: {reason}"));
    let _ = job.reply.send(Event::Failed(failure));
}
