//! Mistakes to plant in a backend, with their places. Several tests share them.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::tensor::{Bytes, Tensor, TensorData, bf16};
use burn_pack::{Reader, Scalar, Writer};
use foretoken::Error;
use foretoken::engine::learner::{Learner, PARTS, Records};
use foretoken::engine::perturbation::{Moment, Perturbation};
use foretoken::engine::setup::Setup;
use foretoken::verify::bisect::Direction;
use foretoken_datasets::TokenBatch;
use foretoken_model::{Activation, Place, Transformer, Watch};

/// Overrides that make the GPT-2 of an experiment a Llama.
pub(crate) const LLAMA: [&str; 6] = [
    "model.kv_heads=2",
    "model.norm=\"rms\"",
    "model.positions=\"rotary\"",
    "model.activation=\"swiglu\"",
    "model.bias=false",
    "model.tied_head=false",
];

/// A mistake.
pub(crate) struct Fault {
    /// Short name for tables.
    pub(crate) name: &'static str,
    /// Description in a clause.
    pub(crate) what: &'static str,
    /// Perturbation that plants it.
    pub(crate) perturbation: Perturbation,
    /// First wrong place and direction, or the first wrong parameter of an update. `None` if one batch does not show
    /// the mistake, or it is not a mistake.
    #[allow(dead_code)] // not used by all tests that share this module
    pub(crate) at: Option<(String, Direction)>,
}

type Compute<'a> = Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + 'a>;

/// Observer that changes the operation at one path.
struct Changed<F> {
    path: String,
    change: F,
}

