//! Shapes that tiles do not divide, on the shaders' device against f64 on Flex.
#![allow(clippy::unwrap_used)] // a test may panic

use burn::tensor::{DType, Device, DeviceKind, Int, Tensor, TensorData};

use crate::config::{Activation, Norm};
use crate::loss::Objective;
use crate::ops::{self, Head, Heads, Rule};
use crate::random;

/// Numbers with a normal distribution, the same in every run.
fn normals(name: &str, count: usize) -> Vec<f64> {
    random::normals(&mut random::stream(2, name), count)
}

/// Ids below `below`, the same in every run too.
fn ids(name: &str, count: usize, below: usize) -> Vec<i64> {
    let share = |z: f64| (z.abs() * below as f64) as i64 % below as i64;
    normals(name, count).into_iter().map(share).collect()
}

/// The operation's output, and the gradients of its inputs where that of the output is made up.
fn run(
    device: Device,
    dtype: DType,
    inputs: &[[usize; 2]],
    operation: &impl Fn(&Device, &[Tensor<2>]) -> Tensor<2>,
) -> Vec<Vec<f64>> {
    let device = device.autodiff();
    let numbered = inputs.iter().enumerate();
    let leaves: Vec<Tensor<2>> = numbered
        .map(|(number, shape)| {
            let values = normals(&format!("input {number}"), shape[0] * shape[1]);
            let data = TensorData::new(values, *shape);
            Tensor::from_data(data, (&device, dtype)).require_grad()
        })
        .collect();
    let output = operation(&device, &leaves);
    let shape = output.dims();
    let upstream = TensorData::new(normals("upstream", shape[0] * shape[1]), shape);
    let upstream = Tensor::from_data(upstream, (&device, dtype));
    let gradients = (output.clone() * upstream).sum().backward();
    let numbers = |tensor: Tensor<2>| tensor.try_into_vec_as::<f64>().unwrap();
    let mut all = vec![numbers(output)];
    all.extend(
        leaves
            .iter()
            .map(|leaf| numbers(leaf.grad(&gradients).unwrap())),
    );
    all
}

/// Wants the same of both devices, to a share of what is largest.
fn alike(
    name: &str,
    inputs: &[[usize; 2]],
    operation: impl Fn(&Device, &[Tensor<2>]) -> Tensor<2>,
) {
    let exact = run(Device::flex(), DType::F64, inputs, &operation);
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let got = run(device, DType::F32, inputs, &operation);
    for (which, (got, exact)) in got.iter().zip(&exact).enumerate() {
        let largest = exact.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
            let share = (got - exact).abs() / largest;
            assert!(share < 2e-6, "{name}, {which}[{i}] is {got}, not {exact}");
        }
    }
}

#[test]
fn tiles_of_attention_end_where_sequences_and_heads_do() {
    for ([batch, length, heads, kv_heads, width], window) in [
        // A tile of queries and a bit; a tile; windows that begin in a tile before.
        ([1, 33, 2, 1, 5], None),
        ([2, 32, 4, 2, 16], None),
        ([1, 70, 3, 1, 7], Some(34)),
        ([2, 97, 2, 2, 3], Some(32)),
        ([1, 65, 2, 1, 4], Some(1)),
        ([1, 40, 2, 2, 8], Some(1000)),
        // More than one chunk of a head's columns, and the last not full.
        ([1, 35, 2, 1, 33], None),
        ([1, 66, 2, 1, 40], Some(50)),
    ] {
        let name = format!("{batch} {length} {heads}/{kv_heads} {width} {window:?}");
        let of = Heads {
            batch,
            length,
            heads,
            kv_heads,
            window,
        };
        let inputs = [[batch * length, (heads + 2 * kv_heads) * width]];
        alike(&name, &inputs, |_, inputs| {
            ops::attention(inputs[0].clone(), of)
        });
    }
}

#[test]
fn cubes_go_over_rows_that_are_longer_than_they_are_wide() {
    for norm in [Norm::Layer, Norm::Rms] {
        let rule = Rule {
            norm,
            epsilon: 1e-5,
        };
        alike(
            &format!("{norm:?}"),
            &[[131, 300], [1, 300], [1, 300]],
            |_, inputs| {
                let row = |number: usize| inputs[number].clone().flatten::<1>(0, 1);
                ops::norm(inputs[0].clone(), row(1), Some(row(2)), rule)
            },
        );
    }
    for (by_token, cap) in [(true, None), (false, Some(3.0))] {
        let rule = Head {
            by_token,
            cap,
            objective: Objective {
                label_smoothing: if by_token { 0.1 } else { 0.0 },
                z_loss: if by_token { 0.0 } else { 0.01 },
            },
        };
        let head = if by_token { [700, 6] } else { [6, 700] };
        alike(&format!("{rule:?}"), &[[37, 6], head], |device, inputs| {
            let mut targets = ids("targets", 37, 700);
            targets[5] = -1;
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [37]), device);
            let weights = (0..37).map(|row| [1.0, 0.5, 2.0][row % 3]);
            let weights: Option<Vec<f64>> = by_token.then(|| weights.collect());
            let weights = weights.map(|weights| {
                let data = TensorData::new(weights, [37]);
                Tensor::<1>::from_data(data, (device, inputs[0].dtype()))
            });
            let (hidden, head) = (inputs[0].clone(), inputs[1].clone());
            let (loss, ..) = ops::cross_entropy(hidden, head, targets, weights, rule);
            loss.reshape([37, 1])
        });
    }
}

#[test]
fn elements_beyond_one_cube_are_reached() {
    for activation in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::SwiGlu,
        Activation::Relu2,
    ] {
        alike(&format!("{activation:?}"), &[[9, 101]], |_, inputs| {
            ops::activate(inputs[0].clone(), activation)
        });
    }
    alike("swiglu", &[[9, 101]; 2], |_, inputs| {
        ops::swiglu(inputs[0].clone(), inputs[1].clone())
    });
    alike("embedding", &[[50, 19]], |device, inputs| {
        let ids = TensorData::new(ids("ids", 400, 50), [400]);
        ops::embedding(inputs[0].clone(), Tensor::<1, Int>::from_data(ids, device))
    });
}

#[test]
fn inputs_may_lie_otherwise_than_by_rows() {
    let of = Heads {
        batch: 2,
        length: 33,
        heads: 2,
        kv_heads: 1,
        window: None,
    };
    alike("turned", &[[4 * 5, 2 * 33]], |_, inputs| {
        ops::attention(inputs[0].clone().transpose(), of)
    });
    alike("columns of more", &[[9, 202]], |_, inputs| {
        let part = |start| inputs[0].clone().narrow(1, start, 101);
        ops::swiglu(part(0), part(101))
    });
}
