//! Answers to requests, in the format of OpenAI's interface.
//!
//! An answer is held as numbers, and its JSON is written while it is sent: the JSON of many alternatives is many times as
//! long. Choices of one prompt share its probabilities.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use foretoken_datasets::Tokenizer;
use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::completion::Prompt;
use super::event::Event;
use super::failure::Failure;
use super::job::Job;
use super::probabilities::TokenProbability;
use crate::text::generation::Ending;

/// Keys that all parts of an answer have.
pub(super) struct Envelope<'s> {
    pub(super) id: String,
    pub(super) model: &'s str,
    pub(super) created: u64,
}

/// Returns the seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A choice while its parts arrive.
#[derive(Default)]
struct Choice {
    /// Text that was drawn. Of a streamed answer this and the tokens are what is not sent yet.
    text: String,
    tokens: Vec<TokenProbability>,
    ending: Option<Ending>,
    drawn: usize,
    /// Whether the prompt is sent, which a streamed answer with `echo` begins with.
    is_begun: bool,
    /// Characters of text that are sent.
    characters: usize,
}

/// An answer while its parts arrive. It serializes as the JSON of the whole.
pub(super) struct Growing<'s> {
    job: Arc<Job>,
    tokenizer: &'s Tokenizer,
    envelope: Envelope<'s>,
    /// Probabilities of the tokens of prompts, as far as they are part of the answer.
    prompts: Vec<Vec<TokenProbability>>,
    choices: Vec<Choice>,
    /// Number of choices that have not ended.
    left: usize,
}

impl<'s> Growing<'s> {
    pub(super) fn new(job: Arc<Job>, envelope: Envelope<'s>, tokenizer: &'s Tokenizer) -> Self {
        let prompts = job.completion.prompts.len();
        let choices = prompts * job.completion.n;
        Self {
            job,
            tokenizer,
            envelope,
            prompts: (0..prompts).map(|_| Vec::new()).collect(),
            choices: (0..choices).map(|_| Choice::default()).collect(),
            left: choices,
        }
    }

    /// Returns whether all choices have ended.
    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Adds a part, and returns the choice that has grown or ended by it.
    pub(super) fn add(&mut self, event: Event) -> Result<Option<usize>, Failure> {
        match event {
            Event::Prompt(prompt, tokens) => {
                self.prompts[prompt] = tokens;
                Ok(None)
            }
            Event::Token {
                choice: index,
                token,
                text,
            } => {
                let choice = &mut self.choices[index];
                choice.text += &text;
                choice.drawn += 1;
                if self.job.completion.logprobs.is_some() {
                    choice.tokens.push(token);
                }
                Ok(Some(index))
            }
            Event::End {
                choice: index,
                text,
                ending,
            } => {
                let choice = &mut self.choices[index];
                choice.text += &text;
                choice.ending = Some(ending);
                self.left -= 1;
                Ok(Some(index))
            }
            Event::Failed(failure) => Err(failure),
        }
    }

    /// Returns the JSON of what has arrived of a choice since the last call.
    pub(super) fn part(&mut self, index: usize) -> Result<String, serde_json::Error> {
        let part = self.choice(index);
        let characters = part.logprobs.as_ref().map(|logprobs| logprobs.characters);
        let json = serde_json::to_string(&Response {
            envelope: &self.envelope,
            choices: &[part][..],
            usage: None,
        })?;
        let choice = &mut self.choices[index];
        choice.is_begun = true;
        choice.characters = characters.unwrap_or_default();
        choice.text.clear();
        choice.tokens.clear();
        Ok(json)
    }

    /// Returns what is not sent yet of a choice.
    fn choice(&self, index: usize) -> Part<'_> {
        let completion = &self.job.completion;
        let choice = &self.choices[index];
        let prompt = index / completion.n;
        let echoed = (completion.echo && !choice.is_begun).then(|| &completion.prompts[prompt]);
        let text = match echoed {
            Some(prompt) => Cow::Owned([prompt.text.as_str(), &choice.text].concat()),
            None => Cow::Borrowed(choice.text.as_str()),
        };
        let logprobs = completion.logprobs.map(|_| {
            let mut logprobs = Logprobs::new(self.tokenizer, choice.characters);
            if let Some(echoed) = echoed {
                logprobs.add_prompt(echoed, &self.prompts[prompt]);
            }
            let kept = logprobs.tokens.len();
            logprobs.add(&choice.tokens);
            if choice.ending == Some(Ending::Stop) && !completion.stream {
                logprobs.cut(text.chars().count(), kept);
            }
            logprobs
        });
        Part {
            text,
            index,
            logprobs,
            finish_reason: finish_reason(choice.ending),
        }
    }
}

impl Serialize for Growing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let prompts = self.job.completion.prompts.iter();
        let prompt_tokens: usize = prompts.map(|prompt| prompt.ids.len()).sum();
        let drawn: usize = self.choices.iter().map(|choice| choice.drawn).sum();
        let response = Response {
            envelope: &self.envelope,
            choices: Sequence(|| (0..self.choices.len()).map(|index| self.choice(index))),
            usage: Some(Usage {
                prompt_tokens,
                completion_tokens: drawn,
                total_tokens: prompt_tokens + drawn,
            }),
        };
        response.serialize(serializer)
    }
}

