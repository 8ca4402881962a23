//! A text that grows, and the parts of the answer that it sends.

use std::sync::Arc;

use foretoken_model::Sampler;

use super::event::Event;
use super::job::Job;
use super::probabilities::TokenProbability;
use crate::text::generation::{Ending, GrowingText};

/// A text that grows.
pub(super) struct Row<'t> {
    pub(super) job: Arc<Job>,
    pub(super) choice: usize,
    pub(super) sampler: Sampler,
    /// Prompt and continuation.
    pub(super) ids: Vec<u32>,
    pub(super) text: GrowingText<'t, Arc<[String]>>,
    /// Number of tokens that may still be drawn.
    pub(super) left: usize,
    pub(super) is_running: bool,
}

impl Row<'_> {
    /// Draws the next token. The text ends if that is its last one.
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
            let token = match self.job.completion.logprobs {
                Some(alternatives) => TokenProbability::new(id, logits, alternatives)?,
                None => TokenProbability::first(id),
            };
            self.job.send(Event::Token {
                choice: self.choice,
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
            self.job.fail(&error.to_string());
            self.is_running = false;
        }
    }

    /// Ends the text.
    pub(super) fn end(&mut self, ending: Ending) {
        match self.text.end(ending) {
            Ok(text) => self.finish(text),
            Err(error) => {
                self.job.fail(&error.to_string());
                self.is_running = false;
            }
        }
    }

    fn finish(&mut self, text: String) {
        self.job.send(Event::End {
            choice: self.choice,
            text,
            ending: self.text.ending().unwrap_or(Ending::Length),
        });
        self.is_running = false;
    }
}
