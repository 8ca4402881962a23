//! Prompt to continuation, one token at a time.

use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::cache::KvCache;
use crate::error::ModelError;
use crate::ops::among_threads;
use crate::sampling::Sampler;
use crate::transformer::Transformer;
use crate::watch::Pass;

/// Columns of a prompt computed at once. Few enough that scores of the prompt against itself stay small beside
/// the weights, enough that the products over them run as fast as larger ones.
const PREFILL: usize = 256;

/// What to do when a text grows longer than the model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Forget the older half of a context at once, and go on. The model sees a function of the text's length alone:
    /// always at least half of a context, if the text is that long. What it still sees is read again, so that a text
    /// longer than the context takes twice the arithmetic of its tokens. Smaller parts would take more.
    Slide,
    /// Refuse, before the first token.
    Error,
}

/// How far to generate, and by which means.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// At most this many tokens per prompt.
    pub tokens: usize,
    /// Whether to keep keys and values of tokens already seen, or to compute all of them afresh for every
    /// token. The results are the same but for rounding.
    pub cache: bool,
    /// What to do when the context is full.
    pub overflow: Overflow,
}

impl GenerationConfig {
    /// So many tokens, with a cache, sliding on where the context is full.
    pub fn new(tokens: usize) -> Self {
        Self {
            tokens,
            cache: true,
            overflow: Overflow::Slide,
        }
    }
}

/// Continues every prompt, each with the sampler in its place, and returns the continuations. `on_token(row,
/// token)` sees each token as it is chosen, and ends its row with [`ControlFlow::Break`].
///
/// Prompts may have unequal lengths; a row's continuation does not depend on the others, but for rounding.
///
/// # Errors
/// When a prompt is empty, holds an id outside the vocabulary or, as [`Overflow`] asks, does not fit the
/// context together with its continuation; when the model's logits are not numbers, or the device fails.
///
/// # Panics
/// When there are not as many samplers as prompts.
pub fn generate(
    model: &Transformer,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    samplers: &mut [Sampler],
    mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Vec<u32>>, ModelError> {
    assert_eq!(prompts.len(), samplers.len(), "one sampler per prompt");
    for prompt in prompts {
        check(model, prompt, config)?;
    }
    // A model on an autodiff device would record every step for a backward pass that never comes.
    let model = model.valid();
    let mut texts = prompts.to_vec();
    let mut running = vec![true; texts.len()];
    let mut reader = config.cache.then(|| BatchReader::new(&model));
    for step in 0..config.tokens {
        if !running.contains(&true) {
            break;
        }
        let logits = match &mut reader {
            Some(reader) => reader.next_logits(&texts, &running, config.tokens - step)?,
            None => texts
                .iter()
                .map(|text| next_logits(&model, text))
                .collect::<Result<_, _>>()?,
        };
        for (row, logits) in logits.iter().enumerate() {
            if running[row] {
                let token = samplers[row].sample(logits, &texts[row])?;
                texts[row].push(token);
                running[row] = on_token(row, token).is_continue();
            }
        }
    }
    let continuations = texts.into_iter().zip(prompts);
    Ok(continuations
        .map(|(mut text, prompt)| text.split_off(prompt.len()))
        .collect())
}

fn check(model: &Transformer, prompt: &[u32], config: &GenerationConfig) -> Result<(), ModelError> {
    let (vocab_size, context) = (model.config().vocab_size, model.config().context);
    if prompt.is_empty() {
        return Err(ModelError::EmptyPrompt);
    }
    if let Some(token) = prompt.iter().find(|token| **token as usize >= vocab_size) {
        return Err(ModelError::UnknownToken {
            token: *token,
            vocab_size,
        });
    }
    // The last token is never read.
    let read = prompt.len().saturating_add(config.tokens.saturating_sub(1));
    match config.overflow {
        Overflow::Error if read > context => Err(ModelError::ContextExceeded {
            prompt: prompt.len(),
            tokens: config.tokens,
            context,
        }),
        Overflow::Error | Overflow::Slide => Ok(()),
    }
}

/// The first token of a text of this length that the model sees.
pub(crate) fn window_start(length: usize, context: usize) -> usize {
    let hop = (context / 2).max(1);
    length.saturating_sub(context).next_multiple_of(hop)
}

/// The logits of the token after `text`, computed from nothing.
fn next_logits(model: &Transformer, text: &[u32]) -> Result<Vec<f32>, ModelError> {
    let window = &text[window_start(text.len(), model.config().context)..];
    let logits = model.last_logits_in(Pass::default(), model.tokens(&[window]), 1);
    Ok(read_rows(logits)?.swap_remove(0))
}

/// Reads the logits of one position per text, `[batch, 1, vocab_size]`, row by row.
fn read_rows(logits: Tensor<3>) -> Result<Vec<Vec<f32>>, ModelError> {
    let [.., vocab_size] = logits.dims();
    let logits: Vec<f32> = logits
        .try_into_vec_as()
        .map_err(|error| ModelError::Read(error.to_string()))?;
    Ok(logits.chunks(vocab_size).map(<[f32]>::to_vec).collect())
}

/// Reads a batch of growing texts with a key/value cache: each token once, as long as their windows stand still.
pub struct BatchReader<'a> {
    model: &'a Transformer,
    cache: Option<KvCache>,
    /// Where each text's window starts in the cache.
    starts: Vec<usize>,
}

