//! Requests for completions: the JSON of OpenAI's `/v1/completions`, checked against the model.

use foretoken_datasets::files::printable;
use foretoken_model::SamplingConfig;
use serde::Deserialize;

use super::failure::Failure;
use super::prompts::{FORMS, Prompts};
use crate::record::source::Source;

/// Maximum number of choices of a request: prompts times `n`.
pub const MAX_CHOICES: usize = 512;

/// Maximum number of alternatives that `logprobs` lists for each token.
pub const MAX_LOGPROBS: usize = 20;

/// Maximum number of stop strings.
const MAX_STOPS: usize = 32;

/// Maximum number of bytes in a stop string.
const MAX_STOP_BYTES: usize = 1024;

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
    pub(super) stop: Vec<String>,
    /// Whether the answer begins with the prompt.
    pub(super) echo: bool,
    /// Number of alternatives for each token; `None` reports no probabilities.
    pub(super) logprobs: Option<usize>,
    pub(super) stream: bool,
}

/// The body of a request. Keys that change nothing here are accepted and ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    prompt: Option<Prompts>,
    max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    n: Option<usize>,
    seed: Option<i64>,
    stop: Option<Stop>,
    echo: Option<bool>,
    logprobs: Option<usize>,
    stream: Option<bool>,
    best_of: Option<usize>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    suffix: Option<String>,
    logit_bias: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(rename = "model")]
    _model: Option<serde::de::IgnoredAny>,
    #[serde(rename = "user")]
    _user: Option<serde::de::IgnoredAny>,
    #[serde(rename = "stream_options")]
    _stream_options: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "stop is a string or a list of strings")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Completion {
    /// Reads a request for the model of `source`.
    pub(super) fn read(body: &[u8], source: &Source) -> Result<Self, Failure> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| Failure::invalid(None, printable(&error.to_string())))?;
        let refuse = |name, message: String| Err(Failure::invalid(Some(name), message));
        for (name, penalty) in [
            ("presence_penalty", body.presence_penalty),
            ("frequency_penalty", body.frequency_penalty),
        ] {
            if penalty.is_some_and(|penalty| penalty != 0.0) {
                return refuse(name, format!("{name} is not supported; leave it out"));
            }
        }
        if body.suffix.is_some_and(|suffix| !suffix.is_empty()) {
            return refuse("suffix", "suffix is not supported; leave it out".into());
        }
        if body.logit_bias.is_some_and(|bias| !bias.is_empty()) {
            return refuse(
                "logit_bias",
                "logit_bias is not supported; leave it out".into(),
            );
        }
        let n = body.n.unwrap_or(1);
        if body.best_of.is_some_and(|best| best != n) {
            return refuse("best_of", "best_of is not supported; leave it out".into());
        }
        let echo = body.echo.unwrap_or(false);
        let max_tokens = body.max_tokens.unwrap_or(16);
        if max_tokens == 0 && !echo {
            let message = "max_tokens is 0 without echo, so that nothing would be answered";
            return refuse("max_tokens", message.into());
        }
        if body.logprobs.is_some_and(|count| count > MAX_LOGPROBS) {
            return refuse("logprobs", format!("logprobs is at most {MAX_LOGPROBS}"));
        }
        let sampling = SamplingConfig {
            repetition_penalty: body.repetition_penalty.unwrap_or(1.0),
            temperature: body.temperature.unwrap_or(1.0),
            top_k: body.top_k,
            top_p: body.top_p,
            min_p: body.min_p,
        };
        sampling
            .validate()
            .map_err(|error| Failure::invalid(None, error.to_string()))?;
        let stop = match body.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Several(stops)) => stops,
        };
        if stop.len() > MAX_STOPS {
            return refuse("stop", format!("stop has more than {MAX_STOPS} strings"));
        }
        if stop
            .iter()
            .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
        {
            let message = format!("each stop string has from 1 to {MAX_STOP_BYTES} bytes");
            return refuse("stop", message);
        }
        let Some(prompts) = body.prompt else {
            return refuse("prompt", format!("prompt is missing; give {FORMS}"));
        };
        let count = match &prompts {
            Prompts::Texts(texts) => texts.len(),
            Prompts::Tokens(lists) => lists.len(),
        };
        if n == 0 || count.saturating_mul(n) > MAX_CHOICES {
            let message = format!("n times the prompts is from 1 to {MAX_CHOICES}");
            return refuse("n", message);
        }
        let prompts: Result<Vec<Prompt>, Failure> = match prompts {
            Prompts::Texts(texts) => texts.iter().map(|text| of_text(text, source)).collect(),
            Prompts::Tokens(lists) => lists.into_iter().map(|ids| of_ids(ids, source)).collect(),
        };
        let prompts = prompts?;
        let context = source.config().context;
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
            seed: body.seed.map(|seed| seed as u64),
            stop,
            echo,
            logprobs: body.logprobs,
            stream: body.stream.unwrap_or(false),
        })
    }
}

fn too_long(what: String, context: usize) -> Failure {
    let message = format!("the model's maximum context length is {context} tokens, but {what}");
    Failure::invalid(Some("prompt"), message)
}

/// Encodes a prompt, unless it is certain to be too long.
fn of_text(text: &str, source: &Source) -> Result<Prompt, Failure> {
    let failed =
        |error: crate::Error| Failure::invalid(Some("prompt"), printable(&error.to_string()));
    let tokenizer = source.tokenizer().map_err(failed)?;
    let context = source.config().context;
    let longest = tokenizer.token_lengths().into_iter().max().unwrap_or(1);
    if text.len() / longest.max(1) > context {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_wrong_types_are_refused() {
        for (json, part) in [
            (r#"{"prompt": "a", "tempreature": 1}"#, "tempreature"),
            (r#"{"prompt": "a", "max_tokens": -1}"#, "-1"),
            (r#"{"prompt": "a", "stop": 5}"#, "stop is a string"),
            (r#"{"prompt": "a", "echo": 1}"#, "boolean"),
            ("{", "EOF"),
        ] {
            let error = serde_json::from_str::<Body>(json).err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
