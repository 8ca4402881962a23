//! The reference of an experiment, and backends examined against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::data::dataloader::DataLoader;
use foretoken_datasets::Monitor;

use super::findings::{Bisection, Culprit, Direction, Row, Shapes, Worst};
use super::judge::{DRAWS, Measured, Of, Quantity, quantities, value};
use super::numbers::{Mover, distance, held_in, rounded};
use super::pass::{CapturedPass, HostBatch, Party, capture};
use super::replay::{Problem, Recomputed, replay};
use super::update::{TERMS, updated};
use super::wiring::source;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::parameters::{self, Parameters};
use crate::engine::perturbation::Perturbation;
use crate::engine::setup::Setup;
use crate::record::start;
use crate::{Error, Experiment};

/// The backend of the reference: the first that is compiled in and computes in f64.
fn reference_backend() -> Result<Backend, Error> {
    let mut all = Backend::ALL.into_iter().filter(|b| b.compiled_in());
    let found = all.find(|backend| backend.device_for(Precision::F64).is_ok());
    found.ok_or_else(|| Error::Experiment {
        origin: "bisect".into(),
        message: "no backend of this build computes in f64, which the reference needs; \
                  build with the feature flex"
            .into(),
    })
}

/// The reference of one experiment in one precision, to examine backends against.
#[doc(hidden)]
pub struct Bisector {
    pub(super) setup: Setup,
    pub(super) reference: Party,
    pub(super) backend: Backend,
    pass: CapturedPass,
    pub(super) problem: Problem,
    /// In the order of computation.
    pub(super) quantities: Vec<Quantity>,
    /// The gradients that optimizers are given.
    pub(super) gradients: Parameters,
    pub(super) stop: Arc<AtomicBool>,
}

/// What one backend makes of it.
#[doc(hidden)]
pub struct Examined {
    name: String,
    pub(super) backend: Backend,
    pub(super) party: Party,
    /// For each quantity.
    pub(super) measured: Vec<Measured>,
    carried: Vec<f64>,
    /// The worst element's value.
    worst: Vec<f64>,
}

