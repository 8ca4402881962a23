//! Recomputes every operation in isolation: forward from the reference's inputs, backward from the reference's
//! gradient of the output. An error cannot propagate from one operation to the next.
//!
//! An operation reads its inputs as the pass provides them, as reshaped and sliced views instead of fresh
//! copies, so that a kernel that reads views wrongly is found. The views are checked as well, forward (inputs
//! equal the reference's) and backward (the gradients of all readers of an output add up to its own).

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use burn::tensor::Tensor;
use foretoken_model::{Place, Watch};

use super::numbers::{Jitter, read, rounded, storage_precision, tensor};
use super::pass::{
    CapturedPass, HostBatch, Outcome, Participant, compute, locked, objective, parameter_gradients,
};
use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::parameters::Parameters;

/// The reference's numbers that operations are recomputed from, rounded to the precision of the backends under test.
#[derive(Clone)]
pub(super) struct Problem {
    pub(super) batch: HostBatch,
    pub(super) precision: Precision,
    pub(super) operations: Vec<ReferenceValues>,
}

/// The reference's output and gradients of one operation.
#[derive(Clone)]
pub(super) struct ReferenceValues {
    pub(super) place: Place,
    /// The shape of the output: `[rows, columns]`.
    pub(super) shape: [usize; 2],
    pub(super) output: Vec<f64>,
    /// The gradient of the output.
    pub(super) upstream: Vec<f64>,
    /// The gradients of the inputs. Empty until the reference has recomputed them.
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
                    let held = storage_precision(captured.place.operation, precision);
                    ReferenceValues {
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

    /// Returns the problem with every number moved by one rounding.
    pub(super) fn jittered(&self, jitter: &mut Jitter) -> Self {
        let mut moved = self.clone();
        for given in &mut moved.operations {
            let held = storage_precision(given.place.operation, self.precision);
            given.output = jitter.apply(&given.output, held);
            given.upstream = jitter.apply(&given.upstream, held);
            for gradient in &mut given.input_gradients {
                *gradient = jitter.apply(gradient, self.precision);
            }
        }
        moved
    }
}

/// The results of one operation recomputed in isolation.
#[derive(Default)]
pub(super) struct Recomputation {
    /// The inputs as the pass provides them.
    pub(super) inputs: Vec<Vec<f64>>,
    pub(super) output: Vec<f64>,
    /// The gradient of the output, summed over all operations that read it.
    pub(super) output_gradient: Vec<f64>,
    pub(super) input_gradients: Vec<Vec<f64>>,
    /// The gradients of the parameters that it uses, by path.
    pub(super) parameter_gradients: Parameters,
}

/// Recomputes every operation of a participant, or `only` the one with this index.
pub(super) fn replay(
    participant: &Participant,
    problem: &Problem,
    only: Option<usize>,
    stop: &AtomicBool,
) -> Result<Vec<Recomputation>, Error> {
    let model = &participant.model;
    let replay = Replay {
        participant,
        problem,
        only,
        outcome: Outcome::new(stop),
        state: Mutex::new(State::default()),
    };
    let batch = problem
        .batch
        .upload(&model.device(), &participant.perturbation);
    let objective = objective(model, batch, &replay);
    let State {
        mut recomputed,
        leaves,
        inputs,
    } = std::mem::take(&mut *locked(&replay.state));
    replay.outcome.into_result()?;
    if only.is_some() {
        return Ok(recomputed);
    }

    let device = model.device();
    let mut total = objective;
    for (operation, index, input) in inputs {
        let given = &problem.operations[operation].input_gradients;
        let gradient = match given.get(index) {
            Some(gradient) => gradient.clone(),
            None => rounded(
                &recomputed[operation].input_gradients[index],
                problem.precision,
            ),
        };
        let gradient = tensor(&gradient, input.dims(), &device, input.dtype());
        let product = (input * gradient).sum();
        total = match product.dtype() == total.dtype() {
            true => total + product,
            false => total.clone() + product.cast(total.dtype()),
        };
    }
    let gradients = total.backward();
    for (recomputed, leaf) in recomputed.iter_mut().zip(&leaves) {
        recomputed.output_gradient = match leaf.grad(&gradients) {
            Some(gradient) => read(gradient)?,
            None => vec![0.0; recomputed.output.len()],
        };
    }
    Ok(recomputed)
}

struct Replay<'a> {
    participant: &'a Participant,
    problem: &'a Problem,
    only: Option<usize>,
    outcome: Outcome<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    recomputed: Vec<Recomputation>,
    /// The tensor that replaces the output of each operation.
    leaves: Vec<Tensor<2>>,
    /// Inputs as the pass provides them: index of the operation, index of the input, and the tensor, which depends
    /// on the leaves.
    inputs: Vec<(usize, usize, Tensor<2>)>,
}

impl Replay<'_> {
    fn recompute(
        &self,
        place: &Place,
        given: &ReferenceValues,
        inputs: &[Tensor<2>],
        call: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
    ) -> Result<Recomputation, Error> {
        // Detached inputs keep their storage and strides.
        let leaves = inputs.iter().map(|input| input.clone().detach());
        let leaves: Vec<Tensor<2>> = leaves.map(Tensor::require_grad).collect();
        let output = compute(self.participant.fault(), place, leaves.clone(), call);
        let mut recomputed = Recomputation {
            inputs: leaves
                .iter()
                .map(|leaf| read(leaf.clone()))
                .collect::<Result<_, _>>()?,
            output: read(output.clone())?,
            ..Recomputation::default()
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
        recomputed.parameter_gradients = parameter_gradients(&self.participant.model, gradients)?;
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
        let device = self.participant.model.device();
        let recomputed = match wanted && !self.outcome.is_over() {
            true => self
                .outcome
                .keep(self.recompute(place, given, &inputs, call)),
            false => {
                // The pass needs only the shape.
                call(inputs.clone());
                Recomputation::default()
            }
        };
        let held = storage_precision(place.operation, self.participant.precision);
        let leaf = tensor(&given.output, given.shape, &device, held.dtype());
        let leaf = leaf.require_grad();
        let mut state = locked(&self.state);
        state.recomputed.push(recomputed);
        state.leaves.push(leaf.clone());
        if self.only.is_none() {
            let inputs = inputs.into_iter().enumerate();
            state
                .inputs
                .extend(inputs.map(|(input, tensor)| (index, input, tensor)));
        }
        leaf
    }
}
