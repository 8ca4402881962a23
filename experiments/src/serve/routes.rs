//! Paths of the interface and their answers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foretoken_datasets::Tokenizer;
use foretoken_datasets::files::printable;
use serde::Serialize;
use serde_json::json;

use super::answer::{Envelope, Growing, now};
use super::budget::{Budget, Reservation};
use super::completion::Completion;
use super::failure::Failure;
use super::given::{Fields, Given, wrong};
use super::http::{Connection, Request};
use super::job::{Incoming, Job, Refusal};
use crate::Error;
use crate::record::source::Source;

/// Bytes that a tokenizer takes for each byte of a text while it encodes it.
const ENCODING: usize = 128;

/// Bytes that a tokenizer takes for each token while it decodes.
const DECODING: usize = 64;

/// State that the threads of connections share.
pub(super) struct Shared {
    pub(super) source: Source,
    /// Name of the model in answers.
    pub(super) name: String,
    pub(super) started: u64,
    /// Maximum number of bytes of a token.
    pub(super) longest_token: usize,
    pub(super) jobs: SyncSender<Arc<Job>>,
    pub(super) connections: AtomicUsize,
    /// Number of requests that are not answered yet.
    pub(super) under_way: AtomicUsize,
    pub(super) answered: AtomicUsize,
    /// Whether the server stops.
    pub(super) stops: AtomicBool,
    pub(super) budget: Arc<Budget>,
    /// Held while a body is parsed, so that large bodies do not unfold in memory side by side.
    pub(super) parsing: Mutex<()>,
}

impl Shared {
    fn parsing(&self) -> MutexGuard<'_, ()> {
        self.parsing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answer to a request that is not refused.
pub(super) enum Answer<'s> {
    Text(String),
    Completion(Growing<'s>, Option<Reservation>),
    Stream(Incoming, Growing<'s>),
    Tokens(Tokens),
    Detokenized(Detokenized),
}

/// Answer of `/tokenize`.
#[derive(Serialize)]
pub(super) struct Tokens {
    tokens: Vec<u32>,
    count: usize,
    max_model_len: usize,
    #[serde(skip)]
    _reservation: Reservation,
}

/// Answer of `/detokenize`.
#[derive(Serialize)]
pub(super) struct Detokenized {
    prompt: String,
    #[serde(skip)]
    _reservation: Reservation,
}

/// Answers a request, or begins to if the answer is streamed.
pub(super) fn route<'s>(
    request: Request,
    connection: &mut Connection,
    shared: &'s Shared,
) -> Result<Answer<'s>, Refusal> {
    let tokenizer = tokenizer(shared)?;
    let path = match request.path.len() {
        // A slash at the end is as good as none.
        2.. => request.path.trim_end_matches('/'),
        _ => &request.path,
    };
    let text = match (request.method.as_str(), path) {
        ("POST", "/v1/completions") => return complete(request.body, connection, shared),
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
        ("POST", "/tokenize") => return Ok(Answer::Tokens(tokenize(&request.body, shared)?)),
        ("POST", "/detokenize") => {
            let detokenized = detokenize(&request.body, shared, tokenizer)?;
            return Ok(Answer::Detokenized(detokenized));
        }
        (method, "/v1/completions" | "/tokenize" | "/detokenize") => {
            let message = format!("{path} answers POST, not {}", printable(method));
            return Err(Failure::new(405, message).into());
        }
        (method, "/v1/models" | "/health" | "/tokenizer_info") => {
            let message = format!("{path} answers GET, not {}", printable(method));
            return Err(Failure::new(405, message).into());
        }
        (_, path) => {
            let message = format!(
                "there is no {}; there are /v1/completions, /v1/models, /tokenize, /detokenize, /tokenizer_info, /health",
                printable(&path.chars().take(80).collect::<String>())
            );
            return Err(Failure::new(404, message).into());
        }
    };
    Ok(Answer::Text(text))
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

/// Completes prompts, or begins to if the answer is streamed.
fn complete<'s>(
    body: Vec<u8>,
    connection: &mut Connection,
    shared: &'s Shared,
) -> Result<Answer<'s>, Refusal> {
    let (completion, reservation) = {
        let _guard = shared.parsing();
        let completion = Completion::read(&body, &shared.source, shared.longest_token)?;
        let bytes = completion.memory(shared.longest_token);
        let advice = "give fewer prompts, or lower max_tokens, n or logprobs";
        (completion, shared.budget.reserve(bytes, advice)?)
    };
    drop(body);
    let is_streamed = completion.stream;
    let mut incoming = Incoming::of(completion, reservation, &shared.jobs)?;
    let mut growing = Growing::new(incoming.job.clone(), envelope(shared), tokenizer(shared)?);
    if is_streamed {
        return Ok(Answer::Stream(incoming, growing));
    }
    while !growing.is_complete() {
        growing.add(incoming.next(connection, &shared.stops)?)?;
    }
    let reservation = incoming.job.take_reservation();
    Ok(Answer::Completion(growing, reservation))
}

