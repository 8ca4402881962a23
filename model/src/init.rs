//! Portable initialisation: creates every parameter of the model, by name.
//!
//! A parameter's path in the module tree, such as `blocks.0.attention.qkv.weight`, decides two things. It
//! selects the random stream the values come from, so that nothing else can influence them. And it gives
//! the parameter its id: Burn's optimizers keep their state by id and draw ids at random, and with ids
//! that follow from the path a resumed process finds the state it saved.

use burn::module::{Param, ParamId};
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Shape, Tensor, TensorData};

use crate::config::ModelConfig;
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

    /// A LayerNorm that starts as the plain normalisation: gain 1, bias 0.
    pub(crate) fn layer_norm(&self, name: &str) -> LayerNorm {
        let (child, config) = (self.child(name), self.config);
        let mut norm = LayerNormConfig::new(config.width)
            .with_epsilon(config.norm_epsilon)
            .init(self.device);
        norm.gamma = child.constant("gamma", config.width, 1.0);
        norm.beta = config
            .bias
            .then(|| child.constant("beta", config.width, 0.0));
        norm
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
