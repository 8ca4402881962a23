//! Prompt to continuation, one token at a time.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};

use crate::error::ModelError;
use crate::sampling::Sampler;
use crate::transformer::Transformer;

/// Continues `prompt` by `tokens` token ids, and returns these; `on_token` sees each as it is chosen.
///
/// Every step computes the last `context` tokens afresh; what lies before them is forgotten.
///
/// # Errors
/// When the prompt is empty or holds an id outside the vocabulary, the model's logits are not
/// numbers, or the device fails.
pub fn generate(
    model: &Transformer,
    prompt: &[u32],
    tokens: usize,
    sampler: &mut Sampler,
    mut on_token: impl FnMut(u32),
) -> Result<Vec<u32>, ModelError> {
    let vocab_size = model.config().vocab_size;
    if prompt.is_empty() {
        return Err(ModelError::EmptyPrompt);
    }
    if let Some(token) = prompt.iter().find(|token| **token as usize >= vocab_size) {
        return Err(ModelError::UnknownToken {
            token: *token,
            vocab_size,
        });
    }

    // A model on an autodiff device would record every step for a backward pass that never comes.
    let model = model.valid();
    let mut text = prompt.to_vec();
    for _ in 0..tokens {
        let start = text.len().saturating_sub(model.config().context);
        let logits = next_logits(&model, &text[start..])?;
        let token = sampler.sample(&logits)? as u32;
        text.push(token);
        on_token(token);
    }
    Ok(text.split_off(prompt.len()))
}

/// The logits of the token after `tokens`, which are at least one and fit the context.
fn next_logits(model: &Transformer, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
    let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
    let data = TensorData::new(ids, [1, tokens.len()]);
    let hidden = model.hidden(Tensor::<2, Int>::from_data(data, &model.device()));
    let last = hidden.narrow(1, tokens.len() - 1, 1);
    model
        .unembed(last)
        .try_into_vec_as()
        .map_err(|error| ModelError::Read(error.to_string()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::ModelConfig;
    use crate::sampling::SamplingConfig;

    fn model(device: &Device) -> Transformer {
        let config = ModelConfig::new(11, 4, 2, 2, 8);
        config.init(3, device).unwrap()
    }

    fn sampler(seed: u64) -> Sampler {
        Sampler::new(SamplingConfig::default(), seed).unwrap()
    }

    #[test]
    fn each_token_follows_from_the_last_context_of_them() {
        let model = model(&Device::default());
        let mut greedy = Sampler::new(SamplingConfig::greedy(), 0).unwrap();
        let mut streamed = Vec::new();
        let prompt = [1, 2, 3];
        let tokens = generate(&model, &prompt, 6, &mut greedy, |token| {
            streamed.push(token)
        });
        let tokens = tokens.unwrap();
        assert_eq!(tokens, streamed);
        assert_eq!(tokens.len(), 6);

        let text = [&prompt[..], &tokens].concat();
        for end in prompt.len()..text.len() {
            let window: Vec<i64> = text[end.saturating_sub(4)..end]
                .iter()
                .copied()
                .map(i64::from)
                .collect();
            let data = TensorData::new(window.clone(), [1, window.len()]);
            let logits = model.logits(Tensor::from_data(data, &Device::default()));
            let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
            let last = &logits[logits.len() - 11..];
            let best = (0..11).max_by(|a, b| last[*a].total_cmp(&last[*b]));
            assert_eq!(best, Some(text[end] as usize));
        }
    }

    #[test]
    fn a_seed_decides_the_text() {
        let plain = model(&Device::default());
        let tokens = |model: &Transformer, seed| {
            generate(model, &[0], 20, &mut sampler(seed), |_| ()).unwrap()
        };
        assert_eq!(tokens(&plain, 1), tokens(&plain, 1));
        assert_ne!(tokens(&plain, 1), tokens(&plain, 2));
        let training = model(&Device::default().autodiff());
        assert_eq!(tokens(&training, 1), tokens(&plain, 1));
    }

    #[test]
    fn a_prompt_that_cannot_be_continued_is_refused() {
        let model = model(&Device::default());
        let error = |prompt: &[u32]| generate(&model, prompt, 1, &mut sampler(0), |_| ());
        assert_eq!(error(&[]), Err(ModelError::EmptyPrompt));
        let unknown = ModelError::UnknownToken {
            token: 11,
            vocab_size: 11,
        };
        assert_eq!(error(&[10, 11]), Err(unknown));
    }
}
