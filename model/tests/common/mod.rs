//! The same network written a second time: plain loops in f64 over named arrays, no tensor library.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

use foretoken_model::{Activation, ModelConfig, Norm, Positions};

/// Parameter values by path, row by row.
pub(crate) type Weights = BTreeMap<String, Vec<f64>>;

/// One sequence through the network.
pub(crate) struct Reference<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) weights: &'a Weights,
}

impl Reference<'_> {
    /// Logits after each token.
    pub(crate) fn logits(&self, tokens: &[usize]) -> Vec<Vec<f64>> {
        let width = self.config.width;
        let row = |table: &str, id: usize| &self.weights[table][id * width..(id + 1) * width];
        let mut x: Vec<Vec<f64>> = tokens
            .iter()
            .enumerate()
            .map(|(position, token)| {
                let token = row("token_embedding.weight", *token);
                match self.config.positions {
                    Positions::Learned => add(token, row("position_embedding.weight", position)),
                    Positions::Rotary | Positions::None => token.to_vec(),
                }
            })
            .collect();
        for layer in 0..self.config.layers {
            let block = format!("blocks.{layer}");
            let normed = self.norm(&format!("{block}.attention_norm"), &x);
            let mixed = self.attention(&format!("{block}.attention"), &normed);
            x = x.iter().zip(&mixed).map(|(x, y)| add(x, y)).collect();

            let normed = self.norm(&format!("{block}.feed_forward_norm"), &x);
            for (x, normed) in x.iter_mut().zip(&normed) {
                let path = format!("{block}.feed_forward");
                let mut inner = self.linear(&format!("{path}.up"), normed);
                if self.config.activation == Activation::SwiGlu {
                    let gate = self.linear(&format!("{path}.gate"), normed);
                    inner
                        .iter_mut()
                        .zip(gate)
                        .for_each(|(v, g)| *v *= self.activation(g));
                } else {
                    inner.iter_mut().for_each(|v| *v = self.activation(*v));
                }
                *x = add(
                    x,
                    &self.linear(&format!("{block}.feed_forward.down"), &inner),
                );
            }
        }
        self.norm("final_norm", &x)
            .iter()
            .map(|x| {
                if self.config.tied_head {
                    (0..self.config.vocab_size)
                        .map(|token| dot(x, row("token_embedding.weight", token)))
                        .collect()
                } else {
                    self.linear("head", x)
                }
            })
            .map(|logits| match self.config.logit_cap {
                Some(cap) => logits.iter().map(|z| cap * (z / cap).tanh()).collect(),
                None => logits,
            })
            .collect()
    }

    /// `-ln p(target)` at each position, in nats.
    pub(crate) fn nats(&self, tokens: &[usize], targets: &[usize]) -> Vec<f64> {
        self.logits(tokens)
            .iter()
            .zip(targets)
            .map(|(logits, target)| {
                let total: f64 = logits.iter().map(|l| (l - logits[*target]).exp()).sum();
                total.ln()
            })
            .collect()
    }

    fn attention(&self, path: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let ModelConfig {
            heads, kv_heads, ..
        } = *self.config;
        let size = self.config.head_width();
        let qkv: Vec<Vec<f64>> = x
            .iter()
            .map(|x| self.linear(&format!("{path}.qkv"), x))
            .collect();
        // Which heads there are: queries, then keys, then values; each `[position][element]`.
        let heads_of = |start: usize, norm: Option<&str>, turned: bool, head: usize| {
            let columns = (start + head) * size..(start + head + 1) * size;
            let heads = qkv.iter().enumerate().map(|(position, all)| {
                let mut head = all[columns.clone()].to_vec();
                if let Some(norm) = norm.filter(|_| self.config.qk_norm) {
                    head = self.rms(&format!("{path}.{norm}"), &head);
                }
                if turned && self.config.positions == Positions::Rotary {
                    head = self.turn(&head, position);
                }
                head
            });
            heads.collect::<Vec<Vec<f64>>>()
        };
        let mut mixed = vec![vec![0.0; heads * size]; x.len()];
        for head in 0..heads {
            let shared = head / (heads / kv_heads);
            let queries = heads_of(0, Some("query_norm"), true, head);
            let keys = heads_of(heads, Some("key_norm"), true, shared);
            let values = heads_of(heads + kv_heads, None, false, shared);
            for t in 0..x.len() {
                let seen = (0..=t).filter(|s| self.config.window.is_none_or(|w| t - s < w));
                let weights: Vec<(usize, f64)> = seen
                    .map(|s| (s, (dot(&queries[t], &keys[s]) / (size as f64).sqrt()).exp()))
                    .collect();
                let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
                for (s, weight) in weights {
                    for (i, value) in values[s].iter().enumerate() {
                        mixed[t][head * size + i] += weight / total * value;
                    }
                }
            }
        }
        mixed
            .iter()
            .map(|mixed| self.linear(&format!("{path}.output"), mixed))
            .collect()
    }

    /// Multiplies pairs, as complex numbers, by `exp(i position frequency)`.
    fn turn(&self, head: &[f64], position: usize) -> Vec<f64> {
        let half = head.len() / 2;
        let mut turned = head.to_vec();
        for i in 0..half {
            let mut frequency = self.config.rotary_theta.powf(-(i as f64) / half as f64);
            if let Some(scaling) = self.config.rotary_scaling {
                // As in the code that was published with Llama 3.
                let wavelength = 2.0 * PI / frequency;
                let low = scaling.original_context as f64 / scaling.low_frequency_factor;
                let high = scaling.original_context as f64 / scaling.high_frequency_factor;
                let smooth = (scaling.original_context as f64 / wavelength
                    - scaling.low_frequency_factor)
                    / (scaling.high_frequency_factor - scaling.low_frequency_factor);
                if wavelength > low {
                    frequency /= scaling.factor;
                } else if wavelength >= high {
                    frequency = (1.0 - smooth) * frequency / scaling.factor + smooth * frequency;
                }
            }
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            turned[i] = head[i] * cos - head[half + i] * sin;
            turned[half + i] = head[i] * sin + head[half + i] * cos;
        }
        turned
    }

    fn norm(&self, path: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        if self.config.norm == Norm::Rms {
            return x.iter().map(|x| self.rms(path, x)).collect();
        }
        let gain = &self.weights[&format!("{path}.gamma")];
        let bias = self.weights.get(&format!("{path}.beta"));
        x.iter()
            .map(|x| {
                let count = x.len() as f64;
                let mean = x.iter().sum::<f64>() / count;
                let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                let scale = (variance + self.config.norm_epsilon).sqrt();
                (0..x.len())
                    .map(|i| (x[i] - mean) / scale * gain[i] + bias.map_or(0.0, |b| b[i]))
                    .collect()
            })
            .collect()
    }

    fn rms(&self, path: &str, x: &[f64]) -> Vec<f64> {
        let gain = &self.weights[&format!("{path}.gamma")];
        let mean_square = dot(x, x) / x.len() as f64;
        let scale = (mean_square + self.config.norm_epsilon).sqrt();
        x.iter()
            .zip(gain)
            .map(|(v, gain)| v / scale * gain)
            .collect()
    }

    fn linear(&self, path: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.weights[&format!("{path}.weight")];
        let bias = self.weights.get(&format!("{path}.bias"));
        let outputs = weight.len() / x.len();
        (0..outputs)
            .map(|o| {
                let product: f64 = (0..x.len()).map(|i| x[i] * weight[i * outputs + o]).sum();
                product + bias.map_or(0.0, |bias| bias[o])
            })
            .collect()
    }

    fn activation(&self, x: f64) -> f64 {
        match self.config.activation {
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::SwiGlu => x / (1.0 + (-x).exp()),
            Activation::Relu2 => x.max(0.0).powi(2),
        }
    }
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
