//! Requests for completions: the JSON of OpenAI's `/v1/completions`, checked against the model.

use std::sync::Arc;

use foretoken_datasets::files::printable;
use foretoken_model::{ModelError, SamplingConfig};

use super::event::Event;
use super::failure::Failure;
use super::given::{Fields, Given, wrong};
use super::probabilities::TokenProbability;
use crate::record::source::Source;

/// Maximum number of choices of a request: prompts times `n`.
pub const MAX_CHOICES: usize = 512;

/// Maximum number of alternatives that `logprobs` lists for each token.
pub const MAX_LOGPROBS: usize = 20;

/// Maximum number of stop strings.
const MAX_STOPS: usize = 32;

/// Maximum number of bytes in a stop string.
const MAX_STOP_BYTES: usize = 1024;

/// Forms of `prompt`.
const FORMS: &str =
    "a string, a list of strings, a list of token ids, or a list of lists of token ids";

/// Bytes of a choice without its tokens: its text, its generator of random numbers, and what the allocator adds.
const CHOICE_BYTES: usize = 2048;

/// Bytes that the allocator adds to a small allocation, and those of a queue to an element.
const ALLOCATION: usize = 32;

/// Prompts of a request, before they are encoded.
enum Prompts {
    Texts(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

/// A prompt, as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Token ids, at least one.
    pub(super) ids: Vec<u32>,
    /// Number of tokens at the start that the text does not contain.
    pub(super) added: usize,
    /// Its text.
    pub(super) text: String,
}

/// A request for completions, as far as it changes the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Completion {
    pub(super) prompts: Vec<Prompt>,
    pub(super) max_tokens: usize,
    /// Number of choices for each prompt.
    pub(super) n: usize,
    pub(super) sampling: SamplingConfig,
    /// Seed of all draws; `None` takes another one each time.
    pub(super) seed: Option<u64>,
    pub(super) stop: Arc<[String]>,
    /// Whether the answer begins with the prompt.
    pub(super) echo: bool,
    /// Number of alternatives for each token; `None` reports no probabilities.
    pub(super) logprobs: Option<usize>,
    pub(super) stream: bool,
}

/// Keys of a request.
const KEYS: [&str; 21] = [
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "n",
    "seed",
    "stop",
    "echo",
    "logprobs",
    "stream",
    "best_of",
    "presence_penalty",
    "frequency_penalty",
    "suffix",
    "logit_bias",
    // These change nothing here, and are ignored.
    "model",
    "user",
    "stream_options",
];

