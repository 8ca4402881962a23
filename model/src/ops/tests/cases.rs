//! The cases: shapes by name and at random, the same in every run.

use super::case::{Case, Random};
use super::reference::{Operation, Predicted};
use crate::config::{Activation, Norm};
use crate::loss::Objective;
use crate::ops::{Head, Heads, Rule};

/// Random shapes per operation.
const SHAPES: usize = 12;

pub(super) fn linear_case(
    random: &mut Random,
    [rows, inputs, outputs]: [usize; 3],
    bias: bool,
) -> Case {
    let mut of = vec![
        random.matrix(rows, inputs, 1.0),
        random.matrix(inputs, outputs, 1.0),
    ];
    if bias {
        of.push(random.matrix(1, outputs, 1.0));
    }
    let name = format!("linear {rows}x{inputs}x{outputs} bias {bias}");
    Case::new(name, Operation::Linear, of, random)
}

pub(super) fn linear_cases() -> Vec<Case> {
    let mut random = Random::new("linear");
    let mut cases = vec![
        linear_case(&mut random, [3, 5, 4], true).tiny(),
        linear_case(&mut random, [2, 3, 5], false).tiny(),
    ];
    for shape in [
        [1, 1, 1],
        [1, 7, 5],
        [3, 1, 4],
        [5, 6, 1],
        [33, 65, 17],
        [130, 37, 99],
        [65, 257, 31],
        [65, 1, 7],
        [65, 7, 1],
    ] {
        for bias in [false, true] {
            cases.push(linear_case(&mut random, shape, bias));
        }
    }
    for _ in 0..SHAPES {
        let shape = [70, 80, 80].map(|most| random.size(most));
        let bias = random.coin();
        cases.push(linear_case(&mut random, shape, bias));
    }
    cases
}

pub(super) fn norm_case(
    random: &mut Random,
    [rows, width]: [usize; 2],
    norm: Norm,
    bias: bool,
    epsilon: f64,
) -> Case {
    let mut of = vec![
        random.matrix(rows, width, 1.5),
        random.matrix(1, width, 1.0),
    ];
    if bias {
        of.push(random.matrix(1, width, 1.0));
    }
    let name = format!("{norm:?} {rows}x{width} bias {bias} epsilon {epsilon}");
    let rule = Rule { norm, epsilon };
    Case::new(name, Operation::Norm(rule), of, random)
}

pub(super) fn norm_cases() -> Vec<Case> {
    let mut random = Random::new("norm");
    let mut cases = vec![
        norm_case(&mut random, [3, 5], Norm::Layer, true, 1e-2).tiny(),
        norm_case(&mut random, [2, 7], Norm::Rms, false, 1e-2).tiny(),
    ];
    for shape in [[1, 1], [1, 17], [65, 1], [3, 1009], [130, 33], [5, 16]] {
        for norm in [Norm::Layer, Norm::Rms] {
            cases.push(norm_case(&mut random, shape, norm, true, 1e-5));
            cases.push(norm_case(&mut random, shape, norm, false, 1e-2));
        }
    }
    for _ in 0..SHAPES {
        let shape = [70, 90].map(|most| random.size(most));
        let norm = [Norm::Layer, Norm::Rms][random.below(2)];
        let (bias, epsilon) = (random.coin(), [1e-5, 1e-2][random.below(2)]);
        cases.push(norm_case(&mut random, shape, norm, bias, epsilon));
    }
    for norm in [Norm::Layer, Norm::Rms] {
        // Rows far from 0, where a variance from sums of squares has no digit left; of one value; of zeros.
        let mut far = norm_case(&mut random, [4, 40], norm, true, 1e-5);
        far.inputs[0].values.iter_mut().for_each(|x| *x += 1000.0);
        far.name += " far from 0";
        let mut flat = norm_case(&mut random, [2, 8], norm, true, 1e-2);
        flat.inputs[0].values[..8].fill(2.0);
        flat.inputs[0].values[8..].fill(0.0);
        flat.name += " flat";
        // Numbers that f16 holds, with squares that it does not.
        let mut large = norm_case(&mut random, [3, 50], norm, true, 1e-5);
        large.inputs[0].values.iter_mut().for_each(|x| *x *= 1000.0);
        large.name += " large";
        cases.extend([far, flat, large]);
    }
    cases
}

pub(super) const ACTIVATIONS: [Activation; 4] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::SwiGlu,
    Activation::Relu2,
];

pub(super) fn activation_cases() -> Vec<Case> {
    let mut random = Random::new("activation");
    let mut cases = Vec::new();
    for activation in ACTIVATIONS {
        let mut shapes = vec![[2, 7], [1, 1], [65, 33], [17, 1009]];
        shapes.extend((0..3).map(|_| [70, 90].map(|most| random.size(most))));
        for (number, [rows, columns]) in shapes.into_iter().enumerate() {
            let name = format!("{activation:?} {rows}x{columns}");
            let of = vec![random.matrix(rows, columns, 3.0)];
            let case = Case::new(name, Operation::Activation(activation), of, &mut random);
            let tiny = number == 0;
            cases.push(Case { tiny, ..case });
        }
    }
    cases
}