impl<'a> BatchReader<'a> {
    /// Creates a reader that has read nothing. The model must not be on an autodiff device.
    pub fn new(model: &'a Transformer) -> Self {
        Self {
            model,
            cache: None,
            starts: Vec::new(),
        }
    }

    /// Returns the logits of the token after each text, given that at most `remaining` are still asked for. Since the last
    /// call each text that is `running` has grown by one token. Logits of the others mean nothing. A text that is longer
    /// than the context is read from a later token on, as [`Overflow::Slide`] says.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    ///
    /// # Panics
    ///
    /// Panics if a text is empty, or `remaining` is 0.
    pub fn next_logits(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        remaining: usize,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let device = self.model.device();
        among_threads(&device, || {
            read_rows(self.next_logits_on_device(texts, running, remaining))
        })
    }

    /// Returns the [logits](Self::next_logits) in the model's precision and on its device, `[batch, 1, vocab_size]`.
    ///
    /// # Panics
    ///
    /// Panics if a text is empty, or `remaining` is 0.
    pub fn next_logits_on_device(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        remaining: usize,
    ) -> Tensor<3> {
        let context = self.model.config().context;
        let starts: Vec<usize> = texts
            .iter()
            .zip(running)
            .map(|(text, running)| match running {
                true => window_start(text.len(), context),
                // One token keeps its row, and no more than that is worth computing.
                false => text.len() - 1,
            })
            .collect();
        let stands = |(row, start): (usize, usize)| !running[row] || self.starts[row] == start;
        if let Some(cache) = &mut self.cache
            && cache.seen < cache.capacity
            && starts.iter().copied().enumerate().all(stands)
        {
            let last: Vec<&[u32]> = texts.iter().map(|text| &text[text.len() - 1..]).collect();
            let hidden = self.model.extend(self.model.tokens(&last), cache);
            return self.model.last_logits(hidden, 1, Pass::default());
        }
        let windows: Vec<&[u32]> = texts
            .iter()
            .zip(&starts)
            .map(|(text, start)| &text[*start..])
            .collect();
        self.starts = starts;
        // Two caches at once would be one too many.
        self.cache = None;
        let (cache, hidden) = self.read(&windows, remaining);
        self.cache = Some(cache);
        self.model.last_logits(hidden, 1, Pass::default())
    }

