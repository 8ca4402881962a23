#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use foretoken_datasets::Monitor;

use super::*;
use crate::engine::observers::Observers;
use crate::engine::setup::Start;

fn session(overrides: &[&str]) -> Session {
    let small = [
        "data.world.train_bytes=20000",
        "data.world.valid_bytes=2000",
        "model.layers=1",
        "model.width=16",
        "model.heads=2",
        "model.context=16",
        "train.batch=2",
        "train.accumulation=2",
        "train.steps=6",
        "train.eval_every=3",
        "train.eval_windows=4",
        "optimizer.warmup=2",
    ];
    let overrides: Vec<String> = small
        .iter()
        .chain(overrides)
        .map(|text| (*text).to_owned())
        .collect();
    let experiment = Experiment::embedded(&overrides).unwrap();
    let monitor = Monitor {
        report: &|_| {},
        interrupt: &AtomicBool::new(false),
        bars: false,
    };
    let data = Data::load(&experiment.data, monitor).unwrap();
    let setup = Setup::new(experiment, data, Start::Seed).unwrap();
    let options = SessionOptions::of(&setup.experiment);
    Session::new(&setup, options).unwrap()
}

/// Observer that writes a line for each event, with the bits of its loss.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Events {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        let step = session.state().step;
        let line = match event {
            Event::Stepped(stepped) => {
                assert_eq!(stepped.step + 1, step);
                let loss = stepped.figures.totals.loss().to_bits();
                format!("step {step} {loss:x}")
            }
            Event::Evaluated(evaluated) => {
                format!("loss {step} {:x}", evaluated.totals.loss().to_bits())
            }
            Event::Saved => format!("saved {step}"),
            _ => return Ok(()),
        };
        self.0.lock().unwrap().push(line);
        Ok(())
    }
}

fn run(session: &mut Session, until: usize) -> (Ending, Vec<String>) {
    let mut events = Events::default();
    let ending = session.run_until(until, &mut events, &|| false).unwrap();
    (ending, events.lines())
}

/// Returns the first two words of every line.
fn kinds(lines: &[String]) -> Vec<&str> {
    let kind = |line: &String| line.match_indices(' ').nth(1).map(|(at, _)| at);
    lines
        .iter()
        .map(|line| &line[..kind(line).unwrap_or(line.len())])
        .collect()
}

#[test]
fn run_evaluates_and_saves_at_every_interval_and_at_the_end() {
    let (ending, lines) = run(&mut session(&["train.steps=5"]), usize::MAX);
    assert_eq!(ending, Ending::Complete);
    let expected = [
        "step 1", "step 2", "step 3", "loss 3", "saved 3", "step 4", "step 5", "loss 5", "saved 5",
    ];
    assert_eq!(kinds(&lines), expected);
}

#[test]
fn run_in_pieces_and_by_hand_has_the_same_bits() {
    let (_, whole) = run(&mut session(&[]), 6);
    let mut pieces = session(&[]);
    let mut lines = Vec::new();
    for until in [2, 3, 3, 100] {
        lines.extend(run(&mut pieces, until).1);
    }
    assert_eq!(lines, whole);

    let mut by_hand = session(&[]);
    let steps: Vec<String> = (1..=6)
        .map(|step| {
            // Gradients do not advance the windows to the next step.
            by_hand.gradients().unwrap();
            let loss = by_hand.step().unwrap().figures.totals.loss().to_bits();
            format!("step {step} {loss:x}")
        })
        .collect();
    let is_step = |line: &&String| line.starts_with("step");
    assert!(whole.iter().filter(is_step).eq(&steps));
}

#[test]
fn saved_session_continues_to_the_same_bits() {
    let mut first = session(&[]);
    run(&mut first, 4);
    let directory = tempfile::tempdir().unwrap();
    first.save(directory.path()).unwrap();
    let (state, records) = (first.state().clone(), first.to_records().unwrap());
    let (_, expected) = run(&mut first, 6);

    let mut loaded = session(&[]);
    loaded.load(directory.path(), state).unwrap();
    assert_eq!(run(&mut loaded, 6).1, expected);
    let mut restored = session(&[]);
    restored.load_records(records, 4).unwrap();
    assert_eq!(run(&mut restored, 6).1, expected);
}

#[test]
fn stop_saves_what_was_done() {
    for stopped_at in 0..12 {
        let mut session = session(&[]);
        let mut events = Events::default();
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > stopped_at
        };
        let ending = session.run_until(6, &mut events, &stop).unwrap();
        if ending == Ending::Complete {
            continue;
        }
        assert_eq!(ending, Ending::Interrupted);
        let saved = format!("saved {}", session.state().step);
        assert_eq!(events.lines().last(), Some(&saved));
        // The run can continue after a stop in a step and in an evaluation.
        let mut observed = Events::default();
        session.run_until(6, &mut observed, &|| false).unwrap();
        let whole = run(&mut self::session(&[]), 6).1;
        let rest = observed.lines();
        assert_eq!(whole[whole.len() - rest.len()..], rest);
    }
}

#[test]
fn kept_steps_are_saved_beside_intervals() {
    let saved = |keep: &str| {
        let (_, lines) = run(&mut session(&[keep]), 6);
        let saved = lines.into_iter().filter(|line| line.starts_with("saved"));
        saved.collect::<Vec<_>>()
    };
    assert_eq!(saved("train.keep=[]"), ["saved 3", "saved 6"]);
    assert_eq!(
        saved("train.keep=[1, 3]"),
        ["saved 1", "saved 3", "saved 6"]
    );
    assert_eq!(
        saved("train.keep=2"),
        ["saved 2", "saved 3", "saved 4", "saved 6"]
    );
}

#[test]
fn observer_with_a_period_receives_some_steps_and_everything_else() {
    let events = Events::default();
    let mut observers = Observers::new().every(2, events.clone());
    session(&[])
        .run_until(6, &mut observers, &|| false)
        .unwrap();
    let lines = events.lines();
    let expected = [
        "step 2", "loss 3", "saved 3", "step 4", "step 6", "loss 6", "saved 6",
    ];
    assert_eq!(kinds(&lines), expected);
}

#[test]
fn run_stops_when_the_validation_loss_stops_improving() {
    // The weights do not change, so no later evaluation is better than the first.
    let mut stalled = session(&[
        "optimizer.learning_rate=0.0",
        "optimizer.min_learning_rate=0.0",
        "train.steps=12",
        "train.early_stop=2",
    ]);
    assert_eq!(run(&mut stalled, 12).0, Ending::EarlyStop);
    assert_eq!(stalled.state().step, 9);
}
