//! The listener, and the threads of connections.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use foretoken_model::Transformer;

use super::answer::now;
use super::budget::Budget;
use super::engine::Engine;
use super::failure::Failure;
use super::http::{Connection, Fault, Request, TimeLimits};
use super::job::{Job, NOTICED_AFTER, Refusal};
use super::routes::{Answer, Shared, route, stream_answer};
use crate::Error;
use crate::engine::memory::refuse_streams;
use crate::record::source::Source;

/// Maximum number of connections at a time. Others are told to come back.
pub const MAX_CONNECTIONS: usize = 64;

/// Number of connections beyond the limit that are told so.
const TURNED_AWAY: usize = 32;

/// Maximum number of requests that wait to be computed.
const MAX_WAITING: usize = 2 * MAX_CONNECTIONS;

/// Time in which requests under way are refused when the server stops, and the computation ends.
const STOPS_WITHIN: Duration = Duration::from_millis(800);

/// Settings of a server.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes any that is free.
    pub port: u16,
    /// Maximum number of texts that are continued side by side.
    pub batch: usize,
    /// Maximum number of bytes that answers take together until they are sent.
    pub answer_memory: usize,
}

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    jobs: Receiver<Arc<Job>>,
    batch: usize,
}

/// A server that has stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    /// Number of requests that were answered.
    pub answered: usize,
    /// Whether a step of the computation still runs on a thread of its own, which nothing can interrupt.
    pub is_computing: bool,
}

impl Server {
    /// Listens for requests to the model of `source`.
    ///
    /// # Errors
    ///
    /// Returns an error if the model has no tokenizer, or the address cannot be used.
    pub fn bind(source: Source, settings: Settings) -> Result<Self, Error> {
        let lengths = source.tokenizer()?.token_lengths();
        let address = SocketAddr::new(settings.host, settings.port);
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
            longest_token: lengths.into_iter().max().unwrap_or(1).max(1),
            jobs: sender,
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            stops: AtomicBool::new(false),
            budget: Arc::new(Budget::new(settings.answer_memory)),
            parsing: Mutex::new(()),
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
            jobs,
            batch: settings.batch,
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

    /// Answers requests with the model, which is that of the [source](Self::source), until `interrupt` is set. Requests
    /// under way are then refused, and the call returns within a second.
    ///
    /// # Errors
    ///
    /// Returns an error if the device's memory cannot hold the texts of a batch, or no thread can be started, or the
    /// computation panics.
    pub fn run(self, model: Transformer, interrupt: &AtomicBool) -> Result<Stopped, Error> {
        let Self {
            listener,
            shared,
            jobs,
            batch,
        } = self;
        refuse_streams("--batch", model.config(), batch, &model.device())?;
        let of_engine = shared.clone();
        let compute = move || {
            let source = &of_engine.source;
            if let Ok(tokenizer) = source.tokenizer() {
                let mut engine = Engine::new(&model, tokenizer, source.end_of_text(), batch);
                engine.run(&jobs, &of_engine.stops);
            }
        };
        // A step cannot be interrupted, so that it runs on a thread that can be left behind.
        let engine = start("engine", compute)?;
        let of_listener = shared.clone();
        start("listener", move || listen(&listener, &of_listener))?;
        while !interrupt.load(Ordering::SeqCst) && !engine.is_finished() {
            thread::sleep(NOTICED_AFTER);
        }
        shared.stops.store(true, Ordering::SeqCst);
        let asked = Instant::now();
        let is_busy = || shared.under_way.load(Ordering::SeqCst) > 0 || !engine.is_finished();
        while is_busy() && asked.elapsed() < STOPS_WITHIN {
            thread::sleep(Duration::from_millis(5));
        }
        let is_computing = !engine.is_finished();
        if !is_computing && engine.join().is_err() {
            return Err(Error::Evaluation("the computation panicked".into()));
        }
        Ok(Stopped {
            answered: shared.answered.load(Ordering::SeqCst),
            is_computing,
        })
    }
}

/// Starts a thread.
fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| Error::Evaluation(format!("no thread can be started: {error}")))
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
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        let goes_on = answer(&mut connection, request, shared);
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
        match goes_on {
            Ok(true) => {}
            Ok(false) => return connection.close(),
            // The client is gone, and its place is free at once.
            Err(_) => return,
        }
    }
}

/// Answers a request, and returns whether the client may send another one.
fn answer(connection: &mut Connection, request: Request, shared: &Shared) -> std::io::Result<bool> {
    let keep_alive = request.keep_alive;
    match route(request, connection, shared) {
        Ok(Answer::Text(body)) => connection.respond(200, &body, keep_alive)?,
        Ok(Answer::Completion(completion, _reservation)) => {
            connection.respond_with(&completion, keep_alive)?;
        }
        Ok(Answer::Tokens(tokens)) => connection.respond_with(&tokens, keep_alive)?,
        Ok(Answer::Detokenized(text)) => connection.respond_with(&text, keep_alive)?,
        Ok(Answer::Stream(incoming, growing)) => {
            stream_answer(connection, incoming, growing, shared, keep_alive)?;
        }
        Err(Refusal::Failed(failure)) => {
            connection.respond(failure.status, &failure.body(), keep_alive)?;
        }
        Err(Refusal::Gone) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
    shared.answered.fetch_add(1, Ordering::SeqCst);
    Ok(keep_alive)
}
