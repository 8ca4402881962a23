//! Every architectural choice as data, and the numbers that follow from the choices alone.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::transformer::Transformer;

/// How activations are normalised before every layer and before the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// LayerNorm: mean 0 and variance 1, then a gain and, where the model has biases, a bias
    /// (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>).
    Layer,
    /// RMSNorm: root mean square 1, then a gain (Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>).
    Rms,
}

/// How a token learns where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// A vector per position, added to the token's embedding, as in GPT-2.
    Learned,
    /// Queries and keys turned by angles proportional to their position (Su et al. 2021,
    /// <https://arxiv.org/abs/2104.09864>), as in Llama: element `i` of a head is paired with element
    /// `i + head_width / 2`.
    Rotary,
    /// Not at all, but for the causal mask (Haviv et al. 2022, <https://arxiv.org/abs/2203.16634>).
    None,
}

/// Llama 3's stretching of rotary positions to contexts longer than those trained on
/// (<https://arxiv.org/abs/2407.21783>): slow rotations are slowed further, fast ones are kept, and those
/// between are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotaryScaling {
    /// How many times slower the slow rotations become.
    pub factor: f64,
    /// Rotations that turn fewer times than this within `original_context` are slow.
    pub low_frequency_factor: f64,
    /// Rotations that turn more often than this within `original_context` are fast.
    pub high_frequency_factor: f64,
    /// The context, in tokens, before stretching.
    pub original_context: usize,
}

/// What stands between the feed-forward layer's linear maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Φ(x)`, with the Gaussian distribution function Φ (Hendrycks and Gimpel 2016,
    /// <https://arxiv.org/abs/1606.08415>).
    Gelu,
    /// The same paper's approximation through `tanh`, which GPT-2 was trained with.
    GeluTanh,
    /// `silu(gate(x)) · up(x)`: a third linear map gates the second (Shazeer 2020,
    /// <https://arxiv.org/abs/2002.05202>), as in Llama.
    #[serde(rename = "swiglu")]
    SwiGlu,
    /// `max(x, 0)²` (So et al. 2021, <https://arxiv.org/abs/2109.08668>).
    Relu2,
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
    /// Attention heads per block, counted by their queries.
    pub heads: usize,
    /// Heads that have keys and values of their own: as many as `heads` in multi-head attention, 1 in
    /// multi-query attention (Shazeer 2019, <https://arxiv.org/abs/1911.02150>), a divisor between them in
    /// grouped-query attention (Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245>).
    pub kv_heads: usize,
    /// Width of one head; without it, `width / heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the feed-forward layers.
    pub hidden: usize,
    /// Whether linear layers and LayerNorms have biases. The head and RMSNorm never have one.
    pub bias: bool,
    /// Whether the head is the token embedding transposed, or a matrix of its own.
    pub tied_head: bool,
    /// The normalisation.
    pub norm: Norm,
    /// Added to the variance, or to the mean square, that the norm divides by.
    pub norm_epsilon: f64,
    /// How positions enter.
    pub positions: Positions,
    /// Of rotary positions: the slowest rotation takes about `2π rotary_theta` tokens for a turn.
    pub rotary_theta: f64,
    /// Of rotary positions: Llama 3's stretching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary_scaling: Option<RotaryScaling>,
    /// Whether queries and keys are normalised, head by head, with RMSNorm and a gain (Dehghani et al. 2023,
    /// <https://arxiv.org/abs/2302.05442>), before rotary positions are applied.
    pub qk_norm: bool,
    /// A token attends to this many tokens, itself included, and not to all before it (Beltagy et al. 2020,
    /// <https://arxiv.org/abs/2004.05150>).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The feed-forward layers' activation.
    pub activation: Activation,
    /// Logits `z` become `cap · tanh(z / cap)` (Gemma Team 2024, <https://arxiv.org/abs/2408.00118>).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_cap: Option<f64>,
    /// Share of embeddings, attention weights and layers' outputs that a training step leaves out
    /// (Srivastava et al. 2014). Evaluation and generation leave out none.
    pub dropout: f64,
}

/// The largest of all sizes. With it, and [`MAX_PARAMETERS`], no product of sizes that is formed here overflows.
const MAX_SIZE: usize = u32::MAX as usize;

