//! The operations in loops over f64, forward and backward. Nothing of Burn is in here, nothing is shared with what is
//! tested; the gradients are themselves tested against differences of the values.
//!
//! Beside each value stands its size: the sum of its terms' absolute values, each of them multiplied with what
//! rounding it is made to suffer before, where that is more than a unit or two. So a value may be wrong by a few units
//! roundoff times its size, and by a little more where sums are long. In half precision, sums and statistics are those of
//! f32 and it is the tensors between operations that are rounded: by how much that moves a value is told besides.

use crate::config::{Activation, Norm};
use crate::loss::Objective;
use crate::ops::{AdamW, Head, Heads, Rule};

/// Beyond where a sigmoid is 0 in f32 already, some implementations leave it this or less.
const TAIL: f64 = 1e-8;

/// A matrix by rows.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) shape: [usize; 2],
    pub(super) values: Vec<f64>,
}

impl Matrix {
    pub(super) fn columns(&self) -> usize {
        self.shape[1]
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns()..][..self.columns()]
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns() + column]
    }
}

/// Values and their sizes.
#[derive(Debug, Clone)]
pub(super) struct Exact {
    pub(super) values: Vec<f64>,
    pub(super) sizes: Vec<f64>,
    /// By how much one unit roundoff moves a value, in each of the tensors that are stored on the way to it.
    pub(super) stored: Vec<f64>,
    /// Terms of the longest sum that a value is.
    pub(super) longest_sum: f64,
}

impl Exact {
    fn nothing(count: usize) -> Self {
        let zeros = || vec![0.0; count];
        Self {
            values: zeros(),
            sizes: zeros(),
            stored: zeros(),
            longest_sum: 1.0,
        }
    }

    /// Values that are stored once, and their sizes.
    pub(super) fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let (values, sizes): (Vec<f64>, _) = pairs.unzip();
        let stored = values.iter().map(|value| value.abs()).collect();
        Self {
            values,
            sizes,
            stored,
            longest_sum: 1.0,
        }
    }

    /// With sizes as many times larger.
    pub(super) fn less_sure(mut self, times: f64) -> Self {
        self.sizes.iter_mut().for_each(|size| *size *= times);
        self
    }

    fn add(&mut self, at: usize, value: f64) {
        self.add_sized(at, value, value.abs());
    }

    fn add_sized(&mut self, at: usize, value: f64, size: f64) {
        self.add_stored(at, value, size, value.abs());
    }

    fn add_stored(&mut self, at: usize, value: f64, size: f64, stored: f64) {
        self.values[at] += value;
        self.sizes[at] += size;
        self.stored[at] += stored;
    }
}

/// What is computed, of inputs that are all matrices.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// Of `x`, the weight and perhaps a bias of one row.
    Linear,
    /// Of `x`, the gain and perhaps a bias, each of one row.
    Norm(Rule),
    /// Of `x`; [`Activation::SwiGlu`] is SiLU alone.
    Activation(Activation),
    /// Of gate and up.
    Swiglu,
    /// Of queries, keys and values.
    Attention(Heads),
    /// What is optimised, `[rows, 1]`, of hidden rows and the head.
    CrossEntropy(Predicted),
    /// Of the table.
    Embedding { ids: Vec<i64> },
}

/// What hidden rows are to predict.
#[derive(Debug, Clone)]
pub(super) struct Predicted {
    pub(super) targets: Vec<i64>,
    /// How much each row counts, where not all count 1.
    pub(super) weights: Option<Vec<f64>>,
    pub(super) rule: Head,
}

impl Operation {
    pub(super) fn output_shape(&self, inputs: &[Matrix]) -> [usize; 2] {
        let [rows, columns] = inputs[0].shape;
        match self {
            Self::Linear => [rows, inputs[1].columns()],
            Self::Norm(_) | Self::Activation(_) | Self::Swiglu => [rows, columns],
            Self::Attention(heads) => [rows, heads.heads * head_width(*heads, columns)],
            Self::CrossEntropy(_) => [rows, 1],
            Self::Embedding { ids } => [ids.len(), columns],
        }
    }

