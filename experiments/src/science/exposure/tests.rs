//! Studies of tables, whose errors are known: chains of two states with a wrong model.

mod ends;

use std::sync::atomic::AtomicBool;

use foretoken_datasets::Tokenizer;
use foretoken_datasets::world::{TokenOracle, World, WorldConfig};

use super::predictor::{Exact, ModelOracle, Oracle, Predictor};
use super::record::DataRecord;
use super::sequences::{Sequences, Shape};
use super::strategy::Strategy;
use super::study::{Results, Settings, measure};
use crate::Error;
use crate::science::random::Random;

/// A text of the tokens 0 and 1: the probabilities of the next of N tokens after each. A third token ends it.
#[derive(Clone, Copy)]
struct Table<const N: usize>([[f64; N]; 2]);

/// A text without ends.
type Chain = Table<2>;

/// Token that ends a text, if the table has it.
const END: u32 = 2;

impl<const N: usize> Table<N> {
    /// Returns the probabilities after the last token of each text. What follows the end is not asked for.
    fn rows<'t>(&'t self, texts: &'t [Vec<u32>]) -> impl Iterator<Item = [f64; N]> + 't {
        let last = texts.iter().map(|text| text[text.len() - 1].min(1));
        last.map(|token| self.0[token as usize])
    }

    /// Draws texts of at most `steps` steps after token 0.
    fn texts(&self, count: usize, steps: usize, seed: u64) -> Sequences {
        let mut random = Random::stream(seed, 0);
        let mut text = || {
            let mut text = vec![0u32];
            while text.len() <= steps && text[text.len() - 1] != END {
                let row = self.0[text[text.len() - 1] as usize];
                let (place, mut below) = (random.uniform(), 0.0);
                let passed = row[..N - 1].iter().filter(|p| {
                    below += **p;
                    place >= below
                });
                text.push(passed.count() as u32);
            }
            text
        };
        Sequences {
            rows: (0..count).map(|_| text()).collect(),
            prompt: 1,
            end: (N > 2).then_some(END),
            // No text without ends has it: the whole text is one document.
            border: Some(END),
            origin: "a table".into(),
        }
    }
}

impl<const N: usize> Predictor for Table<N> {
    fn begin(&mut self) {}

    fn next_logits(
        &mut self,
        texts: &[Vec<u32>],
        _running: &[bool],
        _remaining: usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let logits = |row: [f64; N]| row.map(|p| p.ln() as f32).to_vec();
        Ok(self.rows(texts).map(logits).collect())
    }
}

impl<const N: usize> Oracle for Table<N> {
    fn begin(&mut self) {}

    fn next(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        _remaining: usize,
    ) -> Result<Vec<Option<Vec<f64>>>, Error> {
        let rows = self.rows(texts).zip(running);
        Ok(rows
            .map(|(row, running)| running.then(|| row.to_vec()))
            .collect())
    }
}

impl Chain {
    /// Returns KL to a model after each token.
    fn divergences(&self, model: &Self) -> [f64; 2] {
        [0, 1].map(|token| {
            let pairs = self.0[token].into_iter().zip(model.0[token]);
            pairs.map(|(o, p)| o * (o / p).ln()).sum()
        })
    }

    /// Returns the mean of a function of the context over the first steps after token 0.
    fn mean(&self, of: [f64; 2], steps: usize) -> f64 {
        let (mut state, mut sum) = ([1.0, 0.0], 0.0);
        for _ in 0..steps {
            sum += state[0] * of[0] + state[1] * of[1];
            let to = |token: usize| state[0] * self.0[0][token] + state[1] * self.0[1][token];
            state = [to(0), to(1)];
        }
        sum / steps as f64
    }
}

fn settings(strategies: &str, seed: u64) -> Settings {
    Settings {
        strategies: strategies
            .split(',')
            .map(|name| name.parse().unwrap())
            .collect(),
        smoothing: [1e-2, 1e-4],
        batch: 50,
        draws: 200,
        seed,
    }
}

fn study(oracle: Chain, mut model: Chain, sequences: &Sequences, settings: &Settings) -> Results {
    let (mut judge, interrupt) = (oracle, AtomicBool::new(false));
    measure(
        &mut model,
        &mut judge,
        true,
        sequences,
        settings,
        &interrupt,
        &mut |_| {},
    )
    .unwrap()
}

fn last_per_step(data: &DataRecord) -> f64 {
    data.per_step.last().unwrap().unwrap().value
}

const ORACLE: Chain = Table([[0.9, 0.1], [0.3, 0.7]]);

