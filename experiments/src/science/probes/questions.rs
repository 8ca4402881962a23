//! Items as token ids, and their scores by a model.

#[cfg(all(test, feature = "flex"))]
mod tests;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use foretoken_datasets::world::{END, Family, Item, World};
use foretoken_datasets::{DataError, Tokenizer};
use foretoken_model::{GenerationConfig, Sampler, SamplingConfig, Transformer, generate};
use serde::Serialize;

use super::score::ItemScore;
use crate::Error;
use crate::science::check;
use crate::science::evaluate::{
    BatchLimit, ContextPolicy, Document, Segment, Settings, TargetScore, Text, TextSize,
    score_padded,
};

/// Rows that are computed at once. It changes no score.
const ROWS: usize = 64;

/// Lengths of rows are padded to a multiple of this, because most items are short.
const GRAIN: usize = 16;

/// Items of a family.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FamilyItems {
    /// The family.
    pub family: Family,
    /// Its items.
    pub items: Vec<Item>,
    /// Items that are longer than the model's context, or that the tokenizer cannot encode.
    pub left_out: usize,
}

/// Items of some families, encoded for a model.
///
/// Each answer is a row of tokens: the end of a document, the context, and the answer. An answer is scored from the first
/// token on that is not the same for all answers and the context alone, so that tokens that join a context with an answer
/// count, as in the harness of EleutherAI.
#[derive(Debug)]
pub struct Questions {
    /// The families, those without items included.
    pub families: Vec<FamilyItems>,
    /// A segment for each answer, the right one of each item first.
    text: Text,
    pub(super) tokenizer: Tokenizer,
    /// Tokens that the model reads at once.
    pub(super) context: usize,
}