    /// Terms of the longest sum, forward or backward.
    pub(super) fn longest_sum(&self, inputs: &[Matrix]) -> usize {
        match self {
            Self::Linear | Self::Norm(_) | Self::CrossEntropy(_) => {
                let sizes = inputs.iter().flat_map(|input| input.shape);
                sizes.fold(1, usize::max)
            }
            Self::Activation(_) | Self::Swiglu => 1,
            Self::Attention(heads) => heads.length * heads.heads / heads.kv_heads,
            Self::Embedding { ids } => ids.len(),
        }
    }

    pub(super) fn forward(&self, inputs: &[Matrix]) -> Exact {
        match self {
            Self::Linear => linear(&inputs[0], &inputs[1], inputs.get(2)),
            Self::Norm(rule) => norm(&inputs[0], &inputs[1], inputs.get(2), *rule),
            Self::Activation(of) => Exact::of(inputs[0].values.iter().map(|x| activation(*x, *of))),
            Self::Swiglu => {
                let pairs = inputs[0].values.iter().zip(&inputs[1].values);
                Exact::of(pairs.map(|(gate, up)| {
                    let (silu, size) = activation(*gate, Activation::SwiGlu);
                    (silu * up, size * up.abs())
                }))
            }
            Self::Attention(heads) => attention(&inputs[0], *heads),
            Self::CrossEntropy(of) => cross_entropy(&inputs[0], &inputs[1], of),
            Self::Embedding { ids } => {
                let rows = ids.iter().flat_map(|id| inputs[0].row(*id as usize));
                Exact::of(rows.map(|x| (*x, 0.0)))
            }
        }
    }

    /// Gradients of all inputs, where that of the output is `upstream`.
    pub(super) fn backward(&self, inputs: &[Matrix], upstream: &[f64]) -> Vec<Exact> {
        match self {
            Self::Linear => {
                let mut of = linear_backward(&inputs[0], &inputs[1], upstream);
                of.truncate(inputs.len());
                of
            }
            Self::Norm(rule) => {
                let mut of = norm_backward(&inputs[0], &inputs[1], *rule, upstream);
                of.truncate(inputs.len());
                of
            }
            Self::Activation(of) => {
                let pairs = inputs[0].values.iter().zip(upstream);
                vec![Exact::of(pairs.map(|(x, grad)| {
                    let (slope, size) = slope(*x, *of);
                    (slope * grad, size * grad.abs())
                }))]
            }
            Self::Swiglu => {
                let pairs = || inputs[0].values.iter().zip(&inputs[1].values).zip(upstream);
                let of_gate = pairs().map(|((gate, up), grad)| {
                    let (slope, size) = slope(*gate, Activation::SwiGlu);
                    (slope * up * grad, size * (up * grad).abs())
                });
                let of_up = pairs().map(|((gate, _), grad)| {
                    let (silu, size) = activation(*gate, Activation::SwiGlu);
                    (silu * grad, size * grad.abs())
                });
                vec![Exact::of(of_gate), Exact::of(of_up)]
            }
            Self::Attention(heads) => vec![attention_backward(&inputs[0], *heads, upstream)],
            Self::CrossEntropy(of) => cross_entropy_backward(&inputs[0], &inputs[1], of, upstream),
            Self::Embedding { ids } => {
                let width = inputs[0].columns();
                let mut of = Exact::nothing(inputs[0].values.len());
                for (id, grad) in ids.iter().zip(upstream.chunks_exact(width)) {
                    for (i, grad) in grad.iter().enumerate() {
                        of.add(*id as usize * width + i, *grad);
                    }
                }
                vec![of]
            }
        }
    }
}

