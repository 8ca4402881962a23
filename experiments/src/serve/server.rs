//! The listener, and the threads of connections.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use foretoken_model::Transformer;

use super::answer::now;
use super::engine::Engine;
use super::failure::Failure;
use super::http::{Connection, Fault, TimeLimits};
use super::routes::{Answer, Shared, route, stream_answer};
use super::row::Job;
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