/// It goes to state 1 too often, and is wrong there.
const WRONG: Chain = Table([[0.8, 0.2], [0.05, 0.95]]);

const LENGTH: usize = 24;

#[test]
fn a_wrong_chain_has_the_errors_of_theory() {
    let sequences = ORACLE.texts(3000, LENGTH, 1);
    let results = study(
        ORACLE,
        WRONG,
        &sequences,
        &settings("temperature=1,greedy", 2),
    );
    let errors = ORACLE.divergences(&WRONG);
    let (on_data, on_own) = (ORACLE.mean(errors, LENGTH), WRONG.mean(errors, LENGTH));
    assert!(on_own > 1.3 * on_data, "the example has an excess");

    let per_step = results.on_data.per_step.last().unwrap().unwrap();
    assert!((per_step.value - on_data).abs() < 4.0 * per_step.standard_error.unwrap());
    let found = results.strategies[0].accumulated.last().unwrap();
    for (estimate, exact) in [
        (found.total, LENGTH as f64 * on_own),
        (found.ratio, LENGTH as f64 * on_own / on_data),
        (found.excess, 100.0 * (on_own / on_data - 1.0)),
    ] {
        let estimate = estimate.unwrap();
        let error = (estimate.value - exact).abs();
        assert!(
            error < 4.0 * estimate.standard_error.unwrap(),
            "{estimate:?} {exact}"
        );
        assert!(
            estimate.standard_error.unwrap() < 0.1 * exact,
            "{estimate:?}"
        );
    }
    // Greedily the chain stays at token 0.
    let greedy = results.strategies[1].accumulated.last().unwrap();
    assert!((greedy.total.unwrap().value - LENGTH as f64 * errors[0]).abs() < 1e-5);
    // The step is the context: errors by step are those of the chain's states.
    let second = WRONG.0[0][0] * errors[0] + WRONG.0[0][1] * errors[1];
    assert!((results.strategies[0].by_step[1] / second - 1.0).abs() < 0.1);
    // Nothing is impossible.
    let support = results.strategies[0].support.as_ref().unwrap();
    assert_eq!(
        (support.per_thousand.unwrap().value, &support.recovery),
        (0.0, &None)
    );
}

/// The states of this model have the probabilities of the oracle's, 3 to 1 from the second step on, and its errors are not
/// those of the oracle: there is an error and no excess.
#[test]
fn errors_that_do_not_change_the_contexts_do_not_accumulate() {
    let oracle = Table([[0.75, 0.25], [0.75, 0.25]]);
    let model = Table([[0.75, 0.25], [0.6, 0.4]]);
    let exact = 100.0
        * (model.mean(oracle.divergences(&model), 2) / oracle.mean(oracle.divergences(&model), 2)
            - 1.0);
    assert!(
        exact.abs() < 1e-9,
        "contexts of two steps have one distribution"
    );
    let results = study(
        oracle,
        model,
        &oracle.texts(2000, 2, 3),
        &settings("temperature=1", 4),
    );
    let excess = results.strategies[0]
        .accumulated
        .last()
        .unwrap()
        .excess
        .unwrap();
    assert_eq!(excess.contains(0.0), Some(true), "{excess:?}");
    assert!(last_per_step(&results.on_data) > 1e-3);
}

#[test]
fn a_model_that_equals_the_oracle_has_no_error_and_no_excess() {
    let results = study(
        ORACLE,
        ORACLE,
        &ORACLE.texts(200, LENGTH, 5),
        &settings("temperature=1", 6),
    );
    assert!(last_per_step(&results.on_data).abs() < 1e-6);
    let found = results.strategies[0].accumulated.last().unwrap();
    assert!(found.total.unwrap().value.abs() < 1e-5);
    assert_eq!(found.excess, None, "a ratio of roundings is no result");
    // Smoothing alone makes an error, which is the same on all contexts up to chance.
    let smoothed = &results.strategies[0].smoothed.as_ref().unwrap()[0];
    let excess = smoothed.accumulated.last().unwrap().excess.unwrap();
    assert_eq!(excess.contains(0.0), Some(true), "{excess:?}");
}

