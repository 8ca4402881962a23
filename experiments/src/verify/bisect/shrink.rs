//! Searches for the smallest case that still shows an error: fewer sequences, fewer tokens, and fewer rows if rows
//! are independent. Every candidate is run on the backend, and is kept only if it shows the error.

use std::convert::Infallible;

use foretoken_model::Operation;

use super::bisector::{Bisector, Examination};
use super::formula::formula;
use super::judge::{DRAWS, Measurement, Quantity, QuantityKind, quantities, value};
use super::numbers::Jitter;
use super::pass::{HostBatch, Participant};
use super::replay::{Problem, Recomputation, ReferenceValues, replay};
use super::reproduction::{Case, UpdateCase};
use super::update::{UPDATES, gradients_of_update};
use crate::Error;
use crate::backend::panics::caught;
use crate::engine::parameters;
use crate::engine::schedule::Schedule;

/// Largest number of candidates that are run. A backend that compiles its kernels needs time for each shape.
const CANDIDATES: usize = 24;

/// Number of elements of a parameter in the case of an update.
const ELEMENTS: usize = 4;

/// The tokens of a batch that are kept: sequences with their positions, the same number in each.
#[derive(Clone)]
struct Selection(Vec<(usize, Vec<usize>)>);

impl Selection {
    fn batch(&self, batch: &HostBatch) -> HostBatch {
        let pick = |ids: &[i64]| self.tokens(batch.length).map(|at| ids[at]).collect();
        let weights = batch.weights.as_ref();
        HostBatch {
            rows: self.0.len(),
            length: self.0[0].1.len(),
            inputs: pick(&batch.inputs),
            targets: pick(&batch.targets),
            weights: weights.map(|w| self.tokens(batch.length).map(|at| w[at]).collect()),
        }
    }

    fn tokens(&self, length: usize) -> impl Iterator<Item = usize> {
        let offsets = move |(row, positions): &(usize, Vec<usize>)| {
            let row = *row;
            let at = positions
                .iter()
                .map(move |position| row * length + position);
            at.collect::<Vec<_>>()
        };
        self.0
            .iter()
            .flat_map(offsets)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Selects the rows of an operation that belong to the kept tokens, and for scores the columns too.
    fn given(&self, given: &ReferenceValues, batch: &HostBatch) -> ReferenceValues {
        let [rows, columns] = given.shape;
        let heads = rows / (batch.rows * batch.length);
        let scores = given.place.operation == Operation::Scores;
        let pick = |values: &[f64]| {
            let mut picked = Vec::new();
            for (row, positions) in &self.0 {
                for head in 0..heads {
                    for position in positions {
                        let at = ((row * heads + head) * batch.length + position) * columns;
                        let line = &values[at..at + columns];
                        match scores {
                            true => picked.extend(positions.iter().map(|key| line[*key])),
                            false => picked.extend_from_slice(line),
                        }
                    }
                }
            }
            picked
        };
        let length = self.0[0].1.len();
        ReferenceValues {
            place: given.place.clone(),
            shape: [
                self.0.len() * heads * length,
                if scores { length } else { columns },
            ],
            output: pick(&given.output),
            upstream: pick(&given.upstream),
            input_gradients: Vec::new(),
        }
    }

    fn problem(&self, problem: &Problem) -> Problem {
        let operations = problem.operations.iter();
        Problem {
            batch: self.batch(&problem.batch),
            precision: problem.precision,
            operations: operations
                .map(|given| self.given(given, &problem.batch))
                .collect(),
        }
    }
}

/// A candidate that shows the error.
struct Candidate {
    problem: Problem,
    recomputed: Recomputation,
    measured: Measurement,
}

/// The search for the smallest case of one operation.
struct Search<'a> {
    bisector: &'a Bisector,
    participant: &'a Participant,
    index: usize,
    kind: QuantityKind,
    candidates_left: usize,
    best: Option<Candidate>,
}

