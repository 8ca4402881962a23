//! Watching a forward pass, operation by operation.
//!
//! A forward pass is a sequence of named operations. Whoever watches sees the inputs and the output of each,
//! and may put others in their place: that is how an operation is recomputed on one backend from what another
//! backend gave it, how gradients between operations are read, and how a comparison is tested with mistakes
//! made on purpose. Unwatched, an operation is a plain call, or one with others in a [fused](crate::ops) one.

use burn::tensor::Tensor;

use crate::dropout::Dropout;
use crate::loss::Objective;

/// What an operation computes; where it stands is its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Rows of a table, chosen by token ids: no inputs.
    Embedding,
    /// `input + rows of the position table`.
    Positions,
    /// LayerNorm or RMSNorm of the input's rows.
    Norm,
    /// `input · weight + bias`.
    Linear,
    /// Queries or keys, normalised and turned as the model does.
    Turn,
    /// `queries · keysᵀ / √head_width + mask`.
    Scores,
    /// `softmax(scores) · values`.
    Mix,
    /// The feed-forward layer's activation; of SwiGLU, `silu(gate) · up`.
    Activation,
    /// `stream + layer's output`.
    Residual,
    /// `cap · tanh(input / cap)`.
    LogitCap,
    /// `-ln softmax(logits)[target]`, in nats: `[rows, vocab_size] -> [rows, 1]`.
    Loss,
}

impl Operation {
    /// The operation's name, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Positions => "positions",
            Self::Norm => "norm",
            Self::Linear => "linear",
            Self::Turn => "turn",
            Self::Scores => "scores",
            Self::Mix => "mix",
            Self::Activation => "activation",
            Self::Residual => "residual",
            Self::LogitCap => "logit cap",
            Self::Loss => "loss",
        }
    }
}

/// An operation of a forward pass.
#[derive(Debug, Clone)]
pub struct Place {
    /// The module and what it is about to do, such as `blocks.0.attention.qkv` or `blocks.0.attention.scores`.
    /// No two operations of a pass share it.
    pub path: String,
    /// What it computes.
    pub operation: Operation,
    /// Shapes of the inputs, as the model has them.
    pub inputs: Vec<Vec<usize>>,
}

/// Somebody who watches forward passes.
///
/// Tensors are handed over as matrices: the last dimension is kept, all before it are rows.
pub trait Watch: Send + Sync {
    /// The output of an operation, in place of `compute(inputs)` and of its shape. Has to call `compute`, with
    /// these inputs or others of the same shapes.
    fn operation(
        &self,
        place: &Place,
        inputs: Vec<Tensor<2>>,
        compute: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
    ) -> Tensor<2>;
}

/// How a forward pass is made, beyond what it computes: what it leaves out, and who watches.
#[derive(Clone, Copy, Default)]
pub struct Pass<'a> {
    dropout: Option<&'a Dropout>,
    watch: Option<&'a dyn Watch>,
    /// The block that it is in.
    block: Option<usize>,
    /// Whether operations are Burn's own, one by one.
    plain: bool,
    /// What its loss is to be.
    objective: Objective,
}

impl<'a> Pass<'a> {
    /// A pass of training: `dropout` decides what is left out, at the rate that the configuration gives.
    pub fn training(dropout: &'a Dropout) -> Self {
        Self {
            dropout: Some(dropout),
            ..Self::default()
        }
    }

    /// The same pass made of Burn's own operations, one by one, not of the [fused](crate::ops) ones.
    pub fn plain(self) -> Self {
        Self {
            plain: true,
            ..self
        }
    }

    /// The same pass where more is optimised than the negative log-likelihood.
    pub fn toward(self, objective: Objective) -> Self {
        Self { objective, ..self }
    }

    /// What is optimised.
    pub fn objective(&self) -> Objective {
        self.objective
    }

    /// Whether operations are fused: not where somebody watches each of them.
    pub(crate) fn is_fused(&self) -> bool {
        !self.plain && self.watch.is_none()
    }

    /// The same pass, watched. Each operation is then Burn's own: fused ones have no inside to look at.
    pub fn watched(self, watch: &'a dyn Watch) -> Self {
        Self {
            watch: Some(watch),
            ..self
        }
    }

    pub(crate) fn in_block(self, block: usize) -> Self {
        Self {
            block: Some(block),
            ..self
        }
    }

    /// Drops some of a layer's output in training, nothing otherwise.
    pub(crate) fn drop<const D: usize>(self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        match self.dropout_at(rate) {
            Some(dropout) => dropout.apply(x, rate),
            None => x,
        }
    }

