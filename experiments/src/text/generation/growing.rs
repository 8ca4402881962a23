//! A text that grows by tokens, until it ends.

use foretoken_datasets::{TextStream, Tokenizer};

use super::Ending;
use super::stop::StopStrings;
use crate::Error;

/// The text that follows a prompt, without the stop string that ends it.
pub(crate) struct GrowingText<'t, S> {
    stream: TextStream<'t>,
    stop: StopStrings<S>,
    text: String,
    ending: Option<Ending>,
}

impl<'t, S: AsRef<[String]>> GrowingText<'t, S> {
    /// Creates an empty text that follows the tokens of a prompt. No stop string may be empty.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer fails.
    pub(crate) fn new(tokenizer: &'t Tokenizer, prompt: &[u32], stop: S) -> Result<Self, Error> {
        Ok(Self {
            stream: tokenizer.stream(prompt)?,
            stop: StopStrings::new(stop),
            text: String::new(),
            ending: None,
        })
    }

    /// Adds a token, and returns the text that is now certain.
    pub(crate) fn push(&mut self, token: u32) -> Result<String, Error> {
        let (new, stopped) = self.stop.push(&self.stream.push(token)?);
        if stopped {
            self.ending = Some(Ending::Stop);
        }
        self.text += &new;
        Ok(new)
    }

    /// Ends the text, and returns what was held back, up to a stop string.
    pub(crate) fn end(&mut self, ending: Ending) -> Result<String, Error> {
        let (mut new, stopped) = self.stop.push(&self.stream.finish()?);
        if !stopped {
            new += &self.stop.finish();
        }
        self.ending = Some(if stopped { Ending::Stop } else { ending });
        self.text += &new;
        Ok(new)
    }

    /// Returns the reason why the text has ended; `None` as long as it grows.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Returns all text that is certain.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
