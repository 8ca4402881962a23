//! The head and the loss, some rows at a time: their logits become their gradients where they lie.

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::f32s;
use super::math::{exp_in_place, largest, sum, tanh};
use super::matrix::{
    Matrix, contiguous, elements, ids, integers, product_into, readable, rows_of_a_block, tensor,
};
use crate::loss::Objective;
use crate::ops::cross_entropy::{Head, Losses, Of, Rows};
use crate::vectors::vectorized;

/// Tokens whose part of the head's gradient is one product.
const TOKENS: usize = 4096;

/// What is found out about a row.
#[derive(Clone, Copy, Default)]
struct Found {
    loss: f32,
    nats: f32,
    correct: bool,
    log_total: f32,
}

/// What becomes of a row's logits after its loss is known.
#[derive(Clone, Copy)]
enum Then<'a> {
    /// Nothing.
    Nothing,
    /// Gradients where that of every row's loss is 1.
    Unit,
    /// Gradients where that of a row's loss is its element of this.
    Each(&'a [f32]),
}

/// Whether they can be worked on here.
pub(super) fn fast(rows: &Rows<Flex>) -> bool {
    f32s(&[&rows.hidden, &rows.head]) && readable(&rows.targets)
}

pub(super) fn forward(rows: &Rows<Flex>, rule: Head) -> Losses<Flex> {
    losses(run(rows, rule, Then::Nothing).0, &rows.targets)
}

pub(super) fn with_gradients(rows: &Rows<Flex>, rule: Head) -> (Losses<Flex>, Of<Flex>) {
    let (found, of) = run(rows, rule, Then::Unit);
    (
        losses(found, &rows.targets),
        of.expect("gradients were asked for"),
    )
}

pub(super) fn backward(rows: &Rows<Flex>, grad: FlexTensor, rule: Head) -> Of<Flex> {
    let grad = contiguous(grad);
    let (_, of) = run(rows, rule, Then::Each(elements(&grad)));
    of.expect("gradients were asked for")
}

fn losses(found: Vec<Found>, targets: &FlexTensor) -> Losses<Flex> {
    let of = |number: fn(&Found) -> f32| {
        let numbers: Vec<f32> = found.iter().map(number).collect();
        tensor(numbers, [found.len()])
    };
    Losses {
        loss: of(|found| found.loss),
        nats: of(|found| found.nats),
        correct: integers(
            found.iter().map(|found| usize::from(found.correct)),
            targets,
        ),
        log_total: of(|found| found.log_total),
    }
}

fn run(given: &Rows<Flex>, rule: Head, then: Then<'_>) -> (Vec<Found>, Option<Of<Flex>>) {
    let (hidden, head) = (contiguous(given.hidden.clone()), &given.head);
    let [rows, width]: [usize; 2] = hidden.layout().shape().dims();
    let head_shape = head.shape();
    let (vocabulary, held) = (rule.vocabulary(&head_shape), rule.rows(&head_shape, rows));
    let targets = ids(&given.targets);
    let weights = given.weights.clone().into_option();
    let weights = weights.map(|of| contiguous(Flex::float_cast(of, DType::F32.into())));
    let weights = weights.as_ref().map(elements);
    let hidden = elements(&hidden);
    let across = across(head, rule);
    let mut logits = vec![0.0; held * vocabulary];
    let mut found = vec![Found::default(); rows];
    let wanted = !matches!(then, Then::Nothing);
    let room = |count: usize| vec![0.0; if wanted { count } else { 0 }];
    let (mut of_hidden, mut of_head) = (room(rows * width), room(vocabulary * width));

    for start in (0..rows).step_by(held) {
        let count = held.min(rows - start);
        let part = Matrix::dense(&hidden[start * width..], count, width);
        let logits = &mut logits[..count * vocabulary];
        multiply(logits, false, part, across);
        let row = |row: usize| {
            let weight = weights.map_or(1.0, |weights| weights[start + row]);
            let grad = match then {
                Then::Nothing => None,
                Then::Unit => Some(weight),
                Then::Each(grad) => Some(grad[start + row] * weight),
            };
            (targets[start + row], weight, grad)
        };
        work(logits, &mut found[start..start + count], &rule, row);
        if !wanted {
            continue;
        }
        let of_logits = Matrix::dense(logits, count, vocabulary);
        let of_part = &mut of_hidden[start * width..];
        multiply(of_part, false, of_logits, across.t());
        match rule.by_token {
            // Some tokens at a time: the product packs their gradients, which are then still in cache.
            true => {
                for (tokens, of_head) in of_head.chunks_mut(TOKENS * width).enumerate() {
                    let count = of_head.len() / width;
                    let of_logits = of_logits.columns_from(tokens * TOKENS, count);
                    multiply(of_head, start > 0, of_logits.t(), part);
                }
            }
            false => multiply(&mut of_head, start > 0, part.t(), of_logits),
        }
    }
    let of = wanted.then(|| {
        let shape: [usize; 2] = head_shape.dims();
        [tensor(of_hidden, [rows, width]), tensor(of_head, shape)]
    });
    (found, of)
}

