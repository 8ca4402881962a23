//! An operation with numbers for it: run on a backend through the public way, judged by the reference.

use std::collections::BTreeMap;
use std::fmt::Display;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::reference::{Exact, Matrix, Operation};
use crate::ops;
use crate::random;

#[path = "../../../tests/common/devices.rs"]
mod devices;

pub(super) use devices::devices as backends;

/// Those that know NaN: WGSL may assume that there is none.
pub(super) fn backends_with_nan() -> Vec<(&'static str, Device)> {
    let mut all = backends();
    all.retain(|(name, _)| *name != "wgpu");
    all
}

/// Precisions that are tested where a backend has them.
pub(super) const PRECISIONS: [DType; 4] = [DType::F64, DType::F32, DType::BF16, DType::F16];

pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
}

pub(super) fn has(backend: &str, device: &Device, dtype: DType) -> bool {
    device.supports_dtype(dtype) && (backend != "wgpu" || dtype == DType::F32)
}

/// The unit roundoff.
pub(super) fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 2f64.powi(-53),
        DType::F32 => 2f64.powi(-24),
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        other => panic!("{other:?} is not tested"),
    }
}

/// The nearest number of a precision.
fn rounded(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::BF16 => half::bf16::from_f64(x).to_f64(),
        DType::F16 => half::f16::from_f64(x).to_f64(),
        _ => x,
    }
}

pub(super) fn all_rounded(numbers: &[f64], dtype: DType) -> Vec<f64> {
    numbers.iter().map(|x| rounded(*x, dtype)).collect()
}

/// A source of cases that are the same in every run.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(name: &str) -> Self {
        Self(random::stream(1, name))
    }

    /// From 1 to `most`.
    pub(super) fn size(&mut self, most: usize) -> usize {
        1 + self.below(most)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        (random::uniform(&mut self.0) * count as f64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(super) fn normals(&mut self, count: usize) -> Vec<f64> {
        random::normals(&mut self.0, count)
    }

    pub(super) fn matrix(&mut self, rows: usize, columns: usize, scale: f64) -> Matrix {
        let values = self.normals(rows * columns);
        Matrix {
            shape: [rows, columns],
            values: values.into_iter().map(|z| z * scale).collect(),
        }
    }

    pub(super) fn ids(&mut self, count: usize, below: usize) -> Vec<i64> {
        (0..count).map(|_| self.below(below) as i64).collect()
    }
}

/// How an input lies in memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    /// By rows.
    Whole,
    /// By rows, and nobody else holds it: it may be overwritten.
    Free,
    /// By columns.
    Turned,
    /// Amid a larger matrix of NaN, which must never be read.
    Inside,
}

impl Layout {
    fn leaf(self, matrix: &Matrix, device: &Device, dtype: DType) -> Tensor<2> {
        let [rows, columns] = matrix.shape;
        let (shape, values) = match self {
            Self::Whole | Self::Free => (matrix.shape, matrix.values.clone()),
            Self::Turned => {
                let at = |i: usize| matrix.row(i % rows)[i / rows];
                ([columns, rows], (0..rows * columns).map(at).collect())
            }
            Self::Inside => {
                let mut values = vec![f64::NAN; (rows + 2) * (columns + 3)];
                for row in 0..rows {
                    let at = (row + 1) * (columns + 3) + 2;
                    values[at..at + columns].copy_from_slice(matrix.row(row));
                }
                ([rows + 2, columns + 3], values)
            }
        };
        Tensor::from_data(TensorData::new(values, shape), (device, dtype))
    }

    /// The matrix, or its gradient, in a leaf or its.
    fn view(self, leaf: Tensor<2>) -> Tensor<2> {
        let [rows, columns] = leaf.dims();
        match self {
            Self::Whole => leaf,
            Self::Free => leaf.neg().neg(),
            Self::Turned => leaf.transpose(),
            Self::Inside => leaf.narrow(0, 1, rows - 2).narrow(1, 2, columns - 3),
        }
    }
}