impl<F> Watch for Changed<F>
where
    F: Fn(&Place, Vec<Tensor<2>>, Compute<'_>) -> Tensor<2> + Send + Sync,
{
    fn operation(&self, place: &Place, inputs: Vec<Tensor<2>>, compute: Compute<'_>) -> Tensor<2> {
        match place.path == self.path {
            true => (self.change)(place, inputs, compute),
            false => compute(inputs),
        }
    }
}

fn changed(
    path: &str,
    change: impl Fn(&Place, Vec<Tensor<2>>, Compute<'_>) -> Tensor<2> + Send + Sync + 'static,
) -> Perturbation {
    Perturbation {
        watch: Some(Arc::new(Changed {
            path: path.into(),
            change,
        })),
        ..Perturbation::default()
    }
}

/// Returns the value of `value` with the derivatives of both, of which one should be detached.
fn with_gradient_of<const D: usize>(value: Tensor<D>, other: Tensor<D>) -> Tensor<D> {
    value + (other.clone() - other.detach())
}

/// Rounds the values to bf16 on every backend, and passes the gradient unchanged.
fn halved(x: Tensor<2>) -> Tensor<2> {
    let values: Vec<f32> = x.clone().try_into_vec_as().unwrap();
    let rounded = values.into_iter().map(|v| bf16::from_f32(v).to_f32());
    let data = TensorData::new(rounded.collect::<Vec<f32>>(), x.dims());
    let rounded = Tensor::from_data(data, (&x.device(), x.dtype()));
    with_gradient_of(rounded, x)
}

/// Changes a gradient, up or down, by as much as rounding to bf16.
fn gradient_in_bf16(y: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = y.dims();
    let factor = |at: usize| 1.0 + ((at * 7919 % 17) as f32 / 8.0 - 1.0) / 512.0;
    let factors = (0..rows * columns).map(factor).collect::<Vec<f32>>();
    let data = TensorData::new(factors, [rows, columns]);
    let factors = Tensor::<2>::from_data(data, (&y.device(), y.dtype()));
    with_gradient_of(y.clone().detach(), y * factors)
}

/// Reshapes `[rows, columns]` to the dimensions of an input of the place.
fn input<const D: usize>(x: Tensor<2>, place: &Place, index: usize) -> Tensor<D> {
    let dims: [usize; D] = place.inputs[index].clone().try_into().unwrap();
    x.reshape(dims)
}

fn forward(path: &str) -> Option<(String, Direction)> {
    Some((path.into(), Direction::Forward))
}

fn backward(path: &str) -> Option<(String, Direction)> {
    Some((path.into(), Direction::Backward))
}

/// Swaps inputs and outputs of a square weight of one block.
fn transposed<const LAYER: usize>(model: Transformer) -> Transformer {
    struct Transpose {
        path: Vec<String>,
        wanted: String,
    }
    impl ModuleMapper for Transpose {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.path.join(".") != self.wanted {
                return param;
            }
            let value = param.val().detach().swap_dims(0, 1).detach();
            Param::initialized(param.id, value.require_grad())
        }
    }
    model.map(&mut Transpose {
        path: Vec::new(),
        wanted: format!("blocks.{LAYER}.attention.output.weight"),
    })
}

fn transpose_in(layer: usize) -> fn(Transformer) -> Transformer {
    match layer {
        0 => transposed::<0>,
        1 => transposed::<1>,
        _ => transposed::<2>,
    }
}

/// Shifts every row of a batch by one token, and repeats its last token.
fn shifted(mut batch: TokenBatch) -> TokenBatch {
    let [rows, length] = batch.inputs.dims();
    let shift = |ids: burn::tensor::Tensor<2, burn::tensor::Int>| {
        let device = ids.device();
        let ids: Vec<i64> = ids.try_into_vec_as().unwrap();
        let later = |at: usize| ids[(at + 1).min(at / length * length + length - 1)];
        let ids: Vec<i64> = (0..rows * length).map(later).collect();
        Tensor::from_data(TensorData::new(ids, [rows, length]), &device)
    };
    batch.inputs = shift(batch.inputs);
    batch.targets = shift(batch.targets);
    batch
}

/// Returns mistakes of the forward pass in a GPT-2 (`rms` false) or a Llama; those inside a block are in block `layer`.
pub(crate) fn forward_faults(layer: usize, rms: bool) -> Vec<Fault> {
    let block = |name: &str| format!("blocks.{layer}.{name}");
    let mut faults = vec![
        Fault {
            name: "norm epsilon",
            what: "all norms add ten times the epsilon",
            perturbation: Perturbation {
                model: Some(|config| config.norm_epsilon *= 10.0),
                ..Perturbation::default()
            },
            at: forward("blocks.0.attention_norm"),
        },
        Fault {
            name: "transposed weight",
            what: "a square weight has inputs and outputs swapped",
            perturbation: Perturbation {
                weights: Some(transpose_in(layer)),
                ..Perturbation::default()
            },
            at: forward(&block("attention.output")),
        },
        Fault {
            name: "mask off by one",
            what: "a query sees the key that follows it",
            perturbation: changed(&block("attention.scores"), |place, inputs, compute| {
                let length = place.inputs[0][2];
                let device = inputs[0].device();
                let [rows, _] = inputs[0].dims();
                // The mask has 1e9 only on the first diagonal above the main one.
                let above = Tensor::<2>::ones([length, length], (&device, inputs[0].dtype()));
                let above = above.clone().triu(1) - above.triu(2);
                compute(inputs) + (above * 1e9).repeat_dim(0, rows / length)
            }),
            at: forward(&block("attention.scores")),
        },
        Fault {
            name: "one head's scale",
            what: "the scores of one head are 1 % too large",
            perturbation: changed(&block("attention.scores"), |place, inputs, compute| {
                let [batch, heads, length, _] = place.inputs[0][..] else {
                    unreachable!()
                };
                let scores = compute(inputs);
                let columns = scores.dims()[1];
                let scores = scores.reshape([batch, heads, length, columns]);
                let first = scores.clone().narrow(1, 0, 1) * 1.01;
                let others = scores.narrow(1, 1, heads - 1);
                Tensor::cat(vec![first, others], 1).reshape([batch * heads * length, columns])
            }),
            at: forward(&block("attention.scores")),
        },
        Fault {
            name: "norm in bf16",
            what: "a norm adds up its squares in bf16",
            perturbation: changed(&block("feed_forward_norm"), |_, inputs, compute| {
                let x = inputs[0].clone().detach();
                let deviation = x.clone() - x.mean_dim(1);
                let squares = (deviation.clone() * deviation).mean_dim(1);
                let error = (squares.clone() / halved(squares)).sqrt();
                compute(inputs) * error
            }),
            at: forward(&block("feed_forward_norm")),
        },
        Fault {
            name: "wrong row",
            what: "one token is given the vector of another",
            perturbation: changed("token_embedding", |_, inputs, compute| {
                let rows = compute(inputs);
                let [count, width] = rows.dims();
                if count == 1 {
                    return rows;
                }
                let others = rows.clone().narrow(0, 0, count - 1);
                // The wrong row is the first that differs from the last.
                let values: Vec<f64> = rows.clone().try_into_vec_as().unwrap();
                let last = &values[(count - 1) * width..];
                let other = (0..count).find(|row| &values[row * width..(row + 1) * width] != last);
                let wrong = rows.narrow(0, other.unwrap_or(0), 1);
                Tensor::cat(vec![others, wrong], 0)
            }),
            at: forward("token_embedding"),
        },
        Fault {
            name: "matrix product in bf16",
            what: "a linear layer's inputs are rounded to bf16",
            perturbation: changed(&block("feed_forward.up"), |_, mut inputs, compute| {
                inputs[0] = halved(inputs[0].clone());
                compute(inputs)
            }),
            at: forward(&block("feed_forward.up")),
        },
        Fault {
            name: "softmax temperature",
            what: "scores are 1 % too far apart",
            perturbation: changed(&block("attention.mix"), |_, mut inputs, compute| {
                inputs[0] = inputs[0].clone() * 1.01;
                compute(inputs)
            }),
            at: forward(&block("attention.mix")),
        },
        Fault {
            name: "residual in bf16",
            what: "the stream is stored in bf16 once",
            perturbation: changed(&block("attention_residual"), |_, inputs, compute| {
                halved(compute(inputs))
            }),
            at: forward(&block("attention_residual")),
        },
        Fault {
            name: "one logit",
            what: "one logit of many is a little off",
            perturbation: changed("head", |_, inputs, compute| {
                let logits = compute(inputs);
                let [rows, columns] = logits.dims();
                let mut off = vec![0.0; rows * columns];
                off[rows / 2 * columns + 3] = 1e-3;
                let data = TensorData::new(off, [rows, columns]);
                let off = Tensor::<2>::from_data(data, (&logits.device(), logits.dtype()));
                logits + off
            }),
            at: forward("head"),
        },
        Fault {
            name: "loss",
            what: "the loss is 0.01 % too large",
            perturbation: changed("loss", |_, inputs, compute| {
                let nats = compute(inputs);
                nats.clone() + nats.detach() * 1e-4
            }),
            at: forward("loss"),
        },
    ];
    match rms {
        false => faults.extend([
            Fault {
                name: "positions off by one",
                what: "every position has the vector of the one before",
                perturbation: changed("position_embedding", |place, mut inputs, compute| {
                    let [batch, length, width] = place.inputs[0][..] else {
                        unreachable!()
                    };
                    if length == 1 {
                        return compute(inputs);
                    }
                    let x = inputs.remove(0);
                    let positions = compute(vec![x.zeros_like()]);
                    let positions = positions.reshape([batch, length, width]);
                    let last = positions.clone().narrow(1, length - 1, 1);
                    let others = positions.narrow(1, 0, length - 1);
                    let rolled = Tensor::cat(vec![last, others], 1);
                    x + rolled.reshape([batch * length, width])
                }),
                at: forward("position_embedding"),
            },
            Fault {
                name: "wrong GELU",
                what: "one activation is the exact GELU, not its approximation",
                perturbation: changed(&block("feed_forward.activation"), |_, inputs, compute| {
                    let x = inputs[0].clone();
                    // The call records the shape.
                    let _ = compute(inputs);
                    ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5
                }),
                at: forward(&block("feed_forward.activation")),
            },
            Fault {
                name: "wrong GELU everywhere",
                what: "all activations are the exact GELU, not its approximation",
                perturbation: Perturbation {
                    model: Some(|config| config.activation = Activation::Gelu),
                    ..Perturbation::default()
                },
                at: forward("blocks.0.feed_forward.activation"),
            },
        ]),
        true => faults.extend([
            Fault {
                name: "rotary base",
                what: "queries and keys are rotated 1 % too slowly",
                perturbation: Perturbation {
                    model: Some(|config| config.rotary_theta *= 1.01),
                    ..Perturbation::default()
                },
                at: forward("blocks.0.attention.queries"),
            },
            Fault {
                name: "keys not rotated",
                what: "the keys of one block are not rotated",
                perturbation: changed(&block("attention.keys"), |_, inputs, compute| {
                    let keys = inputs[0].clone();
                    let _ = compute(inputs);
                    keys
                }),
                at: forward(&block("attention.keys")),
            },
            Fault {
                name: "gate and up swapped",
                what: "the activation gates the gate with what it should gate",
                perturbation: changed(&block("feed_forward.activation"), |_, inputs, compute| {
                    let [gate, up] = <[_; 2]>::try_from(inputs).unwrap();
                    compute(vec![up, gate])
                }),
                at: forward(&block("feed_forward.activation")),
            },
        ]),
    }
    faults
}

/// Returns mistakes of the backward pass: the values are right, but the derivatives are wrong.
pub(crate) fn backward_faults(layer: usize, rms: bool) -> Vec<Fault> {
    let block = |name: &str| format!("blocks.{layer}.{name}");
    let norm = move |_: &Place, inputs: Vec<Tensor<2>>, compute: Compute<'_>| {
        // Before training, the gain is 1 and the bias is 0. `compute` provides their gradients.
        let x = inputs[0].clone();
        let value = compute(vec![x.clone().detach()]);
        let other = if rms {
            // The mean square has no gradient.
            let mean_square = (x.clone() * x.clone()).mean_dim(1);
            x / (mean_square.detach() + 1e-5).sqrt()
        } else {
            // The mean has no gradient.
            let deviation = x.clone() - x.mean_dim(1).detach();
            let variance = (deviation.clone() * deviation.clone()).mean_dim(1);
            deviation / (variance + 1e-5).sqrt()
        };
        with_gradient_of(value, other)
    };
    let mut faults = vec![
        Fault {
            name: "norm's mean",
            what: "a norm is differentiated as if its mean were a constant",
            perturbation: changed(&block("attention_norm"), norm),
            at: backward(&block("attention_norm")),
        },
        Fault {
            name: "softmax's sum",
            what: "the softmax is differentiated as if its sum were a constant",
            perturbation: changed(&block("attention.mix"), |place, inputs, compute| {
                let value = compute(inputs.clone()).detach();
                let scores: Tensor<4> = input(inputs[0].clone(), place, 0);
                let values: Tensor<4> = input(inputs[1].clone(), place, 1);
                let [batch, heads, length, _] = scores.dims();
                let [_, kv_heads, _, width] = values.dims();
                let maximum = scores.clone().detach().max_dim(3);
                let weights = (scores - maximum).exp();
                let weights = weights.clone() / weights.sum_dim(3).detach();
                let rows = heads / kv_heads * length;
                let other = weights
                    .reshape([batch, kv_heads, rows, length])
                    .matmul(values);
                with_gradient_of(value, other.reshape([batch * heads * length, width]))
            }),
            at: backward(&block("attention.mix")),
        },
        Fault {
            name: "linear gradient in bf16",
            what: "a linear layer's gradients are made of one that was rounded to bf16",
            perturbation: changed(&block("attention.qkv"), |_, inputs, compute| {
                gradient_in_bf16(compute(inputs))
            }),
            at: backward(&block("attention.qkv")),
        },
        Fault {
            name: "repeated tokens",
            what: "of tokens that come again, only the last one changes the embedding",
            perturbation: changed("token_embedding", |_, inputs, compute| {
                let rows = compute(inputs);
                let [count, width] = rows.dims();
                let values: Vec<f64> = rows.clone().try_into_vec_as().unwrap();
                let row = |at: usize| &values[at * width..(at + 1) * width];
                let is_last = |at: usize| (at + 1..count).all(|later| row(later) != row(at));
                let last: Vec<f64> = (0..count).map(|at| f64::from(is_last(at))).collect();
                let data = TensorData::new(last, [count, 1]);
                let last = Tensor::<2>::from_data(data, (&rows.device(), rows.dtype()));
                with_gradient_of(rows.clone().detach(), rows * last)
            }),
            at: backward("token_embedding"),
        },
        Fault {
            name: "residual branch",
            what: "a residual passes no gradient to one of its branches",
            perturbation: changed(&block("feed_forward_residual"), |_, mut inputs, compute| {
                inputs[1] = inputs[1].clone().detach();
                compute(inputs)
            }),
            at: backward(&block("feed_forward_residual")),
        },
        Fault {
            name: "loss gradient",
            what: "the loss's gradient is 1 % too large",
            perturbation: changed("loss", |_, inputs, compute| {
                let nats = compute(inputs);
                with_gradient_of(nats.clone().detach(), nats * 1.01)
            }),
            at: backward("loss"),
        },
        Fault {
            name: "scores' scale",
            what: "the scale of scores is forgotten in their gradient for queries",
            perturbation: changed(&block("attention.scores"), |_, inputs, compute| {
                let queries = inputs[0].clone();
                let times = with_gradient_of(queries.clone().detach(), queries * 1.001);
                compute(vec![times, inputs[1].clone()])
            }),
            at: backward(&block("attention.scores")),
        },
        Fault {
            name: "one column's gradient",
            what: "one column of a linear layer's input gets no gradient",
            perturbation: changed(&block("feed_forward.down"), |_, mut inputs, compute| {
                let x = inputs[0].clone();
                let first = x.clone().narrow(1, 0, 1).detach();
                let others = x.clone().narrow(1, 1, x.dims()[1] - 1);
                inputs[0] = Tensor::cat(vec![first, others], 1);
                compute(inputs)
            }),
            at: backward(&block("feed_forward.down")),
        },
        Fault {
            name: "final norm's gradient",
            what: "the last norm's gradient is 0.01 % too small",
            perturbation: changed("final_norm", |_, inputs, compute| {
                let normed = compute(inputs);
                with_gradient_of(normed.clone().detach(), normed * 0.9999)
            }),
            at: backward("final_norm"),
        },
    ];
    if !rms {
        faults.push(Fault {
            name: "GELU's derivative",
            what: "GELU's approximation is differentiated as the exact one",
            perturbation: changed(&block("feed_forward.activation"), |_, inputs, compute| {
                let x = inputs[0].clone();
                let value = compute(inputs).detach();
                let other = ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5;
                with_gradient_of(value, other)
            }),
            at: backward(&block("feed_forward.activation")),
        });
    }
    faults
}

