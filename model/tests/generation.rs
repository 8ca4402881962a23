//! Generation with the cache and without it, on every backend.
#![allow(clippy::unwrap_used)] // a test may panic

#[path = "common/devices.rs"]
mod devices;

use std::ops::ControlFlow;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
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

fn model(config: &ModelConfig, seed: u64, device: &Device) -> Transformer {
    config.init(seed, device).unwrap().map(&mut Enlarge)
}

/// Whether a text has more than one token in it.
fn varies(tokens: &[u32]) -> bool {
    tokens.iter().any(|token| *token != tokens[0])
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

/// Prompts of unequal length are padded, and what is padded sees nothing: in f16 the sum of what hides it must not be
/// infinite.
#[test]
fn prompts_of_unequal_length_are_continued_in_half_precision() {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.cast(self.0))
        }
    }
    let prompts = [vec![1], vec![7; 11], vec![3, 9, 27]];
    for (name, device) in devices::devices() {
        for dtype in [DType::F16, DType::BF16] {
            if name == "wgpu" || !device.supports_dtype(dtype) {
                continue;
            }
            let llama = ModelConfig::llama(31, 16, 2, 4, 2, 16);
            let gpt2 = ModelConfig {
                window: Some(5),
                ..ModelConfig::new(31, 16, 2, 2, 16)
            };
            for config in [llama, gpt2] {
                let model = config.init(3, &device).unwrap().map(&mut Cast(dtype));
                let texts = |prompts: &[Vec<u32>]| {
                    let greedy = || Sampler::new(SamplingConfig::greedy(), 0).unwrap();
                    let mut samplers: Vec<Sampler> = prompts.iter().map(|_| greedy()).collect();
                    let goes_on = |_, _| ControlFlow::Continue(());
                    let settings = GenerationConfig::new(4);
                    generate(&model, prompts, &settings, &mut samplers, goes_on).unwrap()
                };
                let who = format!("{name} {dtype:?} {config:?}");
                for (together, prompt) in texts(&prompts).iter().zip(&prompts) {
                    let alone = texts(std::slice::from_ref(prompt)).concat();
                    assert_eq!(*together, alone, "{who}");
                }
            }
        }
    }
}

#[test]
fn any_number_of_tokens_may_be_asked_for() {
    let model = ModelConfig::llama(31, 16, 1, 2, 1, 8)
        .init(3, &Device::flex())
        .unwrap();
    for cache in [true, false] {
        let config = GenerationConfig {
            cache,
            ..GenerationConfig::new(usize::MAX)
        };
        let mut left = 40;
        let ends = |_, _| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let sampler = Sampler::new(SamplingConfig::greedy(), 0).unwrap();
        let rows = generate(&model, &[vec![4, 5]], &config, &mut [sampler], ends).unwrap();
        assert_eq!(rows[0].len(), 40);
    }
}

#[test]
fn the_cache_changes_no_token_on_any_backend() {
    for (name, device) in devices::devices() {
        // A driver that compiles its kernels does so for each length anew: there, few lengths and one
        // architecture.
        let (context, configs) = if name == "wgpu" { (8, 1) } else { (512, 2) };
        let llama = ModelConfig::llama(31, context, 2, 4, 2, 16);
        let gpt2 = ModelConfig::new(31, context, 2, 2, 16);
        for config in [llama, gpt2].into_iter().take(configs) {
            // The text of some random weights is one token, over and over, which would show nothing.
            let mut texts = (3..40).map(|seed| {
                let model = model(&config, seed, &device);
                let tokens = greedy(&model, true);
                (model, tokens)
            });
            let (model, tokens) = texts
                .find(|(_, tokens)| varies(tokens))
                .unwrap_or_else(|| panic!("{name}: every text is one token over and over"));
            assert_eq!(tokens.len(), 500);
            assert_eq!(tokens, greedy(&model, false), "{name}: {config:?}");
        }
    }
}