impl Questions {
    /// Makes up to `count` items of each family.
    ///
    /// # Errors
    ///
    /// Returns an error if no family has an item that fits the context.
    pub fn new(
        world: &World,
        families: &[Family],
        count: usize,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Self, Error> {
        let mut text = Text {
            name: "the probes".into(),
            segments: Vec::new(),
            not_scored: 0,
        };
        let family = |family: &Family| {
            let mut fitting = FamilyItems {
                family: *family,
                items: Vec::new(),
                left_out: 0,
            };
            for item in world.probe_items(*family, count) {
                match segments(&item, tokenizer, context) {
                    Some(segments) => {
                        text.segments.extend(segments);
                        fitting.items.push(item);
                    }
                    None => fitting.left_out += 1,
                }
            }
            fitting
        };
        let families: Vec<FamilyItems> = families.iter().map(family).collect();
        if text.segments.is_empty() {
            return Err(Error::Experiment {
                origin: "probes".into(),
                message: format!(
                    "no item fits the model's context of {context} tokens and its tokenizer; raise model.context, or ask \
                     for other families"
                ),
            });
        }
        Ok(Self {
            families,
            text,
            tokenizer: tokenizer.clone(),
            context,
        })
    }

    /// Describes the items that are left out; one note for each family that has any.
    pub fn notes(&self) -> Vec<String> {
        let left_out = self.families.iter().filter(|family| family.left_out > 0);
        left_out
            .map(|family| {
                format!(
                    "{} of {} items of {} are longer than the context of {} tokens, or have characters that the tokenizer \
                     does not know, and are left out",
                    family.left_out,
                    family.left_out + family.items.len(),
                    family.family,
                    self.context
                )
            })
            .collect()
    }

    /// Returns the number of rows: one for each answer.
    pub fn rows(&self) -> usize {
        self.text.segments.len()
    }

    /// Scores every item of every family, in their order. `progress` is called with a number of rows that are done.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails, predictions are not finite, or `interrupt` is set.
    pub fn score(
        &self,
        model: &Transformer,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<ItemScore>>, Error> {
        self.scored(model, true, interrupt, progress)
    }

    /// Scores every item as [`score`](Self::score) does, without what greedy decoding writes. That takes most of the time,
    /// because answers are written token by token, and only the edit distance needs it: an answer is exact if each of its
    /// tokens is ranked first.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails, predictions are not finite, or `interrupt` is set.
    pub fn score_without_decoding(
        &self,
        model: &Transformer,
        interrupt: &AtomicBool,
    ) -> Result<Vec<Vec<ItemScore>>, Error> {
        self.scored(model, false, interrupt, &mut |_| {})
    }

    fn scored(
        &self,
        model: &Transformer,
        decodes: bool,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<ItemScore>>, Error> {
        let settings = Settings {
            context: self.context,
            policy: ContextPolicy::Stride(self.context),
            batch: ROWS,
        };
        let scores = score_padded(
            model,
            &self.text,
            &settings,
            (GRAIN, BatchLimit::Windows(settings.batch)),
            interrupt,
            &mut |_| {},
        )?;
        progress(self.rows());
        let nats = |targets: &[TargetScore]| -> f64 {
            targets.iter().map(|target| f64::from(target.nats)).sum()
        };
        // The first segment of each item, its answers, and whether greedy decoding is right.
        let mut places = Vec::new();
        let mut first = 0;
        for item in self.families.iter().flat_map(|family| &family.items) {
            let answers = 1 + item.wrong.len();
            let is_exact = scores[first].iter().all(|target| target.rank == 1);
            places.push((first, answers, is_exact));
            first += answers;
        }
        let wrong = places
            .iter()
            .filter(|(_, _, is_exact)| decodes && !is_exact);
        let wrong: Vec<usize> = wrong.map(|(first, _, _)| *first).collect();
        let mut greedy = self.greedy(model, &wrong, interrupt)?.into_iter();
        let mut places = places.into_iter();
        let mut item_score = |_: &Item| {
            let (first, answers, is_exact) = places.next()?;
            let segment = &self.text.segments[first];
            let right = self.decoded(&segment.ids[segment.documents[0].targets.start..]);
            let written = match (decodes, is_exact) {
                (false, _) => None,
                (true, true) => Some(right.clone()),
                (true, false) => Some(greedy.next()?),
            };
            let log_likelihoods: Vec<f64> = scores[first..first + answers]
                .iter()
                .map(|targets| -nats(targets))
                .collect();
            Some(ItemScore::new(
                &log_likelihoods,
                is_exact,
                right.len(),
                &right,
                written,
            ))
        };
        let families = self.families.iter();
        Ok(families
            .map(|family| family.items.iter().filter_map(&mut item_score).collect())
            .collect())
    }

    /// Returns what greedy decoding writes in place of the answers of some segments, in as many tokens.
    fn greedy(
        &self,
        model: &Transformer,
        segments: &[usize],
        interrupt: &AtomicBool,
    ) -> Result<Vec<String>, Error> {
        let mut written = Vec::with_capacity(segments.len());
        for segments in segments.chunks(ROWS) {
            check(interrupt)?;
            let segments = segments.iter().map(|segment| &self.text.segments[*segment]);
            let targets = segments
                .clone()
                .map(|segment| segment.documents[0].targets.clone());
            let lengths: Vec<usize> = targets.clone().map(|targets| targets.len()).collect();
            let prompts: Vec<Vec<u32>> = segments
                .zip(targets)
                .map(|(segment, targets)| segment.ids[..targets.start].to_vec())
                .collect();
            let sampler = || Sampler::new(SamplingConfig::greedy(), 0);
            let samplers: Result<Vec<Sampler>, _> = prompts.iter().map(|_| sampler()).collect();
            let longest = lengths.iter().copied().max().unwrap_or(0);
            let mut done = vec![0; prompts.len()];
            let answers = generate(
                model,
                &prompts,
                &GenerationConfig::new(longest),
                &mut samplers?,
                |row, _| {
                    done[row] += 1;
                    let is_wanted = !interrupt.load(Ordering::Relaxed);
                    match is_wanted && done[row] < lengths[row] {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                },
            )?;
            check(interrupt)?;
            written.extend(answers.iter().map(|ids| self.decoded(ids)));
        }
        Ok(written)
    }

    /// Returns the text of tokens, with U+FFFD for bytes that are no character. Ids that the tokenizer does not have, which
    /// a padded vocabulary allows, have no text.
    fn decoded(&self, ids: &[u32]) -> String {
        let known = ids
            .iter()
            .filter(|id| (**id as usize) < self.tokenizer.vocab_size());
        let bytes: Vec<u8> = known
            .flat_map(|id| self.tokenizer.token_bytes(*id))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Returns the answers of an item as segments, the right one first; `None` if one of them does not fit the context, the
/// tokenizer cannot encode it, or no token tells it from the context.
fn segments(item: &Item, tokenizer: &Tokenizer, context: usize) -> Option<Vec<Segment>> {
    let prompt = format!("{}{}", char::from(END), item.context);
    let encode = |text: &str| -> Result<Vec<u32>, DataError> { tokenizer.encode(text) };
    let before = encode(&prompt).ok()?;
    let answers = std::iter::once(&item.right).chain(&item.wrong);
    let rows: Vec<Vec<u32>> = answers
        .map(|answer| encode(&format!("{prompt}{answer}")).ok())
        .collect::<Option<_>>()?;
    let shared = |row: &Vec<u32>| row.iter().zip(&before).take_while(|(a, b)| a == b).count();
    let first = rows.iter().map(shared).min()?;
    if first == 0
        || rows
            .iter()
            .any(|row| row.len() <= first || row.len() > context + 1)
    {
        return None;
    }
    let segment = |ids: Vec<u32>| Segment {
        documents: vec![Document {
            number: 0,
            targets: first..ids.len(),
            size: TextSize::default(),
            skipped_bytes: 0,
        }],
        ids,
    };
    Some(rows.into_iter().map(segment).collect())
}