impl Operation {
    /// Calls what is tested.
    fn apply(&self, inputs: &[Tensor<2>]) -> Tensor<2> {
        let input = |number: usize| inputs[number].clone();
        let row = |row: Tensor<2>| row.flatten::<1>(0, 1);
        let integers = |ids: &[i64]| {
            let data = TensorData::new(ids.to_vec(), [ids.len()]);
            Tensor::<1, Int>::from_data(data, &inputs[0].device())
        };
        let last = inputs.get(2).cloned().map(row);
        match self {
            Self::Linear => ops::linear(input(0), input(1), last),
            Self::Norm(rule) => ops::norm(input(0), row(input(1)), last, *rule),
            Self::Activation(activation) => ops::activate(input(0), *activation),
            Self::Swiglu => ops::swiglu(input(0), input(1)),
            Self::Attention(heads) => ops::attention(input(0), *heads),
            Self::CrossEntropy(of) => {
                let weights = of.weights.as_ref().map(|weights| {
                    let data = TensorData::new(weights.clone(), [weights.len()]);
                    let dtype = inputs[0].dtype();
                    Tensor::<1>::from_data(data, (&inputs[0].device(), dtype))
                });
                let targets = integers(&of.targets);
                let (loss, ..) = ops::cross_entropy(input(0), input(1), targets, weights, of.rule);
                loss.reshape([of.targets.len(), 1])
            }
            Self::Embedding { ids } => ops::embedding(input(0), integers(ids)),
        }
    }
}

/// An operation, numbers for it, and a gradient of its output.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) inputs: Vec<Matrix>,
    /// That of the mean of all outputs, where it is none.
    pub(super) upstream: Option<Vec<f64>>,
    /// For a slow machine; and for differences.
    pub(super) tiny: bool,
    /// Whether its numbers are within the range of f16.
    pub(super) f16: bool,
    /// Only for the fast paths, in f32.
    pub(super) large: bool,
}

/// What a backend makes of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Got {
    pub(super) output: Vec<f64>,
    pub(super) gradients: Vec<Option<Vec<f64>>>,
}

fn numbers(tensor: Tensor<2>) -> Vec<f64> {
    tensor.try_into_vec_as().unwrap()
}

impl Case {
    pub(super) fn new(
        name: impl Display,
        operation: Operation,
        inputs: Vec<Matrix>,
        random: &mut Random,
    ) -> Self {
        let [rows, columns] = operation.output_shape(&inputs);
        Self {
            name: name.to_string(),
            upstream: Some(random.normals(rows * columns)),
            operation,
            inputs,
            tiny: false,
            f16: true,
            large: false,
        }
    }

    pub(super) fn tiny(self) -> Self {
        Self { tiny: true, ..self }
    }

    fn runs(&self, backend: &str, device: &Device, dtype: DType) -> bool {
        has(backend, device, dtype)
            && (self.tiny || backend != "wgpu")
            && (self.f16 || dtype != DType::F16)
            && (!self.large || (dtype == DType::F32 && backend != "ndarray"))
    }

    /// The same in numbers of a precision.
    pub(super) fn rounded(&self, dtype: DType) -> Self {
        let mut case = self.clone();
        for input in &mut case.inputs {
            input.values = all_rounded(&input.values, dtype);
        }
        case.upstream = case.upstream.map(|grad| all_rounded(&grad, dtype));
        case
    }

