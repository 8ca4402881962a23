//! The model's probabilities with the same bits on every machine.
//!
//! A backend's sums have the order that is fastest on its device, and its exponentials are those of its libraries:
//! another machine, or another version, gives other bits. That is harmless to a loss and fatal to a decoder, which has to
//! see the probabilities of the encoder. Here everything is computed in f64, on the processor, in one order, with nothing
//! but `+`, `-`, `*`, `/` and square roots, which IEEE 754 defines to the bit, and what is made of them:
//!
//! - `arithmetic` has sums in the order of their terms and an exponential function;
//! - `erf`, `tanh`, `pow` and sine come from the libm crate. Its default feature `arch` replaces by instructions of the
//!   processor only what they round alike everywhere: square roots, fused products, absolute values, and rounding to
//!   integers. (Its x87 exponentials are for 32-bit x86 without SSE2 alone, where Rust's own `+` differs too.) None of
//!   the functions used here calls a fused product;
//! - those of the standard library, which are the operating system's, are not used.
//!
//! Weights are taken as f32, which every precision of weights except f64 converts to without loss. Threads divide rows and
//! columns among them, never a sum.

mod arithmetic;

use std::collections::HashMap;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use rayon::iter::{
    IndexedParallelIterator, IntoParallelRefMutIterator, ParallelExtend, ParallelIterator,
};
use rayon::slice::ParallelSliceMut;

use crate::config::{Activation, ModelConfig, Norm, Positions};
use crate::error::ModelError;
use crate::generate::window_start;
use crate::host::parameters;
use crate::transformer::Transformer;
use arithmetic::{GRAIN, Matrix, PANEL, ROWS, exp, map, multiply};

/// Tokens of one text that are read at once: enough for products to run fast.
const PREFILL: usize = 64;

/// A [`Transformer`] whose logits are the same bits on every machine.
pub struct PortableModel {
    config: ModelConfig,
    /// `[width, vocab_size]`: a column for each token.
    token_embedding: Matrix<f32>,
    /// `[context, width]`; `None` unless positions are learned.
    position_embedding: Option<Vec<f32>>,
    /// Radians per position of each pair of a head's elements; empty unless positions are rotary.
    frequencies: Vec<f64>,
    blocks: Vec<Block>,
    final_norm: Normalization,
    /// `None` where the head is the token embedding transposed.
    head: Option<Linear>,
}