/// Intervals of the excess cover the exact value in 91 to 98 % of 150 studies of 200 sequences, whose share has a standard
/// deviation of 1.8 %.
#[test]
fn intervals_of_the_excess_cover_the_truth() {
    let errors = ORACLE.divergences(&WRONG);
    let exact = 100.0 * (WRONG.mean(errors, 12) / ORACLE.mean(errors, 12) - 1.0);
    let mut covered = 0;
    for seed in 0..150 {
        let sequences = ORACLE.texts(200, 12, 1000 + seed);
        let results = study(ORACLE, WRONG, &sequences, &settings("temperature=1", seed));
        let excess = results.strategies[0]
            .accumulated
            .last()
            .unwrap()
            .excess
            .unwrap();
        covered += usize::from(excess.contains(exact) == Some(true));
    }
    let share = f64::from(covered as u32) / 150.0;
    assert!((0.91..=0.98).contains(&share), "{share}");
}

#[test]
fn the_result_depends_on_the_seed_and_not_on_the_batch() {
    let sequences = ORACLE.texts(60, LENGTH, 7);
    let run = |batch, seed| {
        let settings = Settings {
            batch,
            ..settings("temperature=1,top-p=0.9", seed)
        };
        let results = study(ORACLE, WRONG, &sequences, &settings);
        (results.on_data, results.strategies)
    };
    assert_eq!(run(7, 1), run(60, 1));
    assert_ne!(run(60, 2).1, run(60, 1).1);
    assert_eq!(run(60, 2).0.by_step, run(60, 1).0.by_step);
}

#[test]
fn a_model_can_stand_for_the_oracle() {
    let sequences = ORACLE.texts(300, LENGTH, 8);
    let (settings, interrupt) = (settings("temperature=1", 9), AtomicBool::new(false));
    let exact = study(ORACLE, WRONG, &sequences, &settings);
    let (mut model, mut judge) = (WRONG, ModelOracle(ORACLE));
    let by_model = measure(
        &mut model,
        &mut judge,
        false,
        &sequences,
        &settings,
        &interrupt,
        &mut |_| {},
    )
    .unwrap();
    let excess = |results: &Results| {
        results.strategies[0]
            .accumulated
            .last()
            .unwrap()
            .excess
            .unwrap()
    };
    assert!((excess(&exact).value - excess(&by_model).value).abs() < 1e-3);
    assert_eq!(by_model.strategies[0].support, None);
}

/// A predictor of a world's text that knows nothing: it leaves the support at once, and the oracle knows the text again
/// after the end of a document.
struct Uniform(usize);

impl Predictor for Uniform {
    fn begin(&mut self) {}

    fn next_logits(
        &mut self,
        texts: &[Vec<u32>],
        _running: &[bool],
        _remaining: usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        Ok(vec![vec![0.0; self.0]; texts.len()])
    }
}

#[test]
fn random_text_leaves_the_support_of_a_world_and_comes_back_with_a_document() {
    let world = World::new(&WorldConfig::default()).unwrap();
    let tokenizer = Tokenizer::char(
        &world
            .text(
                foretoken_datasets::world::Stream::Train,
                foretoken_datasets::world::Size::Bytes(20_000),
            )
            .text,
    );
    let shape = Shape {
        sequences: 40,
        prompt: 5,
        length: 60,
    };
    let sequences = Sequences::of_world(&world, &tokenizer, false, shape).unwrap();
    let mut judge = Exact::new(TokenOracle::new(&world, &tokenizer).unwrap());
    let (settings, interrupt) = (settings("temperature=1", 0), AtomicBool::new(false));
    let mut model = Uniform(tokenizer.vocab_size());
    let results = measure(
        &mut model,
        &mut judge,
        true,
        &sequences,
        &settings,
        &interrupt,
        &mut |_| {},
    )
    .unwrap();
    // The errors of a uniform model are ln V less the entropy of the next token.
    let per_step = last_per_step(&results.on_data);
    let largest = (tokenizer.vocab_size() as f64).ln();
    let entropy = largest - per_step;
    assert!((0.05..0.6).contains(&entropy), "{entropy} nats a character");
    let Strategy { name, .. } = &results.strategies[0].strategy;
    assert_eq!(name, "temperature=1");
    let support = results.strategies[0].support.as_ref().unwrap();
    assert!(support.left.last().unwrap().unwrap().value > 0.95);
    let recovery = support.recovery.as_ref().unwrap();
    // A newline comes after V tokens on average, so some return and most do not within 60.
    assert!(
        recovery.returns > 0 && recovery.returns < recovery.leaves,
        "{recovery:?}"
    );
    // After an impossible prefix the smoothed oracle is uniform, as is the model, so that smoothing hides the errors.
    let smoothed = &results.strategies[0].smoothed.as_ref().unwrap()[0];
    assert!(smoothed.accumulated.last().unwrap().excess.unwrap().value < -50.0);
}