fn linear(x: &Matrix, weight: &Matrix, bias: Option<&Matrix>) -> Exact {
    let ([rows, inputs], outputs) = (x.shape, weight.columns());
    let mut out = Exact::nothing(rows * outputs);
    for row in 0..rows {
        for output in 0..outputs {
            let at = row * outputs + output;
            for input in 0..inputs {
                out.add(at, x.at(row, input) * weight.at(input, output));
            }
            if let Some(bias) = bias {
                out.add(at, bias.values[output]);
            }
        }
    }
    out
}

fn linear_backward(x: &Matrix, weight: &Matrix, upstream: &[f64]) -> Vec<Exact> {
    let ([rows, inputs], outputs) = (x.shape, weight.columns());
    let counts = [rows * inputs, inputs * outputs, outputs];
    let [mut of_x, mut of_weight, mut of_bias] = counts.map(Exact::nothing);
    for row in 0..rows {
        for output in 0..outputs {
            let grad = upstream[row * outputs + output];
            of_bias.add(output, grad);
            for input in 0..inputs {
                of_x.add(row * inputs + input, grad * weight.at(input, output));
                of_weight.add(input * outputs + output, x.at(row, input) * grad);
            }
        }
    }
    vec![of_x, of_weight, of_bias]
}

/// What a row is divided by, the normalised row, and the size of each element of it.
fn normalised(x: &[f64], rule: Rule) -> (f64, Vec<f64>, Vec<f64>) {
    let count = x.len() as f64;
    let mean = match rule.norm {
        Norm::Layer => x.iter().sum::<f64>() / count,
        Norm::Rms => 0.0,
    };
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let scale = (variance + rule.epsilon).sqrt();
    let normal = x.iter().map(|x| (x - mean) / scale).collect();
    // The mean is rounded like the sum of all that it is taken of.
    let of_mean = match rule.norm {
        Norm::Layer => x.iter().map(|x| x.abs()).sum::<f64>() / count,
        Norm::Rms => 0.0,
    };
    let sizes = x.iter().map(|x| (x.abs() + of_mean) / scale).collect();
    (scale, normal, sizes)
}

fn norm(x: &Matrix, gamma: &Matrix, beta: Option<&Matrix>, rule: Rule) -> Exact {
    let width = x.columns();
    let mut out = Exact::nothing(x.values.len());
    for row in 0..x.shape[0] {
        let (_, normal, sizes) = normalised(x.row(row), rule);
        for i in 0..width {
            let gamma = gamma.values[i];
            out.add_sized(row * width + i, normal[i] * gamma, sizes[i] * gamma.abs());
            if let Some(beta) = beta {
                out.add(row * width + i, beta.values[i]);
            }
        }
    }
    out
}

fn norm_backward(x: &Matrix, gamma: &Matrix, rule: Rule, upstream: &[f64]) -> Vec<Exact> {
    let [rows, width] = x.shape;
    let [mut of_x, mut of_gamma, mut of_beta] = [rows * width, width, width].map(Exact::nothing);
    for row in 0..rows {
        let (scale, normal, sizes) = normalised(x.row(row), rule);
        let upstream = &upstream[row * width..][..width];
        let grad = |i: usize| upstream[i] * gamma.values[i];
        let mean = |of: &dyn Fn(usize) -> f64| (0..width).map(of).sum::<f64>() / width as f64;
        let centred = if matches!(rule.norm, Norm::Layer) {
            1.0
        } else {
            0.0
        };
        let across = mean(&grad) * centred;
        let across_size = mean(&|i| grad(i).abs()) * centred;
        let along = mean(&|i| grad(i) * normal[i]);
        let along_size = mean(&|i| (grad(i) * normal[i]).abs());
        let along_moved = mean(&|i| grad(i).abs() * sizes[i]);
        for i in 0..width {
            let value = (grad(i) - across - normal[i] * along) / scale;
            let along = sizes[i] * along_size + normal[i].abs() * along_moved;
            let size = (grad(i).abs() + across_size + along) / scale;
            of_x.add_sized(row * width + i, value, size);
            let size = upstream[i].abs() * sizes[i];
            of_gamma.add_sized(i, upstream[i] * normal[i], size);
            of_beta.add(i, upstream[i]);
        }
    }
    vec![of_x, of_gamma, of_beta]
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `2 √(2/π) (x + 0.044715 x³)` and its derivative.
fn tanh_inner(x: f64) -> (f64, f64) {
    let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let cubic = 0.044715 * x * x;
    (scale * x * (1.0 + cubic), scale * (1.0 + 3.0 * cubic))
}

fn gauss(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x / 2f64.sqrt()))
}