struct Block {
    attention_norm: Normalization,
    qkv: Linear,
    query_norm: Option<Normalization>,
    key_norm: Option<Normalization>,
    output: Linear,
    feed_forward_norm: Normalization,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

/// `x weight + bias`
struct Linear {
    weight: Matrix<f32>,
    bias: Option<Vec<f32>>,
}

/// `gamma · normalised(x) + beta`
struct Normalization {
    norm: Norm,
    epsilon: f64,
    gamma: Vec<f32>,
    beta: Option<Vec<f32>>,
}

impl PortableModel {
    /// Copies the weights of a model from its device.
    ///
    /// # Errors
    ///
    /// Returns [`ModelError::Read`] if the device fails.
    pub fn new(model: &Transformer) -> Result<Self, ModelError> {
        let config = model.config();
        let mut weights = Weights(parameters(model)?);
        let (width, head_width) = (config.width, config.head_width());
        let epsilon = config.norm_epsilon;
        let block = |weights: &mut Weights, layer: usize| {
            let path = |name: &str| format!("blocks.{layer}.{name}");
            let norm =
                |weights: &mut Weights, name: &str| weights.norm(&path(name), config.norm, epsilon);
            let head_norm = |weights: &mut Weights, name: &str| {
                let norm = |name| weights.norm(&path(name), Norm::Rms, epsilon);
                config.qk_norm.then_some(name).map(norm)
            };
            let linear = |weights: &mut Weights, name: &str, inputs: usize, outputs: usize| {
                weights.linear(&path(name), inputs, outputs)
            };
            let gated = config.activation == Activation::SwiGlu;
            let heads_width = config.heads * head_width;
            Block {
                attention_norm: norm(weights, "attention_norm"),
                qkv: linear(weights, "attention.qkv", width, config.qkv_width()),
                query_norm: head_norm(weights, "attention.query_norm"),
                key_norm: head_norm(weights, "attention.key_norm"),
                output: linear(weights, "attention.output", heads_width, width),
                feed_forward_norm: norm(weights, "feed_forward_norm"),
                gate: gated.then(|| linear(weights, "feed_forward.gate", width, config.hidden)),
                up: linear(weights, "feed_forward.up", width, config.hidden),
                down: linear(weights, "feed_forward.down", config.hidden, width),
            }
        };
        let embedding = weights.take("token_embedding.weight");
        Ok(Self {
            token_embedding: Matrix::new(width, config.vocab_size, |element, token| {
                embedding[token * width + element]
            }),
            position_embedding: (config.positions == Positions::Learned)
                .then(|| weights.take("position_embedding.weight")),
            frequencies: match config.positions {
                Positions::Rotary => config.rotary_frequencies(),
                Positions::Learned | Positions::None => Vec::new(),
            },
            blocks: (0..config.layers)
                .map(|layer| block(&mut weights, layer))
                .collect(),
            final_norm: weights.norm("final_norm", config.norm, epsilon),
            head: (!config.tied_head).then(|| weights.linear("head", width, config.vocab_size)),
            config: config.clone(),
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Reads new tokens of several texts. Returns the hidden state after each of them, text by text, before the final norm:
    /// `[tokens, width]`.
    fn extend(&self, texts: &mut [Extension<'_>]) -> Vec<f64> {
        let rows: Vec<Row> = texts
            .iter()
            .enumerate()
            .flat_map(|(text, Extension { cache, tokens })| {
                let first = cache.seen;
                (0..tokens.len()).map(move |index| Row {
                    text,
                    position: first + index,
                })
            })
            .collect();
        let tokens = texts.iter().flat_map(|text| text.tokens);
        let mut x: Vec<f64> = tokens
            .flat_map(|token| self.token_embedding.column(*token as usize))
            .map(f64::from)
            .collect();
        if let Some(embedding) = &self.position_embedding {
            let width = self.config.width;
            for (x, row) in x.chunks_exact_mut(width).zip(&rows) {
                add(x, &embedding[row.position * width..][..width]);
            }
        }
        // Cosine and sine of each pair, row by row.
        let angles = rows
            .iter()
            .flat_map(|row| self.frequencies.iter().map(|f| row.position as f64 * f));
        let rotation: Vec<[f64; 2]> = angles
            .map(|angle| {
                let (sine, cosine) = libm::sincos(angle);
                [cosine, sine]
            })
            .collect();
        for (layer, block) in self.blocks.iter().enumerate() {
            let qkv = block.qkv.apply(&block.attention_norm.apply(&x));
            let mixed = self.attention(layer, qkv, &rows, &rotation, texts);
            add(&mut x, &block.output.apply(&mixed));
            let fed = self.feed_forward(block, &x);
            add(&mut x, &fed);
        }
        for Extension { cache, tokens } in texts {
            cache.seen += tokens.len();
        }
        x
    }

    /// Appends keys and values of new tokens to the caches. Returns the attention output:
    /// `[rows, (heads + 2 kv_heads) head_width] -> [rows, heads head_width]`.
    fn attention(
        &self,
        layer: usize,
        mut qkv: Vec<f64>,
        rows: &[Row],
        rotation: &[[f64; 2]],
        texts: &mut [Extension<'_>],
    ) -> Vec<f64> {
        let ModelConfig {
            heads, kv_heads, ..
        } = self.config;
        let block = &self.blocks[layer];
        let (head_width, pairs) = (self.config.head_width(), self.frequencies.len());
        let scale = 1.0 / (head_width as f64).sqrt();
        for (number, (qkv, row)) in qkv
            .chunks_exact_mut(self.config.qkv_width())
            .zip(rows)
            .enumerate()
        {
            let (queries, rest) = qkv.split_at_mut(heads * head_width);
            let (keys, values) = rest.split_at_mut(kv_heads * head_width);
            for (all, norm) in [
                (&mut *queries, &block.query_norm),
                (&mut *keys, &block.key_norm),
            ] {
                if let Some(norm) = norm {
                    let normed = norm.apply(all);
                    all.copy_from_slice(&normed);
                }
                if pairs > 0 {
                    let rotation = &rotation[number * pairs..][..pairs];
                    all.chunks_exact_mut(head_width)
                        .for_each(|head| rotate(head, rotation));
                }
            }
            queries.iter_mut().for_each(|query| *query *= scale);
            let heads = keys
                .chunks_exact(head_width)
                .zip(values.chunks_exact(head_width));
            let kept = &mut texts[row.text].cache.layers[layer];
            for ((keys, values), kept) in heads.zip(kept) {
                kept.keys.push_column(keys);
                kept.values.push_row(values);
            }
        }

        let mut mixed = vec![0.0; rows.len() * heads * head_width];
        // Heads that share keys and values are rows of one product.
        let shared = heads / kv_heads * head_width;
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(1);
        let least = (GRAIN / (2 * longest * shared)).max(1);
        let texts = &*texts;
        mixed
            .par_chunks_mut(shared)
            .with_min_len(least)
            .enumerate()
            .for_each(|(part, to)| {
                let (row, kv_head) = (part / kv_heads, part % kv_heads);
                let Row { text, position } = rows[row];
                let queries = &qkv[row * self.config.qkv_width() + kv_head * shared..][..shared];
                let kept = &texts[text].cache.layers[layer][kv_head];
                let first = match self.config.window {
                    Some(window) => (position + 1).saturating_sub(window),
                    None => 0,
                };
                kept.mix(queries, first, position + 1, to);
            });
        mixed
    }

    fn feed_forward(&self, block: &Block, x: &[f64]) -> Vec<f64> {
        let normed = block.feed_forward_norm.apply(x);
        let mut inner = block.up.apply(&normed);
        match self.config.activation {
            Activation::Gelu => map(
                &mut inner,
                #[inline(always)]
                |x| 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
            ),
            Activation::GeluTanh => {
                // x/2 (1 + tanh y) = x / (1 + exp(-2 y))
                let scale = -2.0 * FRAC_2_PI.sqrt();
                map(
                    &mut inner,
                    #[inline(always)]
                    |x| x / (1.0 + exp(scale * (x + 0.044715 * x * x * x))),
                );
            }
            Activation::SwiGlu => {
                let mut gate = match &block.gate {
                    Some(gate) => gate.apply(&normed),
                    None => unreachable!("SwiGLU has a gate"),
                };
                map(
                    &mut gate,
                    #[inline(always)]
                    |x| x / (1.0 + exp(-x)),
                );
                inner.iter_mut().zip(gate).for_each(|(x, gate)| *x *= gate);
            }
            Activation::Relu2 => map(
                &mut inner,
                #[inline(always)]
                |x| if x > 0.0 { x * x } else { 0.0 },
            ),
        }
        block.down.apply(&inner)
    }

    /// Reads the last token of each text. Returns the logits after it.
    fn step(&self, texts: &mut [Extension<'_>]) -> Vec<Vec<f64>> {
        let hidden = self.final_norm.apply(&self.extend(texts));
        let mut logits = match &self.head {
            Some(head) => head.apply(&hidden),
            None => self.token_embedding.product(&hidden),
        };
        if let Some(cap) = self.config.logit_cap {
            logits
                .iter_mut()
                .for_each(|logit| *logit = cap * libm::tanh(*logit / cap));
        }
        let rows = logits.chunks_exact(self.config.vocab_size);
        rows.map(<[f64]>::to_vec).collect()
    }
}

impl Linear {
    /// `[rows, inputs] -> [rows, outputs]`
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mut y = self.weight.product(x);
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(bias.len()).for_each(|y| add(y, bias));
        }
        y
    }
}

impl Normalization {
    /// Normalises each row: `[rows, width] -> [rows, width]`.
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let width = self.gamma.len();
        let mut y = Vec::with_capacity(x.len());
        for x in x.chunks_exact(width) {
            let mean = match self.norm {
                Norm::Layer => sum(x.iter().copied()) / width as f64,
                Norm::Rms => 0.0,
            };
            let squares = sum(x.iter().map(|x| (x - mean) * (x - mean)));
            let scale = (squares / width as f64 + self.epsilon).sqrt();
            let normed = x.iter().zip(&self.gamma);
            y.extend(normed.map(|(x, gamma)| (x - mean) / scale * f64::from(*gamma)));
        }
        if let Some(beta) = &self.beta {
            y.chunks_exact_mut(width).for_each(|y| add(y, beta));
        }
        y
    }
}

/// Adds numbers in their order, which that of the standard library does not promise.
fn sum(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |sum, number| sum + number)
}

fn add<T: Copy + Into<f64>>(to: &mut [f64], from: &[T]) {
    to.iter_mut()
        .zip(from)
        .for_each(|(to, from)| *to += (*from).into());
}

/// Rotates pairs of elements, `i` and `i + head_width / 2`.
fn rotate(head: &mut [f64], rotation: &[[f64; 2]]) {
    let (first, second) = head.split_at_mut(rotation.len());
    for ((first, second), [cosine, sine]) in first.iter_mut().zip(second).zip(rotation) {
        let (x, y) = (*first, *second);
        *first = x * cosine - y * sine;
        *second = y * cosine + x * sine;
    }
}

/// Text and position of a new token.
#[derive(Clone, Copy)]
struct Row {
    text: usize,
    position: usize,
}

/// New tokens of a text.
struct Extension<'a> {
    cache: &'a mut Cache,
    tokens: &'a [u32],
}

/// Keys and values of the tokens of a text that have been read.
struct Cache {
    /// For each layer, those of each head.
    layers: Vec<Vec<KeysValues>>,
    /// Number of tokens.
    seen: usize,
}

/// Keys and values of one head.
struct KeysValues {
    /// `[head_width, tokens]`
    keys: Matrix<f64>,
    /// `[tokens, head_width]`
    values: Matrix<f64>,
}

impl Cache {
    fn new(config: &ModelConfig) -> Self {
        let head = || KeysValues {
            keys: Matrix::new(config.head_width(), 0, |_, _| 0.0),
            values: Matrix::new(0, config.head_width(), |_, _| 0.0),
        };
        let layer = || (0..config.kv_heads).map(|_| head()).collect();
        Self {
            layers: (0..config.layers).map(|_| layer()).collect(),
            seen: 0,
        }
    }
}

impl KeysValues {
    /// Computes attention over the positions from `first` to before `end`: `[rows, head_width]`, the queries and `to`.
    fn mix(&self, queries: &[f64], first: usize, end: usize, to: &mut [f64]) {
        let head_width = self.keys.inputs;
        let rows = queries.len() / head_width;
        let (start, seen) = (first / PANEL, end - first);
        let mut panel_scores = vec![0.0; rows * PANEL];
        let mut scores = vec![0.0; rows * seen];
        for (number, panel) in (start..).zip(&self.keys.panels[start..end.div_ceil(PANEL)]) {
            multiply(queries, panel, &mut panel_scores);
            let positions = first.max(number * PANEL)..end.min((number + 1) * PANEL);
            for (row, panel) in panel_scores.chunks_exact(PANEL).enumerate() {
                let panel = &panel[positions.start - number * PANEL..][..positions.len()];
                scores[row * seen + positions.start - first..][..positions.len()]
                    .copy_from_slice(panel);
            }
        }
        let mut totals = Vec::with_capacity(rows);
        for scores in scores.chunks_exact_mut(seen) {
            let highest = scores
                .iter()
                .fold(f64::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
            map(
                scores,
                #[inline(always)]
                |score| exp(score - highest),
            );
            totals.push(sum(scores.iter().copied()));
        }
        for (number, panel) in self.values.panels.iter().enumerate() {
            let values = &panel[first * PANEL..end * PANEL];
            multiply(&scores, values, &mut panel_scores);
            let columns = number * PANEL..head_width.min((number + 1) * PANEL);
            let sums = panel_scores.chunks_exact(PANEL).zip(&totals);
            for (to, (sums, total)) in to.chunks_exact_mut(head_width).zip(sums) {
                let sums = sums.iter().map(|sum| sum / total);
                to[columns.clone()]
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(to, sum)| *to = sum);
            }
        }
    }
}

/// Reads growing texts, each token once until the text's window moves.
///
/// The bits of a text's logits depend on the model and on the text: not on other texts, on what was read before, or on the
/// number of threads.
pub struct PortableReader<'a> {
    model: &'a PortableModel,
    texts: Vec<Reading>,
}

/// The cache of one text.
struct Reading {
    /// First token of the window.
    start: usize,
    cache: Cache,
}

impl<'a> PortableReader<'a> {
    /// Creates a reader that has read nothing.
    pub fn new(model: &'a PortableModel) -> Self {
        Self {
            model,
            texts: Vec::new(),
        }
    }