/// Returns mistakes in the optimizer and in the data.
pub(crate) fn training_faults() -> Vec<Fault> {
    let update = |path: &str| Some((path.to_owned(), Direction::Update));
    vec![
        Fault {
            name: "beta_2",
            what: "the second moment decays too slowly",
            perturbation: Perturbation {
                optimizer: Some(|optimizer| optimizer.beta_2 = 0.999),
                ..Perturbation::default()
            },
            at: update("token_embedding.weight"),
        },
        Fault {
            name: "optimizer epsilon",
            what: "AdamW adds ten times the epsilon",
            perturbation: Perturbation {
                optimizer: Some(|optimizer| optimizer.epsilon *= 10.0),
                ..Perturbation::default()
            },
            at: update("token_embedding.weight"),
        },
        Fault {
            name: "window shifted by one",
            what: "every window begins a token late",
            perturbation: Perturbation {
                batch: Some(shifted),
                ..Perturbation::default()
            },
            at: forward("token_embedding"),
        },
    ]
}

/// Returns the first row of step `from`, in steps of [`ROWS`] rows.
#[allow(dead_code)] // not used by all tests that share this module
pub(crate) const fn first_row(from: usize) -> usize {
    from * ROWS
}

/// Number of rows of a step in experiments with late mistakes.
#[allow(dead_code)]
pub(crate) const ROWS: usize = 4;

