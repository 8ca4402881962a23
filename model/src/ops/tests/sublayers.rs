//! A block's halves, each in one step of autodiff, next to the same made of the operations one by one in f64.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::case::{PRECISIONS, Random, all_rounded, backends, has, is_half, unit};
use super::reference::Matrix;
use crate::config::{Activation, Norm};
use crate::ops::{
    AttentionSublayer, FeedForwardSublayer, Gate, Heads, Layer, NormParameters, Rotation, Rule,
    activate, attention, linear, norm, swiglu,
};
use crate::positions::rotate;

/// Which half, and of what shape.
#[derive(Debug, Clone, Copy)]
enum Half {
    Attention {
        heads: Heads,
        head_width: usize,
        rotary: bool,
    },
    FeedForward {
        activation: Activation,
        rows: usize,
        hidden: usize,
    },
}

#[derive(Debug, Clone, Copy)]
struct Sublayer {
    half: Half,
    width: usize,
    norm: Norm,
    bias: bool,
}

/// How the operations of a half are called.
#[derive(Debug, Clone, Copy)]
enum How {
    /// As one.
    Fused,
    /// One after the other.
    OneByOne,
    /// One after the other, and what goes from one to the next is rounded to this precision, times a number near 1, which
    /// lets other numbers round up.
    Stored(DType, f64),
}

/// `x`, gain, biases and weights, by turns.
type Inputs = Vec<Matrix>;

impl Sublayer {
    fn rows(self) -> usize {
        match self.half {
            Half::Attention { heads, .. } => heads.batch * heads.length,
            Half::FeedForward { rows, .. } => rows,
        }
    }

    fn rule(self) -> Rule {
        Rule {
            norm: self.norm,
            epsilon: 1e-5,
        }
    }

    /// Inputs and outputs of linear layers.
    fn layers(self) -> Vec<[usize; 2]> {
        let width = self.width;
        match self.half {
            Half::Attention {
                heads, head_width, ..
            } => vec![
                [width, (heads.heads + 2 * heads.kv_heads) * head_width],
                [heads.heads * head_width, width],
            ],
            Half::FeedForward {
                activation, hidden, ..
            } => {
                let mut layers = vec![[width, hidden], [hidden, width]];
                if activation == Activation::SwiGlu {
                    layers.push([width, hidden]);
                }
                layers
            }
        }
    }

    fn inputs(self, random: &mut Random) -> Inputs {
        let mut inputs = vec![
            random.matrix(self.rows(), self.width, 1.0),
            random.matrix(1, self.width, 1.0),
        ];
        if self.bias {
            inputs.push(random.matrix(1, self.width, 1.0));
        }
        for [from, to] in self.layers() {
            inputs.push(random.matrix(from, to, (from as f64).powf(-0.5)));
            if self.bias {
                inputs.push(random.matrix(1, to, 1.0));
            }
        }
        inputs
    }

    /// Cosines and sines, `[length, head_width / 2]`.
    fn angles(self, device: &Device, dtype: DType) -> Option<[Tensor<2>; 2]> {
        let Half::Attention {
            heads,
            head_width,
            rotary: true,
        } = self.half
        else {
            return None;
        };
        let shape = [heads.length, head_width / 2];
        let angle = |i: usize| (i / shape[1]) as f64 * 0.7f64.powi((i % shape[1]) as i32);
        let angles: Vec<f64> = (0..shape[0] * shape[1]).map(angle).collect();
        Some([f64::cos, f64::sin].map(|of| {
            let values: Vec<f64> = angles.iter().map(|angle| of(*angle)).collect();
            Tensor::from_data(TensorData::new(values, shape), (device, dtype))
        }))
    }

