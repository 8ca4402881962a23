//! The head and the loss, some rows at a time: their logits become their gradients where they lie.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType};
use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::math::{exp_in_place, largest, tanh, vectorized};
use super::matrix::{Matrix, contiguous, elements, ids, product_into, rows_of_a_block, tensor};
use crate::ops::cross_entropy::{Head, Losses, Of};

/// What is found out about a row.
#[derive(Clone, Copy, Default)]
struct Found {
    nats: f32,
    correct: bool,
    log_total: f32,
}

/// What becomes of a row's logits after its loss is known.
#[derive(Clone, Copy)]
enum Then<'a> {
    /// Nothing.
    Nothing,
    /// Gradients where that of every row's nats is 1.
    Unit,
    /// Gradients where that of a row's nats is its element of this.
    Each(&'a [f32]),
}

pub(super) fn forward(
    hidden: FlexTensor,
    head: FlexTensor,
    targets: &FlexTensor,
    rule: Head,
) -> Losses<Flex> {
    losses(run(hidden, head, targets, rule, Then::Nothing).0, targets)
}

pub(super) fn with_gradients(
    hidden: FlexTensor,
    head: FlexTensor,
    targets: &FlexTensor,
    rule: Head,
) -> (Losses<Flex>, Of<Flex>) {
    let (found, of) = run(hidden, head, targets, rule, Then::Unit);
    (
        losses(found, targets),
        of.expect("gradients were asked for"),
    )
}

pub(super) fn backward(
    hidden: FlexTensor,
    head: FlexTensor,
    targets: &FlexTensor,
    grad: FlexTensor,
    rule: Head,
) -> Of<Flex> {
    let grad = contiguous(grad);
    let (_, of) = run(hidden, head, targets, rule, Then::Each(elements(&grad)));
    of.expect("gradients were asked for")
}

fn losses(found: Vec<Found>, targets: &FlexTensor) -> Losses<Flex> {
    let of = |number: fn(&Found) -> f32| {
        let numbers: Vec<f32> = found.iter().map(number).collect();
        tensor(numbers, [found.len()])
    };
    Losses {
        nats: of(|found| found.nats),
        correct: integers(found.iter().map(|found| found.correct), targets),
        log_total: of(|found| found.log_total),
    }
}

/// 1 for true, in the integers of `like` and in its shape.
fn integers(of: impl Iterator<Item = bool>, like: &FlexTensor) -> FlexTensor {
    let bytes = match like.dtype() {
        DType::I32 => Bytes::from_elems(of.map(i32::from).collect::<Vec<_>>()),
        _ => Bytes::from_elems(of.map(i64::from).collect::<Vec<_>>()),
    };
    let layout = burn::backend::flex::Layout::contiguous(like.shape());
    FlexTensor::new(bytes, layout, like.dtype())
}

fn run(
    hidden: FlexTensor,
    head: FlexTensor,
    targets: &FlexTensor,
    rule: Head,
    then: Then<'_>,
) -> (Vec<Found>, Option<Of<Flex>>) {
    let hidden = contiguous(hidden);
    let [rows, width]: [usize; 2] = hidden.layout().shape().dims();
    let head_shape = head.shape();
    let (vocabulary, held) = (rule.vocabulary(&head_shape), rule.rows(&head_shape, rows));
    let targets = ids(targets);
    let hidden = elements(&hidden);
    // `[width, vocabulary]` whichever way it lies.
    let across = match rule.by_token {
        true => Matrix::of(&head).t(),
        false => Matrix::of(&head),
    };
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
        let each = match then {
            Then::Each(grad) => Then::Each(&grad[start..]),
            other => other,
        };
        let found = &mut found[start..start + count];
        work(logits, &targets[start..], found, rule.cap, each);
        if !wanted {
            continue;
        }
        let of_logits = Matrix::dense(logits, count, vocabulary);
        let of_part = &mut of_hidden[start * width..];
        multiply(of_part, false, of_logits, across.t());
        match rule.by_token {
            true => multiply(&mut of_head, start > 0, of_logits.t(), part),
            false => multiply(&mut of_head, start > 0, part.t(), of_logits),
        }
    }
    let of = wanted.then(|| {
        let shape: [usize; 2] = head_shape.dims();
        [tensor(of_hidden, [rows, width]), tensor(of_head, shape)]
    });
    (found, of)
}

/// `target ← [target +] a b`, on all threads.
fn multiply(target: &mut [f32], add: bool, a: Matrix<'_>, b: Matrix<'_>) {
    product_into(target, add, a, b, 1.0, Parallelism::Rayon(0));
}

/// Losses of rows of logits, which then become gradients.
fn work(
    logits: &mut [f32],
    targets: &[i64],
    found: &mut [Found],
    cap: Option<f64>,
    then: Then<'_>,
) {
    let vocabulary = logits.len() / found.len();
    let together = rows_of_a_block(vocabulary);
    let cap = cap.map(|cap| cap as f32);
    let blocks = logits.par_chunks_mut(together * vocabulary);
    let blocks = blocks.zip(found.par_chunks_mut(together)).enumerate();
    blocks.for_each(|(block, (logits, found))| {
        vectorized(
            #[inline(always)]
            || {
                let rows = logits.chunks_exact_mut(vocabulary).zip(found);
                for (row, (logits, found)) in rows.enumerate() {
                    let row = block * together + row;
                    if let Some(cap) = cap {
                        logits.iter_mut().for_each(|z| *z = cap * tanh(*z / cap));
                    }
                    let grad = match then {
                        Then::Nothing => None,
                        Then::Unit => Some(1.0),
                        Then::Each(grad) => Some(grad[row]),
                    };
                    *found = one(logits, targets[row], cap, grad);
                }
            },
        );
    });
}

/// One row: its loss; its logits become `grad` times its gradient, or are left in disorder.
#[inline(always)]
fn one(logits: &mut [f32], target: i64, cap: Option<f32>, grad: Option<f32>) -> Found {
    let maximum = largest(logits);
    let Ok(target) = usize::try_from(target) else {
        if grad.is_some() {
            logits.fill(0.0);
        }
        return Found {
            nats: 0.0,
            correct: false,
            log_total: maximum,
        };
    };
    let at_target = logits[target];
    let correct = at_target == maximum && !logits[..target].contains(&maximum);
    let slope = |z: f32| match cap {
        Some(cap) => 1.0 - (z / cap) * (z / cap),
        None => 1.0,
    };
    let capped = match (cap, grad) {
        (Some(_), Some(_)) => Some(logits.to_vec()),
        _ => None,
    };
    let total = exp_in_place(logits, maximum);
    let log_of_total = total.ln();
    let found = Found {
        // In this order: the two large numbers cancel before the small one is added.
        nats: (maximum - at_target) + log_of_total,
        correct,
        log_total: maximum + log_of_total,
    };
    if let Some(grad) = grad {
        let factor = grad / total;
        match capped {
            Some(capped) => {
                let pairs = logits.iter_mut().zip(&capped);
                pairs.for_each(|(of, z)| *of *= factor * slope(*z));
            }
            None => logits.iter_mut().for_each(|of| *of *= factor),
        }
        logits[target] -= grad * slope(at_target);
    }
    found
}