/// Mistakes in the state that a run carries between steps.
#[allow(dead_code)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// The learning rate is that of the next step.
    ScheduleOffByOne,
    /// The step counter of the schedule overflows and restarts.
    ScheduleOverflow,
    /// The step counter of the optimizer overflows and restarts; the moments are kept.
    OptimizerOverflow,
    /// Weights no longer decay.
    WeightDecayLost,
    /// Moments are lost when a run is resumed.
    MomentsReset,
}

/// Plants a mistake that acts from step `from` on: before that step, and in runs resumed at a later step.
#[allow(dead_code)]
fn plant(
    kind: Late,
    from: usize,
    (moment, step): (Moment, usize),
    setup: &mut Setup,
    learner: &mut Learner,
) -> Result<(), Error> {
    let acts = match moment {
        Moment::Loaded => step >= from,
        Moment::BeforeStep => step == from,
    };
    if !acts {
        return Ok(());
    }
    let [_, optimizer, schedule] = PARTS;
    let mut records = learner.to_records()?;
    let next = match kind {
        Late::ScheduleOffByOne => Some(step + 1),
        Late::ScheduleOverflow => Some(step - from),
        _ => None,
    };
    if let Some(next) = next {
        let record = LrSchedulerRecord::new().with_scalar("next", next as u64);
        records.insert(schedule.into(), record.into_bytes().unwrap().to_vec());
    }
    match kind {
        Late::MomentsReset => {
            let fresh = setup
                .learner(learner.model().clone())
                .to_records()?
                .remove(optimizer);
            records.insert(optimizer.into(), fresh.unwrap());
        }
        Late::OptimizerOverflow => set_optimizer_time(&mut records, step - from),
        _ => {}
    }
    if kind == Late::WeightDecayLost {
        setup.experiment.optimizer.weight_decay = 0.0;
    }
    *learner = setup.learner(learner.model().clone());
    learner.load_records(records)
}