/// Sends an answer token by token.
pub(super) fn stream_answer(
    connection: &mut Connection,
    mut incoming: Incoming,
    mut growing: Growing<'_>,
    shared: &Shared,
    keep_alive: bool,
) -> std::io::Result<()> {
    connection.begin_events(keep_alive)?;
    while !growing.is_complete() {
        let part = incoming.next(connection, &shared.stops);
        let grown = part.and_then(|event| Ok(growing.add(event)?));
        match grown {
            Ok(None) => {}
            Ok(Some(index)) => connection.event(&growing.part(index)?)?,
            Err(Refusal::Gone) => return Err(std::io::ErrorKind::BrokenPipe.into()),
            Err(Refusal::Failed(failure)) => {
                connection.event(&failure.body())?;
                return connection.end_events();
            }
        }
    }
    drop(incoming.job.take_reservation());
    connection.event("[DONE]")?;
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

fn tokenize(body: &[u8], shared: &Shared) -> Result<Tokens, Failure> {
    let _guard = shared.parsing();
    let (mut fields, _) = Fields::read_some(body, &["prompt", "add_special_tokens"])?;
    let Some(prompt) = fields.text("prompt")? else {
        let message = "prompt is missing; give a string";
        return Err(Failure::invalid(Some("prompt"), message));
    };
    let bytes = prompt.len().saturating_mul(ENCODING);
    let mut reservation = shared.budget.reserve(bytes, "give a shorter prompt")?;
    let failed = |error: Error| Failure::invalid(Some("prompt"), printable(&error.to_string()));
    let tokens = match fields.flag("add_special_tokens")?.unwrap_or(true) {
        true => shared.source.prompt(&prompt).map_err(failed)?,
        false => {
            let tokens = tokenizer(shared)?.encode_with_special_tokens(&prompt);
            tokens.map_err(|error| failed(error.into()))?
        }
    };
    reservation.shrink(tokens.capacity() * size_of::<u32>());
    Ok(Tokens {
        count: tokens.len(),
        max_model_len: shared.source.config().context,
        tokens,
        _reservation: reservation,
    })
}

fn detokenize(body: &[u8], shared: &Shared, tokenizer: &Tokenizer) -> Result<Detokenized, Failure> {
    let _guard = shared.parsing();
    let (mut fields, _) = Fields::read_some(body, &["tokens"])?;
    let tokens = match fields.take("tokens") {
        Some(Given::EmptyList) => Vec::new(),
        Some(Given::Tokens(tokens)) => tokens,
        Some(other) => return Err(wrong("tokens", "a list of token ids", &other)),
        None => {
            let message = "tokens is missing; give a list of token ids";
            return Err(Failure::invalid(Some("tokens"), message));
        }
    };
    let known = tokens
        .iter()
        .filter(|id| (**id as usize) < tokenizer.vocab_size());
    let bytes: usize = known
        .map(|id| DECODING + 3 * tokenizer.token_bytes(*id).len())
        .sum();
    let mut reservation = shared.budget.reserve(bytes, "give fewer tokens")?;
    let text = tokenizer.decode(&tokens);
    let text =
        text.map_err(|error| Failure::invalid(Some("tokens"), printable(&error.to_string())))?;
    reservation.shrink(text.capacity());
    Ok(Detokenized {
        prompt: text,
        _reservation: reservation,
    })
}