/// The head as `[width, vocab_size]`, whichever way it lies.
pub(super) fn across(head: &FlexTensor, rule: Head) -> Matrix<'_> {
    match rule.by_token {
        true => Matrix::of(head).t(),
        false => Matrix::of(head),
    }
}

/// `target ← [target +] a b`, on all threads.
pub(super) fn multiply(target: &mut [f32], add: bool, a: Matrix<'_>, b: Matrix<'_>) {
    product_into(target, add, a, b, 1.0, Parallelism::Rayon(0));
}

/// Losses of rows of logits, which then become gradients. `given` tells a row's target, its weight, and the gradient of
/// its loss where there is one, times the weight.
fn work(
    logits: &mut [f32],
    found: &mut [Found],
    rule: &Head,
    given: impl Fn(usize) -> (i64, f32, Option<f32>) + Sync,
) {
    let vocabulary = logits.len() / found.len();
    let together = rows_of_a_block(vocabulary);
    let row = Row::new(rule, vocabulary);
    let blocks = logits.par_chunks_mut(together * vocabulary);
    let blocks = blocks.zip(found.par_chunks_mut(together)).enumerate();
    blocks.for_each(|(block, (logits, found))| {
        vectorized(
            #[inline(always)]
            || {
                let rows = logits.chunks_exact_mut(vocabulary).zip(found);
                for (number, (logits, found)) in rows.enumerate() {
                    let (target, weight, grad) = given(block * together + number);
                    *found = row.work(logits, target, grad);
                    found.loss *= weight;
                }
            },
        );
    });
}

/// What is done with every row.
struct Row {
    cap: Option<f32>,
    smoothing: f32,
    /// A token's share of what is smoothed.
    even: f32,
    z_loss: f32,
}

impl Row {
    fn new(rule: &Head, vocabulary: usize) -> Self {
        let Objective {
            label_smoothing,
            z_loss,
        } = rule.objective;
        Self {
            cap: rule.cap.map(|cap| cap as f32),
            smoothing: label_smoothing as f32,
            even: (label_smoothing / vocabulary as f64) as f32,
            z_loss: z_loss as f32,
        }
    }

    /// The loss of a row; its logits become `grad` times its gradient, or are left in disorder.
    #[inline(always)]
    fn work(&self, logits: &mut [f32], target: i64, grad: Option<f32>) -> Found {
        if let Some(cap) = self.cap {
            logits.iter_mut().for_each(|z| *z = cap * tanh(*z / cap));
        }
        let maximum = largest(logits);
        let ignored = target < 0;
        let target = usize::try_from(target)
            .ok()
            .filter(|target| *target < logits.len());
        let Some(target) = target else {
            // Nothing of a row that is ignored; of a target that is no token, no number.
            let nothing = if ignored { 0.0 } else { f32::NAN };
            if grad.is_some() {
                logits.fill(nothing);
            }
            return Found {
                loss: nothing,
                nats: nothing,
                correct: false,
                log_total: maximum,
            };
        };
        let at_target = logits[target];
        let correct = at_target == maximum && !logits[..target].contains(&maximum);
        let below_maximum = match self.smoothing > 0.0 {
            true => sum([logits], |[z]| maximum - z) / logits.len() as f32,
            false => 0.0,
        };
        let capped = match (self.cap, grad) {
            (Some(_), Some(_)) => Some(logits.to_vec()),
            _ => None,
        };
        let total = exp_in_place(logits, maximum);
        let log_of_total = total.ln();
        let log_total = maximum + log_of_total;
        // In this order: the two large numbers cancel before the small one is added.
        let nats = (maximum - at_target) + log_of_total;
        let mut loss = nats;
        if self.smoothing > 0.0 {
            loss = (1.0 - self.smoothing) * nats + self.smoothing * (below_maximum + log_of_total);
        }
        if self.z_loss > 0.0 {
            loss += self.z_loss * log_total * log_total;
        }
        if let Some(grad) = grad {
            let factor = grad / total * (1.0 + 2.0 * self.z_loss * log_total);
            let (even, less) = (grad * self.even, grad * (1.0 - self.smoothing));
            match self.smoothing > 0.0 {
                true => logits.iter_mut().for_each(|of| *of = *of * factor - even),
                false => logits.iter_mut().for_each(|of| *of *= factor),
            }
            logits[target] -= less;
            if let Some((capped, cap)) = capped.zip(self.cap) {
                let slope = |z: f32| 1.0 - (z / cap) * (z / cap);
                let pairs = logits.iter_mut().zip(&capped);
                pairs.for_each(|(of, z)| *of *= slope(*z));
            }
        }
        Found {
            loss,
            nats,
            correct,
            log_total,
        }
    }
}