/// The activation of `x`, and its size.
fn activation(x: f64, activation: Activation) -> (f64, f64) {
    match activation {
        // Below 0 the error function comes near -1, and 1 is added.
        Activation::Gelu => (x * gauss(x), x.abs()),
        Activation::GeluTanh => {
            let (inner, _) = tanh_inner(x);
            let s = sigmoid(inner);
            // A hyperbolic tangent comes near -1, and 1 is added.
            let moved = 3.0 * inner.abs() * s * sigmoid(-inner);
            (x * s, x.abs() * (1.0 + moved))
        }
        Activation::SwiGlu => (x * sigmoid(x), x.abs() * (sigmoid(x) + TAIL)),
        Activation::Relu2 => {
            let x = if x < 0.0 { 0.0 } else { x };
            (x * x, x * x)
        }
    }
}

/// The activation's derivative at `x`, and its size.
fn slope(x: f64, activation: Activation) -> (f64, f64) {
    match activation {
        Activation::Gelu => {
            let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            let size = 1.0 + x.abs() * density * (1.0 + x * x);
            (gauss(x) + x * density, size)
        }
        Activation::GeluTanh => {
            let (inner, steepness) = tanh_inner(x);
            let (s, rest) = (sigmoid(inner), sigmoid(-inner));
            // From there on the sigmoid is 0 or 1 exactly, and so is its derivative 0.
            let near = x.clamp(-8.0, 8.0);
            let steep = (near * tanh_inner(near).1).abs();
            let moved = 3.0 * inner.abs() * s * rest * (1.0 + (x * steepness).abs());
            let size = 1.0 + steep + moved;
            (s + x * steepness * s * rest, size)
        }
        Activation::SwiGlu => {
            let near = x.clamp(-40.0, 40.0).abs();
            let (s, rest) = (sigmoid(x), sigmoid(-x));
            (s + x * s * rest, (s + TAIL) * (1.0 + near))
        }
        Activation::Relu2 => {
            let x = if x < 0.0 { 0.0 } else { x };
            (2.0 * x, 2.0 * x)
        }
    }
}

fn head_width(heads: Heads, columns: usize) -> usize {
    columns / (heads.heads + 2 * heads.kv_heads)
}

/// Queries, keys and values of one head of one sequence.
struct Sequence<'a> {
    qkv: &'a Matrix,
    heads: Heads,
    width: usize,
    number: usize,
    head: usize,
}

/// What one query looks at.
struct Look {
    first: usize,
    weights: Vec<f64>,
    /// How much the rounding of scores moves each weight, relative to it.
    moved: Vec<f64>,
    output: Exact,
}

impl<'a> Sequence<'a> {
    /// All heads of all sequences.
    fn all(qkv: &'a Matrix, heads: Heads) -> impl Iterator<Item = Self> {
        let width = head_width(heads, qkv.columns());
        (0..heads.batch * heads.heads).map(move |of| Self {
            qkv,
            heads,
            width,
            number: of / heads.heads,
            head: of % heads.heads,
        })
    }

    fn row(&self, position: usize) -> usize {
        self.number * self.heads.length + position
    }

    /// Where the head's query is in a row, its key, its value.
    fn columns(&self) -> [usize; 3] {
        let kv_head = self.head / (self.heads.heads / self.heads.kv_heads);
        let key = self.heads.heads + kv_head;
        [self.head, key, key + self.heads.kv_heads].map(|part| part * self.width)
    }

