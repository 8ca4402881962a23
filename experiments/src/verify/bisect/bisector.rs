//! The reference of an experiment, and backends examined against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::data::dataloader::DataLoader;
use foretoken_datasets::Monitor;

use super::findings::{Bisection, Culprit, Direction, Row, Shapes, Worst};
use super::judge::{DRAWS, Measurement, Quantity, QuantityKind, quantities, value};
use super::numbers::{Jitter, distance, rounded, storage_precision};
use super::pass::{CapturedPass, HostBatch, Participant, capture};
use super::replay::{Problem, Recomputation, replay};
use super::update::{TERMS, updated};
use super::wiring::source;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::memory::refuse_training;
use crate::engine::parameters::{self, Parameters};
use crate::engine::perturbation::Perturbation;
use crate::engine::setup::Setup;
use crate::record::start;
use crate::{Error, Experiment};

/// Returns the backend of the reference: the first that is compiled in and computes in f64.
fn reference_backend() -> Result<Backend, Error> {
    let mut all = Backend::ALL.into_iter().filter(|b| b.compiled_in());
    let found = all.find(|backend| backend.device_for(Precision::F64).is_ok());
    found.ok_or_else(|| Error::Experiment {
        origin: "bisect".into(),
        message: "no backend of this build computes in f64, which the reference needs; \
                  build with --features flex"
            .into(),
    })
}

/// The reference of one experiment in one precision, against which backends are examined.
#[doc(hidden)]
pub struct Bisector {
    pub(super) setup: Setup,
    pub(super) reference: Participant,
    pub(super) backend: Backend,
    pass: CapturedPass,
    pub(super) problem: Problem,
    /// Every compared quantity, in the order of computation.
    pub(super) quantities: Vec<Quantity>,
    /// The gradients that every optimizer receives.
    pub(super) gradients: Parameters,
    pub(super) stop: Arc<AtomicBool>,
}

/// The results of one backend.
#[doc(hidden)]
pub struct Examination {
    name: String,
    pub(super) backend: Backend,
    pub(super) participant: Participant,
    /// The local error of each quantity.
    pub(super) measured: Vec<Measurement>,
    /// The carried error of each quantity.
    carried: Vec<f64>,
    /// The value of each quantity's worst element.
    worst: Vec<f64>,
}

impl Bisector {
    /// Computes the reference of an experiment.
    ///
    /// # Errors
    ///
    /// Returns an error if the experiment cannot start or no backend computes in f64.
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
        let windows = setup.experiment.train.batch;
        refuse_training(&setup.model, windows, Precision::F64, &device)?;
        let seed = setup.experiment.train.seed;
        let batch = setup.train_loader(seed, &device)?.iter().next();
        let batch = batch.ok_or_else(|| Error::Training("there is no batch".into()))?;
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        let batch = HostBatch::read(batch)?;

        progress(0);
        let unperturbed = Perturbation::default();
        let reference = Participant::new(&setup, backend, precision, Precision::F64, unperturbed)?;
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

