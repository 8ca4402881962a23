//! Prompts to texts: what surrounds the model's own generation of token ids.

mod stop;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use foretoken_datasets::{TextStream, Tokenizer};
use foretoken_model::{GenerationConfig, Sampler, SamplingConfig, Transformer, generate};
use serde::Serialize;

use crate::Error;
use crate::engine::memory::refuse_generating;
use stop::StopStrings;

/// How to continue prompts.
#[derive(Debug, Clone)]
pub struct TextGeneration {
    /// How far, and what to do where a text outgrows the context.
    pub generation: GenerationConfig,
    /// How tokens are chosen.
    pub sampling: SamplingConfig,
    /// Decides every draw, together with the number of a sample.
    pub seed: u64,
    /// Texts drawn for each prompt.
    pub samples: usize,
    /// A text ends before the first of these.
    pub stop: Vec<String>,
    /// A text ends with the first of these tokens, which are not part of it.
    pub end_of_text: Vec<u32>,
}

/// Why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It has as many tokens as were asked for.
    Length,
    /// A stop string came.
    Stop,
    /// The model ended it.
    EndOfText,
    /// The user, or whoever reads it, wanted no more.
    Interrupted,
}

/// What follows a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Continuation {
    /// Which of the prompts, from 0.
    pub prompt: usize,
    /// Which of its samples, from 0.
    pub sample: usize,
    /// The text, as far as it goes.
    pub text: String,
    /// Every token that was drawn, also those that ended the text.
    pub tokens: Vec<u32>,
    /// Why it ends.
    pub ending: Ending,
}

/// The texts of one call, and how long they took.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Sample by sample of the first prompt, then of the next.
    pub continuations: Vec<Continuation>,
    /// Tokens of all prompts, each once per sample.
    pub prompt_tokens: usize,
    /// From the start to the first token of each text.
    pub prefill: Duration,
    /// From there to the end.
    pub decode: Duration,
}

impl Generated {
    /// Tokens of prompts read per second.
    pub fn prefill_speed(&self) -> f64 {
        self.prompt_tokens as f64 / self.prefill.as_secs_f64()
    }

    /// Tokens per second, of all texts together, after the first of each; `None` where there is no second.
    pub fn decode_speed(&self) -> Option<f64> {
        let tokens = self.continuations.iter().map(|text| text.tokens.len());
        let later: usize = tokens.map(|tokens| tokens.saturating_sub(1)).sum();
        (later > 0).then(|| later as f64 / self.decode.as_secs_f64())
    }
}

/// What happens to a text while it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A token has come, and with it this much text; none where it may be the beginning of a character or of a stop
    /// string.
    Text(&'a str),
    /// It has ended.
    End,
}

impl TextGeneration {
    /// Continues every prompt, given as token ids, as often as asked, in one batch. `on_event(row, event)` sees
    /// the texts grow, and ends all of them with [`ControlFlow::Break`]. A row is a sample of a prompt, in the
    /// order of [`Generated::continuations`].
    ///
    /// A text is a function of model, prompt, settings, seed and the number of its sample: prompts and samples beside
    /// it do not change it, but for rounding.
    ///
    /// # Errors
    ///
    /// When a setting means nothing, a prompt is empty or too long, the machine's memory cannot hold so many texts, or the
    /// model fails.
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
        refuse_generating(model.config(), texts, longest, &model.device())?;
        let mut rows = self.rows(tokenizer, prompts)?;
        let mut samplers = rows
            .iter()
            .map(|row| Sampler::nth(self.sampling.clone(), self.seed, row.sample))
            .collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<Vec<u32>> = rows.iter().map(|row| prompts[row.prompt].clone()).collect();

        let mut first_tokens = started;
        let mut without_token = rows.len();
        let mut failure = None;
        let mut unwanted = false;
        let on_token = |number: usize, token: u32| {
            if without_token > 0 {
                without_token -= 1;
                first_tokens = Instant::now();
            }
            let row = &mut rows[number];
            if !unwanted && failure.is_none() {
                let new = match self.end_of_text.contains(&token) {
                    true => row.end(Ending::EndOfText),
                    false => row.push(token),
                };
                match new {
                    Ok(new) => unwanted = row.report(number, &new, &mut on_event).is_break(),
                    Err(error) => failure = Some(error),
                }
            }
            match row.ending.is_some() || unwanted || failure.is_some() {
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
            if row.ending.is_some() {
                continue;
            }
            if unwanted {
                row.end(Ending::Interrupted)?;
            } else {
                let new = row.end(Ending::Length)?;
                unwanted = row.report(number, &new, &mut on_event).is_break();
            }
        }
        let continuations = rows.into_iter().zip(tokens);
        Ok(Generated {
            continuations: continuations
                .map(|(row, tokens)| row.ended(tokens))
                .collect(),
            prompt_tokens: texts.iter().map(Vec::len).sum(),
            prefill: first_tokens - started,
            decode: finished - first_tokens,
        })
    }

    /// A row for each sample of each prompt.
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
                    stream: tokenizer.stream(ids)?,
                    stop: StopStrings::new(&self.stop),
                    text: String::new(),
                    ending: None,
                });
            }
        }
        Ok(rows)
    }
}

/// A text that grows.
struct Row<'r> {
    prompt: usize,
    sample: usize,
    stream: TextStream<'r>,
    stop: StopStrings<'r>,
    text: String,
    ending: Option<Ending>,
}

impl Row<'_> {
    /// The text that a token makes certain.
    fn push(&mut self, token: u32) -> Result<String, Error> {
        let (new, stopped) = self.stop.push(&self.stream.push(token)?);
        if stopped {
            self.ending = Some(Ending::Stop);
        }
        self.text += &new;
        Ok(new)
    }

    /// The text that was held back, if the text ends here. It may hold a stop string, too.
    fn end(&mut self, ending: Ending) -> Result<String, Error> {
        let (mut new, stopped) = self.stop.push(&self.stream.finish()?);
        if !stopped {
            new += &self.stop.finish();
        }
        self.ending = Some(if stopped { Ending::Stop } else { ending });
        self.text += &new;
        Ok(new)
    }

    /// Reports new text, and the end where that has come.
    fn report(
        &self,
        number: usize,
        new: &str,
        on_event: &mut impl FnMut(usize, Event<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        on_event(number, Event::Text(new))?;
        match self.ending {
            Some(_) => on_event(number, Event::End),
            None => ControlFlow::Continue(()),
        }
    }

    /// The whole of it; `tokens` are those that were drawn.
    fn ended(self, tokens: Vec<u32>) -> Continuation {
        Continuation {
            prompt: self.prompt,
            sample: self.sample,
            text: self.text,
            tokens,
            ending: self.ending.unwrap_or(Ending::Length),
        }
    }
}
