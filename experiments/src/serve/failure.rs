//! Errors as OpenAI's interface reports them.

use serde_json::json;

/// Reason why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// Status of HTTP.
    pub(super) status: u16,
    /// Fault and advice, in one line.
    message: String,
    /// Key of the request that is wrong.
    key: Option<&'static str>,
}

impl Failure {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            key: None,
        }
    }

    /// Creates the error for a request with a wrong key.
    pub(super) fn invalid(key: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            key,
            ..Self::new(400, message)
        }
    }

    /// Returns the body of the response.
    pub(super) fn body(&self) -> String {
        let kind = match self.status {
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        let error = json!({
            "message": self.message,
            "type": kind,
            "param": self.key,
            "code": null,
        });
        json!({ "error": error }).to_string()
    }
}