    /// Fills a new cache with the windows; what the model knows after them, `[batch, .., width]`.
    fn read(&self, windows: &[&[u32]], remaining: usize) -> (KvCache, Tensor<3>) {
        let model = self.model;
        let lengths = windows.iter().map(|window| window.len());
        let longest = lengths.clone().max().unwrap_or(0);
        let padding: Vec<usize> = lengths.map(|length| longest - length).collect();
        let padded: Vec<Vec<u32>> = windows
            .iter()
            .zip(&padding)
            .map(|(window, pad)| [&vec![0; *pad], *window].concat())
            .collect();
        let capacity = longest
            .saturating_add(remaining - 1)
            .min(model.config().context);
        let equal = padding.iter().all(|pad| *pad == 0);
        let mut cache = KvCache::new(
            model.config(),
            windows.len(),
            capacity,
            if equal { vec![] } else { padding },
            (&model.device(), model.dtype()),
        );
        let mut hidden = None;
        for start in (0..longest).step_by(PREFILL) {
            let end = (start + PREFILL).min(longest);
            let columns: Vec<&[u32]> = padded.iter().map(|row| &row[start..end]).collect();
            hidden = Some(model.extend(model.tokens(&columns), &mut cache));
        }
        (cache, hidden.expect("no prompt is empty"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::Device;

    use super::*;
    use crate::config::{ModelConfig, RotaryScaling};
    use crate::sampling::SamplingConfig;

    /// Every kind of position, shared keys, windows, and weights large enough that greedy choices vary.
    fn models(device: &Device) -> Vec<Transformer> {
        let gpt2 = ModelConfig::new(31, 16, 2, 4, 16);
        let llama = ModelConfig::llama(31, 16, 2, 4, 2, 16);
        let scaling = RotaryScaling {
            factor: 4.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 2.0,
            original_context: 8,
        };
        let configs = [
            gpt2.clone(),
            ModelConfig {
                window: Some(5),
                qk_norm: true,
                kv_heads: 1,
                ..gpt2.clone()
            },
            llama.clone(),
            ModelConfig {
                window: Some(3),
                rotary_scaling: Some(scaling),
                head_width: Some(6),
                ..llama
            },
            ModelConfig {
                positions: crate::Positions::None,
                logit_cap: Some(2.0),
                ..gpt2
            },
        ];
        let init = |config: ModelConfig| enlarged(config.init(3, device).unwrap(), 20.0);
        configs.into_iter().map(init).collect()
    }

    /// A model with matrices multiplied by `factor`, so that attention and activations are far from linear.
    pub(crate) fn enlarged(model: Transformer, factor: f64) -> Transformer {
        struct Enlarge(f64);
        impl ModuleMapper for Enlarge {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let factor = self.0;
                param.map(|tensor| if D > 1 { tensor * factor } else { tensor })
            }
        }
        model.map(&mut Enlarge(factor))
    }

    fn greedy(rows: usize) -> Vec<Sampler> {
        let sampler = || Sampler::new(SamplingConfig::greedy(), 0).unwrap();
        (0..rows).map(|_| sampler()).collect()
    }

    fn sampler(seed: u64) -> Vec<Sampler> {
        vec![Sampler::new(SamplingConfig::default(), seed).unwrap()]
    }

    fn config(tokens: usize, cache: bool) -> GenerationConfig {
        GenerationConfig {
            cache,
            ..GenerationConfig::new(tokens)
        }
    }

    fn goes_on(_: usize, _: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn each_token_follows_from_the_window_before_it() {
        for model in models(&Device::flex()) {
            let mut streamed = Vec::new();
            let prompt = vec![1, 2, 3];
            let record = |_, token| {
                streamed.push(token);
                ControlFlow::Continue(())
            };
            let prompts = [prompt.clone()];
            let tokens =
                generate(&model, &prompts, &config(40, true), &mut greedy(1), record).unwrap();
            assert_eq!(tokens[0], streamed);
            assert_eq!(streamed.len(), 40);

            let text = [&prompt[..], &streamed].concat();
            for end in prompt.len()..text.len() {
                // A context of 16 moves on by 8 tokens when it is full.
                let start = if end <= 16 {
                    0
                } else {
                    (end - 16).div_ceil(8) * 8
                };
                let logits = model.logits(model.tokens(&[&text[start..end]]));
                let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
                let last = &logits[logits.len() - 31..];
                let best = (0..31).max_by(|a, b| last[*a].total_cmp(&last[*b]));
                assert_eq!(best, Some(text[end] as usize), "{:?}", model.config());
            }
        }
    }

    #[test]
    fn the_cache_changes_no_token() {
        for model in models(&Device::flex()) {
            let tokens = |cache| {
                let prompts = [vec![4, 5]];
                generate(
                    &model,
                    &prompts,
                    &config(500, cache),
                    &mut greedy(1),
                    goes_on,
                )
                .unwrap()
            };
            assert_eq!(tokens(true), tokens(false), "{:?}", model.config());
        }
    }

    #[test]
    fn rows_of_a_batch_do_not_see_each_other() {
        let long: Vec<u32> = (0..23).map(|i| i * 7 % 31).collect();
        let prompts = [vec![1], long, vec![30, 2, 9, 9, 4], vec![3; 16]];
        for model in models(&Device::flex()) {
            let alone = prompts.clone().map(|prompt| {
                let continuation = generate(
                    &model,
                    &[prompt],
                    &config(30, true),
                    &mut greedy(1),
                    goes_on,
                );
                continuation.unwrap().swap_remove(0)
            });
            for cache in [true, false] {
                let rows = generate(
                    &model,
                    &prompts,
                    &config(30, cache),
                    &mut greedy(4),
                    goes_on,
                );
                assert_eq!(rows.unwrap(), alone, "{:?}", model.config());
            }
        }
    }

    #[test]
    #[cfg(feature = "flex")]
    fn a_batch_changes_no_bit() {
        let prompts: Vec<Vec<u32>> = (0..8).map(|row| vec![row, 3 * row + 1, 30 - row]).collect();
        for model in models(&Device::flex()) {
            let read = |prompts: &[Vec<u32>]| {
                let mut texts = prompts.to_vec();
                let running = vec![true; texts.len()];
                let mut reader = BatchReader::new(&model);
                let mut rows = vec![Vec::new(); texts.len()];
                for step in 0..9 {
                    let logits = reader.next_logits(&texts, &running, 9 - step).unwrap();
                    for (row, logits) in logits.into_iter().enumerate() {
                        rows[row].extend(logits.into_iter().map(f32::to_bits));
                        texts[row].push((7 * step + row) as u32 % 31);
                    }
                }
                rows
            };
            let together = read(&prompts);
            // The first row's tokens are those of a row alone.
            assert_eq!(read(&prompts[..1])[0], together[0], "{:?}", model.config());
        }
    }

    #[test]
    fn a_row_that_ends_leaves_the_others_going() {
        let model = &models(&Device::flex())[0];
        let prompts = [vec![1, 2], vec![3]];
        let all = generate(model, &prompts, &config(20, true), &mut greedy(2), goes_on).unwrap();
        let mut seen = 0;
        let first_ends = |row, _| {
            seen += usize::from(row == 0);
            match row == 0 && seen == 5 {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let rows = generate(
            model,
            &prompts,
            &config(20, true),
            &mut greedy(2),
            first_ends,
        );
        assert_eq!(rows.unwrap(), [all[0][..5].to_vec(), all[1].clone()]);
    }

    #[test]
    fn a_row_goes_on_when_a_longer_one_has_ended_in_a_full_context() {
        for model in models(&Device::flex()) {
            let prompts = [vec![5; 15], vec![3]];
            let alone = generate(
                &model,
                &prompts[1..],
                &config(40, true),
                &mut greedy(1),
                goes_on,
            );
            let first_ends = |row, _| match row {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            let both = generate(
                &model,
                &prompts,
                &config(40, true),
                &mut greedy(2),
                first_ends,
            );
            let both = both.unwrap();
            assert_eq!(both[0].len(), 1);
            assert_eq!(both[1], alone.unwrap()[0], "{:?}", model.config());
        }
    }

    #[test]
    fn a_long_prompt_is_read_in_parts() {
        let context = 2 * PREFILL + 50;
        let config = ModelConfig::llama(31, context, 1, 2, 1, 8);
        let model = enlarged(config.init(1, &Device::flex()).unwrap(), 20.0);
        for length in [PREFILL - 1, PREFILL, PREFILL + 1, context, context + 1] {
            let prompt: Vec<u32> = (0..length as u32).map(|i| i * i % 31).collect();
            let prompts = [prompt, vec![7; 3]];
            let [cached, fresh] = [true, false].map(|cache| {
                let config = GenerationConfig {
                    cache,
                    ..GenerationConfig::new(8)
                };
                generate(&model, &prompts, &config, &mut greedy(2), goes_on).unwrap()
            });
            assert_eq!(cached, fresh, "{length}");
        }
    }

    #[test]
    fn a_seed_decides_the_text() {
        let init = |device: &Device| ModelConfig::new(31, 16, 2, 4, 16).init(3, device).unwrap();
        let plain = init(&Device::flex());
        let tokens = |model: &Transformer, seed| {
            generate(
                model,
                &[vec![0]],
                &config(20, true),
                &mut sampler(seed),
                goes_on,
            )
            .unwrap()
        };
        assert_eq!(tokens(&plain, 1), tokens(&plain, 1));
        assert_ne!(tokens(&plain, 1), tokens(&plain, 2));
        let training = init(&Device::flex().autodiff());
        assert_eq!(tokens(&training, 1), tokens(&plain, 1));
    }

    #[test]
    fn a_prompt_that_cannot_be_continued_is_refused() {
        let model = &models(&Device::flex())[0];
        let result = |prompt: &[u32], tokens, overflow| {
            let config = GenerationConfig {
                overflow,
                ..GenerationConfig::new(tokens)
            };
            generate(model, &[prompt.to_vec()], &config, &mut sampler(0), goes_on)
        };
        let error = |prompt: &[u32]| result(prompt, 1, Overflow::Slide).unwrap_err();
        assert_eq!(error(&[]), ModelError::EmptyPrompt);
        let unknown = ModelError::UnknownToken {
            token: 31,
            vocab_size: 31,
        };
        assert_eq!(error(&[10, 31]), unknown);

        // Of ten tokens after seven the last is not read: sixteen are.
        assert_eq!(result(&[1; 7], 10, Overflow::Error).unwrap()[0].len(), 10);
        assert_eq!(
            result(&[1; 7], 11, Overflow::Error)
                .unwrap_err()
                .to_string(),
            "a prompt of 7 tokens and 11 more do not fit the model's context of 16"
        );
    }
}
