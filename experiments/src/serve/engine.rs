//! The thread that computes. Requests that wait are computed together: prompts of one length in a batch, and continuations
//! side by side, which others join while they grow.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use foretoken_datasets::Tokenizer;
use foretoken_model::{BatchReader, Sampler, Transformer};

use super::event::Event;
use super::job::{Job, NOTICED_AFTER};
use super::probabilities::{ScoredPrompt, padded, score};
use super::row::Row;
use crate::backend::panics::caught;
use crate::text::generation::{Ending, GrowingText};

/// Number of tokens of prompts that are computed at once.
const BATCH_TOKENS: usize = 4096;

/// Number of tokens after which waiting texts may join those that grow, whose prompts are then read again.
const JOIN_EVERY: usize = 16;

/// A prompt that waits to be scored.
struct Waiting {
    job: Arc<Job>,
    prompt: usize,
}

/// Texts that are read together.
struct Group<'m, 't> {
    rows: Vec<Row<'t>>,
    reader: BatchReader<'m>,
    steps: usize,
}

/// Computes the answers to requests.
pub(super) struct Engine<'m> {
    model: &'m Transformer,
    tokenizer: &'m Tokenizer,
    end_of_text: Vec<u32>,
    /// Maximum number of texts that grow side by side.
    batch: usize,
    to_score: VecDeque<Waiting>,
    to_grow: VecDeque<Row<'m>>,
    group: Option<Group<'m, 'm>>,
}

impl<'m> Engine<'m> {
    pub(super) fn new(
        model: &'m Transformer,
        tokenizer: &'m Tokenizer,
        end_of_text: Vec<u32>,
        batch: usize,
    ) -> Self {
        Self {
            model,
            tokenizer,
            end_of_text,
            batch,
            to_score: VecDeque::new(),
            to_grow: VecDeque::new(),
            group: None,
        }
    }

