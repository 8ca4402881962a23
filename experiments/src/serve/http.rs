//! Requests and responses of HTTP/1.1 on a connection, with limits on time and size.
//!
//! Heads are parsed by `httparse`. Every phase of a request has a deadline of its own, however slowly bytes arrive, which
//! no small server crate offers: a client that sends one byte from time to time would hold its thread for hours.

mod head;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use head::{Head, Length, MAX_HEAD_BYTES};

/// Maximum number of bytes in the body of a request.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimits {
    /// Time until the first byte of a request.
    pub(super) idle: Duration,
    /// Time from then until the head is complete.
    pub(super) head: Duration,
    /// Time from then until the body is complete.
    pub(super) body: Duration,
    /// Time in which a response, or a part of a streamed one, has to be taken.
    pub(super) response: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            response: Duration::from_secs(30),
        }
    }
}

/// A request with its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path without a query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    /// Whether the client may send another request on the connection.
    pub(super) keep_alive: bool,
}

/// Reason why no request can be read from a connection, which is closed then.
#[derive(Debug)]
pub(super) enum Fault {
    /// The client is gone or idle: there is nothing to answer.
    Gone,
    /// The request is answered with this status and message.
    Refused(u16, String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => refused(408, "the request did not arrive in time"),
            _ => Self::Gone,
        }
    }
}

fn refused(status: u16, message: impl Into<String>) -> Fault {
    Fault::Refused(status, message.into())
}