/// Sets the optimizer's step counters to `time`.
#[allow(dead_code)]
fn set_optimizer_time(records: &mut Records, time: usize) {
    let [_, optimizer, _] = PARTS;
    let bytes = Bytes::from_bytes_vec(records.remove(optimizer).unwrap());
    let reader = Reader::from_bytes(bytes).unwrap();
    let (metadata, scalars) = (reader.metadata().clone(), reader.scalars().clone());
    let mut writer = Writer::new(reader.into_tensors().unwrap());
    for (key, value) in &metadata {
        writer = writer.with_metadata(key, value);
    }
    for (key, value) in scalars {
        let value = match key.ends_with(".time") {
            true => Scalar::from(time),
            false => value,
        };
        writer = writer.with_scalar(&key, value);
    }
    records.insert(optimizer.into(), writer.into_bytes().unwrap().to_vec());
}

/// Returns mistakes that begin at step `FROM`, for runs with dropout and [`ROWS`] rows per step.
#[allow(dead_code)]
pub(crate) fn late_faults<const FROM: usize>() -> Vec<Fault> {
    let carried = |name, what, kind| Fault {
        name,
        what,
        perturbation: Perturbation {
            carried: Some(Arc::new(move |moment, step, setup, learner| {
                plant(kind, FROM, (moment, step), setup, learner)
            })),
            ..Perturbation::default()
        },
        at: None,
    };
    vec![
        carried(
            "schedule off by one",
            "the learning rate is that of the next step",
            Late::ScheduleOffByOne,
        ),
        carried(
            "schedule's counter",
            "the schedule's step counter overflows and begins again",
            Late::ScheduleOverflow,
        ),
        carried(
            "AdamW's counter",
            "AdamW's step counter overflows and begins again, its moments stay",
            Late::OptimizerOverflow,
        ),
        carried(
            "weight decay",
            "weights do not decay any more",
            Late::WeightDecayLost,
        ),
        carried(
            "moments at resume",
            "a run that is resumed begins with new moments",
            Late::MomentsReset,
        ),
        Fault {
            name: "dropout at high rows",
            what: "the number of a row overflows in dropout's seed",
            perturbation: Perturbation {
                batch: Some(|mut batch| {
                    batch.first_row %= first_row(FROM);
                    batch
                }),
                ..Perturbation::default()
            },
            at: None,
        },
        Fault {
            name: "windows at high rows",
            what: "windows begin a token late from a row on",
            perturbation: Perturbation {
                batch: Some(|batch| match batch.first_row >= first_row(FROM) {
                    true => shifted(batch),
                    false => batch,
                }),
                ..Perturbation::default()
            },
            at: None,
        },
    ]
}

