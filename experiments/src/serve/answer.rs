//! Answers to requests, in the format of OpenAI's interface.

use std::sync::mpsc::Receiver;
use std::time::{SystemTime, UNIX_EPOCH};

use foretoken_datasets::Tokenizer;
use serde_json::{Map, Value, json};

use super::completion::{Completion, Prompt};
use super::failure::Failure;
use super::probabilities::TokenProbability;
use super::row::Event;
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

impl Envelope<'_> {
    fn object(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".into(), self.id.as_str().into());
        object.insert("object".into(), "text_completion".into());
        object.insert("created".into(), self.created.into());
        object.insert("model".into(), self.model.into());
        object.insert("choices".into(), choices.into());
        object
    }
}

/// A choice while its parts arrive.
#[derive(Default)]
struct Choice {
    text: String,
    logprobs: Logprobs,
    ending: Option<Ending>,
    drawn: usize,
}

/// The object `logprobs` of a choice.
#[derive(Default)]
struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
    /// Characters of text so far.
    characters: usize,
}

impl Logprobs {
    /// Adds a token whose text is `characters` long.
    fn push(&mut self, token: &TokenProbability, characters: usize, tokenizer: &Tokenizer) {
        self.tokens.push(name(token.id, tokenizer));
        self.token_logprobs.push(token.log_probability);
        self.top_logprobs
            .push(token.log_probability.map(|log_probability| {
                let mut top = Map::new();
                // Different tokens can have one name; the most probable keeps it. The token itself is always listed.
                for (id, nats) in token.top.iter().chain([&(token.id, log_probability)]) {
                    top.entry(name(*id, tokenizer)).or_insert((*nats).into());
                }
                top
            }));
        self.text_offset.push(self.characters);
        self.characters += characters;
    }

    fn add_prompt(&mut self, prompt: &Prompt, tokens: &[TokenProbability], tokenizer: &Tokenizer) {
        for (place, token) in tokens.iter().enumerate() {
            let characters = match place < prompt.added {
                true => 0,
                false => characters(token.id, tokenizer),
            };
            self.push(token, characters, tokenizer);
        }
    }

    /// Removes the tokens that begin behind the end of the text, which a stop string has cut.
    fn cut(&mut self, characters: usize, kept: usize) {
        let behind = |place: usize| place >= kept && self.text_offset[place] >= characters;
        let end = (0..self.tokens.len()).find(|place| behind(*place));
        let end = end.unwrap_or(self.tokens.len());
        self.tokens.truncate(end);
        self.token_logprobs.truncate(end);
        self.top_logprobs.truncate(end);
        self.text_offset.truncate(end);
    }

    /// Returns the object, and forgets its tokens.
    fn take(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.token_logprobs),
            "top_logprobs": std::mem::take(&mut self.top_logprobs),
            "text_offset": std::mem::take(&mut self.text_offset),
        })
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

fn finish_reason(ending: Option<Ending>) -> Value {
    match ending {
        None => Value::Null,
        Some(Ending::Length) => "length".into(),
        Some(_) => "stop".into(),
    }
}

/// Takes all parts of an answer, and returns its JSON.
pub(super) fn whole(
    completion: &Completion,
    events: &Receiver<Event>,
    envelope: &Envelope<'_>,
    tokenizer: &Tokenizer,
) -> Result<String, Failure> {
    let mut growing = Growing::new(completion, tokenizer);
    while growing.left > 0 {
        growing.take(events)?;
    }
    let drawn: usize = growing.choices.iter().map(|choice| choice.drawn).sum();
    for choice in &mut growing.choices {
        choice.cut();
    }
    let choices = (0..growing.choices.len()).map(|index| growing.part(index));
    let mut object = envelope.object(choices.collect());
    let prompts = completion.prompts.iter();
    let prompts: usize = prompts.map(|prompt| prompt.ids.len()).sum();
    let usage = json!({
        "prompt_tokens": prompts,
        "completion_tokens": drawn,
        "total_tokens": prompts + drawn,
    });
    object.insert("usage".into(), usage);
    Ok(Value::Object(object).to_string())
}

/// Passes the parts of an answer on as they arrive, one JSON object for each token. `send` returns an error if the client
/// is gone.
pub(super) fn streamed(
    completion: &Completion,
    events: &Receiver<Event>,
    envelope: &Envelope<'_>,
    tokenizer: &Tokenizer,
    mut send: impl FnMut(&str) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut growing = Growing::new(completion, tokenizer);
    while growing.left > 0 {
        match growing.take(events) {
            Ok(None) => {}
            Ok(Some(index)) => {
                let part = envelope.object(vec![growing.part(index)]);
                send(&Value::Object(part).to_string())?;
            }
            Err(failure) => return send(&failure.body()),
        }
    }
    send("[DONE]")
}

/// The choices of an answer while their parts arrive.
struct Growing<'c> {
    completion: &'c Completion,
    tokenizer: &'c Tokenizer,
    choices: Vec<Choice>,
    /// Number of choices that have not ended.
    left: usize,
}

impl<'c> Growing<'c> {
    fn new(completion: &'c Completion, tokenizer: &'c Tokenizer) -> Self {
        let begun = |prompt: &Prompt| Choice {
            text: match completion.echo {
                true => prompt.text.clone(),
                false => String::new(),
            },
            ..Choice::default()
        };
        let prompts = completion.prompts.iter();
        let choices: Vec<Choice> = prompts
            .flat_map(|prompt| (0..completion.n).map(move |_| begun(prompt)))
            .collect();
        Self {
            completion,
            tokenizer,
            left: choices.len(),
            choices,
        }
    }

    /// Waits for the next part, and returns the choice that has grown or ended by it.
    fn take(&mut self, events: &Receiver<Event>) -> Result<Option<usize>, Failure> {
        // The engine is gone once the server stops.
        let stopped = |_| Failure::new(503, "the server stops");
        match events.recv().map_err(stopped)? {
            Event::Prompt(prompt, tokens) => {
                let n = self.completion.n;
                let of_prompt = &mut self.choices[prompt * n..(prompt + 1) * n];
                let prompt = &self.completion.prompts[prompt];
                for choice in of_prompt {
                    choice.logprobs.add_prompt(prompt, &tokens, self.tokenizer);
                }
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
                if self.completion.logprobs.is_some() {
                    let characters = characters(token.id, self.tokenizer);
                    choice.logprobs.push(&token, characters, self.tokenizer);
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

    /// Returns what has arrived of a choice since the last call.
    fn part(&mut self, index: usize) -> Value {
        let choice = &mut self.choices[index];
        let logprobs = self.completion.logprobs.map(|_| choice.logprobs.take());
        json!({
            "text": std::mem::take(&mut choice.text),
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish_reason(choice.ending),
        })
    }
}

impl Choice {
    /// Removes the tokens that begin behind the end of the text, which a stop string has cut.
    fn cut(&mut self) {
        if self.ending == Some(Ending::Stop) {
            let of_prompt = self.logprobs.tokens.len().saturating_sub(self.drawn);
            self.logprobs.cut(self.text.chars().count(), of_prompt);
        }
    }
}
