//! Portable initialisation: creates every parameter of the model, by name.
//!
//! A parameter's path in the module tree, such as `blocks.0.attention.qkv.weight`, decides two things. It
//! selects the random stream the values come from, so that nothing else can influence them. And it gives
//! the parameter its id: Burn's optimizers keep their state by id and draw ids at random, and with ids
//! that follow from the path a resumed process finds the state it saved.

use burn::module::{Param, ParamId};
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Shape, Tensor, TensorData};

use crate::config::{ModelConfig, Norm};
use crate::norm::Normalization;
use crate::random;

/// Standard deviation of linear and embedding weights, GPT-2's.
const STD: f64 = 0.02;

/// Creates the parameters below one path of the module tree.
pub(crate) struct Initializer<'a> {
    config: &'a ModelConfig,
    seed: u64,
    device: &'a Device,
    path: String,
}

impl<'a> Initializer<'a> {
    /// For the root of the module tree.
    pub(crate) fn new(config: &'a ModelConfig, seed: u64, device: &'a Device) -> Self {
        Self {
            config,
            seed,
            device,
            path: String::new(),
        }
    }

    /// For the child module called `name`.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self {
            path: self.join(name),
            ..*self
        }
    }

    /// A linear layer, `[.., inputs] -> [.., outputs]`.
    pub(crate) fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Linear {
        self.linear_with(name, [inputs, outputs], STD, self.config.bias)
    }

    /// A linear layer that writes to the residual stream. There are two per block, and their sum over the
    /// blocks shall vary as much as one layer does.
    pub(crate) fn residual_linear(&self, name: &str, inputs: usize, outputs: usize) -> Linear {
        let std = STD / libm::sqrt(2.0 * self.config.layers as f64);
        self.linear_with(name, [inputs, outputs], std, self.config.bias)
    }

    /// A linear layer that has no bias whatever the configuration says.
    pub(crate) fn linear_without_bias(&self, name: &str, inputs: usize, outputs: usize) -> Linear {
        self.linear_with(name, [inputs, outputs], STD, false)
    }

    /// An embedding of `count` ids, `[..] -> [.., width]`.
    pub(crate) fn embedding(&self, name: &str, count: usize) -> Embedding {
        let shape = [count, self.config.width];
        Embedding {
            weight: self.child(name).normal("weight", shape, STD),
        }
    }

    /// The norm that the configuration asks for, over the residual stream.
    pub(crate) fn width_norm(&self, name: &str) -> Normalization {
        let config = self.config;
        self.norm(name, config.width, config.norm, config.norm_has_bias())
    }

    /// A norm that starts as the plain normalisation: gain 1, bias 0.
    pub(crate) fn norm(&self, name: &str, width: usize, norm: Norm, bias: bool) -> Normalization {
        let child = self.child(name);
        Normalization {
            gamma: child.constant("gamma", width, 1.0),
            beta: bias.then(|| child.constant("beta", width, 0.0)),
            norm,
            epsilon: self.config.norm_epsilon,
        }
    }

    fn linear_with(&self, name: &str, shape: [usize; 2], std: f64, bias: bool) -> Linear {
        let child = self.child(name);
        Linear {
            weight: child.normal("weight", shape, std),
            bias: bias.then(|| child.constant("bias", shape[1], 0.0)),
        }
    }

    fn normal<const D: usize>(&self, name: &str, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        let (seed, path) = (self.seed, self.join(name));
        self.parameter(name, shape, move |count| {
            random::normals(&mut random::stream(seed, &path), count)
                .into_iter()
                .map(|z| (std * z) as f32)
                .collect()
        })
    }

    fn constant(&self, name: &str, width: usize, value: f32) -> Param<Tensor<1>> {
        self.parameter(name, [width], move |count| vec![value; count])
    }

    /// `values` is called with the number of elements, when the parameter is first read.
    fn parameter<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        values: impl FnOnce(usize) -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        Param::uninitialized(
            ParamId::from(random::hash(&self.join(name))),
            move |device, require_grad| {
                let data = TensorData::new(values(shape.iter().product()), shape);
                device.memory_persistent_allocations(data, |data| {
                    Tensor::from_data(data, device).set_require_grad(require_grad)
                })
            },
            self.device.clone(),
            true,
            Shape::from(shape),
        )
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use burn::module::{Module, ModuleVisitor};
    use burn::tensor::Int;

    use super::*;
    use crate::transformer::Transformer;

    /// Values by path; checks on its way that every parameter's id belongs to its path.
    #[derive(Default)]
    struct Collect {
        path: Vec<String>,
        values: BTreeMap<String, Vec<f32>>,
    }

    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.path.join(".");
            assert_eq!(param.id, ParamId::from(random::hash(&path)), "{path}");
            let values = param.val().try_into_vec_as().unwrap();
            assert!(self.values.insert(path, values).is_none());
        }
    }

    fn values(model: &Transformer) -> BTreeMap<String, Vec<f32>> {
        let mut collect = Collect::default();
        model.visit(&mut collect);
        collect.values
    }

    fn model(config: &ModelConfig, seed: u64) -> Transformer {
        config.init(seed, &Device::default()).unwrap()
    }

    #[test]
    fn paths_name_the_parameters() {
        let config = ModelConfig::new(5, 3, 2, 1, 2).with_tied_head(false);
        let paths: Vec<String> = values(&model(&config, 0)).into_keys().collect();
        let block = |layer: usize| {
            [
                "attention.output.bias",
                "attention.output.weight",
                "attention.qkv.bias",
                "attention.qkv.weight",
                "attention_norm.beta",
                "attention_norm.gamma",
                "feed_forward.down.bias",
                "feed_forward.down.weight",
                "feed_forward.up.bias",
                "feed_forward.up.weight",
                "feed_forward_norm.beta",
                "feed_forward_norm.gamma",
            ]
            .map(|name| format!("blocks.{layer}.{name}"))
        };
        let rest = [
            "final_norm.beta",
            "final_norm.gamma",
            "head.weight",
            "position_embedding.weight",
            "token_embedding.weight",
        ];
        let expected = [block(0), block(1)].concat().into_iter();
        let expected: Vec<String> = expected.chain(rest.map(str::to_owned)).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn weights_are_pinned_to_the_bit() {
        let values = values(&model(&ModelConfig::new(65, 64, 4, 4, 128), 1));
        let bits = |path: &str| {
            values[path][..3]
                .iter()
                .map(|v| v.to_bits())
                .collect::<Vec<_>>()
        };
        // From a second implementation. A change here changes the start of every experiment ever run.
        assert_eq!(
            bits("token_embedding.weight"),
            [0xbc36_95ec, 0xbc14_063a, 0xbb41_5bf9]
        );
        assert_eq!(
            bits("blocks.3.attention.output.weight"),
            [0xbb9c_59e2, 0x3b02_4872, 0xbbc3_714d]
        );
    }

    #[test]
    fn neither_order_nor_threads_nor_other_parameters_matter() {
        let config = ModelConfig::new(11, 6, 3, 2, 8);
        let expected = values(&model(&config, 7));
        let other_seed = values(&model(&config, 8));
        let unbiased = values(&model(&config.clone().with_bias(false), 7));

        // Read for the first time from the last to the first block, each on a thread of its own.
        let model = model(&config, 7);
        for layer in (0..3).rev() {
            let tokens = Tensor::<2, Int>::zeros([1, layer + 1], &Device::default());
            thread::scope(|scope| scope.spawn(|| model.hidden(tokens)).join().unwrap());
        }
        assert_eq!(values(&model), expected);

        for (path, values) in unbiased {
            assert_eq!(values, expected[&path], "{path}");
            let random = path.ends_with("weight");
            assert_eq!(random, values != other_seed[&path], "{path}");
        }
    }

    #[test]
    fn weights_have_the_deviation_they_should() {
        let layers = 3;
        let config = ModelConfig::new(200, 100, layers, 2, 64).with_tied_head(false);
        for (path, values) in values(&model(&config, 0)) {
            let count = values.len() as f64;
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / count;
            let expected = match path.as_str() {
                p if p.ends_with("bias") || p.ends_with("beta") => {
                    assert!(values.iter().all(|v| *v == 0.0), "{path}");
                    continue;
                }
                p if p.ends_with("gamma") => {
                    assert!(values.iter().all(|v| *v == 1.0), "{path}");
                    continue;
                }
                p if p.contains("output") || p.contains("down") => STD / (6f64).sqrt(),
                _ => STD,
            };
            // Five standard errors.
            assert!(mean.abs() < 5.0 * expected / count.sqrt(), "{path}");
            let relative = square.sqrt() / expected - 1.0;
            assert!(
                relative.abs() < 5.0 / (2.0 * count).sqrt(),
                "{path}: {relative}"
            );
        }
    }

    #[test]
    fn an_untrained_model_knows_nothing() {
        for (vocab_size, layers, heads, width) in [
            (65, 4, 2, 8),
            (257, 2, 3, 24),
            (1000, 12, 2, 16),
            (5000, 3, 2, 64),
            (300, 2, 4, 128),
        ] {
            let config = ModelConfig::new(vocab_size, 32, layers, heads, width);
            for config in [
                config.clone(),
                config.with_tied_head(false).with_bias(false),
            ] {
                let ids = |name| {
                    let mut rng = random::stream(0, name);
                    let id = |_| (random::uniform(&mut rng) * vocab_size as f64) as i64;
                    let data = TensorData::new((0..64 * 32).map(id).collect::<Vec<_>>(), [64, 32]);
                    Tensor::<2, Int>::from_data(data, &Device::default())
                };
                let loss = model(&config, 5).next_token_loss(ids("inputs"), ids("targets"));
                let nats: f64 = loss.mean().into_scalar();
                // The final norm gives vectors of length √width, so logits have a variance of STD² width,
                // which costs half of it over ln(vocab): 0.005 at width 24, 0.15 in GPT-2.
                let excess = nats - (vocab_size as f64).ln();
                let expected = STD * STD * width as f64 / 2.0;
                let message = format!("{config:?}: {excess} over, expected {expected}");
                assert!((excess - expected).abs() < 0.01, "{message}");
                assert!(width > 24 || excess.abs() < 0.01, "{message}");
            }
        }
    }
}
