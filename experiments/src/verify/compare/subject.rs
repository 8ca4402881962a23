//! Comparison of a module of your own, with its data, loss and optimizer, on many backends.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};

use super::directory::compare_training;
use super::plan::CompareOptions;
use super::training::{Outline, Output, TakenStep, Training, TrainingRun, Unit};
use super::variant::{Snapshot, Variant, rounded};
use super::{Checked, Compared, Entrant, Invariance, Watcher, dashboard};
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::learner::{PARTS, Records};
use crate::engine::optimizer::gradient_norm;
use crate::engine::parameters::{self, Parameters};
use crate::engine::rounding::nudged;
use crate::record::identity::{Identity, weights_hash};
use crate::record::run::MetricsLog;
use crate::show::dashboard::Dashboard;
use crate::show::format::Shown;
use crate::show::output;
use crate::{Error, errln, outln};

/// Number of batches after the last step over which the final loss is averaged.
const HELD_OUT: usize = 8;

/// Backends that compute on the CPU, on which initial weights are drawn.
const HOSTS: [Backend; 3] = [Backend::Flex, Backend::NdArray, Backend::LibTorch];

/// Device and floating-point type of a computation. A subject creates its tensors for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The device.
    pub device: Device,
    /// The type of weights and activations: f64 in the reference.
    pub dtype: DType,
}

impl Target {
    /// Creates a tensor of floats, rounded to the type of the computation.
    pub fn floats<const D: usize>(&self, data: impl Into<TensorData>) -> Tensor<D> {
        Tensor::from_data(data.into(), (&self.device, self.dtype))
    }
}

/// A module of your own, with its data, loss and optimizer, for [`compare_subject`].
///
/// Everything has to follow from the arguments: a batch drawn from a generator that is not seeded, or dropout, would be
/// a difference between backends. A tensor that [`loss`](Self::loss) creates must have the type of the weights, as
/// `zeros_like` and arithmetic with existing tensors give it; otherwise compare against a reference in f32. Burn restores
/// the state of an optimizer in f32, so that no backend but the reference's can be tested in f64.
pub trait Subject {
    /// The module in training.
    type Module: Module;
    /// The input of a step.
    type Batch;

    /// Returns the name in reports.
    fn name(&self) -> String;

    /// Returns the module before the first step, on a device with autodiff. Its weights are drawn once for each seed, on
    /// the CPU, and carried to every backend.
    fn module(&self, device: &Device) -> Self::Module;

    /// Returns the batch of a step, a function of nothing but step and seed. Batches after the last step are the held-out
    /// ones of the final loss.
    fn batch(&self, step: usize, seed: u64, target: &Target) -> Self::Batch;

    /// Computes the mean loss of a batch: `[1]`.
    fn loss(&self, module: &Self::Module, batch: Self::Batch) -> Tensor<1>;

    /// Computes outputs that are checked beside loss and gradients, each flattened and with its name. There are none by
    /// default.
    fn outputs(&self, module: &Self::Module, batch: Self::Batch) -> Vec<(String, Tensor<1>)> {
        let _ = (module, batch);
        Vec::new()
    }

    /// Returns the optimizer: by default Burn's AdamW.
    fn optimizer(&self) -> ModuleOptimizer {
        AdamWConfig::new().init()
    }

    /// Returns the learning rate of a step: by default 1e-3.
    fn learning_rate(&self, step: usize) -> f64 {
        let _ = step;
        1e-3
    }

    /// Returns the number of items in a batch, over which the loss is a mean: by default 1. Longer sums round more, and
    /// speed counts items.
    fn items(&self) -> usize {
        1
    }
}

/// Compares backends on a module of your own, as `foretoken compare` does on an experiment, and writes a directory with
/// `comparison.json` and the report.
///
/// Backends start from the same bits and read the same batches. Loss, outputs, gradients and updates of single steps are
/// checked against the reference in f64, curves against runs whose weights were moved by one unit in the last place, and
/// ends against other seeds. [`Comparison::to_text`](super::Comparison::to_text) gives the verdicts as text, and
/// [`Comparison::has_failures`](super::Comparison::has_failures) the exit code.
///
/// # Errors
///
/// Returns an error if no backend under test can run, the reference fails, or the directory cannot be written.
///
/// # Examples
///
/// `experiments/examples/compare_my_model.rs` compares a convolutional network and a multilayer perceptron.
pub fn compare_subject<S: Subject>(
    subject: &S,
    options: &CompareOptions,
    watcher: &mut dyn Watcher,
) -> Result<Compared, Error> {
    let training = SubjectTraining {
        subject,
        steps: options.steps,
        initial: Mutex::default(),
    };
    compare_training(&training, options, watcher)
}

