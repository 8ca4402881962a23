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
