//! Scores of targets, a few rows of logits at a time.

use burn::backend::{Flex, TensorMetadata};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::cross_entropy::{across, multiply};
use super::math::{exp_in_place, largest, tanh};
use super::matrix::{Matrix, contiguous, elements, ids, integers, rows_of_a_block, tensor};
use crate::ops::cross_entropy::{Head, Rows};
use crate::ops::token_scores::Scores;
use crate::vectors::vectorized;

/// Scores of one target.
#[derive(Clone, Copy, Default)]
struct RowScores {
    nats: f32,
    top_nats: f32,
    rank: usize,
}

/// Rows must be those of [`fast`](super::cross_entropy::fast).
pub(super) fn forward(given: &Rows<Flex>, rule: Head) -> Scores<Flex> {
    let (hidden, head) = (contiguous(given.hidden.clone()), &given.head);
    let [rows, width]: [usize; 2] = hidden.layout().shape().dims();
    let head_shape = head.shape();
    let (vocabulary, held) = (rule.vocabulary(&head_shape), rule.rows(&head_shape, rows));
    let targets = ids(&given.targets);
    let hidden = elements(&hidden);
    let across = across(head, rule);
    let cap = rule.cap.map(|cap| cap as f32);
    let together = rows_of_a_block(vocabulary);
    let mut logits = vec![0.0; held * vocabulary];
    let mut scores = vec![RowScores::default(); rows];
    for start in (0..rows).step_by(held) {
        let count = held.min(rows - start);
        let logits = &mut logits[..count * vocabulary];
        let part = Matrix::dense(&hidden[start * width..], count, width);
        multiply(logits, false, part, across);
        let blocks = logits.par_chunks_mut(together * vocabulary);
        let scores = scores[start..start + count].par_chunks_mut(together);
        blocks
            .zip(scores)
            .enumerate()
            .for_each(|(block, (logits, scores))| {
                let targets = &targets[start + block * together..];
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = logits.chunks_exact_mut(vocabulary).zip(scores);
                        for ((logits, scores), target) in rows.zip(targets) {
                            *scores = score(logits, *target, cap);
                        }
                    },
                );
            });
    }
    let floats = |of: fn(&RowScores) -> f32| tensor(scores.iter().map(of).collect(), [rows]);
    Scores {
        nats: floats(|row| row.nats),
        top_nats: floats(|row| row.top_nats),
        rank: integers(scores.iter().map(|row| row.rank), &given.targets),
    }
}

/// Scores a target, given the products of its row with the head, which are overwritten.
#[inline(always)]
fn score(logits: &mut [f32], target: i64, cap: Option<f32>) -> RowScores {
    if let Some(cap) = cap {
        logits.iter_mut().for_each(|z| *z = cap * tanh(*z / cap));
    }
    let Some(target) = usize::try_from(target).ok().filter(|id| *id < logits.len()) else {
        let nats = if target < 0 { 0.0 } else { f32::NAN };
        return RowScores {
            nats,
            ..RowScores::default()
        };
    };
    let at_target = logits[target];
    let count = |numbers: &[f32], before: fn(f32, f32) -> bool| -> usize {
        numbers
            .iter()
            .map(|z| usize::from(before(*z, at_target)))
            .sum()
    };
    let (lower, higher) = logits.split_at(target);
    let rank = 1 + count(lower, |z, target| z >= target) + count(higher, |z, target| z > target);
    let maximum = largest(logits);
    let log_of_total = exp_in_place(logits, maximum).ln();
    RowScores {
        // In this order: the two large numbers cancel before the small one is added.
        nats: (maximum - at_target) + log_of_total,
        top_nats: log_of_total,
        rank,
    }
}