impl Search<'_> {
    /// Returns whether a selection shows the error, and keeps it as the best one if it does.
    fn shows(&mut self, selection: &Selection) -> Result<bool, Error> {
        if self.candidates_left == 0 {
            return Ok(false);
        }
        self.candidates_left -= 1;
        let mut problem = selection.problem(&self.bisector.problem);
        let Some((recomputed, quantity)) =
            self.bisector
                .recompute_alone(&mut problem, self.index, &self.kind)?
        else {
            return Ok(false);
        };
        let stop = &self.bisector.stop;
        // A backend that panics on a candidate does not show the error with it.
        let run = || replay(self.participant, &problem, Some(self.index), stop);
        let Ok(actual) = caught(|| Ok::<_, Infallible>(run())) else {
            return Ok(false);
        };
        let actual = actual?;
        let measured = quantity.measure(
            value(&actual[self.index], &self.kind),
            self.bisector.storage_precision(&quantity),
        );
        let exceeds = measured.exceeds();
        if exceeds {
            self.best = Some(Candidate {
                problem,
                recomputed,
                measured,
            });
        }
        Ok(exceeds)
    }

    /// Returns the fewest parts that show the error, found by delta debugging (Zeller & Hildebrandt 2002). `first` is
    /// the likeliest part.
    fn fewest<T: Clone>(
        &mut self,
        parts: Vec<T>,
        first: Option<usize>,
        select: &dyn Fn(&[T]) -> Selection,
    ) -> Result<Vec<T>, Error> {
        if let Some(part) = first.and_then(|first| parts.get(first)) {
            let alone = [part.clone()];
            if parts.len() > 1 && self.shows(&select(&alone))? {
                return Ok(alone.to_vec());
            }
        }
        let mut parts = parts;
        let mut pieces = 2;
        while parts.len() > 1 && self.candidates_left > 0 {
            let size = parts.len().div_ceil(pieces);
            let mut smaller = None;
            for start in (0..parts.len()).step_by(size) {
                let end = (start + size).min(parts.len());
                let without = [&parts[..start], &parts[end..]].concat();
                for candidate in [parts[start..end].to_vec(), without] {
                    let useful = !candidate.is_empty() && candidate.len() < parts.len();
                    if useful && self.shows(&select(&candidate))? {
                        smaller = Some(candidate);
                        break;
                    }
                }
                if smaller.is_some() {
                    break;
                }
            }
            match smaller {
                Some(smaller) => (parts, pieces) = (smaller, 2),
                None if size == 1 => break,
                None => pieces = (2 * pieces).min(parts.len()),
            }
        }
        Ok(parts)
    }
}

impl Bisector {
    /// Recomputes one quantity of one operation on the reference, for another problem; `None` if it has no value.
    fn recompute_alone(
        &self,
        problem: &mut Problem,
        index: usize,
        kind: &QuantityKind,
    ) -> Result<Option<(Recomputation, Quantity)>, Error> {
        let mut recomputed = replay(&self.reference, problem, Some(index), &self.stop)?;
        let recomputed = recomputed.swap_remove(index);
        let inputs = recomputed.inputs.len();
        self.reshape(problem, index, inputs);
        let tensors = self.setup.model.tensors();
        let shape_of = |path: &str| {
            let found = tensors.iter().find(|(of, _)| of == path);
            found.map(|(_, shape)| shape.clone()).unwrap_or_default()
        };
        let length = problem.batch.length;
        let all = quantities(
            index,
            &problem.operations[index],
            &recomputed,
            length,
            &shape_of,
        );
        let Some(mut quantity) = all.into_iter().find(|quantity| quantity.kind == *kind) else {
            return Ok(None);
        };
        for draw in 0..DRAWS {
            let mut jitter = Jitter::new(draw);
            let moved = problem.jittered(&mut jitter);
            let mut participant = self.reference.clone();
            participant.model = jitter.apply_to_weights(participant.model, problem.precision);
            let recomputed = replay(&participant, &moved, Some(index), &self.stop)?;
            quantity.add_draw(value(&recomputed[index], kind));
        }
        quantity.finish();
        Ok(Some((recomputed, quantity)))
    }

    /// Adapts the shapes of an operation's inputs to a batch of another size: `[rows, width]`, or
    /// `[batch, (heads,) length, columns]`.
    fn reshape(&self, problem: &mut Problem, index: usize, inputs: usize) {
        let place = &self.problem.operations[index].place;
        let reads_scores = place.operation == Operation::Mix;
        let (batch, length) = (problem.batch.rows, problem.batch.length);
        for input in 0..inputs {
            let dims = &mut problem.operations[index].place.inputs[input];
            match dims.len() {
                2 => dims[0] = batch * length,
                rank => {
                    dims[0] = batch;
                    dims[rank - 2] = length;
                    if reads_scores && input == 0 {
                        dims[rank - 1] = length;
                    }
                }
            }
        }
    }