/// Compares backends on a module of your own with [`compare_subject`], with progress on standard error and the verdicts on
/// standard output. Returns the exit code of `foretoken compare`: 3 if a backend differs or failed.
///
/// # Errors
///
/// Returns the errors of [`compare_subject`].
pub fn print_comparison<S: Subject>(
    subject: &S,
    options: &CompareOptions,
) -> Result<ExitCode, Error> {
    let mut watcher = dashboard::watcher(Dashboard::Plain, options.interrupted.clone());
    let compared = compare_subject(subject, options, &mut *watcher)?;
    drop(watcher);
    let Compared::Complete {
        comparison, report, ..
    } = compared
    else {
        errln!("interrupted; nothing was judged");
        return Ok(ExitCode::from(130));
    };
    output::write(&comparison.to_text());
    outln!("\nReport: {}", report.shown());
    Ok(match comparison.has_failures() {
        true => ExitCode::from(3),
        false => ExitCode::SUCCESS,
    })
}

/// A subject with the number of steps of a comparison.
struct SubjectTraining<'s, S> {
    subject: &'s S,
    steps: usize,
    /// Records of the initial weights, in f32, by seed.
    initial: Mutex<BTreeMap<u64, Vec<u8>>>,
}

/// Seed of runs that do not vary it.
const SEED: u64 = 0;

impl<S: Subject> SubjectTraining<'_, S> {
    /// Returns the record of the initial weights for a seed, drawn on the CPU.
    fn initial(&self, seed: u64) -> Result<Vec<u8>, Error> {
        let mut initial = self.initial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = initial.get(&seed) {
            return Ok(record.clone());
        }
        let host = HOSTS.into_iter().find(|backend| backend.compiled_in());
        let host = host.unwrap_or(Backend::default_backend());
        let device = host.device()?.autodiff();
        let _drawing = drawing();
        device.seed(seed);
        let record = to_bytes(self.subject.module(&device).into_record().into_bytes())?;
        initial.insert(seed, record.clone());
        Ok(record)
    }

    /// Returns the module with the initial weights for a seed, in f32.
    fn module(&self, seed: u64, device: &Device) -> Result<S::Module, Error> {
        let record = self.initial(seed)?;
        let _drawing = drawing();
        loaded(self.subject.module(device), record)
    }
}

/// Waits for the generator of Burn's random numbers, which all threads of the process share: what one draws between the seed
/// and the weights of another would change them.
fn drawing() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'s, S: Subject> Training for SubjectTraining<'s, S> {
    type Run = SubjectRun<'s, S>;

    fn outline(&self) -> Outline {
        Outline {
            name: self.subject.name(),
            steps: self.steps,
            unit: Unit::Items,
            items_per_step: self.subject.items(),
            terms: self.subject.items(),
            seed: SEED,
            fused: true,
            experiment: String::new(),
        }
    }

    fn identity(&self, reference: Entrant) -> Result<Identity, Error> {
        let device = reference.name.device()?.autodiff();
        Ok(Identity {
            experiment: String::new(),
            initial_weights: weights_hash(&self.module(SEED, &device)?)?,
            data: String::new(),
            replanned: Vec::new(),
        })
    }

    fn start(
        &self,
        entrant: Entrant,
        variant: &Variant,
        snapshot: Option<&Snapshot>,
    ) -> Result<SubjectRun<'s, S>, Error> {
        let device = entrant.name.device_for(entrant.dtype)?.autodiff();
        let seed = variant.seed.unwrap_or(SEED);
        let mut module = parameters::in_precision(self.module(seed, &device)?, entrant.dtype);
        let mut optimizer = self.subject.optimizer();
        if let Some(snapshot) = snapshot {
            let [model, state, _] = PARTS;
            let part = |name: &str| rounded(&snapshot.records[name], entrant.dtype);
            module = loaded(module, part(model)?)?;
            optimizer = match &snapshot.optimizer {
                Some((of, optimizer)) if *of == entrant => optimizer.clone(),
                // Burn restores the state of an optimizer in the default type of floats, which is f32.
                _ if entrant.dtype == Precision::F64 => {
                    let reason = "is compared in f64, and Burn restores optimizers in f32; compare it in f32";
                    return Err(Error::Training(format!("{entrant} {reason}")));
                }
                _ => {
                    let record = Bytes::from_bytes_vec(part(state)?);
                    let record = OptimizerRecord::from_bytes(record).map_err(failed)?;
                    optimizer.load_record(record)
                }
            };
        }
        if let Some(member) = variant.nudge {
            module = nudged(module, entrant.dtype, member);
        }
        Ok(SubjectRun {
            subject: self.subject,
            last: self.steps,
            module,
            optimizer,
            step: snapshot.map_or(0, |snapshot| snapshot.step),
            seed,
            entrant,
            target: Target {
                device,
                dtype: entrant.dtype.dtype(),
            },
        })
    }

    fn open_log(&self, _: Entrant, _: &Path) -> Result<Option<MetricsLog>, Error> {
        Ok(None)
    }
}

