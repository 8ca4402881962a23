//! A server of completions with the interface of OpenAI's `/v1/completions`, for programs that speak it, such as
//! lm-evaluation-harness.
//!
//! One thread accepts connections, each connection has a thread that reads requests and writes answers, and the thread of
//! the caller computes. Everything that a client can make large or slow has a limit.

mod answer;
mod completion;
mod engine;
mod failure;
mod http;
mod probabilities;
mod prompts;
mod routes;
mod row;
mod server;

pub use completion::{MAX_CHOICES, MAX_LOGPROBS};
pub use http::MAX_BODY_BYTES;
pub use server::{MAX_CONNECTIONS, Server};
