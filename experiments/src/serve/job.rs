//! A request between the thread of its connection and the thread that computes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foretoken_datasets::files::printable;

use super::budget::Reservation;
use super::completion::Completion;
use super::event::Event;
use super::failure::Failure;
use super::http::Connection;

/// Time after which a client that has left, or a request to stop, is noticed.
pub(super) const NOTICED_AFTER: Duration = Duration::from_millis(50);

/// A request on its way, and where its answer goes.
pub(super) struct Job {
    pub(super) completion: Completion,
    reply: Sender<Event>,
    /// Whether nobody waits for the answer any more.
    is_cancelled: AtomicBool,
    /// Memory of the request and its answer, until one of the threads takes it to free it.
    reservation: Mutex<Option<Reservation>>,
}

impl Job {
    /// Sends a part of the answer.
    pub(super) fn send(&self, event: Event) {
        // A client that has left is noticed by `is_cancelled`.
        let _ = self.reply.send(event);
    }

    /// Answers with a failure of the computation.
    pub(super) fn fail(&self, reason: &str) {
        let message = format!("the computation failed: {}", printable(reason));
        self.send(Event::Failed(Failure::new(500, message)));
    }

    /// Removes the memory of the answer, to free it once the answer is sent or forgotten. Texts that have ended can stay
    /// with the thread that computes, and are small.
    pub(super) fn take_reservation(&self) -> Option<Reservation> {
        let held = self.reservation.lock();
        held.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns whether the answer is not wanted any more, because it has failed or its client has left.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// Reason why an answer is not completed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client has closed the connection.
    Gone,
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The parts of an answer as they arrive. Dropping it cancels the work that is left.
pub(super) struct Incoming {
    pub(super) job: Arc<Job>,
    events: Receiver<Event>,
    checked: Instant,
}

impl Incoming {
    /// Hands a request to the thread that computes, which takes it from `jobs`.
    ///
    /// # Errors
    ///
    /// Returns a failure if too many requests wait, or the server stops.
    pub(super) fn of(
        completion: Completion,
        reservation: Reservation,
        jobs: &SyncSender<Arc<Job>>,
    ) -> Result<Self, Failure> {
        let (reply, events) = channel();
        let job = Arc::new(Job {
            completion,
            reply,
            is_cancelled: AtomicBool::new(false),
            reservation: Mutex::new(Some(reservation)),
        });
        let queued = jobs.try_send(job.clone());
        queued.map_err(|error| match error {
            TrySendError::Full(_) => Failure::new(503, "too many requests wait; try again later"),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        Ok(Self {
            job,
            events,
            checked: Instant::now(),
        })
    }

    /// Waits for the next part. The server sets `stops` when it stops.
    ///
    /// # Errors
    ///
    /// Returns an error if the client has left, or the server stops.
    pub(super) fn next(
        &mut self,
        connection: &mut Connection,
        stops: &AtomicBool,
    ) -> Result<Event, Refusal> {
        loop {
            let received = self.events.recv_timeout(NOTICED_AFTER);
            if self.checked.elapsed() >= NOTICED_AFTER {
                self.checked = Instant::now();
                if stops.load(Ordering::SeqCst) {
                    return Err(stopping().into());
                }
                if connection.is_closed() {
                    return Err(Refusal::Gone);
                }
            }
            match received {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(stopping().into()),
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.job.is_cancelled.store(true, Ordering::Relaxed);
    }
}

fn stopping() -> Failure {
    Failure::new(503, "the server stops")
}
