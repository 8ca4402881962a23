//! Tests of every backend that is compiled in: it is listed, and trains from the same initial bits to the same numbers.

use super::*;
use foretoken::backend::Backend;

#[test]
fn the_table_lists_every_backend() {
    let bench = Bench::new();
    let table = String::from_utf8(bench.run(&["backends"]).stdout).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&bench.run(&["backends", "--json"]).stdout).unwrap();
    for backend in Backend::ALL {
        assert!(table.contains(backend.name()), "{table}");
        let row = json
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == backend.name())
            .unwrap();
        assert_eq!(row["compiled_in"], backend.compiled_in());
    }
}

#[test]
fn a_measured_peak_is_shown() {
    let bench = Bench::new();
    let json: serde_json::Value =
        serde_json::from_slice(&bench.run(&["backends", "--json", "--measure"]).stdout).unwrap();
    let usable: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["usable"] == true)
        .collect();
    assert!(!usable.is_empty());
    for row in usable {
        assert!(row["matmul_gflops"].as_f64().unwrap() > 0.0, "{row}");
    }
}

/// This test fails for a backend that is compiled in and finds no device. Install a driver (for wgpu, a software driver
/// suffices), or build without the feature.
#[test]
#[cfg(any(feature = "ndarray", feature = "libtorch", feature = "wgpu"))]
fn all_backends_train_to_the_same_losses() {
    let bench = Bench::new();
    let train = |backend: Backend| {
        bench.tiny_run(
            backend.name(),
            &["--backend", backend.name(), "--set", "train.steps=21"],
        )
    };
    let reference = train(Backend::default_backend());
    let expected = column(&reference, "step", "loss");
    assert!(
        (expected[0] - expected[20]).abs() > 0.1,
        "something is learnt: {expected:?}"
    );
    for backend in Backend::ALL
        .into_iter()
        .filter(|backend| backend.compiled_in())
    {
        if backend == Backend::default_backend() {
            continue;
        }
        let losses = column(&train(backend), "step", "loss");
        let (first, last) = (
            relative_difference(losses[0], expected[0]),
            relative_difference(losses[20], expected[20]),
        );
        println!("{backend}: step 0 differs by {first:.1e}, step 20 by {last:.1e}");
        // Weights and windows are equal, so only the order of f32 sums differs, by a few times 6e-8, which 20 steps
        // amplify.
        assert!(
            first < 1e-6,
            "{backend} at step 0: {} and {}",
            losses[0],
            expected[0]
        );
        assert!(
            last < 1e-5,
            "{backend} at step 20: {} and {}",
            losses[20],
            expected[20]
        );
    }
}