/// Observer that changes no operation, so that operations are not fused.
struct PassiveWatch;

impl Watch for PassiveWatch {
    fn operation(&self, _: &Place, inputs: Vec<Tensor<2>>, compute: Compute<'_>) -> Tensor<2> {
        compute(inputs)
    }
}

/// Returns variants of the computation that are not mistakes in runs of any length. A softmax without maximum is not
/// among them, because it overflows for large scores and has no dropout.
#[allow(dead_code)]
pub(crate) fn clean_variants(layer: usize) -> Vec<Fault> {
    let variant = |name, what, perturbation| Fault {
        name,
        what,
        perturbation,
        at: None,
    };
    let watched = Perturbation {
        watch: Some(Arc::new(PassiveWatch)),
        ..Perturbation::default()
    };
    vec![
        variant(
            "not fused",
            "operations are Burn's own, one by one",
            watched,
        ),
        variant(
            "head times three",
            "logits are computed of three times the activations and divided by three",
            changed("head", |_, mut inputs, compute| {
                inputs[0] = inputs[0].clone() * 3.0;
                compute(inputs) / 3.0
            }),
        ),
        variant(
            "residual times three",
            "three times a residual and its branch are added, and the sum divided by three",
            changed(
                &format!("blocks.{layer}.attention_residual"),
                |_, inputs, compute| {
                    let inputs = inputs.into_iter().map(|input| input * 3.0);
                    compute(inputs.collect()) / 3.0
                },
            ),
        ),
    ]
}

/// Returns variants of the computation that are not mistakes in short runs without dropout.
pub(crate) fn equivalents(layer: usize) -> Vec<Fault> {
    vec![Fault {
        name: "softmax without maximum",
        what: "the maximum is not subtracted before the exponential",
        perturbation: changed(
            &format!("blocks.{layer}.attention.mix"),
            |place, inputs, compute| {
                let scores: Tensor<4> = input(inputs[0].clone(), place, 0);
                let values: Tensor<4> = input(inputs[1].clone(), place, 1);
                let _ = compute(inputs);
                let [batch, heads, length, _] = scores.dims();
                let [_, kv_heads, _, width] = values.dims();
                let weights = scores.exp();
                let total = weights.clone().sum_dim(3);
                let rows = heads / kv_heads * length;
                let mixed = weights
                    .reshape([batch, kv_heads, rows, length])
                    .matmul(values);
                let mixed = mixed.reshape([batch, heads, length, width]) / total;
                mixed.reshape([batch * heads * length, width])
            },
        ),
        at: None,
    }]
}
