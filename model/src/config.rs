//! Every architectural choice as data, and the numbers that follow from the choices alone.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::transformer::Transformer;

/// The two functions that go by the name GELU (Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gelu {
    /// `x Φ(x)`, with the Gaussian distribution function Φ.
    Exact,
    /// The paper's approximation through `tanh`, which GPT-2 was trained with.
    Tanh,
}

/// The shape of a [`Transformer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of token ids, from 0.
    pub vocab_size: usize,
    /// Longest sequence the model attends over, in tokens.
    pub context: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; they share the width equally.
    pub heads: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the feed-forward layers.
    pub hidden: usize,
    /// Whether linear layers and norms have biases. The head never has one.
    pub bias: bool,
    /// Whether the head is the token embedding transposed, or a matrix of its own.
    pub tied_head: bool,
    /// Added to the variance in LayerNorm.
    pub norm_epsilon: f64,
    /// The feed-forward layers' activation.
    pub gelu: Gelu,
}

impl ModelConfig {
    /// A GPT-2 of the given size: feed-forward layers four times as wide as the residual stream, biases, a
    /// tied head, GELU by `tanh`.
    pub fn new(
        vocab_size: usize,
        context: usize,
        layers: usize,
        heads: usize,
        width: usize,
    ) -> Self {
        Self {
            vocab_size,
            context,
            layers,
            heads,
            width,
            hidden: 4 * width,
            bias: true,
            tied_head: true,
            norm_epsilon: 1e-5,
            gelu: Gelu::Tanh,
        }
    }

    /// Sets the width inside the feed-forward layers.
    pub fn with_hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }

    /// Sets whether linear layers and norms have biases.
    pub fn with_bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets whether the head shares its weights with the token embedding.
    pub fn with_tied_head(mut self, tied_head: bool) -> Self {
        self.tied_head = tied_head;
        self
    }

    /// Sets what LayerNorm adds to the variance.
    pub fn with_norm_epsilon(mut self, norm_epsilon: f64) -> Self {
        self.norm_epsilon = norm_epsilon;
        self
    }

    /// Sets the feed-forward layers' activation.
    pub fn with_gelu(mut self, gelu: Gelu) -> Self {
        self.gelu = gelu;
        self
    }

    /// Checks that a model of this shape can exist.
    ///
    /// # Errors
    /// Names the first number that is zero or out of range, or the two that clash.
    pub fn validate(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("context", self.context),
            ("layers", self.layers),
            ("heads", self.heads),
            ("width", self.width),
            ("hidden", self.hidden),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ModelError::Zero { name });
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(ModelError::WidthNotDivisible {
                width: self.width,
                heads: self.heads,
            });
        }
        // A zero epsilon turns a constant row into NaN.
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return Err(ModelError::OutOfRange {
                name: "norm_epsilon",
                value: self.norm_epsilon,
                expected: "positive and finite",
            });
        }
        Ok(())
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        self.parameters_without_positions() + self.context * self.width
    }

    /// Number of parameters without the position embedding, the count that nanoGPT prints and that is
    /// usually meant by a model's size.
    pub fn parameters_without_positions(&self) -> usize {
        let bias = usize::from(self.bias);
        let linear = |inputs: usize, outputs: usize| (inputs + bias) * outputs;
        let norm = (1 + bias) * self.width;
        let block = 2 * norm
            + linear(self.width, 3 * self.width)
            + linear(self.width, self.width)
            + linear(self.width, self.hidden)
            + linear(self.hidden, self.width);
        let embeddings = if self.tied_head { 1 } else { 2 };
        embeddings * self.vocab_size * self.width + self.layers * block + norm
    }

    /// Floating-point operations that one training step, forward and backward, spends per token:
    /// `6 N + 12 layers width context`.
    ///
    /// The convention of PaLM's appendix B (<https://arxiv.org/abs/2204.02311>), which does not take
    /// credit for what the causal mask makes unnecessary. N counts what each token is multiplied with:
    /// every parameter but the position embedding and, where the head is not tied, the token embedding,
    /// which is only looked up.
    pub fn flops_per_token(&self) -> f64 {
        let looked_up = if self.tied_head {
            0
        } else {
            self.vocab_size * self.width
        };
        let multiplied = (self.parameters_without_positions() - looked_up) as f64;
        6.0 * multiplied + 12.0 * self.layers as f64 * self.width as f64 * self.context as f64
    }

    /// A model of this shape with freshly initialised weights on `device`.
    ///
    /// The weights are a function of `seed` and of nothing else: not of the backend, the number of threads
    /// or the order in which parameters are created. Linear and embedding weights are normal with standard
    /// deviation 0.02, divided by `√(2 layers)` where a layer writes to the residual stream; biases are 0
    /// and norms start as the plain normalisation, as in GPT-2. The expected loss of such a model is
    /// about `ln(vocab_size) + 0.0002 width` nats. The weights are drawn when they are first read, so that a model
    /// whose weights are loaded from a checkpoint costs nothing to initialise.
    ///
    /// # Errors
    /// When the configuration does not [`validate`](Self::validate).
    pub fn init(&self, seed: u64, device: &Device) -> Result<Transformer, ModelError> {
        self.validate()?;
        Ok(Transformer::new(self, seed, device))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;

    fn small() -> ModelConfig {
        ModelConfig::new(7, 5, 2, 3, 9)
    }

    #[test]
    fn counts_are_those_of_the_model() {
        for config in [
            small(),
            small().with_bias(false),
            small().with_tied_head(false),
            small()
                .with_hidden(11)
                .with_bias(false)
                .with_tied_head(false),
        ] {
            let model = config.init(0, &Device::default()).unwrap();
            assert_eq!(model.num_params(), config.parameters());
        }
    }

    #[test]
    fn gpt2_has_its_published_size() {
        let gpt2 = ModelConfig::new(50257, 1024, 12, 12, 768);
        assert_eq!(gpt2.parameters(), 124_439_808);
        assert_eq!(gpt2.parameters_without_positions(), 123_653_376);
        let flops = 6.0 * 123_653_376.0 + 12.0 * 12.0 * 768.0 * 1024.0;
        assert_eq!(gpt2.flops_per_token(), flops);
        // The head costs the same whether or not it is tied.
        assert_eq!(gpt2.with_tied_head(false).flops_per_token(), flops);
    }

    #[test]
    fn an_impossible_shape_is_refused_by_its_numbers() {
        let message = |config: ModelConfig| match config.init(0, &Device::default()) {
            Ok(_) => panic!("{config:?} is not refused"),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            message(ModelConfig::new(65, 64, 4, 4, 130)),
            "width 130 is not divisible by heads 4"
        );
        assert_eq!(
            message(ModelConfig::new(65, 0, 4, 4, 128)),
            "context is 0; it must be at least 1"
        );
        for epsilon in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
            assert!(message(small().with_norm_epsilon(epsilon)).contains("norm_epsilon"));
        }
        let zeros: [fn(&mut ModelConfig) -> &mut usize; 6] = [
            |c| &mut c.vocab_size,
            |c| &mut c.context,
            |c| &mut c.layers,
            |c| &mut c.heads,
            |c| &mut c.width,
            |c| &mut c.hidden,
        ];
        for size in zeros {
            let mut config = small();
            *size(&mut config) = 0;
            assert!(message(config).contains("is 0"));
        }
    }
}
