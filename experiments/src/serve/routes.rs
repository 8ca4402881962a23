//! Paths of the interface and their answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel};
use std::sync::{Mutex, PoisonError};

use foretoken_datasets::Tokenizer;
use foretoken_datasets::files::printable;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Envelope, now, streamed, whole};
use super::completion::Completion;
use super::failure::Failure;
use super::http::{Connection, Request};
use super::row::{Event, Job};
use crate::Error;
use crate::record::source::Source;

/// State that the threads of connections share.
pub(super) struct Shared {
    pub(super) source: Source,
    /// Name of the model in answers.
    pub(super) name: String,
    pub(super) started: u64,
    pub(super) jobs: SyncSender<Job>,
    pub(super) connections: AtomicUsize,
    pub(super) answered: AtomicUsize,
    /// Held while a body is parsed, so that large bodies do not unfold in memory side by side.
    pub(super) parsing: Mutex<()>,
}

/// Answer to a request that is not refused.
pub(super) enum Answer {
    Whole(String),
    Stream(Box<Completion>),
}

/// Answers a request, or begins to if the answer is streamed.
pub(super) fn route(request: &Request, shared: &Shared) -> Result<Answer, Failure> {
    let tokenizer = tokenizer(shared)?;
    let path = match request.path.len() {
        // A slash at the end is as good as none.
        2.. => request.path.trim_end_matches('/'),
        _ => &request.path,
    };
    let body = match (request.method.as_str(), path) {
        ("POST", "/v1/completions") => {
            let completion = {
                let _guard = shared
                    .parsing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                Completion::read(&request.body, &shared.source)?
            };
            if completion.stream {
                return Ok(Answer::Stream(Box::new(completion)));
            }
            let events = queue(completion.clone(), shared)?;
            whole(&completion, &events, &envelope(shared), tokenizer)?
        }
        ("GET", "/v1/models") => json!({
            "object": "list",
            "data": [{
                "id": shared.name,
                "object": "model",
                "created": shared.started,
                "owned_by": "foretoken",
                "max_model_len": shared.source.config().context,
            }],
        })
        .to_string(),
        ("GET", "/health") => "{}".into(),
        ("GET", "/tokenizer_info") => tokenizer_info(shared)?,
        ("POST", "/tokenize") => tokenize(&request.body, shared)?,
        ("POST", "/detokenize") => detokenize(&request.body, tokenizer)?,
        (method, "/v1/completions" | "/tokenize" | "/detokenize") => {
            return Err(Failure::new(
                405,
                format!("{path} answers POST, not {}", printable(method)),
            ));
        }
        (method, "/v1/models" | "/health" | "/tokenizer_info") => {
            return Err(Failure::new(
                405,
                format!("{path} answers GET, not {}", printable(method)),
            ));
        }
        (_, path) => {
            let message = format!(
                "there is no {}; there are /v1/completions, /v1/models, /tokenize, /detokenize, /tokenizer_info, /health",
                printable(&path.chars().take(80).collect::<String>())
            );
            return Err(Failure::new(404, message));
        }
    };
    Ok(Answer::Whole(body))
}

fn tokenizer(shared: &Shared) -> Result<&Tokenizer, Failure> {
    let tokenizer = shared.source.tokenizer();
    tokenizer.map_err(|error| Failure::new(500, printable(&error.to_string())))
}

fn envelope(shared: &Shared) -> Envelope<'_> {
    Envelope {
        id: format!(
            "cmpl-{}-{}",
            shared.started,
            shared.answered.load(Ordering::Relaxed)
        ),
        model: &shared.name,
        created: now(),
    }
}

/// Hands a request to the engine, and returns where its answer arrives.
fn queue(completion: Completion, shared: &Shared) -> Result<Receiver<Event>, Failure> {
    let (reply, events) = channel();
    let queued = shared.jobs.try_send(Job { completion, reply });
    queued.map(|()| events).map_err(|error| match error {
        TrySendError::Full(_) => Failure::new(503, "too many requests wait; try again later"),
        TrySendError::Disconnected(_) => Failure::new(503, "the server stops"),
    })
}

/// Sends an answer token by token.
pub(super) fn stream_answer(
    connection: &mut Connection,
    completion: Box<Completion>,
    shared: &Shared,
    keep_alive: bool,
) -> std::io::Result<()> {
    let events = match queue(completion.as_ref().clone(), shared) {
        Ok(events) => events,
        Err(failure) => return connection.respond(failure.status, &failure.body(), keep_alive),
    };
    let Ok(tokenizer) = tokenizer(shared) else {
        return Ok(());
    };
    connection.begin_events(keep_alive)?;
    streamed(&completion, &events, &envelope(shared), tokenizer, |data| {
        connection.event(data)
    })?;
    connection.end_events()
}

/// Describes the tokenizer as vLLM does, whose clients then need none of their own.
fn tokenizer_info(shared: &Shared) -> Result<String, Failure> {
    let tokenizer = tokenizer(shared)?;
    let failed = |error: Error| Failure::new(500, printable(&error.to_string()));
    let start = shared.source.start_of_text().map_err(failed)?;
    let end = shared.source.end_of_text();
    let name = |ids: &[u32]| ids.first().map(|id| tokenizer.token_text(*id));
    Ok(json!({
        "tokenizer_class": "foretoken",
        "bos_token": name(&start),
        "eos_token": name(&end),
        "pad_token": null,
        "chat_template": null,
        "model_max_length": shared.source.config().context,
    })
    .to_string())
}

fn tokenize(body: &[u8], shared: &Shared) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Body {
        prompt: String,
        #[serde(default = "yes")]
        add_special_tokens: bool,
    }
    fn yes() -> bool {
        true
    }
    let body: Body = serde_json::from_slice(body).map_err(malformed)?;
    let failed = |error: Error| Failure::invalid(Some("prompt"), printable(&error.to_string()));
    let tokens = match body.add_special_tokens {
        true => shared.source.prompt(&body.prompt).map_err(failed)?,
        false => {
            let tokens = tokenizer(shared)?.encode_with_special_tokens(&body.prompt);
            tokens.map_err(|error| failed(error.into()))?
        }
    };
    let (count, context) = (tokens.len(), shared.source.config().context);
    Ok(json!({ "tokens": tokens, "count": count, "max_model_len": context }).to_string())
}

fn detokenize(body: &[u8], tokenizer: &Tokenizer) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Body {
        tokens: Vec<u32>,
    }
    let body: Body = serde_json::from_slice(body).map_err(malformed)?;
    let text = tokenizer.decode(&body.tokens);
    let text =
        text.map_err(|error| Failure::invalid(Some("tokens"), printable(&error.to_string())))?;
    Ok(json!({ "prompt": text }).to_string())
}

fn malformed(error: serde_json::Error) -> Failure {
    Failure::invalid(None, printable(&error.to_string()))
}