/// A connection of a client.
pub(super) struct Connection {
    stream: TcpStream,
    limits: TimeLimits,
    /// Bytes that were received and not used yet.
    received: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: TimeLimits) -> Self {
        // Responses are small; a failure only makes them slower.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            limits,
            received: Vec::new(),
        }
    }

    /// Receives more bytes before a deadline; 0 at the end of the connection.
    fn receive(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut part = [0; 1 << 14];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut part) {
                Ok(count) => {
                    self.received.extend_from_slice(&part[..count]);
                    return Ok(count);
                }
                // The deadline decides.
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a request.
    pub(super) fn request(&mut self) -> Result<Request, Fault> {
        if self.received.is_empty() {
            match self.receive(Instant::now() + self.limits.idle) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Fault::Gone),
            }
        }
        let head = self.head()?;
        let deadline = Instant::now() + self.limits.body;
        if head.expects_continue && self.received.is_empty() {
            self.send_in_time(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = match head.length {
            Length::Bytes(bytes) => {
                self.fill(bytes, deadline)?;
                // The buffer itself becomes the body, so that a large one is not kept with the connection.
                let rest = self.received.split_off(bytes);
                std::mem::replace(&mut self.received, rest)
            }
            Length::Chunked => self.chunks(deadline)?,
        };
        Ok(Request {
            method: head.method,
            path: head.path,
            body,
            keep_alive: head.keep_alive,
        })
    }

    fn head(&mut self) -> Result<Head, Fault> {
        let deadline = Instant::now() + self.limits.head;
        loop {
            if let Some((head, bytes)) = Head::parse(&self.received)? {
                self.received.drain(..bytes);
                return Ok(head);
            }
            if self.received.len() > MAX_HEAD_BYTES {
                let message =
                    format!("the head of the request has more than {MAX_HEAD_BYTES} bytes");
                return Err(refused(431, message));
            }
            if self.receive(deadline)? == 0 {
                return Err(Fault::Gone);
            }
        }
    }

    /// Receives until there are `bytes` bytes.
    fn fill(&mut self, bytes: usize, deadline: Instant) -> Result<(), Fault> {
        while self.received.len() < bytes {
            if self.receive(deadline)? == 0 {
                return Err(Fault::Gone);
            }
        }
        Ok(())
    }

    /// Reads a body in chunks, and the fields after it, which are ignored.
    fn chunks(&mut self, deadline: Instant) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.received) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) if self.received.len() <= MAX_HEAD_BYTES => {
                        self.fill(self.received.len() + 1, deadline)?;
                    }
                    _ => return Err(refused(400, "the size of a chunk of the body is malformed")),
                }
            };
            self.received.drain(..start);
            if size == 0 {
                break;
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > MAX_BODY_BYTES - body.len() {
                return Err(too_large());
            }
            self.fill(size + 2, deadline)?;
            body.extend(self.received.drain(..size));
            if self.received.drain(..2).ne(*b"\r\n") {
                return Err(refused(400, "a chunk of the body is longer than it states"));
            }
        }
        loop {
            let end = self.received.windows(2).position(|two| two == b"\r\n");
            match end {
                Some(end) => {
                    self.received.drain(..end + 2);
                    if end == 0 {
                        return Ok(body);
                    }
                }
                None if self.received.len() > MAX_HEAD_BYTES => {
                    return Err(refused(431, "the fields after the body are too long"));
                }
                None => self.fill(self.received.len() + 1, deadline)?,
            }
        }
    }

    /// Returns whether the client has closed the connection, or its writing side. What it has sent meanwhile, such as the
    /// next request, is kept.
    pub(super) fn is_closed(&mut self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return true;
        }
        let mut part = [0; 1 << 12];
        let is_closed = loop {
            // Behind more than this, the end is noticed when the response is sent.
            if self.received.len() > MAX_HEAD_BYTES {
                break false;
            }
            match self.stream.read(&mut part) {
                Ok(0) => break true,
                Ok(count) => self.received.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false).is_err() || is_closed
    }

    /// Sends a whole response whose body is JSON already.
    pub(super) fn respond(&mut self, status: u16, body: &str, keep_alive: bool) -> io::Result<()> {
        let head = head_of_response(status, body.len(), keep_alive);
        let deadline = Instant::now() + self.limits.response;
        self.send(&[head.as_bytes(), body.as_bytes()].concat(), deadline)
    }

    /// Sends a whole response with status 200. Its JSON is written twice, first to count its bytes, and is never held.
    pub(super) fn respond_with(
        &mut self,
        body: &impl Serialize,
        keep_alive: bool,
    ) -> io::Result<()> {
        let mut count = Count(0);
        serde_json::to_writer(&mut count, body)?;
        let head = head_of_response(200, count.0, keep_alive);
        let deadline = Instant::now() + self.limits.response;
        let sending = Sending {
            connection: self,
            deadline,
        };
        let mut sending = BufWriter::with_capacity(SENT_AT_ONCE, sending);
        sending.write_all(head.as_bytes())?;
        serde_json::to_writer(&mut sending, body)?;
        sending.flush()
    }

    /// Begins a response of server-sent events, whose length is not known.
    pub(super) fn begin_events(&mut self, keep_alive: bool) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
             transfer-encoding: chunked\r\nconnection: {}\r\n\r\n",
            if keep_alive { "keep-alive" } else { "close" }
        );
        self.send_in_time(head.as_bytes())
    }

    /// Sends an event.
    pub(super) fn event(&mut self, data: &str) -> io::Result<()> {
        let event = format!("data: {data}\n\n");
        self.send_in_time(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
    }

    /// Ends a response of events.
    pub(super) fn end_events(&mut self) -> io::Result<()> {
        self.send_in_time(b"0\r\n\r\n")
    }

    /// Closes the connection so that the client can still read the response: what it has yet to send is read and
    /// dropped for a moment, because closing with unread bytes would discard the response on its way.
    pub(super) fn close(mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let deadline = Instant::now() + Duration::from_millis(500);
        while self.receive(deadline).is_ok_and(|count| count > 0) {
            self.received.clear();
        }
    }

    /// Sends bytes that have to be taken within the limit for a response.
    fn send_in_time(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes, Instant::now() + self.limits.response)
    }

    fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Number of bytes of a response that are written at once.
const SENT_AT_ONCE: usize = 1 << 16;

/// Counts the bytes that are written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what is written, before a deadline.
struct Sending<'c> {
    connection: &'c mut Connection,
    deadline: Instant,
}

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.send(bytes, self.deadline)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn head_of_response(status: u16, bytes: usize, keep_alive: bool) -> String {
    format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n{}connection: {}\r\n\r\n",
        reason(status),
        if status == 503 {
            "retry-after: 1\r\n"
        } else {
            ""
        },
        if keep_alive { "keep-alive" } else { "close" }
    )
}

/// Returns whether a call on a socket ended without a result, because of a signal or a timeout.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

fn too_large() -> Fault {
    refused(
        413,
        format!(
            "the body of the request has more than {} MiB",
            MAX_BODY_BYTES >> 20
        ),
    )
}
