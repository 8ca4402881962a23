//! Requests and responses of HTTP/1.1 on a connection, with limits on time and size.
//!
//! Heads are parsed by `httparse`. Every phase of a request has a deadline of its own, however slowly bytes arrive, which
//! no small server crate offers: a client that sends one byte from time to time would hold its thread for hours.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Maximum number of bytes in the head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Maximum number of header fields.
const MAX_FIELDS: usize = 64;

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
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = match head.length {
            Length::Bytes(bytes) => {
                self.fill(bytes, deadline)?;
                self.received.drain(..bytes).collect()
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

    /// Sends a whole response of JSON.
    pub(super) fn respond(&mut self, status: u16, body: &str, keep_alive: bool) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: {}\r\n\r\n",
            reason(status),
            body.len(),
            if keep_alive { "keep-alive" } else { "close" }
        );
        self.send(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// Begins a response of server-sent events, whose length is not known.
    pub(super) fn begin_events(&mut self, keep_alive: bool) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
             transfer-encoding: chunked\r\nconnection: {}\r\n\r\n",
            if keep_alive { "keep-alive" } else { "close" }
        );
        self.send(head.as_bytes())
    }

    /// Sends an event.
    pub(super) fn event(&mut self, data: &str) -> io::Result<()> {
        let event = format!("data: {data}\n\n");
        self.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
    }

    /// Ends a response of events.
    pub(super) fn end_events(&mut self) -> io::Result<()> {
        self.send(b"0\r\n\r\n")
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

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.limits.response;
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

/// Returns whether a call on a socket ended without a result, because of a signal or a timeout.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
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

/// Length of a body.
#[derive(Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
}

/// Head of a request, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    method: String,
    path: String,
    length: Length,
    expects_continue: bool,
    keep_alive: bool,
}

