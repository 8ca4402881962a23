//! Heads of requests.

use super::{Fault, MAX_BODY_BYTES, refused, too_large};

/// Maximum number of bytes in the head of a request.
pub(super) const MAX_HEAD_BYTES: usize = 16 << 10;

/// Maximum number of header fields.
pub(super) const MAX_FIELDS: usize = 64;

/// Length of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(usize),
    Chunked,
}

/// Head of a request, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) length: Length,
    pub(super) expects_continue: bool,
    pub(super) keep_alive: bool,
}

impl Head {
    /// Parses a head and returns the number of its bytes; `None` if it is incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
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