/// The most blocks: some 60 times those of the deepest models. Each has tensors that are listed by name.
const MAX_LAYERS: usize = 1 << 16;

/// The most parameters: 2⁴⁶, which are 256 TiB in f32.
const MAX_PARAMETERS: u128 = 1 << 46;

impl ModelConfig {
    /// The names that [`preset`](Self::preset) knows.
    pub const PRESETS: [&str; 12] = [
        "gpt2",
        "gpt2-medium",
        "gpt2-large",
        "gpt2-xl",
        "gpt2-tiny",
        "llama-tiny",
        "llama-small",
        "llama-2-7b",
        "llama-3-8b",
        "llama-3.1-8b",
        "llama-3.2-1b",
        "llama-3.2-3b",
    ];

    /// A GPT-2 of the given size: learned positions, LayerNorm, feed-forward layers four times as wide as
    /// the residual stream, biases, a tied head, GELU by `tanh`, no dropout.
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
            kv_heads: heads,
            head_width: None,
            width,
            hidden: Activation::GeluTanh.usual_hidden(width),
            bias: true,
            tied_head: true,
            norm: Norm::Layer,
            norm_epsilon: 1e-5,
            positions: Positions::Learned,
            rotary_theta: 10_000.0,
            rotary_scaling: None,
            qk_norm: false,
            window: None,
            activation: Activation::GeluTanh,
            logit_cap: None,
            dropout: 0.0,
        }
    }

    /// A Llama of the given size: rotary positions, RMSNorm, SwiGLU of the usual width, no biases, a head of
    /// its own.
    pub fn llama(
        vocab_size: usize,
        context: usize,
        layers: usize,
        heads: usize,
        kv_heads: usize,
        width: usize,
    ) -> Self {
        Self {
            kv_heads,
            hidden: Activation::SwiGlu.usual_hidden(width),
            bias: false,
            tied_head: false,
            norm: Norm::Rms,
            positions: Positions::Rotary,
            activation: Activation::SwiGlu,
            ..Self::new(vocab_size, context, layers, heads, width)
        }
    }

    /// A published shape, or a tiny one for tests, by its name; `None` for a name not among
    /// [`PRESETS`](Self::PRESETS).
    pub fn preset(name: &str) -> Option<Self> {
        let stretched = |config: Self, factor: f64| Self {
            context: 131_072,
            rotary_scaling: Some(RotaryScaling {
                factor,
                low_frequency_factor: 1.0,
                high_frequency_factor: 4.0,
                original_context: 8192,
            }),
            ..config
        };
        let llama3 = |layers, heads, width, hidden| Self {
            hidden,
            rotary_theta: 500_000.0,
            ..Self::llama(128_256, 8192, layers, heads, 8, width)
        };
        Some(match name {
            "gpt2" => Self::new(50_257, 1024, 12, 12, 768),
            "gpt2-medium" => Self::new(50_257, 1024, 24, 16, 1024),
            "gpt2-large" => Self::new(50_257, 1024, 36, 20, 1280),
            "gpt2-xl" => Self::new(50_257, 1024, 48, 25, 1600),
            "gpt2-tiny" => Self::new(256, 64, 2, 4, 32),
            "llama-tiny" => Self::llama(256, 64, 2, 4, 2, 32),
            "llama-small" => Self::llama(32_000, 2048, 12, 12, 4, 768),
            "llama-2-7b" => Self::llama(32_000, 4096, 32, 32, 32, 4096).with_hidden(11_008),
            "llama-3-8b" => llama3(32, 32, 4096, 14_336),
            "llama-3.1-8b" => stretched(llama3(32, 32, 4096, 14_336), 8.0),
            "llama-3.2-1b" => stretched(llama3(16, 32, 2048, 8192), 32.0).with_tied_head(true),
            "llama-3.2-3b" => stretched(llama3(28, 24, 3072, 8192), 32.0).with_tied_head(true),
            _ => return None,
        })
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

    /// Sets what the norm adds to the variance or the mean square.
    pub fn with_norm_epsilon(mut self, norm_epsilon: f64) -> Self {
        self.norm_epsilon = norm_epsilon;
        self
    }

    /// Sets the feed-forward layers' activation, not their width.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Width of one head.
    pub fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.width / self.heads.max(1))
    }

    /// Checks that a model of this shape can exist.
    ///
    /// # Errors
    /// Names the first number that is zero or out of range, or the two that clash.
    pub fn validate(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab_size", Some(self.vocab_size)),
            ("context", Some(self.context)),
            ("layers", Some(self.layers)),
            ("heads", Some(self.heads)),
            ("kv_heads", Some(self.kv_heads)),
            ("head_width", self.head_width),
            ("width", Some(self.width)),
            ("hidden", Some(self.hidden)),
            ("window", self.window),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == Some(0)) {
            return Err(ModelError::Zero { name });
        }
        let too_large = |size: &usize| *size > MAX_SIZE;
        if let Some((name, Some(value))) = sizes
            .into_iter()
            .find(|(_, size)| size.as_ref().is_some_and(too_large))
        {
            return Err(ModelError::TooLarge {
                name,
                value,
                most: MAX_SIZE,
            });
        }
        if self.layers > MAX_LAYERS {
            return Err(ModelError::TooLarge {
                name: "layers",
                value: self.layers,
                most: MAX_LAYERS,
            });
        }
        if self.head_width.is_none() {
            divisible(("width", self.width), ("heads", self.heads))?;
        }
        let parameters = self.parameters_at_most();
        if parameters > MAX_PARAMETERS {
            return Err(ModelError::TooManyParameters { parameters });
        }
        divisible(("heads", self.heads), ("kv_heads", self.kv_heads))?;
        // A zero epsilon turns a constant row into NaN.
        positive("norm_epsilon", self.norm_epsilon)?;
        if let Some(cap) = self.logit_cap {
            positive("logit_cap", cap)?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ModelError::OutOfRange {
                name: "dropout",
                value: self.dropout,
                expected: "at least 0 and below 1",
            });
        }
        self.validate_rotary()
    }

    /// The number of parameters without any that a choice leaves out; sizes may be any that are not above [`MAX_SIZE`].
    fn parameters_at_most(&self) -> u128 {
        let [
            vocab_size,
            context,
            width,
            hidden,
            heads,
            kv_heads,
            head_width,
        ] = [
            self.vocab_size,
            self.context,
            self.width,
            self.hidden,
            self.heads,
            self.kv_heads,
            self.head_width(),
        ]
        .map(|size| size as u128);
        let learned = match self.positions {
            Positions::Learned => context,
            Positions::Rotary | Positions::None => 0,
        };
        let attention = (2 * heads + 2 * kv_heads) * head_width;
        let block = width * (attention + 3 * hidden) + 8 * width + attention + 2 * hidden;
        let embeddings = width * (2 * vocab_size + learned + 2);
        // Of two sizes below 2³² each, and 2¹⁶ layers.
        embeddings + self.layers as u128 * block
    }

    fn validate_rotary(&self) -> Result<(), ModelError> {
        if self.positions != Positions::Rotary {
            return match self.rotary_scaling {
                Some(_) => Err(ModelError::ScalingWithoutRotary),
                None => Ok(()),
            };
        }
        if !self.head_width().is_multiple_of(2) {
            return Err(ModelError::OddHeadWidth {
                head_width: self.head_width(),
            });
        }
        positive("rotary_theta", self.rotary_theta)?;
        let Some(scaling) = self.rotary_scaling else {
            return Ok(());
        };
        positive("rotary_scaling.factor", scaling.factor)?;
        let (low, high) = (scaling.low_frequency_factor, scaling.high_frequency_factor);
        positive("rotary_scaling.low_frequency_factor", low)?;
        positive("rotary_scaling.high_frequency_factor", high)?;
        if low >= high {
            return Err(ModelError::NotBelow {
                lower: ("rotary_scaling.low_frequency_factor", low),
                upper: ("rotary_scaling.high_frequency_factor", high),
            });
        }
        if scaling.original_context == 0 {
            return Err(ModelError::Zero {
                name: "rotary_scaling.original_context",
            });
        }
        Ok(())
    }

    /// Path and shape of every parameter, in the module tree's order. Linear weights are `[inputs, outputs]`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = Vec::new();
        let mut add = |path: String, shape: &[usize]| tensors.push((path, shape.to_vec()));
        add(
            "token_embedding.weight".into(),
            &[self.vocab_size, self.width],
        );
        if self.positions == Positions::Learned {
            add(
                "position_embedding.weight".into(),
                &[self.context, self.width],
            );
        }
        for layer in 0..self.layers {
            let path = |name: &str| format!("blocks.{layer}.{name}");
            let linear = |add: &mut dyn FnMut(String, &[usize]), name: &str, shape: [usize; 2]| {
                add(path(&format!("{name}.weight")), &shape);
                if self.bias {
                    add(path(&format!("{name}.bias")), &shape[1..]);
                }
            };
            let heads_width = self.heads * self.head_width();
            self.norm_tensors(&path("attention_norm"), &mut add);
            linear(&mut add, "attention.qkv", [self.width, self.qkv_width()]);
            if self.qk_norm {
                add(path("attention.query_norm.gamma"), &[self.head_width()]);
                add(path("attention.key_norm.gamma"), &[self.head_width()]);
            }
            linear(&mut add, "attention.output", [heads_width, self.width]);
            self.norm_tensors(&path("feed_forward_norm"), &mut add);
            if self.activation == Activation::SwiGlu {
                linear(&mut add, "feed_forward.gate", [self.width, self.hidden]);
            }
            linear(&mut add, "feed_forward.up", [self.width, self.hidden]);
            linear(&mut add, "feed_forward.down", [self.hidden, self.width]);
        }
        self.norm_tensors("final_norm", &mut add);
        if !self.tied_head {
            add("head.weight".into(), &[self.width, self.vocab_size]);
        }
        tensors
    }

    fn norm_tensors(&self, path: &str, add: &mut impl FnMut(String, &[usize])) {
        add(format!("{path}.gamma"), &[self.width]);
        if self.norm_has_bias() {
            add(format!("{path}.beta"), &[self.width]);
        }
    }

    pub(crate) fn norm_has_bias(&self) -> bool {
        self.bias && self.norm == Norm::Layer
    }

    /// Width of queries, keys and values of all heads side by side.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width()
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        let tensors = self.tensors();
        tensors
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Number of parameters without the position embedding, the count that nanoGPT prints and that is
    /// usually meant by a model's size.
    pub fn parameters_without_positions(&self) -> usize {
        let positions = match self.positions {
            Positions::Learned => self.context * self.width,
            Positions::Rotary | Positions::None => 0,
        };
        self.parameters() - positions
    }

    /// Floating-point operations that one training step, forward and backward, spends per token:
    /// `6 N + 12 layers heads head_width context`; a third of it is the forward pass.
    ///
    /// The convention of PaLM's appendix B (<https://arxiv.org/abs/2204.02311>), which does not take
    /// credit for what the causal mask makes unnecessary. N counts what each token is multiplied with:
    /// every parameter but the position embedding and, where the head is not tied, the token embedding,
    /// which is only looked up. A window bounds the context that counts.
    pub fn flops_per_token(&self) -> f64 {
        let looked_up = if self.tied_head {
            0
        } else {
            self.vocab_size * self.width
        };
        let multiplied = (self.parameters_without_positions() - looked_up) as f64;
        let seen = self
            .window
            .map_or(self.context, |window| window.min(self.context));
        let heads_width = self.heads * self.head_width();
        6.0 * multiplied + 12.0 * self.layers as f64 * heads_width as f64 * seen as f64
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

impl Activation {
    /// The usual width inside a feed-forward layer: four times the residual stream's or, where three maps
    /// share the parameters of two, `8/3` times, rounded up to a multiple of 32.
    pub fn usual_hidden(self, width: usize) -> usize {
        match self {
            // Not checked yet: a width that is too large is named by `validate`.
            Self::SwiGlu => (width.saturating_mul(8).div_ceil(3)).next_multiple_of(32),
            Self::Gelu | Self::GeluTanh | Self::Relu2 => width.saturating_mul(4),
        }
    }
}

fn divisible(
    (dividend, number): (&'static str, usize),
    (divisor, by): (&'static str, usize),
) -> Result<(), ModelError> {
    match number.is_multiple_of(by) {
        true => Ok(()),
        false => Err(ModelError::NotDivisible {
            dividend: (dividend, number),
            divisor: (divisor, by),
        }),
    }
}

fn positive(name: &'static str, value: f64) -> Result<(), ModelError> {
    // In f32 too, which most models compute in.
    let single = value as f32;
    match single > 0.0 && single.is_finite() {
        true => Ok(()),
        false => Err(ModelError::OutOfRange {
            name,
            value,
            expected: "positive and finite",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::Tensor;

    use super::*;

    fn small() -> ModelConfig {
        ModelConfig::new(7, 5, 2, 3, 9)
    }

    fn llama() -> ModelConfig {
        ModelConfig::llama(7, 5, 2, 4, 2, 16)
    }

    /// Shapes by path.
    #[derive(Default)]
    struct Shapes {
        path: Vec<String>,
        shapes: Vec<(String, Vec<usize>)>,
    }

    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.lazy_shape().to_vec();
            self.shapes.push((self.path.join("."), shape));
        }
    }

    #[test]
    fn tensors_are_those_of_the_model() {
        let tiny = ModelConfig::PRESETS
            .into_iter()
            .filter(|name| name.ends_with("tiny"))
            .map(|name| ModelConfig::preset(name).unwrap());
        let configs = [
            small(),
            small().with_bias(false),
            small().with_tied_head(false),
            small()
                .with_hidden(11)
                .with_bias(false)
                .with_tied_head(false),
            llama(),
            llama().with_bias(true).with_tied_head(true),
            ModelConfig {
                head_width: Some(5),
                qk_norm: true,
                positions: Positions::None,
                activation: Activation::Relu2,
                ..llama()
            },
        ];
        for config in configs.into_iter().chain(tiny) {
            let model = config.init(0, &Device::default()).unwrap();
            let mut shapes = Shapes::default();
            model.visit(&mut shapes);
            assert_eq!(shapes.shapes, config.tensors());
            assert_eq!(model.num_params(), config.parameters());
        }
    }

    #[test]
    fn presets_have_their_published_sizes() {
        let sizes = BTreeMap::from([
            ("gpt2", 124_439_808),
            ("gpt2-medium", 354_823_168),
            ("gpt2-large", 774_030_080),
            ("gpt2-xl", 1_557_611_200),
            ("llama-2-7b", 6_738_415_616),
            ("llama-3-8b", 8_030_261_248),
            ("llama-3.1-8b", 8_030_261_248),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.2-3b", 3_212_749_824),
        ]);
        for name in ModelConfig::PRESETS {
            let config = ModelConfig::preset(name).unwrap();
            config.validate().unwrap();
            if let Some(size) = sizes.get(name) {
                assert_eq!(config.parameters(), *size, "{name}");
            }
        }
        assert!(sizes.keys().all(|name| ModelConfig::PRESETS.contains(name)));
        assert_eq!(ModelConfig::preset("gpt3"), None);
    }

    #[test]
    fn operations_are_counted_as_palm_does() {
        let gpt2 = ModelConfig::new(50257, 1024, 12, 12, 768);
        assert_eq!(gpt2.parameters_without_positions(), 123_653_376);
        let flops = 6.0 * 123_653_376.0 + 12.0 * 12.0 * 768.0 * 1024.0;
        assert_eq!(gpt2.flops_per_token(), flops);
        // The head costs the same whether or not it is tied.
        assert_eq!(gpt2.clone().with_tied_head(false).flops_per_token(), flops);
        let windowed = ModelConfig {
            window: Some(256),
            ..gpt2
        };
        let less = 12.0 * 12.0 * 768.0 * 768.0;
        assert_eq!(windowed.flops_per_token(), flops - less);
    }

    #[test]
    fn an_impossible_shape_is_refused_by_its_numbers() {
        let message = |config: ModelConfig| match config.init(0, &Device::default()) {
            Ok(_) => panic!("{config:?} is not refused"),
            Err(error) => error.to_string(),
        };
        let scaling = RotaryScaling {
            factor: 8.0,
            low_frequency_factor: 4.0,
            high_frequency_factor: 1.0,
            original_context: 8192,
        };
        type Spoil = fn(&mut ModelConfig);
        let cases: [(Spoil, &str); 10] = [
            (
                |c| c.width = (1 << 53) + 1,
                "width is 9007199254740993; it must be at most 4294967295",
            ),
            (|c| c.width = 130, "width 130 is not divisible by heads 4"),
            (|c| c.heads = 6, "width 16 is not divisible by heads 6"),
            (|c| c.kv_heads = 3, "heads 4 is not divisible by kv_heads 3"),
            (
                |c| c.head_width = Some(7),
                "head_width 7 is not divisible by 2, the width of a rotary pair",
            ),
            (|c| c.context = 0, "context is 0; it must be at least 1"),
            (|c| c.window = Some(0), "window is 0; it must be at least 1"),
            (
                |c| c.dropout = 1.0,
                "dropout is 1; it must be at least 0 and below 1",
            ),
            (
                |c| c.logit_cap = Some(-30.0),
                "logit_cap is -30; it must be positive and finite",
            ),
            (
                |c| c.rotary_theta = 0.0,
                "rotary_theta is 0; it must be positive and finite",
            ),
        ];
        for (spoil, expected) in cases {
            let mut config = llama();
            spoil(&mut config);
            assert_eq!(message(config), expected);
        }
        let scaled = |config: ModelConfig| ModelConfig {
            rotary_scaling: Some(scaling),
            ..config
        };
        assert_eq!(
            message(scaled(llama())),
            "rotary_scaling.low_frequency_factor 4 must be below rotary_scaling.high_frequency_factor 1"
        );
        assert_eq!(
            message(scaled(small())),
            "rotary_scaling is set, but positions are not \"rotary\""
        );
        for epsilon in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
            assert!(message(small().with_norm_epsilon(epsilon)).contains("norm_epsilon"));
        }
        let zeros: [fn(&mut ModelConfig) -> &mut usize; 7] = [
            |c| &mut c.vocab_size,
            |c| &mut c.context,
            |c| &mut c.layers,
            |c| &mut c.heads,
            |c| &mut c.kv_heads,
            |c| &mut c.width,
            |c| &mut c.hidden,
        ];
        for size in zeros {
            let mut config = small();
            *size(&mut config) = 0;
            assert!(message(config).contains("is 0"));
        }
    }

    #[test]
    fn sizes_beyond_any_machine_are_refused_and_overflow_nothing() {
        let message = |config: ModelConfig| config.validate().unwrap_err().to_string();
        let sizes: [fn(&mut ModelConfig) -> &mut usize; 7] = [
            |c| &mut c.vocab_size,
            |c| &mut c.context,
            |c| &mut c.layers,
            |c| &mut c.heads,
            |c| &mut c.kv_heads,
            |c| &mut c.width,
            |c| &mut c.hidden,
        ];
        let huge = [usize::MAX, usize::MAX / 2 + 1, 1 << 33];
        for base in [small(), llama()] {
            for (size, huge) in sizes.iter().flat_map(|size| huge.map(|huge| (size, huge))) {
                let mut config = base.clone();
                *size(&mut config) = huge;
                assert!(message(config).contains("it must be at most 4294967295"));
            }
            for size in sizes {
                let mut config = ModelConfig {
                    heads: 1,
                    kv_heads: 1,
                    vocab_size: 1 << 20,
                    width: 1 << 20,
                    ..base.clone()
                };
                *size(&mut config) = 1 << 31;
                // Whatever is possible can be counted.
                if config.validate().is_ok() {
                    assert!(config.parameters() < 1 << 46);
                    let memory = config.training_memory(usize::MAX, config.context);
                    assert_eq!(memory.total(), u64::MAX);
                    let memory = config.generation_memory(usize::MAX, config.context);
                    assert_eq!(memory.total(), u64::MAX);
                }
            }
        }
        assert_eq!(Activation::SwiGlu.usual_hidden(usize::MAX) % 32, 0);
        let all = ModelConfig {
            vocab_size: u32::MAX as usize,
            context: u32::MAX as usize,
            layers: 1 << 16,
            heads: u32::MAX as usize,
            kv_heads: u32::MAX as usize,
            width: u32::MAX as usize,
            hidden: u32::MAX as usize,
            head_width: Some(u32::MAX as usize),
            ..small()
        };
        assert!(message(all).contains("beyond the 70368744177664 that one may have"));
    }
}
