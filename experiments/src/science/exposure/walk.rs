//! Walks through texts token by token, and what the model and the oracle say on the way.

use std::sync::atomic::AtomicBool;

use super::divergence::{divergence, log_softmax, smoothed_divergence};
use super::predictor::{Oracle, Predictor};
use crate::Error;
use crate::science::check;

/// Weights of the uniform distribution with which an oracle is smoothed.
pub(super) type Weights = [f64; 2];

/// Chooses the next token of a text, given the number of the text, its tokens, and the logits after them.
pub(super) type Choose<'c> = dyn FnMut(usize, &[u32], &[f32]) -> Result<u32, Error> + 'c;

/// A text and its steps. Step t draws a token after the context of the prompt and t tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trace {
    /// Tokens, those of the prompt included.
    pub(super) tokens: Vec<u32>,
    /// Number of tokens of the prompt.
    pub(super) prompt: usize,
    /// KL(o‖p) of each step in nats; NaN where the context is impossible.
    pub(super) exact: Vec<f64>,
    /// KL from the oracle smoothed with each of the weights, of each step in nats.
    pub(super) smoothed: [Vec<f64>; 2],
    /// Token that the model ranks first at each step.
    pub(super) best: Vec<u32>,
    /// Steps whose context is possible and whose token is not.
    pub(super) leaves: Vec<usize>,
}

impl Trace {
    fn new(prompt: &[u32]) -> Self {
        Self {
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            exact: Vec::new(),
            smoothed: [Vec::new(), Vec::new()],
            best: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// Returns the tokens after the prompt.
    pub(super) fn continuation(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }
}

/// Settings of a walk.
pub(super) struct Walk<'w> {
    /// Largest number of steps.
    pub(super) length: usize,
    /// Token that ends a text; `None` if texts have no end.
    pub(super) end: Option<u32>,
    pub(super) weights: Weights,
    /// Number of texts that are read at once.
    pub(super) batch: usize,
    pub(super) interrupt: &'w AtomicBool,
}

impl Walk<'_> {
    /// Continues every prompt. `progress` is called with the number of tokens after each step.
    ///
    /// # Errors
    ///
    /// Returns an error if a model fails, or the walk is interrupted.
    pub(super) fn run(
        &self,
        predictor: &mut dyn Predictor,
        oracle: &mut dyn Oracle,
        prompts: &[&[u32]],
        choose: &mut Choose<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Trace>, Error> {
        let mut traces = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(self.batch.max(1)) {
            predictor.begin();
            oracle.begin();
            let first = traces.len();
            let mut choose =
                |row: usize, tokens: &[u32], logits: &[f32]| choose(first + row, tokens, logits);
            traces.extend(self.batch(predictor, oracle, prompts, &mut choose, progress)?);
        }
        Ok(traces)
    }

    fn batch(
        &self,
        predictor: &mut dyn Predictor,
        oracle: &mut dyn Oracle,
        prompts: &[&[u32]],
        choose: &mut Choose<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Trace>, Error> {
        let mut traces: Vec<Trace> = prompts.iter().map(|prompt| Trace::new(prompt)).collect();
        let mut texts: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        let mut running = vec![true; texts.len()];
        for step in 0..self.length {
            if !running.contains(&true) {
                break;
            }
            check(self.interrupt)?;
            let remaining = self.length - step;
            let logits = predictor.next_logits(&texts, &running, remaining)?;
            let distributions = oracle.next(&texts, &running, remaining)?;
            let mut drawn = 0;
            for (row, (logits, distribution)) in logits.iter().zip(distributions).enumerate() {
                if !running[row] {
                    continue;
                }
                let trace = &mut traces[row];
                self.measure(trace, logits, distribution.as_deref());
                let token = choose(row, &texts[row], logits)?;
                let is_possible = |o: Vec<f64>| o.get(token as usize).is_some_and(|o| *o > 0.0);
                if distribution.is_some_and(|o| !is_possible(o)) {
                    trace.leaves.push(step);
                }
                texts[row].push(token);
                running[row] = Some(token) != self.end;
                drawn += 1;
            }
            progress(drawn);
        }
        for (trace, text) in traces.iter_mut().zip(texts) {
            trace.tokens = text;
        }
        Ok(traces)
    }

    fn measure(&self, trace: &mut Trace, logits: &[f32], oracle: Option<&[f64]>) {
        let log_p = log_softmax(logits);
        let exact = oracle.map_or(f64::NAN, |oracle| divergence(oracle, &log_p));
        trace.exact.push(exact);
        for (smoothed, weight) in trace.smoothed.iter_mut().zip(self.weights) {
            smoothed.push(smoothed_divergence(oracle, weight, &log_p));
        }
        let best = (0..logits.len()).rev();
        let best = best.max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        trace.best.push(best.unwrap_or(0) as u32);
    }
}