impl Completion {
    /// Reads a request for the model of `source`, whose tokens have at most `longest_token` bytes.
    pub(super) fn read(
        body: &[u8],
        source: &Source,
        longest_token: usize,
    ) -> Result<Self, Failure> {
        let context = source.config().context;
        let mut fields = Fields::read(body, &KEYS)?;
        let n = fields.whole("n", &format!("from 1 to {MAX_CHOICES}"), |n| {
            (1..=MAX_CHOICES as u64).contains(&n)
        })?;
        let n = n.unwrap_or(1);
        refuse_unsupported(&mut fields, n)?;
        let echo = fields.flag("echo")?.unwrap_or(false);
        // A number beyond the context is refused below, in words that clients of OpenAI know.
        let max_tokens = fields.whole("max_tokens", &format!("from 0 to {context}"), |_| true)?;
        let max_tokens = max_tokens.unwrap_or(16);
        let refuse = |key, message: String| Err(Failure::invalid(Some(key), message));
        if max_tokens == 0 && !echo {
            let message = "max_tokens is 0 without echo, so that nothing would be answered";
            return refuse("max_tokens", message.into());
        }
        let logprobs = fields.whole("logprobs", &format!("from 0 to {MAX_LOGPROBS}"), |count| {
            count <= MAX_LOGPROBS as u64
        })?;
        let sampling = sampling(&mut fields)?;
        let stop = stop(&mut fields)?;
        let seed = fields.signed("seed")?.map(|seed| seed as u64);
        let stream = fields.flag("stream")?.unwrap_or(false);
        let prompts = match fields.take("prompt") {
            None => return refuse("prompt", format!("prompt is missing; give {FORMS}")),
            Some(Given::Text(text)) => Prompts::Texts(vec![text]),
            Some(Given::Texts(texts)) => Prompts::Texts(texts),
            Some(Given::Tokens(ids)) => Prompts::Tokens(vec![ids]),
            Some(Given::TokenLists(lists)) => Prompts::Tokens(lists),
            Some(other) => return Err(wrong("prompt", FORMS, &other)),
        };
        let count = match &prompts {
            Prompts::Texts(texts) => texts.len(),
            Prompts::Tokens(lists) => lists.len(),
        };
        if count.saturating_mul(n) > MAX_CHOICES {
            let message = format!("n times the prompts must be from 1 to {MAX_CHOICES}");
            return refuse("n", message);
        }
        let prompts: Result<Vec<Prompt>, Failure> = match prompts {
            Prompts::Texts(texts) => {
                let texts = texts.iter();
                texts
                    .map(|text| of_text(text, source, longest_token))
                    .collect()
            }
            Prompts::Tokens(lists) => lists.into_iter().map(|ids| of_ids(ids, source)).collect(),
        };
        let prompts = prompts?;
        for prompt in &prompts {
            // The last token is never read.
            let read = prompt.ids.len() + max_tokens.saturating_sub(1).min(context + 1);
            if prompt.ids.len() > context || read > context {
                return Err(too_long(
                    format!(
                        "the prompt has {} tokens and max_tokens is {max_tokens}",
                        prompt.ids.len()
                    ),
                    context,
                ));
            }
        }
        Ok(Self {
            prompts,
            max_tokens,
            n,
            sampling,
            seed,
            stop,
            echo,
            logprobs,
            stream,
        })
    }

    /// Returns whether the probabilities of the prompts are part of the answer.
    pub(super) fn scores_prompts(&self) -> bool {
        self.echo && self.logprobs.is_some()
    }

    /// Returns the maximum number of bytes that the request and its answer take until it is sent, if a token has at most
    /// `longest_token` bytes.
    pub(super) fn memory(&self, longest_token: usize) -> usize {
        // Lists of probabilities may have twice the capacity that they need.
        let alternatives = self.logprobs.map_or(0, |count| {
            2 * size_of::<TokenProbability>() + ALLOCATION + count * size_of::<(u32, f64)>()
        });
        // The text of a token is held by the text that grows, by the part on its way, and by the answer.
        let drawn = size_of::<Event>() + ALLOCATION + alternatives + 4 * longest_token;
        let choice = CHOICE_BYTES + self.max_tokens.saturating_mul(drawn);
        let prompts = self.prompts.iter().map(|prompt| {
            let tokens = prompt.ids.len();
            let scored = match self.scores_prompts() {
                true => tokens.saturating_mul(alternatives),
                false => 0,
            };
            // Each choice has the ids twice, for the model and for the decoder of its text.
            let of_choices = choice
                .saturating_add(4 * tokens * size_of::<u32>())
                .saturating_mul(self.n);
            let own = size_of::<Prompt>() + tokens * size_of::<u32>() + prompt.text.len();
            scored.saturating_add(of_choices).saturating_add(own)
        });
        prompts.fold(0, usize::saturating_add)
    }
}

/// Refuses keys that would change the answer, and are not supported.
fn refuse_unsupported(fields: &mut Fields, n: usize) -> Result<(), Failure> {
    let unsupported = |key| {
        let message = format!("{key} is not supported; leave it out");
        Err(Failure::invalid(Some(key), message))
    };
    for key in ["presence_penalty", "frequency_penalty"] {
        if fields.number(key)?.is_some_and(|penalty| penalty != 0.0) {
            return unsupported(key);
        }
    }
    for (key, unused) in [
        ("suffix", Given::Text(String::new())),
        ("logit_bias", Given::Object { is_empty: true }),
        ("best_of", Given::Number(n.into())),
    ] {
        if fields.take(key).is_some_and(|given| given != unused) {
            return unsupported(key);
        }
    }
    Ok(())
}