impl Head {
    /// Parses a head and returns the number of its bytes; `None` if it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        let end = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                let message = format!("the request has more than {MAX_FIELDS} header fields");
                return Err(refused(431, message));
            }
            Err(error) => {
                return Err(refused(
                    400,
                    format!("this is not a request of HTTP: {error}"),
                ));
            }
        };
        let is_current = parsed.version == Some(1);
        let mut length = None;
        let (mut chunked, mut expects_continue) = (false, false);
        let mut keep_alive = is_current;
        for field in parsed.headers.iter() {
            let value = field.value.trim_ascii();
            match field.name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let text = str::from_utf8(value).unwrap_or_default();
                    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
                    if !is_number || length.is_some_and(|other| other != text) {
                        return Err(refused(400, "content-length is not one number"));
                    }
                    length = Some(text);
                }
                "transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => chunked = true,
                "transfer-encoding" => {
                    return Err(refused(501, "no transfer-encoding but chunked is known"));
                }
                "content-encoding" if !value.eq_ignore_ascii_case(b"identity") => {
                    return Err(refused(415, "send the body without a content-encoding"));
                }
                "expect" => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(refused(417, "no expectation but 100-continue can be met"));
                    }
                    expects_continue = is_current;
                }
                "connection" => {
                    for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        if option.eq_ignore_ascii_case(b"close") {
                            keep_alive = false;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            keep_alive = true;
                        }
                    }
                }
                _ => {}
            }
        }
        let length = match (length, chunked) {
            (Some(_), true) => {
                let message = "content-length and transfer-encoding exclude each other";
                return Err(refused(400, message));
            }
            (None, true) => Length::Chunked,
            (length, false) => match length.unwrap_or("0").parse() {
                Ok(bytes) if bytes <= MAX_BODY_BYTES => Length::Bytes(bytes),
                _ => return Err(too_large()),
            },
        };
        let path = parsed.path.unwrap_or_default();
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let head = Self {
            method: parsed.method.unwrap_or_default().into(),
            path: path.into(),
            length,
            expects_continue,
            keep_alive,
        };
        Ok(Some((head, end)))
    }
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Sends parts of a request with a pause before each but the first, and returns what is read.
    fn received(parts: &[&[u8]], limits: TimeLimits) -> Result<Request, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                for (number, part) in parts.iter().enumerate() {
                    if number > 0 {
                        thread::sleep(Duration::from_millis(60));
                    }
                    // The server may have closed the connection.
                    let _ = client.write_all(part);
                }
                let _ = client.shutdown(std::net::Shutdown::Write);
                let _ = client.read_to_end(&mut Vec::new());
            });
            let (stream, _) = listener.accept().unwrap();
            Connection::new(stream, limits).request()
        })
    }

    fn status(parts: &[&[u8]], limits: TimeLimits) -> Option<u16> {
        match received(parts, limits) {
            Err(Fault::Refused(status, message)) => {
                assert_eq!(message.lines().count(), 1);
                Some(status)
            }
            Err(Fault::Gone) => None,
            Ok(_) => Some(200),
        }
    }

    #[test]
    fn requests_are_read_however_they_arrive() {
        let whole =
            b"POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde";
        let bytes: Vec<&[u8]> = whole.chunks(40).collect();
        for parts in [&[&whole[..]][..], &bytes] {
            let request = received(parts, TimeLimits::default()).unwrap();
            assert_eq!(request.path, "/v1/completions");
            assert_eq!(request.body, b"abcde");
            assert!(request.keep_alive && request.method == "POST");
        }
        let chunked: &[&[u8]] = &[
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x=y\r\nab",
            b"c\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n",
            b"\r\n",
        ];
        let request = received(chunked, TimeLimits::default()).unwrap();
        assert_eq!(request.body, b"abcde");
        assert!(!request.keep_alive);
    }

    #[test]
    fn malformed_and_large_requests_have_a_status() {
        let long = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(MAX_HEAD_BYTES));
        let fields = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "x: y\r\n".repeat(MAX_FIELDS + 1)
        );
        let post = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        for (request, expected) in [
            ("nonsense\r\n\r\n".into(), Some(400)),
            ("\0\0\0\0".into(), Some(400)),
            (long, Some(431)),
            (fields, Some(431)),
            (post("Content-Length: -1"), Some(400)),
            (post("Content-Length: +1"), Some(400)),
            (post("Content-Length: 1\r\nContent-Length: 2"), Some(400)),
            (post("Content-Length: 99999999999999999999999"), Some(413)),
            (post("Content-Length: 4194305"), Some(413)),
            (
                post("Content-Length: 1\r\nTransfer-Encoding: chunked"),
                Some(400),
            ),
            (post("Transfer-Encoding: gzip"), Some(501)),
            (post("Transfer-Encoding: chunked") + "zz\r\n", Some(400)),
            (
                post("Transfer-Encoding: chunked") + "ffffffffffffffff\r\n",
                Some(413),
            ),
            (
                post("Transfer-Encoding: chunked") + "1\r\nabc\r\n",
                Some(400),
            ),
            (post("Content-Encoding: gzip"), Some(415)),
            (post("Expect: wonders"), Some(417)),
            (post("Content-Length: 5") + "ab", None),
        ] {
            let found = status(&[request.as_bytes()], TimeLimits::default());
            assert_eq!(found, expected, "{:?}", request.get(..80));
        }
    }

    /// A client that sends a byte from time to time is not waited for beyond the limits.
    #[test]
    fn slow_clients_are_refused_in_time() {
        let limits = TimeLimits {
            idle: Duration::from_millis(200),
            head: Duration::from_millis(150),
            body: Duration::from_millis(150),
            response: Duration::from_millis(200),
        };
        let mut head = vec![&b"GET / HTTP/1.1\r\n"[..]];
        head.extend([&b"x"[..]; 20]);
        let mut body = vec![&b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n"[..]];
        body.extend([&b"x"[..]; 20]);
        for parts in [head, body] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                for part in parts {
                    if client.write_all(part).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(40));
                }
            });
            let (stream, _) = listener.accept().unwrap();
            let began = Instant::now();
            let fault = Connection::new(stream, limits).request().unwrap_err();
            assert!(matches!(fault, Fault::Refused(408, _)), "{fault:?}");
            assert!(began.elapsed() < Duration::from_millis(700));
            client.join().unwrap();
        }
    }
}