    /// What decides what is dropped, where something is at this rate.
    pub(crate) fn dropout_at(&self, rate: f64) -> Option<&'a Dropout> {
        self.dropout.filter(|_| rate > 0.0)
    }

    /// `compute(inputs)`, or what the watch makes of it. `name` is the path within the block.
    pub(crate) fn operation<const N: usize, const D: usize, const E: usize>(
        &self,
        name: &str,
        operation: Operation,
        inputs: [Tensor<D>; N],
        compute: impl FnOnce([Tensor<D>; N]) -> Tensor<E>,
    ) -> Tensor<E> {
        let Some(watch) = self.watch else {
            return compute(inputs);
        };
        let shapes = inputs.each_ref().map(Tensor::dims);
        let place = Place {
            path: match self.block {
                Some(block) => format!("blocks.{block}.{name}"),
                None => name.to_owned(),
            },
            operation,
            inputs: shapes.iter().map(|shape| shape.to_vec()).collect(),
        };
        let mut output_shape = None;
        let output = watch.operation(
            &place,
            inputs.map(rows).into(),
            Box::new(|inputs| {
                let mut inputs = inputs.into_iter().zip(shapes);
                let inputs = std::array::from_fn(|_| {
                    let (input, shape) = inputs.next().expect("as many inputs as there were");
                    input.reshape(shape)
                });
                let output = compute(inputs);
                output_shape = Some(output.dims());
                rows(output)
            }),
        );
        output.reshape(output_shape.expect("a watch computes the operation"))
    }
}

/// `[.., columns] -> [rows, columns]`
fn rows<const D: usize>(tensor: Tensor<D>) -> Tensor<2> {
    let dims = tensor.dims();
    let columns = dims[D - 1];
    let rows = dims[..D - 1].iter().product();
    tensor.reshape([rows, columns])
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use burn::tensor::{Device, Int, TensorData};

    use super::*;
    use crate::config::ModelConfig;

    /// Notes every operation; doubles what goes into one of them.
    #[derive(Default)]
    struct Notes {
        seen: Mutex<Vec<(String, Operation)>>,
        doubled: Option<&'static str>,
    }

    impl Watch for Notes {
        fn operation(
            &self,
            place: &Place,
            mut inputs: Vec<Tensor<2>>,
            compute: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
        ) -> Tensor<2> {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((place.path.clone(), place.operation));
            for (input, shape) in inputs.iter().zip(&place.inputs) {
                let [rows, columns] = input.dims();
                assert_eq!(rows * columns, shape.iter().product::<usize>());
                assert_eq!(Some(&columns), shape.last());
            }
            if self.doubled == Some(&place.path) {
                inputs[0] = inputs[0].clone() * 2.0;
            }
            compute(inputs)
        }
    }

    fn nats(config: &ModelConfig, pass: Pass<'_>) -> Vec<u32> {
        let device = Device::default();
        let ids = TensorData::new(vec![1i64, 4, 2, 0, 3, 3, 1, 2], [2, 4]);
        let ids = || Tensor::<2, Int>::from_data(ids.clone(), &device);
        let model = config.init(3, &device).unwrap();
        let loss = model.next_token_loss_in(pass, ids(), ids());
        let nats: Vec<f32> = loss.nats.try_into_vec_as().unwrap();
        nats.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn watching_changes_no_bit_and_every_operation_has_a_path_of_its_own() {
        let gpt2 = ModelConfig::new(5, 4, 2, 2, 8);
        let llama = ModelConfig {
            qk_norm: true,
            logit_cap: Some(3.0),
            ..ModelConfig::llama(5, 4, 2, 4, 2, 16)
        };
        // Outside the blocks: embedding, positions or logit cap, final norm, head, loss. In each block of a GPT-2
        // eleven; in one of a Llama the turns of queries and keys, and the gate, besides.
        for (config, operations) in [(gpt2, 5 + 2 * 11), (llama, 5 + 2 * 14)] {
            let notes = Notes::default();
            let watched = nats(&config, Pass::default().watched(&notes));
            assert_eq!(watched, nats(&config, Pass::default().plain()));
            let mut seen = notes.seen.into_inner().unwrap();
            assert_eq!(seen[0], ("token_embedding".into(), Operation::Embedding));
            assert_eq!(seen.last().unwrap().1, Operation::Loss);
            assert_eq!(seen.len(), operations, "{seen:?}");
            seen.sort_by(|a, b| a.0.cmp(&b.0));
            seen.dedup_by(|a, b| a.0 == b.0);
            assert_eq!(seen.len(), operations);
        }
    }

    #[test]
    fn what_a_watch_hands_over_is_what_is_computed() {
        let config = ModelConfig::new(5, 4, 2, 2, 8);
        let doubled = |path| Notes {
            doubled: Some(path),
            ..Notes::default()
        };
        let plain = nats(&config, Pass::default().plain());
        let changed = doubled("blocks.1.feed_forward.down");
        assert_ne!(nats(&config, Pass::default().watched(&changed)), plain);
        let unknown = doubled("blocks.9.feed_forward.down");
        assert_eq!(nats(&config, Pass::default().watched(&unknown)), plain);
    }
}