    /// Query, key and value of a position.
    fn at(&self, position: usize) -> [&'a [f64]; 3] {
        let row = self.qkv.row(self.row(position));
        self.columns().map(|column| &row[column..][..self.width])
    }

    fn look(&self, position: usize) -> Look {
        let scale = 1.0 / (self.width as f64).sqrt();
        let window = self.heads.window.unwrap_or(self.heads.length);
        let first = (0..=position).find(|key| position - key < window);
        let first = first.expect("a query sees itself");
        let [query, _, _] = self.at(position);
        let (mut weights, mut moved) = (Vec::new(), Vec::new());
        for key in first..=position {
            let pairs = query.iter().zip(self.at(key)[1]);
            weights.push(scale * pairs.clone().map(|(q, k)| q * k).sum::<f64>());
            moved.push(scale * pairs.map(|(q, k)| (q * k).abs()).sum::<f64>());
        }
        let log_total = softmax(&mut weights);
        let mean: f64 = weights.iter().zip(&moved).map(|(p, moved)| p * moved).sum();
        for moved in &mut moved {
            *moved += 1.0 + log_total.abs() + mean;
        }
        let mut output = Exact::nothing(self.width);
        for (i, weight) in weights.iter().enumerate() {
            for (c, value) in self.at(first + i)[2].iter().enumerate() {
                let term = weight * value;
                output.add_sized(c, term, term.abs() * moved[i]);
            }
        }
        Look {
            first,
            weights,
            moved,
            output,
        }
    }
}

/// Makes logits probabilities; the logarithm of their total before.
fn softmax(logits: &mut [f64]) -> f64 {
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|z| (z - maximum).exp()).sum();
    for z in logits {
        *z = (*z - maximum).exp() / total;
    }
    maximum + total.ln()
}

fn attention(qkv: &Matrix, heads: Heads) -> Exact {
    let columns = heads.heads * head_width(heads, qkv.columns());
    let mut out = Exact::nothing(qkv.shape[0] * columns);
    for sequence in Sequence::all(qkv, heads) {
        for position in 0..heads.length {
            let look = sequence.look(position);
            let at = sequence.row(position) * columns + sequence.columns()[0];
            for c in 0..sequence.width {
                let Exact {
                    values,
                    sizes,
                    stored,
                    ..
                } = &look.output;
                out.add_stored(at + c, values[c], sizes[c], stored[c]);
            }
        }
    }
    out
}

fn attention_backward(qkv: &Matrix, heads: Heads, upstream: &[f64]) -> Exact {
    let (columns, width) = (qkv.columns(), head_width(heads, qkv.columns()));
    let scale = 1.0 / (width as f64).sqrt();
    let mut of = Exact::nothing(qkv.values.len());
    for sequence in Sequence::all(qkv, heads) {
        let [query_at, key_at, value_at] = sequence.columns();
        for position in 0..heads.length {
            let look = sequence.look(position);
            let row = sequence.row(position);
            let grad = &upstream[row * heads.heads * width + query_at..][..width];
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let sizes = |a: &[f64], b: &[f64]| {
                let products = a.iter().zip(b).map(|(a, b)| (a * b).abs());
                products.sum::<f64>()
            };
            let along = dot(grad, &look.output.values);
            let along_size = sizes(grad, &look.output.sizes);
            let along_stored = sizes(grad, &look.output.stored);
            let [query, _, _] = sequence.at(position);
            for (i, (weight, moved)) in look.weights.iter().zip(&look.moved).enumerate() {
                let [_, key, value] = sequence.at(look.first + i);
                let there = sequence.row(look.first + i) * columns;
                let difference = dot(grad, value) - along;
                let of_score = weight * difference * scale;
                let size = sizes(grad, value) + along_size + difference.abs() * moved;
                let size = weight * size * scale;
                // The output and the gradients of weights are stored before they cancel.
                let stored = weight * (sizes(grad, value) + along_stored) * scale;
                for c in 0..width {
                    let term = weight * grad[c];
                    of.add_sized(there + value_at + c, term, term.abs() * moved);
                    let at_query = row * columns + query_at + c;
                    let (size_of, stored_of) = (size * key[c].abs(), stored * key[c].abs());
                    of.add_stored(at_query, of_score * key[c], size_of, stored_of);
                    let at_key = there + key_at + c;
                    let (size_of, stored_of) = (size * query[c].abs(), stored * query[c].abs());
                    of.add_stored(at_key, of_score * query[c], size_of, stored_of);
                }
            }
        }
    }
    of
}

