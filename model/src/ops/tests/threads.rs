//! Flex: the same bits on any number of threads.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::case::{Case, Layout, Random};
use super::cases::{
    ACTIVATIONS, UPSTREAMS, Upstream, attention_case, cross_entropy_case, embedding_case, head,
    linear_case, norm_case,
};
use super::reference::Operation;
use crate::config::Norm;
use crate::ops::AdamW;

#[test]
fn threads_change_no_bit() {
    let device = Device::flex();
    let mut random = Random::new("threads");
    let mut cases = vec![
        linear_case(&mut random, [257, 96, 200], true),
        norm_case(&mut random, [300, 200], Norm::Layer, true, 1e-5),
        norm_case(&mut random, [300, 200], Norm::Rms, false, 1e-5),
        attention_case(&mut random, [3, 130, 4, 2, 16], None),
        attention_case(&mut random, [1, 600, 2, 1, 8], Some(300)),
        embedding_case(&mut random, [50, 64, 5000]),
    ];
    for upstream in UPSTREAMS {
        let (by_token, cap) = (matches!(upstream, Upstream::Random), Some(30.0));
        let rule = head(by_token, cap);
        let shape = [300, 64, 1009];
        cases.push(cross_entropy_case(&mut random, shape, rule, upstream));
    }
    for activation in ACTIVATIONS {
        let x = vec![random.matrix(300, 200, 3.0)];
        let operation = Operation::Activation(activation);
        cases.push(Case::new("activation", operation, x, &mut random));
    }
    let halves = [random.matrix(300, 200, 3.0), random.matrix(300, 200, 1.0)];
    cases.push(Case::new(
        "swiglu",
        Operation::Swiglu,
        halves.into(),
        &mut random,
    ));
    let on = |threads: usize, work: &(dyn Fn() -> Vec<Vec<f64>> + Sync)| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let results = pool.build().unwrap().install(work);
        let bits = |numbers: Vec<f64>| numbers.into_iter().map(f64::to_bits).collect();
        results.into_iter().map(bits).collect::<Vec<Vec<u64>>>()
    };
    let same = |name: &str, work: &(dyn Fn() -> Vec<Vec<f64>> + Sync)| {
        let one = on(1, work);
        for threads in [2, 7] {
            assert!(on(threads, work) == one, "{name}: {threads} threads");
        }
    };
    for case in cases {
        let case = case.rounded(DType::F32);
        same(&case.name, &|| {
            let got = case.run(&device, DType::F32, Layout::Whole, |_| true);
            let mut all = vec![case.forward(&device, DType::F32, Layout::Whole), got.output];
            all.extend(got.gradients.into_iter().flatten());
            all
        });
    }

    const COUNT: usize = 100_000;
    let given = [(); 3].map(|()| random.normals(COUNT));
    same("adamw", &|| {
        let tensor = |values: &[f64]| {
            let data = TensorData::new(values.to_vec(), [COUNT]);
            Tensor::<1>::from_data(data, (&device, DType::F32))
        };
        let [weights, gradient, first] = given.each_ref().map(|values| tensor(values));
        let second = gradient.clone() * gradient.clone();
        let update = AdamW {
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            time: 7,
        };
        let scale = Tensor::<1>::from_data([0.7], (&device, DType::F32));
        let (weights, [first, second]) =
            crate::ops::adamw(weights, gradient, [first, second], scale, update);
        let squares = crate::ops::sum_of_squares(weights.clone());
        [weights, first, second, squares]
            .map(|tensor| tensor.try_into_vec_as().unwrap())
            .into()
    });
}
