//! Evaluation of a model on the items of a task.

use std::sync::atomic::AtomicBool;

use foretoken_datasets::files::printable;
use foretoken_model::Transformer;

use super::data::TaskData;
use super::question::Item;
use super::request::{PairEncoder, Request};
use super::result::{ChoiceResult, ItemResult, TaskResult};
use super::shots::PythonRandom;
use super::task::Task;
use crate::Error;
use crate::science::check;
use crate::science::evaluate::{
    BatchLimit, ContextPolicy, Document, Segment, Settings, Text, TextSize, score_padded,
};

/// Lengths of prompts are padded to a multiple of this. It is small, because questions are short.
const GRAIN: usize = 8;

/// Items that are encoded before they are computed, the longest prompt first.
const BLOCK: usize = 1024;

/// Tokens that are computed at once by default.
const BATCH_TOKENS: usize = 4096;

/// Settings of an evaluation on tasks.
#[derive(Debug, Clone, Copy)]
pub struct TaskSettings {
    /// Number of examples before each question.
    pub shots: usize,
    /// Seed of the draw of examples.
    pub seed: u64,
    /// Maximum number of items of each task, the first ones.
    pub limit: Option<usize>,
    /// Number of tokens that the model reads at once, at most its context.
    pub context: usize,
    /// Number of prompts that are computed at once; `None` chooses as many as have 4096 tokens. It changes no result.
    pub batch: Option<usize>,
}

/// Evaluates a model on a task. `progress` is called with the number of tokens found to be scored, and with that of
/// tokens scored.
///
/// Neither the batch nor the other items of a task change the result of an item on backends whose products add up each
/// row in one order.
///
/// # Errors
///
/// Returns an error if a choice cannot be encoded or is longer than the context, the model's predictions are not finite,
/// the device fails, or `interrupt` is set.
pub fn evaluate(
    model: &Transformer,
    encoder: &mut PairEncoder<'_>,
    data: &TaskData,
    settings: &TaskSettings,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<TaskResult, Error> {
    let task = data.task;
    let shots = match task.takes_examples() {
        true => settings.shots,
        false => 0,
    };
    let mut random = PythonRandom::new(settings.seed);
    let items = &data.items[..data.items.len().min(settings.limit.unwrap_or(usize::MAX))];
    let mut results = Vec::with_capacity(items.len());
    for block in items.chunks(BLOCK) {
        let mut requests = Vec::new();
        for item in block {
            check(interrupt)?;
            let examples = examples(data, item, shots, &mut random);
            requests.push(encoded(encoder, item, &examples)?);
        }
        let text = text(task, requests.iter().flatten());
        progress(text.targets(), 0);
        let scores = score_padded(
            model,
            &text,
            &Settings {
                context: settings.context,
                policy: ContextPolicy::Stride(settings.context),
                batch: 1,
            },
            (GRAIN, batch(settings)),
            interrupt,
            &mut |done| progress(0, done),
        )?;
        let mut scores = scores.into_iter();
        for (item, requests) in block.iter().zip(&requests) {
            let choices = item.choices.iter().zip(scores.by_ref());
            let choices = choices.map(|(choice, scores)| ChoiceResult {
                log_likelihood: -scores
                    .iter()
                    .map(|score| f64::from(score.nats))
                    .sum::<f64>(),
                tokens: scores.len(),
                greedy: scores.iter().all(|score| score.rank == 1),
                characters: choice.characters,
                bytes: choice.bytes,
            });
            let cut = requests.iter().map(|request| request.cut).max();
            let (index, cut) = (results.len(), cut.unwrap_or(0));
            let result = ItemResult::new(task, index, item, cut, choices.collect());
            results.push(result);
        }
    }
    Ok(TaskResult::new(task, data.files.clone(), shots, results))
}

fn batch(settings: &TaskSettings) -> BatchLimit {
    match settings.batch {
        Some(prompts) => BatchLimit::Windows(prompts),
        None => BatchLimit::Tokens(BATCH_TOKENS),
    }
}

/// Draws the examples before a question.
fn examples(data: &TaskData, item: &Item, shots: usize, random: &mut PythonRandom) -> String {
    if shots == 0 {
        return String::new();
    }
    let spare = usize::from(data.task.draws_spare_example());
    let drawn = random.sample(data.examples.len(), shots + spare);
    let examples = drawn.into_iter().map(|place| &data.examples[place]);
    examples
        .filter(|example| spare == 0 || !example.is_same_question(item))
        .take(shots)
        .map(|example| example.example(data.task))
        .collect()
}

/// Encodes the choices of an item.
fn encoded(
    encoder: &mut PairEncoder<'_>,
    item: &Item,
    examples: &str,
) -> Result<Vec<Request>, Error> {
    let choices = item.choices.iter();
    choices
        .map(|choice| {
            let context = format!("{examples}{}", choice.context);
            encoder
                .encode(&context, &choice.continuation)
                .map_err(|error| {
                    let message = match error {
                        Error::Experiment { message, .. } => message,
                        error => format!("the model's tokenizer cannot encode it: {error}"),
                    };
                    Error::Experiment {
                        origin: item.place.clone(),
                        message: printable(&message),
                    }
                })
        })
        .collect()
}

/// Returns the requests as the segments of a text.
fn text<'r>(task: Task, requests: impl Iterator<Item = &'r Request>) -> Text {
    let segment = |request: &Request| Segment {
        ids: request.ids.clone(),
        documents: vec![Document {
            number: 0,
            targets: request.first..request.ids.len(),
            size: TextSize::default(),
            skipped_bytes: 0,
        }],
    };
    Text {
        name: task.name().into(),
        segments: requests.map(segment).collect(),
        not_scored: 0,
    }
}