    /// The reference's output and gradients.
    pub(super) fn exact(&self) -> (Exact, Vec<Exact>) {
        let [rows, columns] = self.operation.output_shape(&self.inputs);
        let upstream = match &self.upstream {
            Some(upstream) => upstream.clone(),
            None => vec![1.0 / (rows * columns) as f64; rows * columns],
        };
        // A sum's rounding errors grow like the root of its length, in 16 lanes or blocks a quarter as fast.
        let length = self.operation.longest_sum(&self.inputs) as f64;
        let times = 1.0 + length.sqrt() / 4.0 / FACTOR;
        // Of 140 003 terms ATen adds up many one after the other.
        let times = if self.large { 8.0 * times } else { times };
        let output = self.operation.forward(&self.inputs);
        let gradients = self.operation.backward(&self.inputs, &upstream);
        let gradients = gradients.into_iter();
        let sure = |of: Exact| Exact {
            longest_sum: length,
            ..of.less_sure(times)
        };
        (sure(output), gradients.map(sure).collect())
    }

    /// The output where nobody asks for gradients.
    pub(super) fn forward(&self, device: &Device, dtype: DType, layout: Layout) -> Vec<f64> {
        let input = |input| layout.view(layout.leaf(input, device, dtype));
        let inputs: Vec<Tensor<2>> = self.inputs.iter().map(input).collect();
        numbers(self.operation.apply(&inputs))
    }

    /// The output, and gradients of those inputs that are `wanted`.
    pub(super) fn run(
        &self,
        device: &Device,
        dtype: DType,
        layout: Layout,
        wanted: impl Fn(usize) -> bool,
    ) -> Got {
        let device = device.clone().autodiff();
        let leaf = |(number, input)| {
            let leaf = layout.leaf(input, &device, dtype);
            match wanted(number) {
                true => leaf.require_grad(),
                false => leaf,
            }
        };
        let leaves: Vec<Tensor<2>> = self.inputs.iter().enumerate().map(leaf).collect();
        let views = || leaves.iter().map(|leaf| layout.view(leaf.clone()));
        let output = self.operation.apply(&views().collect::<Vec<_>>());
        let shape = self.operation.output_shape(&self.inputs);
        assert_eq!(output.dims(), shape, "{}", self.name);
        let loss = match &self.upstream {
            Some(upstream) => {
                let upstream = TensorData::new(upstream.clone(), shape);
                let upstream = Tensor::from_data(upstream, (&device, output.dtype()));
                (output.clone() * upstream).sum()
            }
            None => output.clone().mean(),
        };
        let gradients = loss.backward();
        let gradient = |(number, leaf): (usize, &Tensor<2>)| {
            let gradient = leaf.grad(&gradients);
            assert_eq!(gradient.is_some(), wanted(number), "{}", self.name);
            gradient.map(|gradient| {
                assert_eq!(gradient.dims(), leaf.dims(), "{}", self.name);
                numbers(layout.view(gradient))
            })
        };
        let got = Got {
            output: numbers(output),
            gradients: leaves.iter().enumerate().map(gradient).collect(),
        };
        for (view, input) in views().zip(&self.inputs) {
            let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
            let unchanged = numbers(view).iter().zip(&input.values).all(same);
            assert!(unchanged, "{}: an input is changed", self.name);
        }
        got
    }
}

/// Units roundoff by which a number may be wrong for its size. The reference's own loops, made f32, need up to 5.6 of
/// them for these cases, except for sums of 140 003 terms one after the other, which nobody makes; and compositions round
/// more often.
const FACTOR: f64 = 8.0;

/// Tensors that are stored in half precision between what is given and a result, at most: of the gradient of queries, for
/// example, the attention's output, the gradients of weights and those of scores, and the result itself. Each is rounded
/// once. All sums and statistics are made in f32, whose bound is added: it grows with the length of sums, this does not.
const STORED: f64 = 4.0;

/// WGSL allows an exponential 3 + 2 |x| units, and logarithms and roots some too.
const SHADER: f64 = 8.0;

/// What is below any f32, times a few factors.
const NOTHING: f64 = 1e-36;

/// Collects how far off results are, and which are too far.
#[derive(Default)]
pub(super) struct Verdict {
    worst: BTreeMap<String, (f64, String)>,
    failures: Vec<String>,
}

