//! The batch on the host, and the ordinary pass over it: the output of every operation, and the objective's gradient
//! with respect to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::optim::GradientsParams;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use foretoken_datasets::{DataError, TokenBatch};
use foretoken_model::{Pass, Place, Targets, Transformer, Watch};

use super::numbers::read;
use crate::Error;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::parameters::{self, Parameters, in_precision};
use crate::engine::perturbation::Perturbation;
use crate::engine::setup::Setup;

/// The batch on the host, from which each backend gets a copy.
#[derive(Clone)]
pub(super) struct HostBatch {
    /// The number of sequences.
    pub(super) rows: usize,
    /// The number of tokens in each sequence.
    pub(super) length: usize,
    pub(super) inputs: Vec<i64>,
    pub(super) targets: Vec<i64>,
    pub(super) weights: Option<Vec<f64>>,
}

impl HostBatch {
    pub(super) fn read(batch: TokenBatch) -> Result<Self, Error> {
        let [rows, length] = batch.inputs.dims();
        let ids = |tensor: Tensor<2, Int>| tensor.try_into_vec_as::<i64>().map_err(Error::device);
        Ok(Self {
            rows,
            length,
            inputs: ids(batch.inputs)?,
            targets: ids(batch.targets)?,
            weights: batch.weights.map(read).transpose()?,
        })
    }

    /// Copies the batch to a device, as changed by a participant's perturbation.
    pub(super) fn upload(&self, device: &Device, perturbation: &Perturbation) -> TokenBatch {
        let shape = [self.rows, self.length];
        let ids = |ids: &Vec<i64>| Tensor::from_data(TensorData::new(ids.clone(), shape), device);
        let weights = self.weights.clone();
        perturbation.batch(TokenBatch {
            inputs: ids(&self.inputs),
            targets: ids(&self.targets),
            weights: weights
                .map(|weights| Tensor::from_data(TensorData::new(weights, shape), device)),
            target_tokens: self.targets.len(),
            target_bytes: 0,
            target_weight: 0.0,
            first_row: 0,
        })
    }
}

/// A computation of the experiment: the reference, or a backend under test.
#[derive(Clone)]
pub(super) struct Participant {
    /// The setup as changed by the perturbation.
    pub(super) setup: Setup,
    pub(super) model: Transformer,
    pub(super) precision: Precision,
    pub(super) perturbation: Perturbation,
}

impl Participant {
    /// Builds the network before its first step on a backend. Its weights are rounded to `weights`, and it computes
    /// in `precision`.
    pub(super) fn new(
        setup: &Setup,
        backend: Backend,
        weights: Precision,
        precision: Precision,
        perturbation: Perturbation,
    ) -> Result<Self, Error> {
        let setup = perturbation.setup(setup);
        let device = backend.device_for(precision)?.autodiff();
        let model = setup.transformer(setup.experiment.train.seed, &device)?;
        let model = in_precision(perturbation.transformer(model), weights);
        Ok(Self {
            model: in_precision(model, precision),
            setup,
            precision,
            perturbation,
        })
    }

    pub(super) fn fault(&self) -> Option<&dyn Watch> {
        self.perturbation.watch()
    }
}

/// Returns the training objective, `[1]`: the weighted sum of nats divided by the number of targets.
pub(super) fn objective(model: &Transformer, batch: TokenBatch, watch: &dyn Watch) -> Tensor<1> {
    let count = batch.targets.shape().num_elements() as f64;
    let pass = Pass::default().watched(watch);
    let targets = Targets {
        ids: batch.targets,
        weights: batch.weights,
    };
    let loss = model.next_token_loss_in(pass, batch.inputs, targets);
    loss.loss.sum().div_scalar(count)
}

/// Returns the gradients of the weights by path, without weights that the differentiated value does not depend on.
pub(super) fn parameter_gradients(
    model: &Transformer,
    gradients: Gradients,
) -> Result<Parameters, Error> {
    let gradients = GradientsParams::from_grads(gradients, model);
    parameters::gradients(model, &gradients, 1.0)
}

