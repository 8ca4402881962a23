//! Generation with the cache and without it, on every backend.
#![allow(clippy::unwrap_used)] // a test may panic

#[path = "common/devices.rs"]
mod devices;

use std::ops::ControlFlow;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use foretoken_model::{
    GenerationConfig, ModelConfig, Sampler, SamplingConfig, Transformer, generate,
};

/// Weights large enough that the most probable token varies, and leads by far more than rounding.
struct Enlarge;

impl ModuleMapper for Enlarge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| if D > 1 { tensor * 20.0 } else { tensor })
    }
}

fn model(config: &ModelConfig, device: &Device) -> Transformer {
    config.init(3, device).unwrap().map(&mut Enlarge)
}

fn greedy(model: &Transformer, cache: bool) -> Vec<u32> {
    let config = GenerationConfig {
        cache,
        ..GenerationConfig::new(500)
    };
    let sampler = Sampler::new(SamplingConfig::greedy(), 0).unwrap();
    let goes_on = |_, _| ControlFlow::Continue(());
    let rows = generate(model, &[vec![4, 5]], &config, &mut [sampler], goes_on).unwrap();
    rows.concat()
}

#[test]
fn the_cache_changes_no_token_on_any_backend() {
    for (name, device) in devices::devices() {
        // A driver that compiles its kernels does so for each length anew: there, few lengths and one
        // architecture.
        let (context, configs) = if name == "wgpu" { (8, 1) } else { (512, 2) };
        let llama = ModelConfig::llama(31, context, 1, 4, 2, 16);
        let gpt2 = ModelConfig::new(31, context, 1, 2, 16);
        for config in [llama, gpt2].into_iter().take(configs) {
            let model = model(&config, &device);
            let tokens = greedy(&model, true);
            assert_eq!(tokens.len(), 500);
            let mut different = tokens.clone();
            different.sort_unstable();
            different.dedup();
            assert!(different.len() > 1, "{name}: nothing but {different:?}");
            assert_eq!(tokens, greedy(&model, false), "{name}: {config:?}");
        }
    }
}