    /// Answers requests until the server `stops`.
    pub(super) fn run(&mut self, jobs: &Receiver<Arc<Job>>, stops: &AtomicBool) {
        while !stops.load(Ordering::Relaxed) {
            if self.is_idle() {
                match jobs.recv_timeout(NOTICED_AFTER) {
                    Ok(job) => self.accept(job),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            while let Ok(job) = jobs.try_recv() {
                self.accept(job);
            }
            self.score_batch();
            // Between any two steps a client may have left.
            self.forget_cancelled();
            self.join();
            self.step();
            self.forget_cancelled();
        }
    }

    /// Forgets the work for clients that have left.
    fn forget_cancelled(&mut self) {
        self.to_score.retain(|waiting| !waiting.job.is_cancelled());
        self.to_grow.retain(|row| !row.job.is_cancelled());
        if let Some(group) = &mut self.group {
            for row in &mut group.rows {
                if row.job.is_cancelled() {
                    row.is_running = false;
                    drop(row.job.take_reservation());
                }
            }
            if group.running() == 0 {
                self.group = None;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.to_score.is_empty() && self.to_grow.is_empty() && self.group.is_none()
    }

    /// Queues the parts of a request.
    fn accept(&mut self, job: Arc<Job>) {
        if job.is_cancelled() {
            return;
        }
        for prompt in 0..job.completion.prompts.len() {
            let job = job.clone();
            match job.completion.scores_prompts() {
                true => self.to_score.push_back(Waiting { job, prompt }),
                false => self.begin(&job, prompt, None),
            }
        }
    }

    /// Begins the choices of a prompt, with the logits of the first token if they are known.
    fn begin(&mut self, job: &Arc<Job>, prompt: usize, first: Option<&[f32]>) {
        let completion = &job.completion;
        let seed = completion.seed.unwrap_or_else(random_seed);
        for sample in 0..completion.n {
            let choice = prompt * completion.n + sample;
            let ids = completion.prompts[prompt].ids.clone();
            let known: Vec<u32> = self.known(&ids);
            let text = GrowingText::new(self.tokenizer, &known, completion.stop.clone());
            let sampler = Sampler::nth(completion.sampling.clone(), seed, sample);
            let (text, sampler) = match (text, sampler) {
                (Ok(text), Ok(sampler)) => (text, sampler),
                (Err(error), _) => return job.fail(&error.to_string()),
                (_, Err(error)) => return job.fail(&error.to_string()),
            };
            let mut row = Row {
                job: job.clone(),
                choice,
                sampler,
                ids,
                text,
                left: completion.max_tokens,
                is_running: true,
            };
            if row.left == 0 {
                row.end(Ending::Length);
            } else if let Some(logits) = first {
                row.draw(logits, &self.end_of_text);
            }
            if row.is_running {
                self.to_grow.push_back(row);
            }
        }
    }

    /// Returns ids without those that the tokenizer does not have, because the model has more.
    fn known(&self, ids: &[u32]) -> Vec<u32> {
        let known = self.tokenizer.vocab_size();
        let ids = ids.iter().copied();
        ids.filter(|id| (*id as usize) < known).collect()
    }

    /// Computes a batch of prompts as long as the one that waits longest.
    fn score_batch(&mut self) {
        let context = self.model.config().context;
        let length = |waiting: &Waiting| padded(waiting.ids().len(), context);
        let Some(first) = self.to_score.front() else {
            return;
        };
        let (length_of_first, job) = (length(first), first.job.clone());
        let most = (BATCH_TOKENS / length_of_first).max(1);
        let (mut batch, mut others, mut of_job) = (Vec::new(), VecDeque::new(), Vec::new());
        for waiting in self.to_score.drain(..) {
            if batch.len() < most && length(&waiting) == length_of_first {
                batch.push(waiting);
            } else if Arc::ptr_eq(&waiting.job, &job) {
                // Requests take turns, so that one of many prompts does not hold up the others.
                of_job.push(waiting);
            } else {
                others.push_back(waiting);
            }
        }
        others.extend(of_job);
        self.to_score = others;
        let prompts: Vec<(&[u32], usize)> = batch
            .iter()
            .map(|waiting| {
                let alternatives = waiting.job.completion.logprobs.unwrap_or(0);
                (waiting.ids(), alternatives)
            })
            .collect();
        match caught(|| score(self.model, &prompts)) {
            Ok(scored) => {
                for (waiting, scored) in batch.iter().zip(scored) {
                    let ScoredPrompt { tokens, next } = scored;
                    waiting.job.send(Event::Prompt(waiting.prompt, tokens));
                    self.begin(&waiting.job, waiting.prompt, Some(&next));
                }
            }
            Err(reason) => batch.iter().for_each(|waiting| waiting.job.fail(&reason)),
        }
    }

    /// Lets waiting texts join those that grow. One request has at most half of the places, so that one of many long texts
    /// does not hold up the others.
    fn join(&mut self) {
        let is_time = |group: &Group<'_, '_>| group.steps.is_multiple_of(JOIN_EVERY);
        if self.to_grow.is_empty() || !self.group.as_ref().is_none_or(is_time) {
            return;
        }
        let most = (self.batch / 2).max(1);
        let grown = self.group.iter().flat_map(|group| &group.rows);
        let mut jobs: Vec<Arc<Job>> = grown
            .filter(|row| row.is_running)
            .map(|row| row.job.clone())
            .collect();
        let (mut joining, mut waiting) = (Vec::new(), VecDeque::new());
        for row in self.to_grow.drain(..) {
            let of_job = jobs.iter().filter(|job| Arc::ptr_eq(job, &row.job));
            if jobs.len() < self.batch && of_job.count() < most {
                jobs.push(row.job.clone());
                joining.push(row);
            } else {
                waiting.push_back(row);
            }
        }
        self.to_grow = waiting;
        if joining.is_empty() {
            return;
        }
        let grown = self.group.take().map_or(Vec::new(), |group| group.rows);
        let mut rows: Vec<Row<'m>> = grown.into_iter().filter(|row| row.is_running).collect();
        rows.extend(joining);
        self.group = Some(Group {
            rows,
            reader: BatchReader::new(self.model),
            steps: 0,
        });
    }

    /// Draws a token of each text that grows.
    fn step(&mut self) {
        let Some(group) = &mut self.group else {
            return;
        };
        let texts: Vec<Vec<u32>> = group.rows.iter().map(|row| row.ids.clone()).collect();
        let running: Vec<bool> = group.rows.iter().map(|row| row.is_running).collect();
        let most = group.rows.iter().map(|row| row.left).max().unwrap_or(0);
        let reader = &mut group.reader;
        match caught(|| reader.next_logits(&texts, &running, most.max(1))) {
            Ok(logits) => {
                let rows = group.rows.iter_mut().zip(&logits);
                for (row, logits) in rows.filter(|(row, _)| row.is_running) {
                    row.draw(logits, &self.end_of_text);
                }
            }
            Err(reason) => {
                for row in &mut group.rows {
                    row.job.fail(&reason);
                    row.is_running = false;
                }
            }
        }
        group.steps += 1;
        if group.running() == 0 {
            self.group = None;
        }
    }
}

impl Waiting {
    fn ids(&self) -> &[u32] {
        &self.job.completion.prompts[self.prompt].ids
    }
}

impl Group<'_, '_> {
    fn running(&self) -> usize {
        self.rows.iter().filter(|row| row.is_running).count()
    }
}

/// Returns another seed each time.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0)
}