fn sampling(fields: &mut Fields) -> Result<SamplingConfig, Failure> {
    let sampling = SamplingConfig {
        repetition_penalty: fields.number("repetition_penalty")?.unwrap_or(1.0),
        temperature: fields.number("temperature")?.unwrap_or(1.0),
        top_k: fields.whole("top_k", "from 1", |count| count >= 1)?,
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
    };
    match sampling.validate() {
        Ok(()) => Ok(sampling),
        Err(error) => {
            let key = match &error {
                ModelError::OutOfRange { name, .. } | ModelError::Zero { name } => Some(*name),
                _ => None,
            };
            Err(Failure::invalid(key, error.to_string()))
        }
    }
}

fn stop(fields: &mut Fields) -> Result<Arc<[String]>, Failure> {
    let stop = match fields.take("stop") {
        None | Some(Given::EmptyList) => Vec::new(),
        Some(Given::Text(stop)) => vec![stop],
        Some(Given::Texts(stops)) => stops,
        Some(other) => return Err(wrong("stop", "a string or a list of strings", &other)),
    };
    let refuse = |message| Err(Failure::invalid(Some("stop"), message));
    if stop.len() > MAX_STOPS {
        return refuse(format!("stop has more than {MAX_STOPS} strings"));
    }
    if stop
        .iter()
        .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
    {
        let message = format!("each stop string must have from 1 to {MAX_STOP_BYTES} bytes");
        return refuse(message);
    }
    Ok(stop.into())
}

fn too_long(what: String, context: usize) -> Failure {
    let message = format!("the model's maximum context length is {context} tokens, but {what}");
    Failure::invalid(Some("prompt"), message)
}

/// Encodes a prompt, unless it is certain to be too long.
fn of_text(text: &str, source: &Source, longest_token: usize) -> Result<Prompt, Failure> {
    let failed =
        |error: crate::Error| Failure::invalid(Some("prompt"), printable(&error.to_string()));
    let tokenizer = source.tokenizer().map_err(failed)?;
    let context = source.config().context;
    if text.len() / longest_token > context {
        let what = format!("the prompt has {} bytes of text", text.len());
        return Err(too_long(what, context));
    }
    let ids = source.prompt(text).map_err(failed)?;
    let own = tokenizer.encode_with_special_tokens(text);
    let own = own.map_err(|error| failed(error.into()))?;
    Ok(Prompt {
        added: ids.len().saturating_sub(own.len()),
        ids,
        text: text.into(),
    })
}

fn of_ids(ids: Vec<u32>, source: &Source) -> Result<Prompt, Failure> {
    let failed = |message: String| Failure::invalid(Some("prompt"), printable(&message));
    let known = source.config().vocab_size;
    if ids.is_empty() {
        return Err(failed("the prompt has no tokens".into()));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= known) {
        return Err(failed(format!(
            "token id {id} is outside the vocabulary of {known} tokens"
        )));
    }
    let context = source.config().context;
    if ids.len() > context {
        let what = format!("the prompt has {} tokens", ids.len());
        return Err(too_long(what, context));
    }
    let tokenizer = source
        .tokenizer()
        .map_err(|error| failed(error.to_string()))?;
    // The model may have more ids than the tokenizer, to make its matrices even.
    let known: Vec<u32> = ids
        .iter()
        .copied()
        .filter(|id| (*id as usize) < tokenizer.vocab_size())
        .collect();
    let text = tokenizer
        .decode(&known)
        .map_err(|error| failed(error.to_string()))?;
    Ok(Prompt {
        ids,
        added: 0,
        text,
    })
}
