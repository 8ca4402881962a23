//! Scores of targets: windows of texts, in batches, through a model.
//!
//! Windows are grouped by their length, rounded up to a multiple of [`GRAIN`], and padded behind their end, where the
//! padding cannot change a prediction. So the shape that a window is computed in depends on the window alone, and not on
//! the windows beside it: what it is batched with changes no bit on backends whose products add up each row in one order.

use std::sync::atomic::AtomicBool;

use burn::tensor::{Int, Tensor, TensorData};
use foretoken_model::ops::among_threads;
use foretoken_model::{TokenScores, Transformer};

use super::context::{ContextPolicy, Window, windows};
use super::text::Text;
use crate::Error;
use crate::science::check;

/// Lengths of windows are padded to a multiple of this.
const GRAIN: usize = 64;

/// Score of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::science) struct TargetScore {
    /// Negative log-likelihood, in nats.
    pub(in crate::science) nats: f32,
    /// Negative log-likelihood of the most probable token, in nats.
    pub(in crate::science) top_nats: f32,
    /// Rank among all tokens, from 1.
    pub(in crate::science) rank: u32,
    /// Number of tokens that the model saw before it.
    pub(in crate::science) context: u32,
}

/// Scores of all targets of a segment, from its first one on.
pub(in crate::science) type SegmentScores = Vec<TargetScore>;

/// Settings of an evaluation that change speed and memory, or what precedes each token.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Number of tokens that the model reads at once, at most its context.
    pub context: usize,
    /// Rule for the tokens that precede each target.
    pub policy: ContextPolicy,
    /// Number of windows that are computed at once. It does not change the result.
    pub batch: usize,
}

/// Number of windows that are computed at once.
#[derive(Debug, Clone, Copy)]
pub(in crate::science) enum BatchLimit {
    /// A number of windows, whatever their length.
    Windows(usize),
    /// A number of tokens, which the windows have together at most. One window is always computed.
    Tokens(usize),
}

impl BatchLimit {
    fn windows(self, length: usize) -> usize {
        match self {
            Self::Windows(windows) => windows.max(1),
            Self::Tokens(tokens) => (tokens / length).max(1),
        }
    }
}

/// A window and its segment.
struct Job {
    segment: usize,
    window: Window,
    /// Length that it is padded to.
    length: usize,
}

/// Scores every target of a text. `progress` is called with the number of targets after each batch.
///
/// # Errors
///
/// Returns an error if the device fails, the model's predictions are not finite, or `interrupt` is set.
pub(in crate::science) fn score(
    model: &Transformer,
    text: &Text,
    settings: &Settings,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<SegmentScores>, Error> {
    let limit = BatchLimit::Windows(settings.batch);
    score_padded(model, text, settings, (GRAIN, limit), interrupt, progress)
}

/// Scores like [`score`], with windows that are padded to multiples of another length and computed in other batches.
pub(in crate::science) fn score_padded(
    model: &Transformer,
    text: &Text,
    settings: &Settings,
    (grain, limit): (usize, BatchLimit),
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<SegmentScores>, Error> {
    let unset = TargetScore {
        nats: f32::NAN,
        top_nats: f32::NAN,
        rank: 0,
        context: 0,
    };
    let mut scores: Vec<SegmentScores> = text
        .segments
        .iter()
        .map(|segment| vec![unset; segment.ids.len() - segment.first()])
        .collect();
    let mut jobs: Vec<Job> = Vec::new();
    for (number, segment) in text.segments.iter().enumerate() {
        let (tokens, first) = (segment.ids.len(), segment.first());
        for window in windows(tokens, first, settings.context, settings.policy) {
            jobs.push(Job {
                segment: number,
                length: window
                    .inputs
                    .len()
                    .next_multiple_of(grain)
                    .min(settings.context),
                window,
            });
        }
    }
    // The longest first, so that memory that does not suffice is noticed at once.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.length));
    for jobs in jobs.chunk_by(|a, b| a.length == b.length) {
        for jobs in jobs.chunks(limit.windows(jobs[0].length)) {
            check(interrupt)?;
            let mut done = 0;
            let batch = among_threads(&model.device(), || batch_scores(model, text, jobs))?;
            for (job, row) in jobs.iter().zip(batch.chunks_exact(jobs[0].length)) {
                let first = text.segments[job.segment].first();
                for target in job.window.targets() {
                    let place = target - 1 - job.window.inputs.start;
                    let score = TargetScore {
                        context: place as u32 + 1,
                        ..row[place]
                    };
                    if !score.nats.is_finite() {
                        return Err(Error::Evaluation(format!(
                            "the model's prediction of token {target} of {} is not finite; its weights may be damaged, \
                             or the precision of the backend too low",
                            text.name
                        )));
                    }
                    scores[job.segment][target - first] = score;
                    done += 1;
                }
            }
            progress(done);
        }
    }
    Ok(scores)
}

/// Returns the scores of every position of windows of one length, window by window.
fn batch_scores(model: &Transformer, text: &Text, jobs: &[Job]) -> Result<Vec<TargetScore>, Error> {
    let (rows, length) = (jobs.len(), jobs[0].length);
    let mut inputs = Vec::with_capacity(rows * length);
    let mut targets = Vec::with_capacity(rows * length);
    for job in jobs {
        let ids = &text.segments[job.segment].ids;
        let Window {
            inputs: read,
            first,
        } = &job.window;
        let padding = length - read.len();
        inputs.extend(ids[read.clone()].iter().map(|id| i64::from(*id)));
        inputs.extend(std::iter::repeat_n(0, padding));
        // A target that another window scores is ignored, as is one of the padding.
        targets.extend(
            (read.start + 1..=read.end).map(|target| match target < *first {
                true => -1,
                false => i64::from(ids[target]),
            }),
        );
        targets.extend(std::iter::repeat_n(-1, padding));
    }
    let device = model.device();
    let tensor =
        |ids: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, length]), &device);
    let TokenScores {
        nats,
        top_nats,
        rank,
    } = model.token_scores(tensor(inputs), tensor(targets));
    let floats =
        |scores: Tensor<2>| -> Result<Vec<f32>, Error> { scores.try_into_vec_as().map_err(failed) };
    let (nats, top_nats) = (floats(nats)?, floats(top_nats)?);
    let rank: Vec<i64> = rank.try_into_vec_as().map_err(failed)?;
    let scores = nats.into_iter().zip(top_nats).zip(rank);
    Ok(scores
        .map(|((nats, top_nats), rank)| TargetScore {
            nats,
            top_nats,
            rank: rank as u32,
            context: 0,
        })
        .collect())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Evaluation(format!("the device failed: {error}"))
}