/// Of one row.
struct Logits {
    logits: Vec<f64>,
    probabilities: Vec<f64>,
    /// How much rounding moves each logit, and in the mean those that matter.
    moved: Vec<f64>,
    mean_moved: f64,
    log_total: f64,
}

/// The weight from feature `input` to a token.
fn head_at(head: &Matrix, rule: Head, input: usize, token: usize) -> f64 {
    match rule.by_token {
        true => head.at(token, input),
        false => head.at(input, token),
    }
}

impl Logits {
    fn of(hidden: &[f64], head: &Matrix, rule: Head) -> Self {
        let (mut logits, mut moved) = (Vec::new(), Vec::new());
        for token in 0..head.shape[if rule.by_token { 0 } else { 1 }] {
            let (mut logit, mut size) = (0.0, 0.0);
            for (input, hidden) in hidden.iter().enumerate() {
                let term = hidden * head_at(head, rule, input, token);
                logit += term;
                size += term.abs();
            }
            if let Some(cap) = rule.cap {
                logit = cap * (logit / cap).tanh();
                size = size * (1.0 - (logit / cap) * (logit / cap)) + 2.0 * logit.abs();
            }
            logits.push(logit);
            moved.push(size);
        }
        let mut probabilities = logits.clone();
        let log_total = softmax(&mut probabilities);
        let pairs = probabilities.iter().zip(&moved);
        Self {
            mean_moved: pairs.map(|(p, moved)| p * moved).sum(),
            logits,
            probabilities,
            moved,
            log_total,
        }
    }

    /// The most probable token, where no rounding by `unit` can make it another.
    fn clear_maximum(&self, unit: f64) -> Option<usize> {
        let ahead = |token: &usize| {
            (0..self.logits.len()).all(|other| {
                let moved = self.moved[*token] + self.moved[other];
                other == *token || self.logits[*token] - self.logits[other] > 4.0 * unit * moved
            })
        };
        (0..self.logits.len()).find(ahead)
    }
}

impl Predicted {
    /// Rows that are not ignored: row, target, weight.
    fn rows(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let rows = self.targets.iter().enumerate();
        rows.filter_map(|(row, target)| {
            let weight = self.weights.as_ref().map_or(1.0, |weights| weights[row]);
            Some((row, usize::try_from(*target).ok()?, weight))
        })
    }
}

fn cross_entropy(hidden: &Matrix, head: &Matrix, predicted: &Predicted) -> Exact {
    let Objective {
        label_smoothing: smoothing,
        z_loss,
    } = predicted.rule.objective;
    let mut losses = Exact::nothing(hidden.shape[0]);
    for (row, target, weight) in predicted.rows() {
        let of = Logits::of(hidden.row(row), head, predicted.rule);
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let total = 1.0 + of.mean_moved;
        let nats = of.log_total - of.logits[target];
        let even = of.log_total - mean(&of.logits);
        let loss = (1.0 - smoothing) * nats + smoothing * even;
        let loss = loss + z_loss * of.log_total * of.log_total;
        let size = (1.0 - smoothing) * (of.moved[target] + nats.abs())
            + smoothing * (mean(&of.moved) + even.abs())
            + 2.0 * z_loss * of.log_total.abs() * (total + of.log_total.abs());
        let size = weight * (total + size);
        // Logits are stored, and all that follows from them moves with them.
        losses.add_stored(row, weight * loss, size, size);
    }
    losses
}

