//! Comparison of modules of a caller.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use foretoken::Error;
use foretoken::backend::{Backend, precision::Precision};
use foretoken::show::dashboard::Dashboard;
use foretoken::verify::compare::dashboard::watcher;
use foretoken::verify::compare::{
    Checked, CompareOptions, Compared, Comparison, Entrant, Subject, Target, Verdict,
    compare_subject,
};

/// Weights of a least-squares problem.
#[derive(Module, Debug)]
struct Line {
    weights: Param<Tensor<1>>,
}

/// Mistake in the training.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// The loss is not a number.
    NotANumber,
    /// The inputs have a relative error of 1e-3 on this backend.
    #[cfg(feature = "ndarray")]
    Inputs(Backend),
}

struct LeastSquares(Mistake);

impl Subject for LeastSquares {
    type Module = Line;
    type Batch = (Tensor<2>, Tensor<2>);

    fn name(&self) -> String {
        "least-squares".into()
    }

    fn module(&self, device: &Device) -> Line {
        let weights = Tensor::random([4], Distribution::Normal(0.0, 1.0), device);
        Line {
            weights: Param::from_tensor(weights),
        }
    }

    fn batch(&self, step: usize, seed: u64, target: &Target) -> Self::Batch {
        let value = |i: usize| ((i + 31 * step + 7 * seed as usize) as f64 * 0.7).sin();
        let inputs: Vec<f64> = (0..64).map(value).collect();
        let outputs: Vec<f64> = inputs.chunks(4).map(|x| x[0] - 2.0 * x[1]).collect();
        let inputs = target.floats(TensorData::new(inputs, [16, 4]));
        let wrong = match self.0 {
            #[cfg(feature = "ndarray")]
            Mistake::Inputs(backend) => target.device == backend.device().unwrap(),
            _ => false,
        };
        let inputs = if wrong { inputs * 1.001 } else { inputs };
        (inputs, target.floats(TensorData::new(outputs, [16, 1])))
    }

    fn loss(&self, line: &Line, (inputs, outputs): Self::Batch) -> Tensor<1> {
        let weights = line.weights.val().unsqueeze_dim::<2>(1);
        let loss = (inputs.matmul(weights) - outputs).square().mean();
        match self.0 {
            Mistake::NotANumber => loss * f32::NAN,
            _ => loss,
        }
    }

    fn outputs(&self, line: &Line, (inputs, _): Self::Batch) -> Vec<(String, Tensor<1>)> {
        let weights = line.weights.val().unsqueeze_dim::<2>(1);
        vec![("fitted".into(), inputs.matmul(weights).flatten(0, 1))]
    }

    fn items(&self) -> usize {
        16
    }
}

fn compared(mistake: Mistake, backends: &[Backend]) -> Result<Comparison, Error> {
    let folder = tempfile::tempdir().unwrap();
    let entrant = |name, dtype| Entrant { name, dtype };
    let entrants = backends.iter().map(|name| entrant(*name, Precision::F32));
    let reference = entrant(Backend::default_backend(), Precision::F64);
    let options = CompareOptions {
        steps: 30,
        out: Some(folder.path().join("comparison")),
        ..CompareOptions::new(entrants.collect(), reference)
    };
    let mut watcher = watcher(Dashboard::None, Arc::new(AtomicBool::new(false)));
    match compare_subject(&LeastSquares(mistake), &options, &mut *watcher)? {
        Compared::Complete {
            comparison, report, ..
        } => {
            let page = std::fs::read_to_string(report).unwrap();
            assert!(page.contains("least-squares: comparison of backends"));
            assert!(page.contains("items/s") && !page.contains("nats per token"));
            Ok(*comparison)
        }
        Compared::Interrupted { .. } => unreachable!("nothing interrupts it"),
    }
}

#[test]
fn own_backend_is_judged_by_checks_of_loss_output_gradients_and_updates() {
    let backend = Backend::default_backend();
    let comparison = compared(Mistake::None, &[backend]).unwrap();
    let entry = &comparison.backends[0];
    assert_eq!(entry.verdict, Verdict::Own, "{}", entry.reason);
    assert_eq!(entry.losses.len(), 30);
    assert!(
        entry.losses[29] < 0.9 * entry.losses[0],
        "{:?}",
        entry.losses
    );
    assert!(entry.checks.iter().all(|check| check.holds()));
    for of in [
        Checked::Loss,
        Checked::Output,
        Checked::Gradient,
        Checked::Update,
    ] {
        let mut checks = entry.checks.iter().filter(|check| check.of == of);
        let check = checks.next().expect("each quantity is checked");
        let path = match of {
            Checked::Loss => None,
            Checked::Output => Some("fitted"),
            _ => Some("weights"),
        };
        assert_eq!(check.path.as_deref(), path);
        // An update is a small difference of weights, with their rounding error.
        let largest = if of == Checked::Update { 1e-4 } else { 1e-5 };
        assert!(check.error < largest, "{check:?}");
    }
    let text = comparison.to_text();
    assert!(text.contains("30 steps of 16 items"), "{text}");
    assert!(text.contains("ITEMS/S"), "{text}");

    let again = compared(Mistake::None, &[backend]).unwrap();
    assert_eq!(entry.losses, again.backends[0].losses);
    assert_eq!(comparison.initial_weights, again.initial_weights);
}

#[test]
fn reference_without_a_finite_loss_is_an_error() {
    let error = compared(Mistake::NotANumber, &[Backend::default_backend()]).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("the reference"), "{message}");
    assert!(message.contains("NaN"), "{message}");
}

#[cfg(feature = "ndarray")]
#[test]
fn another_backend_agrees_and_its_mistake_is_found() {
    let other = Backend::NdArray;
    let comparison = compared(Mistake::None, &[other]).unwrap();
    let entry = &comparison.backends[0];
    let agrees = [Verdict::Identical, Verdict::Rounding].contains(&entry.verdict);
    assert!(agrees, "{}", entry.reason);
    assert!(!comparison.has_failures());

    let comparison = compared(Mistake::Inputs(other), &[other]).unwrap();
    let entry = &comparison.backends[0];
    assert_eq!(entry.verdict, Verdict::Differs, "{}", entry.reason);
    assert!(comparison.has_failures());
}