    /// Returns the logits of the token after each text that is `running`, and none for the others. Since the last call texts
    /// have only become longer. A text that is longer than the context is read from a later token on, as
    /// [`Overflow::Slide`](crate::Overflow::Slide) says.
    ///
    /// # Panics
    ///
    /// Panics if a text is empty, or has a token that is not in the vocabulary.
    pub fn next_logits(&mut self, texts: &[Vec<u32>], running: &[bool]) -> Vec<Vec<f64>> {
        let model = self.model;
        let empty = || Reading {
            start: 0,
            cache: Cache::new(&model.config),
        };
        self.texts.resize_with(texts.len(), empty);
        let mut extensions = Vec::with_capacity(texts.len());
        for ((text, reading), _) in texts
            .iter()
            .zip(&mut self.texts)
            .zip(running)
            .filter(|(_, running)| **running)
        {
            let start = window_start(text.len(), model.config.context);
            if start != reading.start || start + reading.cache.seen >= text.len() {
                *reading = Reading { start, ..empty() };
            }
            let tokens = &text[start + reading.cache.seen..];
            assert!(!tokens.is_empty(), "a text has a token");
            let cache = &mut reading.cache;
            extensions.push(Extension { cache, tokens });
        }
        extensions.par_iter_mut().for_each(|text| {
            while text.tokens.len() > 1 {
                let (tokens, rest) = text.tokens.split_at(PREFILL.min(text.tokens.len() - 1));
                let cache = &mut *text.cache;
                model.extend(&mut [Extension { cache, tokens }]);
                text.tokens = rest;
            }
        });
        // A thread takes texts through the whole model. Where there are fewer texts than threads, they divide columns.
        let threads = rayon::current_num_threads();
        let each = extensions.len().div_ceil(threads).next_multiple_of(ROWS);
        let mut found: Vec<Vec<f64>> = Vec::with_capacity(extensions.len());
        found.par_extend(
            extensions
                .par_chunks_mut(each.max(1))
                .flat_map_iter(|texts| model.step(texts)),
        );
        let mut found = found.into_iter();
        let logits = running.iter().map(|running| match running {
            true => found.next().unwrap_or_default(),
            false => Vec::new(),
        });
        logits.collect()
    }
}

/// Weights by their paths in the module tree.
struct Weights(HashMap<String, Vec<f32>>);

impl Weights {
    fn take(&mut self, path: &str) -> Vec<f32> {
        // As `ModelConfig::tensors` lists them.
        let weights = self.0.remove(path);
        weights.unwrap_or_else(|| panic!("the model has no parameter {path}"))
    }

    fn linear(&mut self, path: &str, inputs: usize, outputs: usize) -> Linear {
        let weight = self.take(&format!("{path}.weight"));
        Linear {
            weight: Matrix::new(inputs, outputs, |input, output| {
                weight[input * outputs + output]
            }),
            bias: self.0.remove(&format!("{path}.bias")),
        }
    }

    fn norm(&mut self, path: &str, norm: Norm, epsilon: f64) -> Normalization {
        Normalization {
            norm,
            epsilon,
            gamma: self.take(&format!("{path}.gamma")),
            beta: self.0.remove(&format!("{path}.beta")),
        }
    }
}

#[cfg(test)]
mod tests;