    /// Returns the smallest case found for a backend's first unexplained error; `None` if it has none, or if the
    /// wrong quantity is the sum of gradients, which belongs to no operation.
    pub(super) fn smallest_case(
        &self,
        examined: &Examination,
        all: &[Examination],
    ) -> Result<Option<Case>, Error> {
        let Some(at) = self.first_unexplained(examined) else {
            return Ok(None);
        };
        let (quantity, measured) = (&self.quantities[at], examined.measured[at]);
        let mut backends = vec![examined.backend];
        for one in all {
            if !backends.contains(&one.backend) {
                backends.push(one.backend);
            }
        }
        if backends.len() == 1 && backends[0] != self.backend {
            backends.push(self.backend);
        }
        let Some(index) = quantity.operation else {
            return self.update_case(quantity, measured, backends).map(Some);
        };
        if quantity.kind == QuantityKind::OutputGradient {
            return Ok(None);
        }
        let (rows, length) = (self.problem.batch.rows, self.problem.batch.length);
        let given = &self.problem.operations[index];
        let mut search = Search {
            bisector: self,
            participant: &examined.participant,
            index,
            kind: quantity.kind.clone(),
            candidates_left: CANDIDATES,
            best: None,
        };
        // The token that the worst element belongs to, if it belongs to one.
        let columns = quantity.shape.last().copied().unwrap_or(1).max(1);
        let lines = quantity.expected.len() / columns;
        let per_token = lines / (rows * length).max(1);
        let token = match &quantity.kind {
            QuantityKind::ParameterGradient(_) | QuantityKind::Update => None,
            _ if per_token == 0 => None,
            _ => {
                let line = measured.worst / columns;
                let (row, position) = (line / (per_token * length), line % length);
                Some(row * length + position)
            }
        };
        let all_tokens = Selection((0..rows).map(|row| (row, (0..length).collect())).collect());
        search.candidates_left += 1;
        search.shows(&all_tokens)?;
        let by_rows = !matches!(
            given.place.operation,
            Operation::Positions | Operation::Turn | Operation::Scores | Operation::Mix
        );
        if by_rows {
            let tokens: Vec<usize> = (0..rows * length).collect();
            search.fewest(tokens, token, &|tokens| {
                let single = |token: &usize| (token / length, vec![token % length]);
                Selection(tokens.iter().map(single).collect())
            })?;
        } else {
            let whole = |sequences: &[usize], length: usize| {
                let one = |row: &usize| (*row, (0..length).collect());
                Selection(sequences.iter().map(one).collect())
            };
            let first = token.map(|token| token / length);
            let kept = search.fewest((0..rows).collect(), first, &|kept| whole(kept, length))?;
            let mut shorter = 1;
            while shorter < length {
                if search.shows(&whole(&kept, shorter))? {
                    break;
                }
                shorter += shorter.div_ceil(2);
            }
        }
        let Some(best) = search.best else {
            return Ok(None);
        };
        let parameters = parameters::weights(&self.reference.model)?;
        Ok(Some(Case {
            formula: formula(&self.setup.model, &best.problem, index, &parameters),
            place: best.problem.operations[index].place.clone(),
            upstream: best.problem.operations[index].upstream.clone(),
            recomputed: best.recomputed,
            kind: quantity.kind.clone(),
            bound: best.measured.bound,
            error: best.measured.error,
            precision: self.problem.precision,
            backends,
            update: None,
        }))
    }

    fn update_case(
        &self,
        quantity: &Quantity,
        measured: Measurement,
        backends: Vec<crate::backend::Backend>,
    ) -> Result<Case, Error> {
        let weights = parameters::weights(&self.reference.model)?;
        let count = quantity.expected.len();
        let start = measured.worst.min(count.saturating_sub(ELEMENTS));
        let range = start..(start + ELEMENTS).min(count);
        let updates = (0..UPDATES).map(|update| {
            let gradients = gradients_of_update(&self.gradients, update);
            let norm = gradients.values().flatten().map(|g| g * g).sum::<f64>();
            let of_parameter = gradients.get(&quantity.path);
            let none = vec![0.0; range.len()];
            let gradient = of_parameter.map_or(none, |g| g[range.clone()].to_vec());
            (gradient, norm.sqrt())
        });
        let schedule = Schedule::new(&self.setup.experiment);
        Ok(Case::of_update(
            UpdateCase {
                weight: weights[&quantity.path][range.clone()].to_vec(),
                gradients: updates.collect(),
                expected: quantity.expected[range].to_vec(),
                matrix: quantity.shape.len() > 1,
                optimizer: self.setup.experiment.optimizer.clone(),
                rates: (0..UPDATES).map(|update| schedule.rate(update)).collect(),
            },
            &quantity.path,
            measured,
            self.problem.precision,
            backends,
        ))
    }
}
