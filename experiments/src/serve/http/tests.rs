//! Tests of connections over a socket.

use std::net::TcpListener;
use std::thread;

use super::head::MAX_FIELDS;
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
    let whole = b"POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde";
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