/// The first error of a watched pass. A [`Watch`] cannot return errors, so they are kept until the pass is over.
pub(super) struct Outcome<'a> {
    stop: &'a AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> Outcome<'a> {
    pub(super) fn new(stop: &'a AtomicBool) -> Self {
        Self {
            stop,
            error: Mutex::new(None),
        }
    }

    /// Returns whether the rest of the pass is no longer needed.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || locked(&self.error).is_some()
    }

    /// Returns the value of a result, or keeps its error and returns the default.
    pub(super) fn keep<T: Default>(&self, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|error| {
            locked(&self.error).get_or_insert(error);
            T::default()
        })
    }

    pub(super) fn into_result(self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DataError::Interrupted.into());
        }
        let error = self.error.into_inner();
        error
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns `compute(inputs)`, as changed by a planted fault.
pub(super) fn compute(
    fault: Option<&dyn Watch>,
    place: &Place,
    inputs: Vec<Tensor<2>>,
    compute: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
) -> Tensor<2> {
    match fault {
        Some(fault) => fault.operation(place, inputs, compute),
        None => compute(inputs),
    }
}

/// The results of one operation in an ordinary pass.
pub(super) struct CapturedOperation {
    pub(super) place: Place,
    /// `[rows, columns]`
    pub(super) shape: [usize; 2],
    pub(super) output: Vec<f64>,
    /// The objective's gradient with respect to the output.
    pub(super) gradient: Vec<f64>,
}

/// The results of an ordinary pass, forward and backward.
pub(super) struct CapturedPass {
    pub(super) operations: Vec<CapturedOperation>,
    /// The objective's gradients with respect to the parameters.
    pub(super) parameters: Parameters,
}

/// Runs an ordinary pass and captures every operation.
pub(super) fn capture(
    participant: &Participant,
    batch: &HostBatch,
    stop: &AtomicBool,
) -> Result<CapturedPass, Error> {
    let model = &participant.model;
    let capture = Capture {
        fault: participant.fault(),
        outcome: Outcome::new(stop),
        captured: Mutex::new(Vec::new()),
    };
    let batch = batch.upload(&model.device(), &participant.perturbation);
    let objective = objective(model, batch, &capture);
    let mut captured = std::mem::take(&mut *locked(&capture.captured));
    capture.outcome.into_result()?;
    let gradients = objective.backward();
    for (operation, probe) in &mut captured {
        operation.gradient = match probe.grad(&gradients) {
            Some(gradient) => read(gradient)?,
            None => vec![0.0; operation.output.len()],
        };
    }
    Ok(CapturedPass {
        operations: captured
            .into_iter()
            .map(|(operation, _)| operation)
            .collect(),
        parameters: parameter_gradients(model, gradients)?,
    })
}

struct Capture<'a> {
    fault: Option<&'a dyn Watch>,
    outcome: Outcome<'a>,
    captured: Mutex<Vec<(CapturedOperation, Tensor<2>)>>,
}

impl Watch for Capture<'_> {
    fn operation(
        &self,
        place: &Place,
        inputs: Vec<Tensor<2>>,
        call: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
    ) -> Tensor<2> {
        let output = compute(self.fault, place, inputs, call);
        if self.outcome.is_over() {
            return output;
        }
        // Adding a probe of zeros changes nothing, and its gradient is that of the output.
        let zeros = Tensor::zeros(output.dims(), (&output.device(), output.dtype()));
        let probe: Tensor<2> = zeros.require_grad();
        let captured = CapturedOperation {
            place: place.clone(),
            shape: output.dims(),
            output: self.outcome.keep(read(output.clone())),
            gradient: Vec::new(),
        };
        locked(&self.captured).push((captured, probe.clone()));
        output + probe
    }
}