impl Bisector {
    /// The reference for an experiment.
    ///
    /// # Errors
    ///
    /// As [`bisect`].
    pub fn new(experiment: Experiment, dtype: Precision) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let monitor = Monitor {
            report: &|_| {},
            interrupt: &AtomicBool::new(false),
            bars: false,
        };
        Self::with(experiment, dtype, stop, monitor, &|_| {})
    }

    pub(super) fn with(
        experiment: Experiment,
        precision: Precision,
        stop: Arc<AtomicBool>,
        monitor: Monitor<'_>,
        progress: &dyn Fn(usize),
    ) -> Result<Self, Error> {
        let mut setup = start::prepare(experiment, None, monitor)?;
        setup.model.dropout = 0.0;
        let backend = reference_backend()?;
        let device = backend.device_for(Precision::F64)?;
        let seed = setup.experiment.train.seed;
        let batch = setup.train_loader(seed, &device)?.iter().next();
        let batch = batch.ok_or_else(|| Error::Training("there is no batch".into()))?;
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        let batch = HostBatch::read(batch)?;

        progress(0);
        let fair = Perturbation::default;
        let reference = Party::new(&setup, backend, precision, Precision::F64, fair())?;
        let pass = capture(&reference, &batch, &stop)?;
        let mut problem = Problem::new(&pass, batch, precision);
        progress(1);
        let recomputed = replay(&reference, &problem, None, &stop)?;
        for (given, recomputed) in problem.operations.iter_mut().zip(&recomputed) {
            let gradients = recomputed.input_gradients.iter();
            given.input_gradients = gradients.map(|g| rounded(g, precision)).collect();
        }
        let gradients = pass.parameters.iter();
        let gradients: Parameters = gradients
            .map(|(path, values)| (path.clone(), rounded(values, precision)))
            .collect();
        let mut bisector = Self {
            quantities: Vec::new(),
            setup,
            reference,
            backend,
            pass,
            problem,
            gradients,
            stop,
        };
        bisector.quantities = bisector.all_quantities(&recomputed)?;
        for draw in 0..DRAWS {
            progress(2 + draw as usize);
            bisector.draw(draw)?;
        }
        bisector.quantities.iter_mut().for_each(Quantity::finish);
        Ok(bisector)
    }

    /// In the order of computation: forward, backward, updates.
    fn all_quantities(&self, recomputed: &[Recomputed]) -> Result<Vec<Quantity>, Error> {
        let shapes: BTreeMap<String, Vec<usize>> = self.setup.model.tensors().into_iter().collect();
        let shape_of = |path: &str| shapes.get(path).cloned().unwrap_or_default();
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let length = self.problem.batch.length;
        let operations = self.problem.operations.iter().zip(recomputed).enumerate();
        for (index, (given, recomputed)) in operations {
            let all = quantities(index, given, recomputed, length, &shape_of);
            let (ahead, back): (Vec<_>, Vec<_>) = all
                .into_iter()
                .partition(|quantity| quantity.of.direction() == Direction::Forward);
            forward.extend(ahead);
            backward.push(back);
        }
        forward.extend(backward.into_iter().rev().flatten());

        let before = parameters::weights(&self.reference.model)?;
        let after = updated(&self.reference, &self.gradients, &self.stop)?;
        for (path, shape) in self.setup.model.tensors() {
            let (Some(expected), Some(before)) = (after.get(&path), before.get(&path)) else {
                continue;
            };
            let changes = expected.iter().zip(before).map(|(a, b)| (a - b) * (a - b));
            forward.push(Quantity {
                operation: None,
                of: Of::Update,
                shape,
                noise: vec![0.0; expected.len()],
                terms: TERMS,
                inside: 0.0,
                size: Some(changes.sum::<f64>().sqrt()),
                path,
                expected: expected.clone(),
            });
        }
        Ok(forward)
    }

    /// One more look at how far results move.
    fn draw(&mut self, draw: u64) -> Result<(), Error> {
        let precision = self.problem.precision;
        let mut mover = Mover::new(draw);
        let problem = self.problem.moved(&mut mover);
        let mut party = self.reference.clone();
        party.model = mover.moved_weights(party.model, precision);
        let recomputed = replay(&party, &problem, None, &self.stop)?;
        let gradients = self.gradients.iter();
        let gradients: Parameters = gradients
            .map(|(path, values)| (path.clone(), mover.moved(values, precision)))
            .collect();
        let updates = updated(&party, &gradients, &self.stop)?;
        for quantity in &mut self.quantities {
            let moved = find(
                &recomputed,
                &updates,
                quantity.operation,
                &quantity.path,
                &quantity.of,
            );
            quantity.add_draw(moved);
        }
        Ok(())
    }

    /// Has a backend compute everything.
    ///
    /// # Errors
    ///
    /// When it is missing or fails.
    pub fn examine(&self, backend: Backend, perturbation: Perturbation) -> Result<Examined, Error> {
        let precision = self.problem.precision;
        let party = Party::new(&self.setup, backend, precision, precision, perturbation)?;
        let pass = capture(&party, &self.problem.batch, &self.stop)?;
        let recomputed = replay(&party, &self.problem, None, &self.stop)?;
        let updates = updated(&party, &self.gradients, &self.stop)?;
        let mut examined = Examined {
            name: backend.name().into(),
            backend,
            party,
            measured: Vec::new(),
            carried: Vec::new(),
            worst: Vec::new(),
        };
        for quantity in &self.quantities {
            let actual = find(
                &recomputed,
                &updates,
                quantity.operation,
                &quantity.path,
                &quantity.of,
            );
            let measured = quantity.measure(actual, self.held_in(quantity));
            let worst = actual.and_then(|actual| actual.get(measured.worst));
            examined.worst.push(worst.copied().unwrap_or(0.0));
            examined
                .carried
                .push(self.carried(quantity, &pass, measured.error));
            examined.measured.push(measured);
        }
        Ok(examined)
    }

    /// How far a quantity is from the reference's in an ordinary pass.
    fn carried(&self, quantity: &Quantity, pass: &CapturedPass, of_update: f64) -> f64 {
        let Some(index) = quantity.operation else {
            return of_update;
        };
        let at = |index: usize, gradient: bool| {
            let of = |pass: &CapturedPass| {
                let captured = pass.operations.get(index)?;
                let values = if gradient {
                    &captured.gradient
                } else {
                    &captured.output
                };
                Some(values.clone())
            };
            match (of(pass), of(&self.pass)) {
                (Some(actual), Some(expected)) => distance(&actual, &expected),
                _ => f64::INFINITY,
            }
        };
        let source = |input: usize| source(&self.problem.operations, index, input);
        match &quantity.of {
            Of::Output | Of::Update => at(index, false),
            Of::Arriving => at(index, true),
            Of::Input(input) => at(source(*input), false),
            Of::InputGradient(input) => at(source(*input), true),
            Of::ParameterGradient(path) => {
                let none = Vec::new();
                let actual = pass.parameters.get(path).unwrap_or(&none);
                let expected = self.pass.parameters.get(path).unwrap_or(&none);
                distance(actual, expected)
            }
        }
    }

    /// Everything that was found about backends.
    pub fn findings(&self, examined: &[Examined]) -> Bisection {
        let names = labels(examined);
        let per_name = |of: &dyn Fn(&Examined) -> f64| -> BTreeMap<String, f64> {
            names.iter().cloned().zip(examined.iter().map(of)).collect()
        };
        let rows = self.quantities.iter().enumerate().map(|(at, quantity)| {
            let bound = examined.first().map_or(0.0, |e| e.measured[at].bound);
            Row {
                path: quantity.path.clone(),
                operation: self.operation_name(quantity),
                direction: quantity.of.direction(),
                of: quantity.of.to_string(),
                shape: quantity.shape.clone(),
                local: per_name(&|e| e.measured[at].error),
                carried: per_name(&|e| e.carried[at]),
                ratio: per_name(&|e| e.measured[at].ratio),
                bound,
            }
        });
        let culprits: Vec<(usize, Culprit)> = examined
            .iter()
            .zip(&names)
            .filter_map(|(examined, name)| {
                let at = self.first_place(examined)?;
                Some((at, self.culprit(examined, name, at)))
            })
            .collect();
        let earliest = culprits
            .iter()
            .min_by(|(at, a), (other, b)| at.cmp(other).then(b.ratio.total_cmp(&a.ratio)));
        Bisection {
            reference: format!("{}:{}", self.backend, Precision::F64),
            dtype: self.problem.precision,
            fused: self.setup.experiment.backend.fused,
            backends: names.clone(),
            culprit: earliest.map(|(_, culprit)| culprit.clone()),
            experiment: self.setup.experiment.name.clone(),
            batch: [self.problem.batch.rows, self.problem.batch.length],
            directory: None,
            operations: rows.collect(),
            culprits: culprits.into_iter().map(|(_, culprit)| culprit).collect(),
        }
    }

    /// The first quantity whose error rounding does not explain.
    pub(super) fn first_place(&self, examined: &Examined) -> Option<usize> {
        examined.measured.iter().position(Measured::exceeds)
    }

    /// The precision that a quantity is held in.
    pub(super) fn held_in(&self, quantity: &Quantity) -> Precision {
        let precision = self.problem.precision;
        match (quantity.operation, &quantity.of) {
            (Some(index), Of::Output) => {
                held_in(self.problem.operations[index].place.operation, precision)
            }
            _ => precision,
        }
    }

    fn operation_name(&self, quantity: &Quantity) -> String {
        match quantity.operation {
            Some(index) => self.problem.operations[index].place.operation.name().into(),
            None => "update".into(),
        }
    }

    fn culprit(&self, examined: &Examined, name: &str, at: usize) -> Culprit {
        let (quantity, measured) = (&self.quantities[at], examined.measured[at]);
        let inputs = match quantity.operation {
            Some(index) => self.problem.operations[index].place.inputs.clone(),
            None => vec![quantity.shape.clone()],
        };
        Culprit {
            backend: name.into(),
            path: quantity.path.clone(),
            operation: self.operation_name(quantity),
            direction: quantity.of.direction(),
            of: quantity.of.to_string(),
            shapes: Shapes {
                inputs,
                output: quantity.shape.clone(),
            },
            local_error: measured.error,
            bound: measured.bound,
            ratio: measured.ratio,
            carried_error: examined.carried[at],
            worst: Worst {
                index: position(measured.worst, &quantity.shape),
                value: examined.worst[at],
                expected: quantity.expected[measured.worst],
            },
            smallest: None,
            input: None,
            reproduction: None,
        }
    }
}

/// A quantity's value in what a party computes.
fn find<'a>(
    recomputed: &'a [Recomputed],
    updates: &'a Parameters,
    operation: Option<usize>,
    path: &str,
    of: &Of,
) -> Option<&'a [f64]> {
    match operation {
        Some(index) => value(recomputed.get(index)?, of),
        None => updates.get(path).map(Vec::as_slice),
    }
}

/// Names to tell entrants apart: the backend's, numbered where it comes again.
pub(super) fn labels(examined: &[Examined]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for one in examined {
        let same = examined[..names.len()]
            .iter()
            .filter(|e| e.name == one.name);
        match same.count() {
            0 => names.push(one.name.clone()),
            n => names.push(format!("{}-{}", one.name, n + 1)),
        }
    }
    names
}

/// The index of an element in a shape.
fn position(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|size| {
            let at = flat % size.max(&1);
            flat /= size.max(&1);
            at
        })
        .collect();
    index.reverse();
    index
}
