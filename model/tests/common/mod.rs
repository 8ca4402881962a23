//! The same network written a second time: plain loops in f64 over named arrays, no tensor library.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use foretoken_model::{Gelu, ModelConfig};

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
                add(
                    row("token_embedding.weight", *token),
                    row("position_embedding.weight", position),
                )
            })
            .collect();
        for layer in 0..self.config.layers {
            let block = format!("blocks.{layer}");
            let normed = self.norm(&format!("{block}.attention_norm"), &x);
            let mixed = self.attention(&format!("{block}.attention"), &normed);
            x = x.iter().zip(&mixed).map(|(x, y)| add(x, y)).collect();

            let normed = self.norm(&format!("{block}.feed_forward_norm"), &x);
            for (x, normed) in x.iter_mut().zip(&normed) {
                let mut inner = self.linear(&format!("{block}.feed_forward.up"), normed);
                inner.iter_mut().for_each(|v| *v = self.gelu(*v));
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
        let (width, heads) = (self.config.width, self.config.heads);
        let size = width / heads;
        let qkv: Vec<Vec<f64>> = x
            .iter()
            .map(|x| self.linear(&format!("{path}.qkv"), x))
            .collect();
        let part = |position: usize, which: usize, head: usize| {
            let start = which * width + head * size;
            &qkv[position][start..start + size]
        };
        (0..x.len())
            .map(|t| {
                let mut mixed = vec![0.0; width];
                for head in 0..heads {
                    let weights: Vec<f64> = (0..=t)
                        .map(|s| dot(part(t, 0, head), part(s, 1, head)) / (size as f64).sqrt())
                        .map(f64::exp)
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for (s, weight) in weights.iter().enumerate() {
                        for (i, value) in part(s, 2, head).iter().enumerate() {
                            mixed[head * size + i] += weight / total * value;
                        }
                    }
                }
                self.linear(&format!("{path}.output"), &mixed)
            })
            .collect()
    }

    fn norm(&self, path: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
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

    fn gelu(&self, x: f64) -> f64 {
        match self.config.gelu {
            Gelu::Exact => 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
            Gelu::Tanh => 0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        }
    }
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