fn cross_entropy_backward(
    hidden: &Matrix,
    head: &Matrix,
    predicted: &Predicted,
    upstream: &[f64],
) -> Vec<Exact> {
    let width = hidden.columns();
    let rule = predicted.rule;
    let Objective {
        label_smoothing: smoothing,
        z_loss,
    } = rule.objective;
    let [mut of_hidden, mut of_head] =
        [hidden, head].map(|input| Exact::nothing(input.values.len()));
    for (row, target, weight) in predicted.rows() {
        let upstream = upstream[row] * weight;
        let of = Logits::of(hidden.row(row), head, rule);
        let even = smoothing / of.logits.len() as f64;
        let factor = 1.0 + 2.0 * z_loss * of.log_total;
        let total = of.mean_moved + of.log_total.abs();
        for (token, probability) in of.probabilities.iter().enumerate() {
            let here = if token == target {
                1.0 - smoothing
            } else {
                0.0
            };
            let share = rule.cap.map_or(0.0, |cap| of.logits[token] / cap);
            let slope = 1.0 - share * share;
            let grad = upstream * (factor * probability - here - even) * slope;
            let moved = factor.abs() * (1.0 + of.moved[token] + total) + 2.0 * z_loss * total;
            let size = upstream.abs() * (probability * moved + here + even);
            let size = size * (slope + 2.0 * share * share);
            for input in 0..width {
                let weight = head_at(head, rule, input, token);
                let at = row * width + input;
                let size_of = size * weight.abs();
                of_hidden.add_stored(at, grad * weight, size_of, size_of);
                let at = match rule.by_token {
                    true => token * width + input,
                    false => input * of.logits.len() + token,
                };
                let hidden = hidden.at(row, input);
                let size_of = size * hidden.abs();
                of_head.add_stored(at, grad * hidden, size_of, size_of);
            }
        }
    }
    vec![of_hidden, of_head]
}

/// Whether each row's most probable token is its target, where that is beyond doubt.
pub(super) fn correct(
    hidden: &Matrix,
    head: &Matrix,
    targets: &[i64],
    rule: Head,
    unit: f64,
) -> Vec<Option<bool>> {
    let of = |(row, target): (usize, &i64)| {
        let Ok(target) = usize::try_from(*target) else {
            return Some(false);
        };
        let logits = Logits::of(hidden.row(row), head, rule);
        logits.clear_maximum(unit).map(|best| best == target)
    };
    targets.iter().enumerate().map(of).collect()
}

/// Weights and moments under AdamW.
pub(super) struct Trained {
    pub(super) weights: Exact,
    pub(super) moments: [Exact; 2],
}

impl Trained {
    pub(super) fn new(weights: &[f64]) -> Self {
        Self {
            weights: Exact::of(weights.iter().map(|w| (*w, w.abs()))),
            moments: [weights.len(); 2].map(Exact::nothing),
        }
    }

    pub(super) fn update(&mut self, gradient: &[f64], scale: f64, update: AdamW) {
        let AdamW {
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
            time,
        } = update;
        let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powf(time as f64));
        let Self {
            weights: w,
            moments: [m, v],
        } = self;
        for (i, gradient) in gradient.iter().enumerate() {
            let g = gradient * scale;
            m.values[i] = beta_1 * m.values[i] + (1.0 - beta_1) * g;
            m.sizes[i] = beta_1 * m.sizes[i] + (1.0 - beta_1) * g.abs();
            v.values[i] = beta_2 * v.values[i] + (1.0 - beta_2) * g * g;
            v.sizes[i] = v.values[i];
            let root = corrected(v.values[i], beta_2).sqrt() + epsilon;
            let step = learning_rate * corrected(m.values[i], beta_1) / root;
            let size = learning_rate * corrected(m.sizes[i], beta_1) / root;
            w.values[i] = (1.0 - learning_rate * weight_decay) * w.values[i] - step;
            w.sizes[i] += size;
            w.stored[i] = w.values[i].abs();
        }
    }
}