pub(super) fn swiglu_cases() -> Vec<Case> {
    let mut random = Random::new("swiglu");
    let mut shapes = vec![[2, 7], [1, 1], [65, 33], [17, 1009]];
    shapes.extend((0..SHAPES).map(|_| [70, 90].map(|most| random.size(most))));
    let case = |(number, [rows, columns]): (usize, [usize; 2])| {
        let of = vec![
            random.matrix(rows, columns, 3.0),
            random.matrix(rows, columns, 1.0),
        ];
        let name = format!("swiglu {rows}x{columns}");
        let case = Case::new(name, Operation::Swiglu, of, &mut random);
        let tiny = number == 0;
        Case { tiny, ..case }
    };
    shapes.into_iter().enumerate().map(case).collect()
}

pub(super) fn attention_case(
    random: &mut Random,
    [batch, length, heads, kv_heads, width]: [usize; 5],
    window: Option<usize>,
) -> Case {
    let columns = (heads + 2 * kv_heads) * width;
    let of = vec![random.matrix(batch * length, columns, 1.0)];
    let name = format!(
        "attention batch {batch} length {length} heads {heads}/{kv_heads} width {width} window {window:?}"
    );
    let heads = Heads {
        batch,
        length,
        heads,
        kv_heads,
        window,
    };
    Case::new(name, Operation::Attention(heads), of, random)
}

pub(super) fn attention_cases() -> Vec<Case> {
    let mut random = Random::new("attention");
    let mut cases = vec![
        attention_case(&mut random, [2, 5, 4, 2, 3], Some(3)).tiny(),
        attention_case(&mut random, [1, 4, 2, 1, 2], None).tiny(),
    ];
    for (shape, window) in [
        ([1, 1, 1, 1, 5], None),
        ([2, 1, 3, 1, 7], Some(1)),
        ([1, 9, 4, 2, 1], None),
        ([2, 17, 2, 2, 3], Some(1)),
        ([1, 12, 3, 3, 7], Some(100)),
        ([1, 33, 2, 1, 5], Some(7)),
        ([1, 65, 2, 2, 8], None),
        ([2, 70, 6, 2, 16], None),
        ([1, 257, 2, 1, 4], None),
        ([1, 300, 1, 1, 5], Some(40)),
        ([1, 300, 2, 2, 3], Some(270)),
        ([1, 520, 1, 1, 2], None),
        ([1, 1300, 1, 1, 2], Some(600)),
    ] {
        cases.push(attention_case(&mut random, shape, window));
    }
    for _ in 0..SHAPES {
        let [batch, length, kv_heads, group, width] =
            [3, 80, 3, 3, 20].map(|most| random.size(most));
        let window = random.coin().then(|| random.size(100));
        let shape = [batch, length, group * kv_heads, kv_heads, width];
        cases.push(attention_case(&mut random, shape, window));
    }
    // All values count alike, and their sum, before it is a mean, is beyond f16.
    let mut even = attention_case(&mut random, [1, 600, 1, 1, 4], None);
    for row in even.inputs[0].values.chunks_exact_mut(12) {
        row[..8].fill(0.0);
        row[8..].iter_mut().for_each(|x| *x += 200.0);
    }
    even.name += " even";
    cases.push(even);
    // Scores of 1e4.
    for shape in [[1, 20, 2, 1, 3], [1, 70, 1, 1, 16]] {
        let mut case = attention_case(&mut random, shape, None);
        case.inputs[0].values.iter_mut().for_each(|x| *x *= 100.0);
        case.name += " extreme";
        cases.push(case);
    }
    cases
}

/// What gradient the rows' nats have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Upstream {
    Mean,
    Random,
    /// Of every second row it is 0.
    SomeZero,
}

pub(super) const UPSTREAMS: [Upstream; 3] = [Upstream::Mean, Upstream::Random, Upstream::SomeZero];

/// A head of which nothing but nats is optimised.
pub(super) fn head(by_token: bool, cap: Option<f64>) -> Head {
    Head {
        by_token,
        cap,
        objective: Objective::default(),
    }
}

/// What may be optimised.
pub(super) fn objectives() -> [Objective; 4] {
    [(0.0, 0.0), (0.1, 0.0), (0.0, 0.01), (0.25, 0.02)].map(|(label_smoothing, z_loss)| Objective {
        label_smoothing,
        z_loss,
    })
}