    /// One operation, or one after the other.
    fn apply(self, inputs: &[Tensor<2>], angles: Option<[Tensor<2>; 2]>, how: How) -> Tensor<2> {
        let fused = matches!(how, How::Fused);
        // Forward the output of an operation and backward its gradient.
        let stored = |x: Tensor<2>| match how {
            How::Stored(dtype, scale) => {
                let own = x.dtype();
                (x * scale).cast(dtype).cast(own) / scale
            }
            How::Fused | How::OneByOne => x,
        };
        let mut inputs = inputs.iter().cloned();
        let mut next = || inputs.next().unwrap();
        let row = |row: Tensor<2>| row.flatten::<1>(0, 1);
        let x = next();
        let gamma = row(next());
        let beta = self.bias.then(|| row(next()));
        let mut layer = || (next(), self.bias.then(|| row(next())));
        let (first, second) = (layer(), layer());
        let of = |(weight, bias): (Tensor<2>, Option<Tensor<1>>)| Layer::of(weight, bias);
        let through = |x: Tensor<2>, (weight, bias)| stored(linear(x, weight, bias));
        let normed = || stored(norm(x.clone(), gamma.clone(), beta.clone(), self.rule()));
        let parameters = NormParameters::of(gamma.clone(), beta.clone(), self.rule());
        match self.half {
            Half::Attention { heads, .. } if fused => {
                let sublayer = AttentionSublayer {
                    norm: parameters,
                    qkv: of(first),
                    output: of(second),
                    rotation: Rotation::of(angles),
                };
                sublayer.apply(x, heads)
            }
            Half::Attention {
                heads, head_width, ..
            } => {
                let qkv = through(normed(), first);
                let qkv = match angles {
                    Some(angles) => {
                        let all = heads.heads + 2 * heads.kv_heads;
                        let turned = heads.heads + heads.kv_heads;
                        let shape = [heads.batch, heads.length, all, head_width];
                        let by_head = qkv.clone().reshape(shape).swap_dims(1, 2);
                        let angles =
                            angles.map(|of| of.reshape([1, 1, heads.length, head_width / 2]));
                        let turned_part = rotate(by_head.clone().narrow(1, 0, turned), angles);
                        let values = by_head.narrow(1, turned, heads.kv_heads);
                        let turned = Tensor::cat(vec![turned_part, values], 1);
                        stored(turned.swap_dims(1, 2).reshape(qkv.dims()))
                    }
                    None => qkv,
                };
                stored(x.clone() + through(stored(attention(qkv, heads)), second))
            }
            Half::FeedForward { activation, .. } if fused => {
                let sublayer = FeedForwardSublayer {
                    norm: parameters,
                    up: of(first),
                    down: of(second),
                    gate: match activation {
                        Activation::SwiGlu => Gate::Layer(of(layer())),
                        _ => Gate::None,
                    },
                };
                sublayer.apply(x, activation)
            }
            Half::FeedForward { activation, .. } => {
                let up = through(normed(), first);
                let inner = match activation {
                    Activation::SwiGlu => swiglu(through(normed(), layer()), up),
                    _ => activate(up, activation),
                };
                stored(x.clone() + through(stored(inner), second))
            }
        }
    }

