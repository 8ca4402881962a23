//! The network of foretoken and its objective: a decoder-only transformer that predicts the next token,
//! written once for every Burn backend.
//!
//! What is worth knowing before reading on:
//! - the architecture is data, a [`ModelConfig`]: [`ModelConfig::new`] gives GPT-2's, [`ModelConfig::llama`]
//!   Llama's, [`ModelConfig::preset`] published sizes of both, and every choice can be made by itself;
//! - the backend is a value, a [`Device`](burn::tensor::Device), not a type parameter;
//! - a model is [initialised](ModelConfig::init) to the same bits on every backend;
//! - the objective is the exact negative log-likelihood of each target, in nats ([`TokenLoss`]);
//! - a [`PortableModel`] computes the same bits on every machine;
//! - models come from files, imported ones and Hugging Face's ([`Pretrained`]), and go to them ([`Export`]).
//!
//! This crate knows tensors. It knows no files but weight files, no terminal and no training loop.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use foretoken_model::ModelConfig;
//!
//! let device = Device::default();
//! let model = ModelConfig::new(65, 64, 2, 4, 32).init(1, &device)?;
//! let inputs = Tensor::<2, Int>::from_data([[7, 8, 9]], &device);
//! let targets = Tensor::<2, Int>::from_data([[8, 9, 10]], &device);
//! let nats: f32 = model.next_token_loss(inputs, targets).mean().into_scalar();
//! assert!((nats - 65f32.ln()).abs() < 0.1); // untrained, it finds all 65 about equally likely
//! # Ok::<(), foretoken_model::ModelError>(())
//! ```

mod attention;
mod block;
mod cache;
mod config;
mod cost;
mod dropout;
mod error;
mod feed_forward;
mod files;
mod frequencies;
mod generate;
mod host;
mod huggingface;
mod init;
mod linear;
mod loss;
mod norm;
pub mod ops;
mod portable;
mod positions;
mod pretrained;
mod random;
mod sampling;
mod transformer;
mod vectors;
mod watch;
mod weights;

pub use config::{Activation, ModelConfig, Norm, Positions, RotaryScaling};
pub use cost::{GenerationMemory, Part, TrainingMemory};
pub use dropout::Dropout;
pub use error::ModelError;
pub use frequencies::Frequencies;
pub use generate::{BatchReader, GenerationConfig, Overflow, generate};
pub use loss::{Objective, Targets, TokenLoss, TokenScores};
pub use portable::{PortableModel, PortableReader};
pub use pretrained::{Export, Pretrained};
pub use sampling::{Sampler, SamplingConfig};
pub use transformer::Transformer;
pub use watch::{Operation, Pass, Place, Watch};
pub use weights::WeightType;
