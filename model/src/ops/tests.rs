//! Every operation on every backend, forward and backward, against loops over f64.
//!
//! `--nocapture` prints how much of its bound each backend needs.
#![allow(clippy::unwrap_used)] // a test may panic
#![allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN is above every bound")]

mod case;
mod cases;
mod reference;
mod sublayers;
#[cfg(feature = "flex")]
mod threads;

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::AdamW;
use crate::config::Activation;
use crate::loss::Objective;
use case::{
    Case, Layout, PRECISIONS, Random, Verdict, all_rounded, backends, backends_with_nan, has,
    prove, unit,
};
use cases::{
    ACTIVATIONS, Upstream, activation_cases, attention_cases, cross_entropy_case,
    cross_entropy_cases, embedding_cases, head, linear_cases, many_logits, norm_cases,
    swiglu_cases, tiny_cases,
};
use reference::{Exact, Matrix, Operation, Predicted, Trained, correct};

#[test]
fn the_reference_has_the_gradients_of_its_values() {
    const STEP: f64 = 1e-5;
    for case in tiny_cases() {
        let (output, gradients) = case.exact();
        let count = output.values.len() as f64;
        let upstream = case.upstream.clone();
        let upstream = upstream.unwrap_or_else(|| vec![1.0 / count; output.values.len()]);
        let loss = |inputs: &[Matrix]| {
            let output = case.operation.forward(inputs).values;
            output
                .iter()
                .zip(&upstream)
                .map(|(y, w)| y * w)
                .sum::<f64>()
        };
        for (number, gradient) in gradients.iter().enumerate() {
            for (i, gradient) in gradient.values.iter().enumerate() {
                let at = |offset: f64| {
                    let mut inputs = case.inputs.clone();
                    inputs[number].values[i] += offset;
                    loss(&inputs)
                };
                let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                // The difference is itself wrong by some 1e-10 in truncation and 1e-11 in rounding.
                let error = (difference - gradient).abs() / gradient.abs().max(1.0);
                let name = &case.name;
                assert!(
                    error < 1e-7,
                    "{name}, input {number}[{i}]: {gradient} {difference}"
                );
            }
        }
    }
}

#[test]
fn linear_layers_and_their_gradients_are_as_in_f64() {
    prove("linear", &linear_cases());
}

#[test]
fn norms_and_their_gradients_are_as_in_f64() {
    prove("norm", &norm_cases());
}

#[test]
fn activations_and_their_gradients_are_as_in_f64() {
    prove("activation", &activation_cases());
    prove("swiglu", &swiglu_cases());
}

#[test]
fn attention_and_its_gradient_are_as_in_f64() {
    prove("attention", &attention_cases());
}

#[test]
fn cross_entropy_and_its_gradients_are_as_in_f64() {
    prove("cross entropy", &cross_entropy_cases());
}

#[test]
fn more_logits_than_are_held_at_once_change_nothing() {
    prove("many logits", &many_logits());
}

