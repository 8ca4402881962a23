//! A server of completions with the interface of OpenAI's `/v1/completions`, for programs that speak it, such as
//! lm-evaluation-harness.
//!
//! One thread accepts connections, each connection has a thread that reads requests and writes answers, one thread
//! computes, and the thread of the caller waits for the request to stop. Everything that a client can make large or slow
//! has a limit.

mod answer;
mod budget;
mod completion;
mod engine;
mod event;
mod failure;
mod given;
mod http;
mod job;
mod probabilities;
mod routes;
mod row;
mod server;

pub use completion::{MAX_CHOICES, MAX_LOGPROBS};
pub use http::MAX_BODY_BYTES;
pub use server::{MAX_CONNECTIONS, Server, Settings, Stopped};