    /// The output and the gradients of those inputs that are `wanted`, where that of the output is `upstream`.
    fn run(
        self,
        inputs: &Inputs,
        upstream: &[f64],
        (device, dtype): (&Device, DType),
        how: How,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<Option<Vec<f64>>> {
        let device = device.clone().autodiff();
        let leaves: Vec<Tensor<2>> = inputs
            .iter()
            .enumerate()
            .map(|(number, input)| {
                let data = TensorData::new(input.values.clone(), input.shape);
                let leaf = Tensor::from_data(data, (&device, dtype));
                match wanted(number) {
                    true => leaf.require_grad(),
                    false => leaf,
                }
            })
            .collect();
        let output = self.apply(&leaves, self.angles(&device, dtype), how);
        let upstream = TensorData::new(upstream.to_vec(), output.dims());
        let upstream = Tensor::from_data(upstream, (&device, dtype));
        let gradients = (output.clone() * upstream).sum().backward();
        let numbers = |tensor: Tensor<2>| tensor.try_into_vec_as::<f64>().unwrap();
        let of = leaves
            .iter()
            .map(|leaf| leaf.grad(&gradients).map(numbers))
            .collect::<Vec<_>>();
        std::iter::once(Some(numbers(output))).chain(of).collect()
    }
}

fn sublayers() -> Vec<Sublayer> {
    let heads = |batch, length, heads, kv_heads, window| Heads {
        batch,
        length,
        heads,
        kv_heads,
        window,
    };
    let attention = |heads, head_width, rotary| Half::Attention {
        heads,
        head_width,
        rotary,
    };
    let feed_forward = |activation, rows, hidden| Half::FeedForward {
        activation,
        rows,
        hidden,
    };
    let halves = [
        attention(heads(2, 5, 2, 1, None), 4, true),
        attention(heads(1, 1, 1, 1, None), 3, false),
        attention(heads(3, 70, 4, 2, Some(9)), 6, true),
        attention(heads(2, 33, 3, 3, None), 5, false),
        feed_forward(Activation::GeluTanh, 6, 11),
        feed_forward(Activation::SwiGlu, 40, 17),
        feed_forward(Activation::Gelu, 1, 1),
        feed_forward(Activation::Relu2, 70, 33),
    ];
    let mut sublayers = Vec::new();
    for (number, half) in halves.into_iter().enumerate() {
        for bias in [true, false] {
            let norm = match (number % 2 == 0) == bias {
                true => Norm::Layer,
                false => Norm::Rms,
            };
            sublayers.push(Sublayer {
                half,
                width: [7, 12][number % 2],
                norm,
                bias,
            });
        }
    }
    sublayers
}

#[test]
fn sublayers_are_their_operations_one_by_one() {
    let reference = (&Device::flex(), DType::F64);
    let mut worst = std::collections::BTreeMap::new();
    for (number, sublayer) in sublayers().into_iter().enumerate() {
        let mut random = Random::new(&format!("sublayer {number}"));
        let inputs = sublayer.inputs(&mut random);
        let upstream = random.normals(sublayer.rows() * sublayer.width);
        for dtype in PRECISIONS {
            let rounded = |matrix: &Matrix| Matrix {
                shape: matrix.shape,
                values: all_rounded(&matrix.values, dtype),
            };
            let inputs: Inputs = inputs.iter().map(rounded).collect();
            let upstream = all_rounded(&upstream, dtype);
            let exact = sublayer.run(&inputs, &upstream, reference, How::OneByOne, |_| true);
            let draws = if is_half(dtype) { DRAWS } else { 0 };
            let stored: Vec<_> = (0..draws)
                .map(|draw| {
                    let how = How::Stored(dtype, 1.0 + f64::from(draw) / 11.0);
                    sublayer.run(&inputs, &upstream, reference, how, |_| true)
                })
                .collect();
            for (backend, device) in backends() {
                // Of a shader's compiler a few are enough.
                if !has(backend, &device, dtype) || (backend == "wgpu" && number % 5 != 0) {
                    continue;
                }
                let on = (&device, dtype);
                let got = sublayer.run(&inputs, &upstream, on, How::Fused, |_| true);
                for (which, (got, exact)) in got.iter().zip(&exact).enumerate() {
                    let (got, exact) = (got.as_ref().unwrap(), exact.as_ref().unwrap());
                    let largest = exact.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                    let apart = |numbers: &[f64]| {
                        let apart = numbers.iter().zip(exact).map(|(a, b)| (a - b).abs());
                        // NaN is above every bound.
                        apart.fold(0.0, |most, x| if x <= most { most } else { x })
                    };
                    let stored = stored.iter().map(|of| of[which].as_ref().unwrap());
                    let explained = stored.map(|of| apart(of)).fold(0.0, f64::max);
                    let bound = match is_half(dtype) {
                        true => OTHERS * explained,
                        false => BOUND * unit(dtype) * largest,
                    };
                    let share = apart(got) / bound;
                    let who = format!("{backend} {dtype:?}");
                    assert!(share <= 1.0, "{who}: {share} in {which} of {sublayer:?}");
                    let worst = worst.entry(who).or_insert(0.0f64);
                    *worst = worst.max(share);
                }
            }
        }
    }
    for (who, share) in worst {
        println!("sublayers      {who:<14} {share:.3} of the bound");
    }
}

/// Units roundoff by which a number may be off, relative to the largest of its tensor: half a dozen products and sums of
/// some hundred terms follow one another, and each makes what came before it a little less sure.
const BOUND: f64 = 64.0;

/// In half precision it is what is stored between the operations that is rounded, and how far that moves each tensor is
/// measured: by the operations in f64 with their outputs and the gradients of those rounded. A backend stores other
/// tensors besides, inside of attention, and rounds each of them in its own way: its largest error is another draw, of
/// up to twice as many roundings, which makes it this many times as large as the largest of [`DRAWS`], at most.
const OTHERS: f64 = 3.0;

/// How often it is measured.
const DRAWS: u8 = 8;

#[test]
fn a_parameter_of_a_sublayer_gets_the_same_gradient_alone_as_among_others() {
    let mut random = Random::new("sublayer alone");
    for sublayer in sublayers().into_iter().step_by(3) {
        let inputs = sublayer.inputs(&mut random);
        let upstream = random.normals(sublayer.rows() * sublayer.width);
        for (backend, device) in backends() {
            if backend == "wgpu" {
                continue;
            }
            let on = (&device, DType::F32);
            let all = sublayer.run(&inputs, &upstream, on, How::Fused, |_| true);
            for (wanted, expected) in all[1..].iter().enumerate() {
                let got = sublayer.run(&inputs, &upstream, on, How::Fused, |input| input == wanted);
                for (input, got) in got[1..].iter().enumerate() {
                    match input == wanted {
                        true => assert_eq!(got, expected, "{backend} {sublayer:?} {input}"),
                        false => assert!(got.is_none()),
                    }
                }
            }
        }
    }
}

#[cfg(feature = "flex")]
#[test]
fn threads_change_no_bit_of_a_sublayer() {
    let mut random = Random::new("sublayer threads");
    let heads = Heads {
        batch: 3,
        length: 130,
        heads: 4,
        kv_heads: 2,
        window: None,
    };
    let attention = Half::Attention {
        heads,
        head_width: 16,
        rotary: true,
    };
    let feed_forward = |activation| Half::FeedForward {
        activation,
        rows: 300,
        hidden: 200,
    };
    for half in [
        attention,
        feed_forward(Activation::Gelu),
        feed_forward(Activation::SwiGlu),
    ] {
        let sublayer = Sublayer {
            half,
            width: 96,
            norm: Norm::Layer,
            bias: true,
        };
        let inputs = sublayer.inputs(&mut random);
        let upstream = random.normals(sublayer.rows() * sublayer.width);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let work = || {
                let on = (&Device::flex(), DType::F32);
                let work = || sublayer.run(&inputs, &upstream, on, How::Fused, |_| true);
                crate::ops::among_threads(on.0, work)
            };
            pool.build().unwrap().install(work)
        };
        let one = on(1);
        for threads in [2, 7] {
            assert!(on(threads) == one, "{half:?}: {threads} threads");
        }
    }
}
