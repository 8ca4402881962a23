//! Connections and routes.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use foretoken_datasets::Tokenizer;
use foretoken_datasets::files::printable;
use foretoken_model::Transformer;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Envelope, now, streamed, whole};
use super::completion::Completion;
use super::engine::{Engine, Job};
use super::failure::Failure;
use super::http::{Connection, Fault, Request, TimeLimits};
use crate::Error;
use crate::engine::memory::refuse_streams;
use crate::record::source::Source;

/// Maximum number of connections at a time. Others are told to come back.
pub const MAX_CONNECTIONS: usize = 64;

/// Number of connections beyond the limit that are told so.
const TURNED_AWAY: usize = 32;

/// Maximum number of requests that wait to be computed.
const MAX_WAITING: usize = 2 * MAX_CONNECTIONS;

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    batch: usize,
}

/// What the threads of connections share.
struct Shared {
    source: Source,
    /// Name of the model in answers.
    name: String,
    started: u64,
    jobs: SyncSender<Job>,
    connections: AtomicUsize,
    answered: AtomicUsize,
    /// Held while a body is parsed, so that large bodies do not unfold in memory side by side.
    parsing: Mutex<()>,
}

impl Server {
    /// Listens on an address for requests to the model of `source`. At most `batch` texts will be continued side by side.
    ///
    /// # Errors
    ///
    /// Returns an error if the model has no tokenizer, or the address cannot be used.
    pub fn bind(source: Source, host: IpAddr, port: u16, batch: usize) -> Result<Self, Error> {
        source.tokenizer()?;
        let address = SocketAddr::new(host, port);
        let listener = TcpListener::bind(address).map_err(|error| Error::Experiment {
            origin: "--host, --port".into(),
            message: format!(
                "cannot listen on {address} ({error}); choose another port, or 0 for any"
            ),
        })?;
        let (sender, jobs) = sync_channel(MAX_WAITING);
        let shared = Shared {
            name: source.path().display().to_string(),
            source,
            started: now(),
            jobs: sender,
            connections: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            parsing: Mutex::new(()),
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
            jobs,
            batch,
        })
    }

    /// Returns the address, with the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    ///
    /// Returns an error of the system.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        let failed =
            |error: std::io::Error| Error::Evaluation(format!("the socket failed: {error}"));
        self.listener.local_addr().map_err(failed)
    }

    /// Returns the model's source.
    pub fn source(&self) -> &Source {
        &self.shared.source
    }

    /// Answers requests with the model, which is that of the [source](Self::source), until `interrupt` is set. Returns the
    /// number of requests that were answered. Requests under way are given up.
    ///
    /// # Errors
    ///
    /// Returns an error if the device's memory cannot hold the texts of a batch, or no thread can be started.
    pub fn run(self, model: &Transformer, interrupt: &AtomicBool) -> Result<usize, Error> {
        let Self {
            listener,
            shared,
            jobs,
            batch,
        } = self;
        refuse_streams("--batch", model.config(), batch, &model.device())?;
        let source = &shared.source;
        let mut engine = Engine::new(model, source.tokenizer()?, source.end_of_text(), batch);
        let of_listener = shared.clone();
        thread::Builder::new()
            .name("listener".into())
            .spawn(move || listen(&listener, &of_listener))
            .map_err(|error| Error::Evaluation(format!("no thread can be started: {error}")))?;
        engine.run(&jobs, interrupt);
        Ok(shared.answered.load(Ordering::Relaxed))
    }
}

/// Gives each connection a thread.
fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Such as too many open files, which passes.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        let (place, others) = Place::take(shared);
        let work = move || match others {
            0..MAX_CONNECTIONS => connected(stream, &place.0),
            _ => turn_away(stream),
        };
        // Beyond these a connection is closed without a word.
        if others < MAX_CONNECTIONS + TURNED_AWAY {
            let _ = thread::Builder::new().name("connection".into()).spawn(work);
        }
    }
}

/// One of the places of connections, which is free again when it is dropped.
struct Place(Arc<Shared>);

impl Place {
    /// Takes a place, and returns the number of those that are taken already.
    fn take(shared: &Arc<Shared>) -> (Self, usize) {
        let others = shared.connections.fetch_add(1, Ordering::SeqCst);
        (Self(shared.clone()), others)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

fn turn_away(stream: TcpStream) {
    let message = format!("{MAX_CONNECTIONS} clients are connected, the limit; try again later");
    let failure = Failure::new(503, message);
    let mut connection = Connection::new(stream, TimeLimits::default());
    let _ = connection.respond(failure.status, &failure.body(), false);
    connection.close();
}

/// Answers the requests of a connection.
fn connected(stream: TcpStream, shared: &Shared) {
    let mut connection = Connection::new(stream, TimeLimits::default());
    loop {
        let request = match connection.request() {
            Ok(request) => request,
            Err(Fault::Gone) => return,
            Err(Fault::Refused(status, message)) => {
                let failure = Failure::new(status, message);
                let _ = connection.respond(failure.status, &failure.body(), false);
                return connection.close();
            }
        };
        let keep_alive = request.keep_alive;
        let done = match route(&request, shared) {
            Ok(Answer::Whole(body)) => connection.respond(200, &body, keep_alive),
            Ok(Answer::Stream(completion)) => {
                stream_answer(&mut connection, completion, shared, keep_alive)
            }
            Err(failure) => connection.respond(failure.status, &failure.body(), keep_alive),
        };
        shared.answered.fetch_add(1, Ordering::Relaxed);
        if done.is_err() || !keep_alive {
            return connection.close();
        }
    }
}

enum Answer {
    Whole(String),
    Stream(Box<Completion>),
}

fn route(request: &Request, shared: &Shared) -> Result<Answer, Failure> {
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
fn queue(
    completion: Completion,
    shared: &Shared,
) -> Result<Receiver<super::engine::Event>, Failure> {
    let (reply, events) = channel();
    let queued = shared.jobs.try_send(Job { completion, reply });
    queued.map(|()| events).map_err(|error| match error {
        TrySendError::Full(_) => Failure::new(503, "too many requests wait; try again later"),
        TrySendError::Disconnected(_) => Failure::new(503, "the server stops"),
    })
}

fn stream_answer(
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
