//! Every operation by itself: computed from what the reference has before it, differentiated from what the
//! reference has behind it. An error cannot travel from one operation to the next here.
//!
//! An operation sees its inputs as the pass brings them to it, reshaped and sliced views included, and not as
//! fresh copies: a kernel that reads views wrongly is found. That bringing is checked as well, forward (the
//! inputs are what the reference's are) and backward (gradients of all who read an output add up to its own).

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use burn::tensor::Tensor;
use foretoken_model::{Place, Watch};

use super::numbers::{Mover, held_in, read, rounded, tensor};
use super::pass::{
    CapturedPass, HostBatch, Outcome, Party, compute, locked, objective, parameter_gradients,
};
use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::parameters::Parameters;

/// What operations are recomputed from: numbers of the reference, rounded to the entrants' precision.
#[derive(Clone)]
pub(super) struct Problem {
    pub(super) batch: HostBatch,
    pub(super) precision: Precision,
    pub(super) operations: Vec<Given>,
}

/// The reference's numbers around one operation.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) place: Place,
    /// Of the output: `[rows, columns]`.
    pub(super) shape: [usize; 2],
    pub(super) output: Vec<f64>,
    /// The gradient that arrives at the output.
    pub(super) upstream: Vec<f64>,
    /// The gradients that leave through the inputs. Empty until the reference has recomputed them.
    pub(super) input_gradients: Vec<Vec<f64>>,
}

impl Problem {
    pub(super) fn new(pass: &CapturedPass, batch: HostBatch, precision: Precision) -> Self {
        let operations = pass.operations.iter();
        Self {
            batch,
            precision,
            operations: operations
                .map(|captured| {
                    let held = held_in(captured.place.operation, precision);
                    Given {
                        place: captured.place.clone(),
                        shape: captured.shape,
                        output: rounded(&captured.output, held),
                        upstream: rounded(&captured.gradient, held),
                        input_gradients: Vec::new(),
                    }
                })
                .collect(),
        }
    }

    /// With every number moved by one rounding.
    pub(super) fn moved(&self, mover: &mut Mover) -> Self {
        let mut moved = self.clone();
        for given in &mut moved.operations {
            let held = held_in(given.place.operation, self.precision);
            given.output = mover.moved(&given.output, held);
            given.upstream = mover.moved(&given.upstream, held);
            for gradient in &mut given.input_gradients {
                *gradient = mover.moved(gradient, self.precision);
            }
        }
        moved
    }
}

/// What an operation gives by itself.
#[derive(Default)]
pub(super) struct Recomputed {
    /// The inputs as they came.
    pub(super) inputs: Vec<Vec<f64>>,
    pub(super) output: Vec<f64>,
    /// The sum of gradients of all who read the output.
    pub(super) arriving: Vec<f64>,
    pub(super) input_gradients: Vec<Vec<f64>>,
    /// Of the parameters that it uses, by their paths.
    pub(super) parameter_gradients: Parameters,
}

/// Recomputes every operation, or `only` the one of this number, as `party` does.
pub(super) fn replay(
    party: &Party,
    problem: &Problem,
    only: Option<usize>,
    stop: &AtomicBool,
) -> Result<Vec<Recomputed>, Error> {
    let model = &party.model;
    let replay = Replay {
        party,
        problem,
        only,
        outcome: Outcome::new(stop),
        state: Mutex::new(State::default()),
    };
    let batch = problem.batch.upload(&model.device(), &party.perturbation);
    let objective = objective(model, batch, &replay);
    let State {
        mut recomputed,
        leaves,
        brought,
    } = std::mem::take(&mut *locked(&replay.state));
    replay.outcome.into_result()?;
    if only.is_some() {
        return Ok(recomputed);
    }

    let device = model.device();
    let mut total = objective;
    for (operation, input, brought) in brought {
        let given = &problem.operations[operation].input_gradients;
        let gradient = match given.get(input) {
            Some(gradient) => gradient.clone(),
            None => rounded(
                &recomputed[operation].input_gradients[input],
                problem.precision,
            ),
        };
        let gradient = tensor(&gradient, brought.dims(), &device, brought.dtype());
        let weighed = (brought * gradient).sum();
        total = match weighed.dtype() == total.dtype() {
            true => total + weighed,
            false => total.clone() + weighed.cast(total.dtype()),
        };
    }
    let gradients = total.backward();
    for (recomputed, leaf) in recomputed.iter_mut().zip(&leaves) {
        recomputed.arriving = match leaf.grad(&gradients) {
            Some(gradient) => read(gradient)?,
            None => vec![0.0; recomputed.output.len()],
        };
    }
    Ok(recomputed)
}

