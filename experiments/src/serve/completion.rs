//! Requests for completions: the JSON of OpenAI's `/v1/completions`, checked against the model.

use std::fmt;

use foretoken_datasets::files::printable;
use foretoken_model::SamplingConfig;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::failure::Failure;
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

/// What a request asks for.
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

/// The forms of `prompt`.
enum Prompts {
    Texts(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptsVisitor)
    }
}

const FORMS: &str =
    "a string, a list of strings, a list of token ids, or a list of lists of token ids";

struct PromptsVisitor;

impl<'de> Visitor<'de> for PromptsVisitor {
    type Value = Prompts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(FORMS)
    }

    fn visit_str<E>(self, text: &str) -> Result<Prompts, E> {
        Ok(Prompts::Texts(vec![text.into()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts, A::Error> {
        let mixed = || A::Error::custom(format!("prompt mixes kinds; give {FORMS}"));
        let mut prompts = match list.next_element::<Element>()? {
            None => return Err(A::Error::custom("prompt is an empty list")),
            Some(Element::Text(text)) => Prompts::Texts(vec![text]),
            Some(Element::Tokens(ids)) => Prompts::Tokens(vec![ids]),
            Some(Element::Token(first)) => {
                let mut ids = vec![first];
                while let Some(id) = list.next_element::<u32>()? {
                    ids.push(id);
                }
                return Ok(Prompts::Tokens(vec![ids]));
            }
        };
        while let Some(element) = list.next_element::<Element>()? {
            match (&mut prompts, element) {
                (Prompts::Texts(texts), Element::Text(text)) => texts.push(text),
                (Prompts::Tokens(lists), Element::Tokens(ids)) => lists.push(ids),
                _ => return Err(mixed()),
            }
        }
        Ok(prompts)
    }
}

/// An element of a list of prompts.
enum Element {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string, a token id, or a list of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.into()))
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Element, E> {
                let id = u32::try_from(id);
                id.map(Element::Token)
                    .map_err(|_| E::custom("a token id is larger than any vocabulary"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Tokens(ids))
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
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

    fn prompts(json: &str) -> Result<Prompts, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn all_forms_of_prompts_are_read() {
        let texts = |json| match prompts(json) {
            Ok(Prompts::Texts(texts)) => texts,
            _ => panic!("{json}"),
        };
        assert_eq!(texts(r#""""#), [""]);
        assert_eq!(texts(r#"["a", "bc"]"#), ["a", "bc"]);
        let tokens = |json| match prompts(json) {
            Ok(Prompts::Tokens(lists)) => lists,
            _ => panic!("{json}"),
        };
        assert_eq!(tokens("[1, 2]"), [[1, 2]]);
        assert_eq!(tokens("[[1, 2], [], [3]]"), [vec![1, 2], vec![], vec![3]]);
        for json in [
            "1",
            "{}",
            "null",
            "[]",
            "[1, \"a\"]",
            "[\"a\", 1]",
            "[[1], 2]",
            "[[1], \"a\"]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[[[1]]]",
            "[[\"a\"]]",
            "[true]",
        ] {
            assert!(prompts(json).is_err(), "{json}");
        }
    }

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