/// A whole answer, or a part of a streamed one.
struct Response<'a, C> {
    envelope: &'a Envelope<'a>,
    choices: C,
    usage: Option<Usage>,
}

impl<C: Serialize> Serialize for Response<'_, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = 5 + usize::from(self.usage.is_some());
        let mut object = serializer.serialize_struct("Response", keys)?;
        object.serialize_field("id", &self.envelope.id)?;
        object.serialize_field("object", "text_completion")?;
        object.serialize_field("created", &self.envelope.created)?;
        object.serialize_field("model", self.envelope.model)?;
        object.serialize_field("choices", &self.choices)?;
        if let Some(usage) = &self.usage {
            object.serialize_field("usage", usage)?;
        }
        object.end()
    }
}

#[derive(serde::Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

/// A choice, or a part of it.
#[derive(serde::Serialize)]
struct Part<'a> {
    text: Cow<'a, str>,
    index: usize,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

fn finish_reason(ending: Option<Ending>) -> Option<&'static str> {
    ending.map(|ending| match ending {
        Ending::Length => "length",
        _ => "stop",
    })
}

/// The object `logprobs` of a choice.
struct Logprobs<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens with the number of characters before them.
    tokens: Vec<(&'a TokenProbability, usize)>,
    /// Number of characters of text so far.
    characters: usize,
}

impl<'a> Logprobs<'a> {
    fn new(tokenizer: &'a Tokenizer, characters: usize) -> Self {
        Self {
            tokenizer,
            tokens: Vec::new(),
            characters,
        }
    }

    fn add(&mut self, tokens: &'a [TokenProbability]) {
        for token in tokens {
            self.tokens.push((token, self.characters));
            self.characters += characters(token.id, self.tokenizer);
        }
    }

    /// Adds the tokens of a prompt. The text has none of the characters of those that were added to it.
    fn add_prompt(&mut self, prompt: &Prompt, tokens: &'a [TokenProbability]) {
        let (added, of_text) = tokens.split_at(prompt.added.min(tokens.len()));
        self.tokens
            .extend(added.iter().map(|token| (token, self.characters)));
        self.add(of_text);
    }

    /// Removes the tokens after the first `kept` that begin behind the end of the text, which a stop string has cut.
    fn cut(&mut self, characters: usize, kept: usize) {
        let behind = |place: &usize| self.tokens[*place].1 >= characters;
        if let Some(end) = (kept..self.tokens.len()).find(behind) {
            self.tokens.truncate(end);
        }
    }
}

impl Serialize for Logprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokens = || self.tokens.iter();
        let names = Sequence(|| tokens().map(|(token, _)| name(token.id, self.tokenizer)));
        let own = Sequence(|| tokens().map(|(token, _)| token.log_probability));
        let top = Sequence(|| {
            tokens().map(|(token, _)| {
                let own = token.log_probability?;
                let tokenizer = self.tokenizer;
                Some(Alternatives {
                    token,
                    own,
                    tokenizer,
                })
            })
        });
        let offsets = Sequence(|| tokens().map(|(_, offset)| *offset));
        let mut object = serializer.serialize_struct("Logprobs", 4)?;
        object.serialize_field("tokens", &names)?;
        object.serialize_field("token_logprobs", &own)?;
        object.serialize_field("top_logprobs", &top)?;
        object.serialize_field("text_offset", &offsets)?;
        object.end()
    }
}

/// The alternatives to a token by name. The token itself is always listed.
struct Alternatives<'a> {
    token: &'a TokenProbability,
    /// ln p of the token.
    own: f64,
    tokenizer: &'a Tokenizer,
}

impl Serialize for Alternatives<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        // Different tokens can have one name; the most probable keeps it.
        let mut names = BTreeSet::new();
        for (id, nats) in self.token.top.iter().chain([&(self.token.id, self.own)]) {
            let name = name(*id, self.tokenizer);
            if !names.contains(&name) {
                object.serialize_entry(&name, nats)?;
                names.insert(name);
            }
        }
        object.end()
    }
}

/// A list that is written from an iterator.
struct Sequence<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Sequence<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Returns the name of a token: its text, or its bytes if they are a part of a character.
fn name(id: u32, tokenizer: &Tokenizer) -> String {
    if id as usize >= tokenizer.vocab_size() {
        return format!("token:{id}");
    }
    let bytes = tokenizer.token_bytes(id);
    match str::from_utf8(bytes) {
        Ok("") => tokenizer.token_text(id),
        Ok(text) => text.into(),
        Err(_) => {
            let bytes = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

/// Returns the number of characters that begin in a token.
fn characters(id: u32, tokenizer: &Tokenizer) -> usize {
    if id as usize >= tokenizer.vocab_size() {
        return 0;
    }
    match tokenizer.token_bytes(id) {
        [] => tokenizer.token_text(id).chars().count(),
        bytes => bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count(),
    }
}
