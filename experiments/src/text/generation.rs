//! Generates texts from prompts: streams text out of the model's token ids, and ends it.

mod growing;
mod stop;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use foretoken_datasets::Tokenizer;
use foretoken_model::{GenerationConfig, Sampler, SamplingConfig, Transformer, generate};
use serde::Serialize;

use crate::Error;
use crate::engine::memory::refuse_generating;
pub(crate) use growing::GrowingText;

/// Settings of text generation.
#[derive(Debug, Clone)]
pub struct TextGeneration {
    /// The number of tokens, and the treatment of texts longer than the context.
    pub generation: GenerationConfig,
    /// The rules by which tokens are drawn.
    pub sampling: SamplingConfig,
    /// The seed of every draw, together with the index of a sample.
    pub seed: u64,
    /// The number of texts for each prompt.
    pub samples: usize,
    /// Stop strings: a text ends before the first of them.
    pub stop: Vec<String>,
    /// Tokens that end a text and are not part of it.
    pub end_of_text: Vec<u32>,
}

/// The reason why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It has the requested number of tokens.
    Length,
    /// It contains a stop string.
    Stop,
    /// The model ended it.
    EndOfText,
    /// The caller ended it.
    Interrupted,
}

/// The text that follows a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Continuation {
    /// The index of the prompt, from 0.
    pub prompt: usize,
    /// The index of the sample of this prompt, from 0.
    pub sample: usize,
    /// The text.
    pub text: String,
    /// Every drawn token, including those that ended the text.
    pub tokens: Vec<u32>,
    /// The reason why it ends.
    pub ending: Ending,
}

/// The texts of one call, and the time that they took.
#[derive(Debug, Clone)]
pub struct Generated {
    /// All samples of the first prompt, then those of the next.
    pub continuations: Vec<Continuation>,
    /// The number of tokens of all prompts, each counted once per sample.
    pub prompt_tokens: usize,
    /// Time from the start until every text has its first token.
    pub prefill: Duration,
    /// Time from then to the end.
    pub decode: Duration,
}

impl Generated {
    /// Returns the prompt tokens read per second.
    pub fn prefill_speed(&self) -> f64 {
        self.prompt_tokens as f64 / self.prefill.as_secs_f64()
    }

    /// Returns the tokens per second of all texts together, without the first token of each; `None` if no text has a
    /// second one.
    pub fn decode_speed(&self) -> Option<f64> {
        let tokens = self.continuations.iter().map(|text| text.tokens.len());
        let later: usize = tokens.map(|tokens| tokens.saturating_sub(1)).sum();
        (later > 0).then(|| later as f64 / self.decode.as_secs_f64())
    }
}

/// An event of a text while it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A token added this text, which is empty if it may begin a character or a stop string.
    Text(&'a str),
    /// The text has ended.
    End,
}

impl TextGeneration {
    /// Draws `samples` continuations of every prompt, given as token ids, in one batch. `on_event(row, event)` is
    /// called while the texts grow, and ends all of them by returning [`ControlFlow::Break`]. A row is a sample of a
    /// prompt, in the order of [`Generated::continuations`].
    ///
    /// A text is a function of model, prompt, settings, seed and the index of its sample. Other prompts and samples of
    /// the batch change it only by rounding.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of range, a prompt is empty or too long, the machine's memory cannot hold
    /// so many texts, or the model fails.
    pub fn run(
        &self,
        model: &Transformer,
        tokenizer: &Tokenizer,
        prompts: &[Vec<u32>],
        mut on_event: impl FnMut(usize, Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        let started = Instant::now();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let texts = prompts.len().saturating_mul(self.samples);
        refuse_generating("--samples", model.config(), texts, longest, &model.device())?;
        let mut rows = self.rows(tokenizer, prompts)?;
        let mut samplers = rows
            .iter()
            .map(|row| Sampler::nth(self.sampling.clone(), self.seed, row.sample))
            .collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<Vec<u32>> = rows.iter().map(|row| prompts[row.prompt].clone()).collect();

        let mut first_tokens = started;
        let mut without_token = rows.len();
        let mut failure = None;
        let mut cancelled = false;
        let on_token = |number: usize, token: u32| {
            if without_token > 0 {
                without_token -= 1;
                first_tokens = Instant::now();
            }
            let row = &mut rows[number];
            if !cancelled && failure.is_none() {
                let new = match self.end_of_text.contains(&token) {
                    true => row.text.end(Ending::EndOfText),
                    false => row.text.push(token),
                };
                match new {
                    Ok(new) => cancelled = row.report(number, &new, &mut on_event).is_break(),
                    Err(error) => failure = Some(error),
                }
            }
            match row.text.ending().is_some() || cancelled || failure.is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let tokens = generate(model, &texts, &self.generation, &mut samplers, on_token)?;
        let finished = Instant::now();
        if let Some(error) = failure {
            return Err(error);
        }
        for (number, row) in rows.iter_mut().enumerate() {
            if row.text.ending().is_some() {
                continue;
            }
            if cancelled {
                row.text.end(Ending::Interrupted)?;
            } else {
                let new = row.text.end(Ending::Length)?;
                cancelled = row.report(number, &new, &mut on_event).is_break();
            }
        }
        let continuations = rows.into_iter().zip(tokens);
        Ok(Generated {
            continuations: continuations
                .map(|(row, tokens)| row.into_continuation(tokens))
                .collect(),
            prompt_tokens: texts.iter().map(Vec::len).sum(),
            prefill: first_tokens - started,
            decode: finished - first_tokens,
        })
    }

    /// Returns a row for each sample of each prompt.
    fn rows<'r>(
        &'r self,
        tokenizer: &'r Tokenizer,
        prompts: &[Vec<u32>],
    ) -> Result<Vec<Row<'r>>, Error> {
        let mut rows = Vec::new();
        for (prompt, ids) in prompts.iter().enumerate() {
            for sample in 0..self.samples {
                rows.push(Row {
                    prompt,
                    sample,
                    text: GrowingText::new(tokenizer, ids, &self.stop[..])?,
                });
            }
        }
        Ok(rows)
    }
}

/// A growing text.
struct Row<'r> {
    prompt: usize,
    sample: usize,
    text: GrowingText<'r, &'r [String]>,
}

impl Row<'_> {
    /// Reports new text, and the end if the text has ended.
    fn report(
        &self,
        number: usize,
        new: &str,
        on_event: &mut impl FnMut(usize, Event<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        on_event(number, Event::Text(new))?;
        match self.text.ending() {
            Some(_) => on_event(number, Event::End),
            None => ControlFlow::Continue(()),
        }
    }

    /// Returns the finished text; `tokens` are those that were drawn.
    fn into_continuation(self, tokens: Vec<u32>) -> Continuation {
        Continuation {
            prompt: self.prompt,
            sample: self.sample,
            ending: self.text.ending().unwrap_or(Ending::Length),
            text: self.text.into_text(),
            tokens,
        }
    }
}