/// Whole numbers, whose products every precision has exactly, so that ranks are exact and ties are common.
#[test]
fn scores_of_targets_are_as_in_f64() {
    let mut random = Random::new("token scores");
    for (rows, width, vocabulary) in [(1, 1, 1), (3, 2, 5), (40, 4, 17), (70, 3, 1000)] {
        for (by_token, cap) in [(true, None), (false, None), (true, Some(5.0))] {
            let mut whole = |rows: usize, columns: usize| -> Vec<f64> {
                (0..rows * columns)
                    .map(|_| random.below(5) as f64 - 2.0)
                    .collect()
            };
            let (hidden, head) = (whole(rows, width), whole(width, vocabulary));
            let mut targets = random.ids(rows, vocabulary);
            if rows > 1 {
                targets[1] = -1;
            }
            for (backend, device) in backends() {
                for dtype in PRECISIONS {
                    if !has(backend, &device, dtype) {
                        continue;
                    }
                    let matrix = |values: &[f64], shape: [usize; 2]| {
                        let data = TensorData::new(values.to_vec(), shape);
                        Tensor::<2>::from_data(data, (&device, dtype))
                    };
                    let across = matrix(&head, [width, vocabulary]);
                    let ids = || {
                        let data = TensorData::new(targets.clone(), [rows]);
                        Tensor::<1, Int>::from_data(data, &device)
                    };
                    let rule = super::Head {
                        by_token,
                        cap,
                        objective: Objective::default(),
                    };
                    let across = match by_token {
                        true => across.transpose(),
                        false => across,
                    };
                    let hidden_rows = || matrix(&hidden, [rows, width]);
                    let (nats, top_nats, rank) =
                        super::token_scores(hidden_rows(), across.clone(), ids(), rule);
                    let (_, of_loss, _) =
                        super::cross_entropy(hidden_rows(), across, ids(), None, rule);
                    let floats = |of: Tensor<1>| of.try_into_vec_as::<f64>().unwrap();
                    let (nats, top_nats) = (floats(nats), floats(top_nats));
                    let rank: Vec<i64> = rank.try_into_vec_as().unwrap();
                    if backend == "flex" {
                        assert_eq!(nats, floats(of_loss), "{dtype:?}");
                    }
                    for (row, target) in targets.iter().enumerate() {
                        let logit = |token: usize| -> f64 {
                            let product: f64 = (0..width)
                                .map(|i| hidden[row * width + i] * head[i * vocabulary + token])
                                .sum();
                            cap.map_or(product, |cap: f64| cap * (product / cap).tanh())
                        };
                        let Ok(target) = usize::try_from(*target) else {
                            assert_eq!(nats[row], 0.0, "{backend} {dtype:?}");
                            continue;
                        };
                        let logits: Vec<f64> = (0..vocabulary).map(logit).collect();
                        let total: f64 = logits.iter().map(|z| z.exp()).sum();
                        let highest = logits.iter().copied().fold(f64::MIN, f64::max);
                        // A capped logit is rounded to the precision, once more by its tangent, and is at most 5.
                        let bound =
                            match cap {
                                Some(cap) => 8.0 * unit(dtype) * cap,
                                None => 0.0,
                            } + 64.0 * unit(super::at_least_f32(dtype)) * total.ln().abs().max(1.0);
                        let close = |got: f64, exact: f64| {
                            let error = (got - exact).abs();
                            assert!(error <= bound, "{backend} {dtype:?}: {got} and {exact}");
                        };
                        close(nats[row], total.ln() - logits[target]);
                        close(top_nats[row], total.ln() - highest);
                        let before = |(token, z): &(usize, &f64)| {
                            **z > logits[target] || (**z == logits[target] && *token < target)
                        };
                        let exact = 1 + logits.iter().enumerate().filter(before).count();
                        if cap.is_none() {
                            assert_eq!(rank[row], exact as i64, "{backend} {dtype:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn embeddings_and_their_gradient_are_as_in_f64() {
    prove("embedding", &embedding_cases());
}

#[test]
fn an_input_gets_the_same_gradient_alone_as_among_others() {
    let mut verdict = Verdict::default();
    for case in tiny_cases() {
        let case = case.rounded(DType::F32);
        let (_, exact) = case.exact();
        for (backend, device) in backends_with_nan() {
            for (input, exact) in exact.iter().enumerate() {
                let got = case.run(&device, DType::F32, Layout::Free, |i| i == input);
                let gradient = got.gradients[input].as_ref().unwrap();
                verdict.check((backend, DType::F32), &case.name, gradient, exact);
            }
        }
    }
    verdict.finish("alone");
}

#[test]
fn activations_far_from_zero_are_what_they_tend_to() {
    let far = [50.0, 1e4, 1e8];
    let mut x = vec![0.0];
    x.extend(far.into_iter().flat_map(|x| [x, -x]));
    let count = x.len();
    for activation in ACTIVATIONS {
        let case = Case {
            upstream: Some(vec![1.0; count]),
            ..Case::new(
                format!("{activation:?}"),
                Operation::Activation(activation),
                vec![Matrix {
                    shape: [1, count],
                    values: x.clone(),
                }],
                &mut Random::new("far"),
            )
        };
        let relu2 = matches!(activation, Activation::Relu2);
        for (backend, device) in backends() {
            for dtype in PRECISIONS {
                if !has(backend, &device, dtype) {
                    continue;
                }
                let mut case = case.rounded(dtype);
                if dtype == DType::F16 {
                    // Beyond 65504 there are no numbers, and 1e4² is.
                    let finite = |x: &f64| x.abs() < if relu2 { 200.0 } else { 6e4 };
                    let values = &mut case.inputs[0].values;
                    values
                        .iter_mut()
                        .for_each(|x| *x = if finite(x) { *x } else { 0.0 });
                }
                let got = case.run(&device, dtype, Layout::Whole, |_| true);
                let slopes = got.gradients[0].as_ref().unwrap();
                for (i, x) in case.inputs[0].values.iter().enumerate() {
                    let expected = match (relu2, *x > 0.0) {
                        (_, false) => [0.0, if *x == 0.0 && !relu2 { 0.5 } else { 0.0 }],
                        (true, true) => [x * x, 2.0 * x],
                        (false, true) => [*x, 1.0],
                    };
                    for (got, expected) in [got.output[i], slopes[i]].into_iter().zip(expected) {
                        let bound = 4.0 * unit(dtype) * expected + 1e-15;
                        assert!(
                            (got - expected).abs() <= bound,
                            "{backend} {dtype:?} {activation:?} at {x:e}: {got:e}, not {expected:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn cross_entropy_stays_exact_at_extreme_logits() {
    let logits = vec![
        1e4, -1e4, 0.0, 1e4, -1e4, -1e4, -1e4, 1e4, 1e4, 9999.0, -1e4, -1e4,
    ];
    // Each hidden row picks a row of these.
    let picks = (0..9).map(|i| if i % 4 == 0 { 1.0 } else { 0.0 });
    let inputs = vec![
        Matrix {
            shape: [3, 3],
            values: picks.collect(),
        },
        Matrix {
            shape: [3, 4],
            values: logits,
        },
    ];
    let two = 2f64.ln();
    let two_and_little = (2.0 + (-30f64).exp()).ln();
    let odds = (1.0 + (-1f64).exp()).ln();
    // Two tokens share the probability; the target is as far away as can be; odds of e to 1, of a cap 1 to 1.
    let expected = [
        (None, [two, 2e4, 1.0 + odds]),
        (Some(30.0), [two_and_little, 60.0, two]),
    ];
    for (cap, expected) in expected {
        let operation = Operation::CrossEntropy(Predicted {
            targets: vec![0, 0, 1],
            weights: None,
            rule: head(false, cap),
        });
        let mut case = Case::new("extreme", operation, inputs.clone(), &mut Random::new("e"));
        for upstream in [vec![1.0; 3], vec![1.0, -2.0, 0.0]] {
            let [first, second, third] = [upstream[0], upstream[1], upstream[2]];
            let p = (-odds).exp();
            let of_head = match cap {
                None => [
                    [-0.5 * first, 0.0, 0.0, 0.5 * first],
                    [-second, 0.0, 0.0, second],
                    [p * third, -p * third, 0.0, 0.0],
                ],
                // Where a cap takes all, nothing is left of a gradient.
                Some(_) => [[0.0; 4]; 3],
            };
            case.upstream = Some(upstream);
            for (backend, device) in backends() {
                for dtype in [DType::F64, DType::F32] {
                    if !has(backend, &device, dtype) {
                        continue;
                    }
                    let got = case.run(&device, dtype, Layout::Whole, |_| true);
                    let unit = unit(dtype) * if backend == "wgpu" { 256.0 } else { 16.0 };
                    for (got, expected) in got.output.iter().zip(expected) {
                        let error = (got - expected).abs();
                        let who = format!("{backend} {dtype:?} cap {cap:?}");
                        assert!(error <= unit * (1.0 + expected), "{who}: {got} {expected}");
                    }
                    let gradient = got.gradients[1].as_ref().unwrap();
                    // The logarithm of the total is itself rounded, to a unit of 1e4.
                    let unit = unit * 1e4;
                    for (got, expected) in gradient.iter().zip(of_head.as_flattened()) {
                        let error = (got - expected).abs();
                        let who = format!("{backend} {dtype:?} cap {cap:?}");
                        assert!(error <= unit, "{who}: gradient {got} {expected}");
                    }
                    assert!(
                        got.gradients[0]
                            .as_ref()
                            .unwrap()
                            .iter()
                            .all(|x| x.is_finite())
                    );
                }
            }
        }
    }
}

#[test]
fn a_target_is_correct_where_it_is_the_most_probable() {
    let mut random = Random::new("correct");
    for (by_token, cap, vocabulary) in [
        (true, None, 65),
        (false, Some(3.0), 7),
        (true, None, 2),
        (false, None, 1),
    ] {
        let rule = head(by_token, cap);
        let case = cross_entropy_case(&mut random, [40, 3, vocabulary], rule, Upstream::Mean);
        let case = case.rounded(DType::F32);
        let [hidden, head] = [&case.inputs[0], &case.inputs[1]];
        let Operation::CrossEntropy(Predicted { mut targets, .. }) = case.operation.clone() else {
            unreachable!("it is made above")
        };
        // Of every second row the target is the best token.
        for row in (0..targets.len()).step_by(2) {
            let right = |token: &i64| {
                let mut all = targets.clone();
                all[row] = *token;
                correct(hidden, head, &all, rule, 0.0)[row] == Some(true)
            };
            targets[row] = (0..vocabulary as i64).find(right).unwrap();
        }
        let expected = correct(hidden, head, &targets, rule, unit(DType::F32));
        assert!(expected.iter().filter(|found| found.is_some()).count() > 30);
        for (backend, device) in backends() {
            for dtype in [DType::F64, DType::F32] {
                if !has(backend, &device, dtype) {
                    continue;
                }
                let tensor = |matrix: &Matrix| {
                    let data = TensorData::new(matrix.values.clone(), matrix.shape);
                    Tensor::<2>::from_data(data, (&device, dtype))
                };
                let data = TensorData::new(targets.clone(), [targets.len()]);
                let targets = Tensor::<1, Int>::from_data(data, &device);
                let (.., found) =
                    super::cross_entropy(tensor(hidden), tensor(head), targets, None, rule);
                let found: Vec<i64> = found.try_into_vec_as().unwrap();
                for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let right = expected.is_none_or(|expected| *found == i64::from(expected));
                    assert!(
                        right,
                        "{backend} {dtype:?} V {vocabulary} row {row}: {found}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_computed_from_nan_is_nan() {
    let mut random = Random::new("NaN");
    for case in tiny_cases() {
        // Each input in turn, then the gradient of the output; of which 0 upstream is as good as any.
        for which in 0..=case.inputs.len() {
            let mut case = case.clone();
            if let Operation::CrossEntropy(of) = &mut case.operation {
                // An ignored row is 0 whatever it holds.
                let targets = of.targets.iter_mut();
                targets.for_each(|target| *target = (*target).max(0));
            }
            let [rows, columns] = case.operation.output_shape(&case.inputs);
            let mean = || vec![1.0 / (rows * columns) as f64; rows * columns];
            let numbers = match case.inputs.get_mut(which) {
                Some(input) => &mut input.values,
                None => case.upstream.get_or_insert_with(mean),
            };
            let at = random.below(numbers.len());
            numbers[at] = f64::NAN;
            let case = case.rounded(DType::F32);
            let (output, gradients) = case.exact();
            // A hidden key or value may reach a query by way of a tile, times 0.
            let nowhere_else = !matches!(case.operation, Operation::Attention(_));
            for (backend, device) in backends_with_nan() {
                let got = case.run(&device, DType::F32, Layout::Whole, |_| true);
                let gradients = got.gradients.iter().flatten().zip(&gradients);
                for (got, exact) in std::iter::once((&got.output, &output)).chain(gradients) {
                    for (i, (got, exact)) in got.iter().zip(&exact.values).enumerate() {
                        let right = match exact.is_nan() {
                            true => got.is_nan(),
                            false => !(nowhere_else && got.is_nan()),
                        };
                        let name = &case.name;
                        assert!(
                            right,
                            "{backend} {name}, NaN in {which}[{at}]: [{i}] is {got}, not {exact}"
                        );
                    }
                }
            }
        }
    }
}

/// Weights under five updates on every backend, next to the reference.
fn train<const D: usize>(verdict: &mut Verdict, shape: [usize; D]) {
    const SCALE: f64 = 0.375;
    let count = shape.iter().product();
    let mut random = Random::new("adamw");
    let (weights, gradients) = (
        random.normals(count),
        [(); 5].map(|()| random.normals(count)),
    );
    for dtype in PRECISIONS {
        let weights = all_rounded(&weights, dtype);
        let of_moments = crate::ops::precision_of_statistics(dtype);
        for (backend, device) in backends() {
            if !has(backend, &device, dtype) {
                continue;
            }
            let tensor = |values: &[f64]| {
                let data = TensorData::new(values.to_vec(), shape);
                Tensor::<D>::from_data(data, (&device, dtype))
            };
            // The same by columns.
            let turned = |values: &[f64]| {
                let [rows, last] = [count / shape[D - 1], D - 1];
                let mut turned = shape;
                turned.swap(0, last);
                let at = |i: usize| values[i % rows * shape[last] + i / rows];
                let data = TensorData::new((0..count).map(at).collect::<Vec<_>>(), turned);
                Tensor::<D>::from_data(data, (&device, dtype)).swap_dims(0, last)
            };
            let scale = Tensor::<1>::from_data([SCALE], (&device, dtype));
            let mut exact = Trained::new(&weights);
            let mut now = turned(&weights);
            let mut moments = [tensor(&vec![0.0; count]), tensor(&vec![0.0; count])];
            for (step, gradient) in gradients.iter().enumerate() {
                let gradient = all_rounded(gradient, dtype);
                let update = AdamW {
                    learning_rate: 0.125,
                    beta_1: 0.9,
                    // 1 in bf16, as is 1 - 0.125 · 0.01.
                    beta_2: 0.999,
                    epsilon: 1e-8,
                    weight_decay: 0.01,
                    time: step + 1,
                };
                exact.update(&gradient, SCALE, update);
                exact.weights.values = all_rounded(&exact.weights.values, dtype);
                // Somebody else holds them at first, to whom nothing may happen.
                let others = (step == 0).then(|| [now.clone(), moments[0].clone()]);
                let given = match step % 2 {
                    0 => tensor(&gradient),
                    _ => turned(&gradient),
                };
                (now, moments) = super::adamw(now, given, moments, scale.clone(), update);
                let numbers =
                    |tensor: &Tensor<D>| -> Vec<f64> { tensor.clone().try_into_vec_as().unwrap() };
                if let Some([old, first]) = others {
                    assert_eq!(numbers(&old), weights, "{backend} {dtype:?}");
                    assert_eq!(numbers(&first), vec![0.0; count], "{backend} {dtype:?}");
                }
                let [m, v] = &exact.moments;
                for (what, got, exact, dtype) in [
                    ("weights", &now, &exact.weights, dtype),
                    ("first moment", &moments[0], m, of_moments),
                    ("second moment", &moments[1], v, of_moments),
                ] {
                    assert_eq!((got.dims(), got.dtype()), (shape, dtype));
                    let what = format!("{what} of rank {D}, step {step}");
                    verdict.check((backend, dtype), &what, &numbers(got), exact);
                }
            }
        }
    }
}

#[test]
fn adamw_updates_as_in_f64() {
    let mut verdict = Verdict::default();
    train(&mut verdict, [37]);
    train(&mut verdict, [1]);
    train(&mut verdict, [33, 65]);
    verdict.finish("adamw");
}

/// In bf16 `1 - 1e-3` is 1, and the decay of a weight alone is less than half its last place. Gradients of either sign
/// carry it from one number to the next, so that it acts in the mean.
#[test]
fn weight_decay_acts_in_half_precision() {
    const COUNT: usize = 2048;
    let mut random = Random::new("decay");
    let gradients = [(); 200].map(|()| random.normals(COUNT));
    let trained = |device: &burn::tensor::Device, dtype, weight_decay| {
        let tensor = |values: Vec<f64>| {
            Tensor::<1>::from_data(TensorData::new(values, [COUNT]), (device, dtype))
        };
        let mut weights = tensor(vec![1.0; COUNT]);
        let mut moments = [tensor(vec![0.0; COUNT]), tensor(vec![0.0; COUNT])];
        for (step, gradient) in gradients.iter().enumerate() {
            let update = AdamW {
                learning_rate: 4e-2,
                beta_1: 0.9,
                beta_2: 0.999,
                epsilon: 1e-8,
                weight_decay,
                time: step + 1,
            };
            let scale = Tensor::<1>::from_data([1.0], (device, dtype));
            let gradient = tensor(gradient.clone());
            (weights, moments) = super::adamw(weights, gradient, moments, scale, update);
        }
        let values: Vec<f64> = weights.try_into_vec_as().unwrap();
        values.iter().sum::<f64>() / COUNT as f64
    };
    for (backend, device) in backends() {
        for dtype in [DType::BF16, DType::F16] {
            if !has(backend, &device, dtype) {
                continue;
            }
            // What the gradients do is the same with decay and without.
            let lost = trained(&device, dtype, 0.0) - trained(&device, dtype, 0.025);
            let expected = 1.0 - 0.999f64.powi(200);
            // Updates of some 0.01 are more than a weight's last place, which is what makes decay act in the mean.
            let who = format!("{backend} {dtype:?}");
            assert!(
                (lost / expected - 1.0).abs() < 0.15,
                "{who}: {lost} {expected}"
            );
        }
    }
}

#[test]
fn updates_of_tensors_that_do_not_fit_are_refused() {
    let update = |time| AdamW {
        learning_rate: 0.1,
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        time,
    };
    for (backend, device) in backends() {
        let zeros = |[rows, columns]: [usize; 2]| Tensor::<2>::zeros([rows, columns], &device);
        let refused = |gradient, first, second, scale: usize, time| {
            let moments = [zeros(first), zeros(second)];
            let given = (
                zeros([4, 6]),
                zeros(gradient),
                Tensor::zeros([scale], &device),
            );
            let work = std::panic::AssertUnwindSafe(move || {
                super::adamw(given.0, given.1, moments, given.2, update(time))
            });
            std::panic::catch_unwind(work).is_err()
        };
        let whole = [4, 6];
        for short in [[2, 6], [4, 3], [6, 4], [1, 24], [8, 6]] {
            assert!(
                refused(short, whole, whole, 1, 1),
                "{backend}: gradient {short:?}"
            );
            assert!(
                refused(whole, short, whole, 1, 1),
                "{backend}: moment {short:?}"
            );
            assert!(
                refused(whole, whole, short, 1, 1),
                "{backend}: moment {short:?}"
            );
        }
        assert!(refused(whole, whole, whole, 2, 1), "{backend}: scale");
        assert!(refused(whole, whole, whole, 1, 0), "{backend}: time");
        assert!(!refused(whole, whole, whole, 1, 1), "{backend}");
    }
}

/// A loss by the fused operation and by Burn's own, of hidden rows through a head of `[3, 5]`, with the gradients of both.
fn losses_of(
    device: &burn::tensor::Device,
    targets: &[i64],
    objective: Objective,
    fused: bool,
) -> [Vec<f64>; 5] {
    use crate::loss::{Targets, TokenLoss};
    let device = device.clone().autodiff();
    let leaf = |count: usize, shape: [usize; 2]| {
        let values: Vec<f64> = (0..count).map(|i| (1.7 * i as f64 + 0.3).sin()).collect();
        Tensor::<2>::from_data(TensorData::new(values, shape), (&device, DType::F32)).require_grad()
    };
    let rows = targets.len();
    let (hidden, head) = (leaf(3 * rows, [rows, 3]), leaf(15, [3, 5]));
    let ids = TensorData::new(targets.to_vec(), [1, rows]);
    let targets = || Targets::from(Tensor::<2, Int>::from_data(ids.clone(), &device));
    let loss = match fused {
        true => {
            let rule = super::Head {
                objective,
                ..head_rule()
            };
            let hidden = hidden.clone().reshape([1, rows, 3]);
            TokenLoss::through(head.clone(), rule, hidden, targets())
        }
        false => {
            let logits = hidden.clone().matmul(head.clone()).reshape([1, rows, 5]);
            let loss = TokenLoss::from_logits(logits.clone(), targets().ids);
            loss.toward(objective, logits, targets())
        }
    };
    // Nats would show in the gradients if they had any.
    let nats = loss.nats.clone().sum() * 1e3;
    let gradients = (loss.loss.clone().sum() + nats).backward();
    let numbers = |tensor: Tensor<2>| tensor.try_into_vec_as::<f64>().unwrap();
    [
        numbers(loss.loss),
        numbers(loss.nats),
        loss.correct.try_into_vec_as().unwrap(),
        numbers(hidden.grad(&gradients).unwrap()),
        numbers(head.grad(&gradients).unwrap()),
    ]
}

fn head_rule() -> super::Head {
    head(false, None)
}

#[test]
fn targets_that_are_no_tokens_have_one_rule_in_every_pass() {
    let objectives = [
        Objective::default(),
        Objective {
            label_smoothing: 0.1,
            z_loss: 0.01,
        },
    ];
    for (backend, device) in backends() {
        for (objective, fused) in objectives.iter().flat_map(|of| [(of, true), (of, false)]) {
            let who = format!("{backend} fused {fused} {objective:?}");
            let of = |targets: &[i64]| losses_of(&device, targets, *objective, fused);
            let [loss, nats, correct, of_hidden, of_head] = of(&[2, -1, 0, -100]);
            let [alone, ..] = of(&[2]);
            assert!((loss[0] - alone[0]).abs() < 1e-5, "{who}: {loss:?}");
            for row in [1, 3] {
                assert_eq!([loss[row], nats[row], correct[row]], [0.0; 3], "{who}");
                assert_eq!(of_hidden[3 * row..][..3], [0.0; 3], "{who}");
            }
            let numbers = [&loss, &nats, &of_hidden, &of_head];
            assert!(
                numbers.iter().all(|of| of.iter().all(|x| x.is_finite())),
                "{who}"
            );

            for beyond in [5, 6, 1 << 20] {
                let [loss, nats, correct, of_hidden, _] = of(&[2, beyond, 0, -1]);
                assert!(
                    loss[1].is_nan() && nats[1].is_nan(),
                    "{who}: {loss:?} {nats:?}"
                );
                assert_eq!(correct[1], 0.0, "{who}");
                assert!(
                    of_hidden[3..6].iter().all(|x| x.is_nan()),
                    "{who}: {of_hidden:?}"
                );
                let others = [loss[0], loss[2], nats[0], nats[2]];
                assert!(others.iter().all(|x| x.is_finite()), "{who}");
                assert!(
                    of_hidden[..3]
                        .iter()
                        .chain(&of_hidden[6..])
                        .all(|x| x.is_finite())
                );
            }
        }
    }
}

#[test]
fn nats_have_no_gradient_in_any_pass() {
    for (backend, device) in backends() {
        for fused in [true, false] {
            let [.., of_hidden, _] = losses_of(&device, &[2, 0, 4], Objective::default(), fused);
            // Probabilities less one, times numbers of at most 1, where nats would bring a thousand times as much.
            let all = of_hidden.iter().all(|x| x.abs() < 4.0);
            assert!(all, "{backend} fused {fused}: {of_hidden:?}");
        }
    }
}

#[test]
fn a_cap_takes_logits_of_any_size() {
    let logits: [f64; 7] = [0.0, 1.0, -3.0, 1e4, -1e4, 1e30, -1e30];
    for (backend, device) in backends() {
        let device = device.autodiff();
        let leaf = Tensor::<2>::from_data([logits], (&device, DType::F32)).require_grad();
        let output = crate::ops::capped(leaf.clone(), 2.0);
        let gradients = output.clone().sum().backward();
        let numbers = |tensor: Tensor<2>| tensor.try_into_vec_as::<f64>().unwrap();
        let pairs = numbers(output)
            .into_iter()
            .zip(numbers(leaf.grad(&gradients).unwrap()));
        for (z, (capped, slope)) in logits.into_iter().zip(pairs) {
            let tanh = (z / 2.0).tanh();
            assert!(
                (capped - 2.0 * tanh).abs() < 1e-5,
                "{backend}: {z} {capped}"
            );
            assert!(
                (slope - (1.0 - tanh * tanh)).abs() < 1e-5,
                "{backend}: {z} {slope}"
            );
        }
    }
}

#[test]
fn sums_of_squares_are_as_in_f64() {
    let mut verdict = Verdict::default();
    let mut random = Random::new("sums of squares");
    for [rows, columns] in [[1, 1], [3, 7], [300, 257]] {
        let x = random.matrix(rows, columns, 1.0);
        for (backend, device) in backends() {
            for dtype in PRECISIONS {
                if !has(backend, &device, dtype) {
                    continue;
                }
                let x = all_rounded(&x.values, dtype);
                let data = TensorData::new(x.clone(), [rows, columns]);
                let tensor = Tensor::<2>::from_data(data, (&device, dtype));
                let got: Vec<f64> = crate::ops::sum_of_squares(tensor)
                    .try_into_vec_as()
                    .unwrap();
                let sum: f64 = x.iter().map(|x| x * x).sum();
                // All terms are positive: rounding errors grow like the root of their number at most.
                let length = (rows * columns) as f64;
                let size = sum * (1.0 + length.sqrt() / 32.0);
                let exact = Exact::of([(sum, size)].into_iter());
                // Half precision is summed in f32.
                let computed = if dtype == DType::F64 {
                    dtype
                } else {
                    DType::F32
                };
                verdict.check((backend, computed), "sum of squares", &got, &exact);
            }
        }
    }
    verdict.finish("squares");
}

#[test]
fn a_table_that_is_the_head_too_has_the_gradients_of_both() {
    // Embedding and head of one table: what autodiff adds up by itself of two tables.
    let ids = || [3i64, 0, 4, 3];
    let values: Vec<f64> = (0..15).map(|i| f64::from(i * i % 7) / 3.0 - 1.0).collect();
    for (backend, device) in backends() {
        let device = device.autodiff();
        let table = || {
            let data = TensorData::new(values.clone(), [5, 3]);
            Tensor::<2>::from_data(data, (&device, DType::F32)).require_grad()
        };
        let loss = |table: &Tensor<2>, head: &Tensor<2>| {
            let ids = || Tensor::<1, Int>::from_data(ids(), &device);
            let rows = crate::ops::embedding(table.clone(), ids());
            let rule = super::Head {
                by_token: true,
                cap: None,
                objective: Objective::default(),
            };
            let (loss, ..) = super::cross_entropy(rows, head.clone(), ids(), None, rule);
            loss.mean()
        };
        let numbers = |tensor: Tensor<2>| tensor.try_into_vec_as::<f64>().unwrap();
        let both = table();
        let gradients = loss(&both, &both).backward();
        let got = numbers(both.grad(&gradients).unwrap());
        let (one, other) = (table(), table());
        let gradients = loss(&one, &other).backward();
        let sum = one.grad(&gradients).unwrap() + other.grad(&gradients).unwrap();
        for (got, expected) in got.iter().zip(numbers(sum)) {
            assert!((got - expected).abs() < 1e-6, "{backend}: {got} {expected}");
        }
    }
}