    /// Returns every quantity in the order of computation: forward, backward, updates.
    fn all_quantities(&self, recomputed: &[Recomputation]) -> Result<Vec<Quantity>, Error> {
        let shapes: BTreeMap<String, Vec<usize>> = self.setup.model.tensors().into_iter().collect();
        let shape_of = |path: &str| shapes.get(path).cloned().unwrap_or_default();
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let length = self.problem.batch.length;
        let operations = self.problem.operations.iter().zip(recomputed).enumerate();
        for (index, (given, recomputed)) in operations {
            let all = quantities(index, given, recomputed, length, &shape_of);
            let (ahead, back): (Vec<_>, Vec<_>) = all
                .into_iter()
                .partition(|quantity| quantity.kind.direction() == Direction::Forward);
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
                kind: QuantityKind::Update,
                shape,
                noise: vec![0.0; expected.len()],
                terms: TERMS,
                cancellation: 0.0,
                size: Some(changes.sum::<f64>().sqrt()),
                path,
                expected: expected.clone(),
            });
        }
        Ok(forward)
    }

    /// Adds one random draw to the measured noise of every quantity.
    fn draw(&mut self, draw: u64) -> Result<(), Error> {
        let precision = self.problem.precision;
        let mut jitter = Jitter::new(draw);
        let problem = self.problem.jittered(&mut jitter);
        let mut participant = self.reference.clone();
        participant.model = jitter.apply_to_weights(participant.model, precision);
        let recomputed = replay(&participant, &problem, None, &self.stop)?;
        let gradients = self.gradients.iter();
        let gradients: Parameters = gradients
            .map(|(path, values)| (path.clone(), jitter.apply(values, precision)))
            .collect();
        let updates = updated(&participant, &gradients, &self.stop)?;
        for quantity in &mut self.quantities {
            let moved = value_of(
                &recomputed,
                &updates,
                quantity.operation,
                &quantity.path,
                &quantity.kind,
            );
            quantity.add_draw(moved);
        }
        Ok(())
    }

    /// Computes every quantity on a backend.
    ///
    /// # Errors
    ///
    /// Returns an error if the backend is missing or fails.
    pub fn examine(
        &self,
        backend: Backend,
        perturbation: Perturbation,
    ) -> Result<Examination, Error> {
        let precision = self.problem.precision;
        let participant =
            Participant::new(&self.setup, backend, precision, precision, perturbation)?;
        let pass = capture(&participant, &self.problem.batch, &self.stop)?;
        let recomputed = replay(&participant, &self.problem, None, &self.stop)?;
        let updates = updated(&participant, &self.gradients, &self.stop)?;
        let mut examined = Examination {
            name: backend.name().into(),
            backend,
            participant,
            measured: Vec::new(),
            carried: Vec::new(),
            worst: Vec::new(),
        };
        for quantity in &self.quantities {
            let actual = value_of(
                &recomputed,
                &updates,
                quantity.operation,
                &quantity.path,
                &quantity.kind,
            );
            let measured = quantity.measure(actual, self.storage_precision(quantity));
            let worst = actual.and_then(|actual| actual.get(measured.worst));
            examined.worst.push(worst.copied().unwrap_or(0.0));
            examined
                .carried
                .push(self.carried(quantity, &pass, measured.error));
            examined.measured.push(measured);
        }
        Ok(examined)
    }

    /// Returns the relative error of a quantity in an ordinary pass.
    fn carried(&self, quantity: &Quantity, pass: &CapturedPass, of_update: f64) -> f64 {
        let Some(index) = quantity.operation else {
            return of_update;
        };
        let at = |index: usize, gradient: bool| {
            let values_in = |pass: &CapturedPass| {
                let captured = pass.operations.get(index)?;
                let values = if gradient {
                    &captured.gradient
                } else {
                    &captured.output
                };
                Some(values.clone())
            };
            match (values_in(pass), values_in(&self.pass)) {
                (Some(actual), Some(expected)) => distance(&actual, &expected),
                _ => f64::INFINITY,
            }
        };
        let source = |input: usize| source(&self.problem.operations, index, input);
        match &quantity.kind {
            QuantityKind::Output | QuantityKind::Update => at(index, false),
            QuantityKind::OutputGradient => at(index, true),
            QuantityKind::Input(input) => at(source(*input), false),
            QuantityKind::InputGradient(input) => at(source(*input), true),
            QuantityKind::ParameterGradient(path) => {
                let none = Vec::new();
                let actual = pass.parameters.get(path).unwrap_or(&none);
                let expected = self.pass.parameters.get(path).unwrap_or(&none);
                distance(actual, expected)
            }
        }
    }

    /// Collects the findings about all examined backends.
    pub fn findings(&self, examined: &[Examination]) -> Bisection {
        let names = labels(examined);
        let per_name = |value: &dyn Fn(&Examination) -> f64| -> BTreeMap<String, f64> {
            names
                .iter()
                .cloned()
                .zip(examined.iter().map(value))
                .collect()
        };
        let rows = self.quantities.iter().enumerate().map(|(at, quantity)| {
            let bound = examined.first().map_or(0.0, |e| e.measured[at].bound);
            Row {
                path: quantity.path.clone(),
                operation: self.operation_name(quantity),
                direction: quantity.kind.direction(),
                of: quantity.kind.to_string(),
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
                let at = self.first_unexplained(examined)?;
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

    /// Returns the first quantity whose error is not explained by rounding.
    pub(super) fn first_unexplained(&self, examined: &Examination) -> Option<usize> {
        examined.measured.iter().position(Measurement::exceeds)
    }

    /// Returns the precision that a quantity is stored in.
    pub(super) fn storage_precision(&self, quantity: &Quantity) -> Precision {
        let precision = self.problem.precision;
        match (quantity.operation, &quantity.kind) {
            (Some(index), QuantityKind::Output) => {
                storage_precision(self.problem.operations[index].place.operation, precision)
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

    fn culprit(&self, examined: &Examination, name: &str, at: usize) -> Culprit {
        let (quantity, measured) = (&self.quantities[at], examined.measured[at]);
        let inputs = match quantity.operation {
            Some(index) => self.problem.operations[index].place.inputs.clone(),
            None => vec![quantity.shape.clone()],
        };
        Culprit {
            backend: name.into(),
            path: quantity.path.clone(),
            operation: self.operation_name(quantity),
            direction: quantity.kind.direction(),
            of: quantity.kind.to_string(),
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

/// Returns a quantity's value among a participant's results.
fn value_of<'a>(
    recomputed: &'a [Recomputation],
    updates: &'a Parameters,
    operation: Option<usize>,
    path: &str,
    kind: &QuantityKind,
) -> Option<&'a [f64]> {
    match operation {
        Some(index) => value(recomputed.get(index)?, kind),
        None => updates.get(path).map(Vec::as_slice),
    }
}

/// Returns a distinct name for each examined backend: its own, with a number from its second occurrence on.
pub(super) fn labels(examined: &[Examination]) -> Vec<String> {
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

/// Returns the index of an element in a shape, given its offset in row-major order.
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