impl Verdict {
    /// Judges numbers that a backend has for what is exactly `exact`.
    pub(super) fn check(
        &mut self,
        (backend, dtype): (&str, DType),
        what: &str,
        got: &[f64],
        exact: &Exact,
    ) {
        let who = format!("{backend} {dtype:?}");
        let slack = match (backend, dtype) {
            ("wgpu", _) => SHADER,
            // So is the reference, which is as wrong.
            (_, DType::F64) => 2.0,
            _ => 1.0,
        };
        assert_eq!(got.len(), exact.values.len(), "{who}: {what}");
        let [computed, stored] = match is_half(dtype) {
            true => [unit(DType::F32), STORED * unit(dtype)],
            false => [unit(dtype), 0.0],
        };
        let computed = FACTOR * slack * computed;
        let nothing = match dtype {
            // Below 2⁻¹⁴ numbers of f16 are 2⁻²⁴ apart, and a result is a sum of some of them.
            DType::F16 => STORED * 2f64.powi(-25) * exact.longest_sum,
            // A rounded logit moves its exponential by whole powers of e: of very small ones nothing is known.
            DType::BF16 => 1e-20,
            _ => NOTHING,
        };
        let mut largest = 0.0;
        for (at, got) in got.iter().enumerate() {
            let (value, size) = (exact.values[at], exact.sizes[at]);
            let bound = computed * size + stored * exact.stored[at] + nothing;
            let share = (got - value).abs() / bound;
            let exact = value;
            // NaN is above every bound.
            largest = if share <= largest { largest } else { share };
            if !(share <= 1.0) {
                let of =
                    format!("{who}: {what}[{at}] is {got:e}, not {exact:e}: {share:.1} bounds");
                self.failures.push(of);
            }
        }
        let worst = self.worst.entry(who).or_default();
        if !(largest <= worst.0) {
            *worst = (largest, what.to_owned());
        }
    }

    /// Panics where something was too far off.
    pub(super) fn finish(self, name: &str) {
        for (who, (share, what)) in &self.worst {
            println!("{name:<14} {who:<14} {share:.3} of the bound, {what}");
        }
        let first: Vec<&String> = self.failures.iter().take(20).collect();
        let count = self.failures.len();
        assert!(count == 0, "{name}: {count} numbers, first {first:#?}");
    }
}

/// Runs cases on every backend in every precision, with and without gradients.
pub(super) fn prove(name: &str, cases: &[Case]) {
    let backends = backends();
    let layouts = [Layout::Free, Layout::Turned, Layout::Inside, Layout::Whole];
    let mut verdict = Verdict::default();
    for dtype in PRECISIONS {
        for (number, case) in cases.iter().enumerate() {
            let runs = |(backend, device): &&(&str, Device)| case.runs(backend, device, dtype);
            let on: Vec<_> = backends.iter().filter(runs).collect();
            if on.is_empty() {
                continue;
            }
            let mut case = case.rounded(dtype);
            // Such a gradient is one number seen as many.
            if number % 5 == 4 {
                case.upstream = None;
            }
            let (output, gradients) = case.exact();
            for (backend, device) in on {
                let layout = match *backend {
                    "wgpu" => Layout::Whole,
                    // Not in step with what cases take turns in.
                    _ => layouts[(number + number / 4) % 4],
                };
                let who = (*backend, dtype);
                let what = |of: &str| format!("{of} of {} {layout:?}", case.name);
                let alone = case.forward(device, dtype, layout);
                verdict.check(who, &what("output alone"), &alone, &output);
                let got = case.run(device, dtype, layout, |_| true);
                verdict.check(who, &what("output"), &got.output, &output);
                for (input, exact) in gradients.iter().enumerate() {
                    let gradient = got.gradients[input].as_ref().unwrap();
                    verdict.check(who, &what(&format!("gradient {input}")), gradient, exact);
                }
            }
        }
    }
    verdict.finish(name);
}