struct Replay<'a> {
    party: &'a Party,
    problem: &'a Problem,
    only: Option<usize>,
    outcome: Outcome<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    recomputed: Vec<Recomputed>,
    /// What stands for the output of each operation.
    leaves: Vec<Tensor<2>>,
    /// Inputs as they came: operation, which of its inputs, and the tensor, still tied to the leaves.
    brought: Vec<(usize, usize, Tensor<2>)>,
}

impl Replay<'_> {
    fn recompute(
        &self,
        place: &Place,
        given: &Given,
        inputs: &[Tensor<2>],
        call: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
    ) -> Result<Recomputed, Error> {
        // The same storage and strides, but nothing before them.
        let leaves = inputs.iter().map(|input| input.clone().detach());
        let leaves: Vec<Tensor<2>> = leaves.map(Tensor::require_grad).collect();
        let output = compute(self.party.fault(), place, leaves.clone(), call);
        let mut recomputed = Recomputed {
            inputs: leaves
                .iter()
                .map(|leaf| read(leaf.clone()))
                .collect::<Result<_, _>>()?,
            output: read(output.clone())?,
            ..Recomputed::default()
        };
        let zeros = |leaf: &Tensor<2>| vec![0.0; leaf.shape().num_elements()];
        if !output.is_tracked() {
            recomputed.input_gradients = leaves.iter().map(zeros).collect();
            return Ok(recomputed);
        }
        let upstream = tensor(
            &given.upstream,
            given.shape,
            &output.device(),
            output.dtype(),
        );
        let gradients = (output * upstream).sum().backward();
        for leaf in &leaves {
            let gradient = match leaf.grad(&gradients) {
                Some(gradient) => read(gradient)?,
                None => zeros(leaf),
            };
            recomputed.input_gradients.push(gradient);
        }
        recomputed.parameter_gradients = parameter_gradients(&self.party.model, gradients)?;
        Ok(recomputed)
    }
}

impl Watch for Replay<'_> {
    fn operation(
        &self,
        place: &Place,
        inputs: Vec<Tensor<2>>,
        call: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
    ) -> Tensor<2> {
        let index = locked(&self.state).leaves.len();
        let Some(given) = self.problem.operations.get(index) else {
            return call(inputs);
        };
        let wanted = self.only.is_none_or(|only| only == index);
        let device = self.party.model.device();
        let recomputed = match wanted && !self.outcome.is_over() {
            true => self
                .outcome
                .keep(self.recompute(place, given, &inputs, call)),
            false => {
                // Only for the shape.
                call(inputs.clone());
                Recomputed::default()
            }
        };
        let held = held_in(place.operation, self.party.precision);
        let leaf = tensor(&given.output, given.shape, &device, held.dtype());
        let leaf = leaf.require_grad();
        let mut state = locked(&self.state);
        state.recomputed.push(recomputed);
        state.leaves.push(leaf.clone());
        if self.only.is_none() {
            let inputs = inputs.into_iter().enumerate();
            state
                .brought
                .extend(inputs.map(|(input, tensor)| (index, input, tensor)));
        }
        leaf
    }
}