/// Run of a subject.
struct SubjectRun<'s, S: Subject> {
    subject: &'s S,
    /// Number of steps of the run.
    last: usize,
    module: S::Module,
    optimizer: ModuleOptimizer,
    step: usize,
    seed: u64,
    entrant: Entrant,
    target: Target,
}

impl<S: Subject> SubjectRun<'_, S> {
    fn batch(&self, step: usize) -> S::Batch {
        self.subject.batch(step, self.seed, &self.target)
    }

    /// Runs forward and backward of the next step. Returns the loss and the gradients.
    fn backward(&self) -> Result<(f64, GradientsParams), Error> {
        let loss = self.subject.loss(&self.module, self.batch(self.step));
        let value = loss.clone().detach();
        let gradients = GradientsParams::from_grads(loss.backward(), &self.module);
        Ok((read(value)?, gradients))
    }

    fn apply(&mut self, gradients: GradientsParams) -> Result<(), Error> {
        let rate = self.subject.learning_rate(self.step);
        let module = self.module.clone();
        self.module = self.optimizer.step(rate, module, gradients);
        self.step += 1;
        self.target.device.sync().map_err(Error::device)
    }
}

impl<S: Subject> TrainingRun for SubjectRun<'_, S> {
    fn steps(&self) -> usize {
        self.step
    }

    fn step(&mut self) -> Result<TakenStep, Error> {
        let started = Instant::now();
        let step = self.step;
        let (loss, gradients) = self.backward()?;
        let device = &self.target.device.clone().inner();
        let norm = read(gradient_norm(&self.module, &gradients, false, device))?;
        self.apply(gradients)?;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(Error::NotFinite {
                loss,
                step,
                learning_rate: self.subject.learning_rate(step),
                gradient_norm: norm,
                checkpoint: None,
            });
        }
        Ok(TakenStep {
            step,
            loss,
            gradient_norm: norm,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn record(&self, _: &mut Option<MetricsLog>) -> Result<(), Error> {
        Ok(())
    }

    fn gradients(&mut self) -> Result<(f64, Parameters), Error> {
        let (loss, gradients) = self.backward()?;
        Ok((loss, parameters::gradients(&self.module, &gradients, 1.0)?))
    }

    fn update(&mut self, gradients: &Parameters) -> Result<(), Error> {
        self.apply(parameters::to_gradients(
            &self.module,
            gradients,
            self.entrant.dtype,
        ))
    }

    fn outputs(&mut self, elements: usize) -> Result<Vec<Output>, Error> {
        let outputs = self.subject.outputs(&self.module, self.batch(self.step));
        let output = |(name, values): (String, Tensor<1>)| {
            let length = values.dims()[0].min(elements);
            let values = values.detach().narrow(0, 0, length);
            Ok(Output {
                of: Checked::Output,
                name: Some(name),
                values: values.try_into_vec_as().map_err(Error::device)?,
            })
        };
        outputs.into_iter().map(output).collect()
    }

    fn weights(&self) -> Result<Parameters, Error> {
        parameters::weights(&self.module)
    }

    fn snapshot(&self) -> Result<Snapshot, Error> {
        let [model, state, _] = PARTS.map(str::to_owned);
        let records = [
            (
                model,
                to_bytes(self.module.clone().into_record().into_bytes())?,
            ),
            (state, to_bytes(self.optimizer.to_record().into_bytes())?),
        ];
        Ok(Snapshot {
            step: self.step,
            records: Records::from(records),
            optimizer: Some((self.entrant, self.optimizer.clone())),
        })
    }

    fn evaluate(
        &mut self,
        _: &mut Option<MetricsLog>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<f64>, Error> {
        let module = self.module.valid();
        let target = Target {
            device: self.target.device.clone().inner(),
            dtype: self.target.dtype,
        };
        let mut sum = 0.0;
        for batch in 0..HELD_OUT {
            if stop() {
                return Ok(None);
            }
            let batch = self.subject.batch(self.last + batch, SEED, &target);
            sum += read(self.subject.loss(&module, batch))?;
        }
        Ok(Some(sum / HELD_OUT as f64))
    }

    fn invariance(&self) -> Result<Vec<Invariance>, Error> {
        Ok(Vec::new())
    }
}

/// Reads a scalar, `[1]`.
fn read(value: Tensor<1>) -> Result<f64, Error> {
    value.try_into_scalar::<f64>().map_err(Error::device)
}

fn to_bytes(bytes: Result<Bytes, RecordError>) -> Result<Vec<u8>, Error> {
    Ok(bytes.map_err(failed)?.to_vec())
}

fn failed(error: RecordError) -> Error {
    Error::Training(error.to_string())
}

/// Returns the module with the parameters of a record.
fn loaded<M: Module>(module: M, record: Vec<u8>) -> Result<M, Error> {
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(record)).map_err(failed)?;
    module.try_load_record(record).map_err(failed)
}