pub(super) fn cross_entropy_case(
    random: &mut Random,
    [rows, width, vocabulary]: [usize; 3],
    rule: Head,
    upstream: Upstream,
) -> Case {
    let head = match rule.by_token {
        true => [vocabulary, width],
        false => [width, vocabulary],
    };
    // Logits of a few units, of which a cap of 30 takes something and one of 3 much.
    let scale = 4.0 / (width as f64).sqrt();
    let of = vec![
        random.matrix(rows, width, 1.0),
        random.matrix(head[0], head[1], scale),
    ];
    let mut targets = random.ids(rows, vocabulary);
    for target in &mut targets {
        if random.below(5) == 0 {
            *target = [-1, -100][random.below(2)];
        }
    }
    let name = format!("cross entropy {rows}x{width}x{vocabulary} {rule:?} {upstream:?}");
    // Powers of 2, which every precision holds.
    let weights = (0..rows).map(|_| [0.0, 0.5, 1.0, 2.0][random.below(4)]);
    let weights: Vec<f64> = weights.collect();
    let operation = Operation::CrossEntropy(Predicted {
        targets,
        weights: random.coin().then_some(weights),
        rule,
    });
    let mut case = Case::new(name, operation, of, random);
    match upstream {
        Upstream::Mean => case.upstream = None,
        Upstream::Random => {}
        Upstream::SomeZero => {
            let all = case.upstream.as_mut().unwrap();
            all.iter_mut().step_by(2).for_each(|grad| *grad = 0.0);
        }
    }
    case
}

pub(super) fn cross_entropy_cases() -> Vec<Case> {
    let mut random = Random::new("cross entropy");
    let mut cases = vec![];
    let objectives = objectives();
    for (number, objective) in objectives.into_iter().enumerate() {
        for (by_token, cap, upstream) in [
            (number % 2 == 0, Some(3.0), Upstream::Random),
            (number % 2 == 1, None, Upstream::Mean),
        ] {
            let rule = Head {
                objective,
                ..head(by_token, cap)
            };
            cases.push(cross_entropy_case(&mut random, [5, 3, 7], rule, upstream).tiny());
        }
    }
    let shapes = [
        [1, 1, 1],
        [5, 3, 1],
        [6, 1, 2],
        [1, 17, 7],
        [100, 3, 65],
        [70, 17, 1009],
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        for (other, upstream) in UPSTREAMS.into_iter().enumerate() {
            let by_token = (number + other) % 2 == 0;
            for cap in [None, Some([30.0, 3.0][number % 2])] {
                let rule = Head {
                    objective: objectives[random.below(4)],
                    ..head(by_token, cap)
                };
                cases.push(cross_entropy_case(&mut random, shape, rule, upstream));
            }
        }
    }
    for _ in 0..SHAPES {
        let shape = [60, 20, 200].map(|most| random.size(most));
        let cap = random.coin().then_some(30.0);
        let rule = Head {
            objective: objectives[random.below(4)],
            ..head(random.coin(), cap)
        };
        let upstream = UPSTREAMS[random.below(3)];
        cases.push(cross_entropy_case(&mut random, shape, rule, upstream));
    }
    for upstream in UPSTREAMS {
        let mut none = cross_entropy_case(&mut random, [9, 4, 11], head(true, None), upstream);
        if let Operation::CrossEntropy(of) = &mut none.operation {
            of.targets.fill(-1);
        }
        none.name += " all ignored";
        cases.push(none);
    }
    cases
}

/// Rows that do not fit at once beside this many tokens.
pub(super) fn many_logits() -> Vec<Case> {
    let mut random = Random::new("many logits");
    let mut case = |by_token, upstream| {
        let rule = head(by_token, None);
        let shape = [250, 3, 140_003];
        assert!(shape[0] * shape[2] > crate::ops::cross_entropy::LOGITS);
        let case = cross_entropy_case(&mut random, shape, rule, upstream);
        Case {
            large: true,
            ..case
        }
    };
    vec![case(true, Upstream::Mean), case(false, Upstream::Random)]
}

pub(super) fn embedding_case(random: &mut Random, [rows, width, ids]: [usize; 3]) -> Case {
    let of = vec![random.matrix(rows, width, 1.0)];
    let name = format!("embedding {ids} of {rows}x{width}");
    let ids = random.ids(ids, rows);
    Case::new(name, Operation::Embedding { ids }, of, random)
}

pub(super) fn embedding_cases() -> Vec<Case> {
    let mut random = Random::new("embedding");
    let mut cases = vec![embedding_case(&mut random, [4, 3, 6]).tiny()];
    for shape in [
        [1, 1, 1],
        [1, 5, 40],
        [7, 5, 20],
        [1009, 17, 300],
        [3, 33, 700],
    ] {
        cases.push(embedding_case(&mut random, shape));
    }
    for _ in 0..SHAPES {
        let shape = [100, 40, 200].map(|most| random.size(most));
        cases.push(embedding_case(&mut random, shape));
    }
    cases
}

pub(super) fn tiny_cases() -> Vec<Case> {
    let all = [
        linear_cases(),
        norm_cases(),
        activation_cases(),
        swiglu_cases(),
        attention_cases(),
        cross_entropy_cases(),
        embedding_cases(),
    ];
    all.into_iter().flatten().filter(|case| case.tiny).collect()
}
