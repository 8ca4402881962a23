//! Tests that `bisect` names the operation with a planted mistake, and no operation if there is none.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod faults;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::engine::perturbation::Perturbation;
use foretoken::verify::bisect::{BisectOptions, Bisection, Bisector, bisect};
use foretoken::{Error, Experiment};
use foretoken_datasets::Monitor;

use faults::{Fault, LLAMA, backward_faults, equivalents, forward_faults, training_faults};

/// Returns a small experiment with a GPT-2 or a Llama.
fn experiment(rms: bool, width: usize, context: usize, seed: u64) -> Experiment {
    let mut overrides = vec![
        "data.world.train_bytes=20000".to_owned(),
        "data.world.valid_bytes=4096".into(),
        "model.layers=2".into(),
        "model.heads=4".into(),
        format!("model.width={width}"),
        format!("model.context={context}"),
        format!("train.seed={seed}"),
        "train.batch=4".into(),
    ];
    if rms {
        overrides.extend(LLAMA.map(str::to_owned));
    }
    Experiment::embedded(&overrides).unwrap()
}

fn bisector(experiment: Experiment) -> Bisector {
    Bisector::new(experiment, Precision::F32).unwrap()
}

fn findings(bisector: &Bisector, backend: Backend, perturbation: Perturbation) -> Bisection {
    let examined = bisector.examine(backend, perturbation).unwrap();
    bisector.findings(&[examined])
}

/// Returns the fast backends that are compiled in.
fn backends() -> Vec<Backend> {
    [Backend::Flex, Backend::NdArray, Backend::LibTorch]
        .into_iter()
        .filter(|backend| backend.compiled_in())
        .collect()
}

/// Plants each mistake, prints what was found, and returns the numbers of mistakes that were found and planted.
fn hunt(bisector: &Bisector, backend: Backend, label: &str, faults: Vec<Fault>) -> [usize; 2] {
    let mut found = 0;
    let planted = faults.len();
    for fault in faults {
        let bisection = findings(bisector, backend, fault.perturbation);
        let named = bisection
            .culprit
            .map(|culprit| (culprit.path, culprit.direction, culprit.ratio));
        let right = match (&named, &fault.at) {
            (Some((path, direction, _)), Some(at)) => (path, direction) == (&at.0, &at.1),
            (None, None) => true,
            _ => false,
        };
        found += usize::from(right);
        let named = match named {
            Some((path, direction, ratio)) => format!("{} {path} ({ratio:.1e})", direction.name()),
            None => "-".into(),
        };
        let verdict = if right { "found" } else { "MISSED" };
        println!("{label:<24} {:<24} {verdict:<7} {named}", fault.name);
        if !right {
            println!("{:<24} {}", "", fault.what);
        }
    }
    [found, planted]
}

#[test]
fn planted_mistakes_are_located() {
    let (mut forward, mut backward, mut training) = ([0; 2], [0; 2], [0; 2]);
    let add = |total: &mut [usize; 2], [found, planted]: [usize; 2]| {
        total[0] += found;
        total[1] += planted;
    };
    // Backends alternate, so that each has mistakes in each model.
    let backends = backends();
    let mut hunts = 0;
    for (rms, width, context, seed) in [
        (false, 32, 16, 1),
        (false, 48, 24, 2),
        (true, 32, 16, 3),
        (true, 64, 8, 4),
    ] {
        let bisector = bisector(experiment(rms, width, context, seed));
        for layer in 0..2 {
            let backend = backends[hunts % backends.len()];
            hunts += 1;
            let model = if rms { "llama" } else { "gpt2" };
            let label = format!("{backend} {model} {width}x{context} {layer}");
            let hunt = |faults| hunt(&bisector, backend, &label, faults);
            add(&mut forward, hunt(forward_faults(layer, rms)));
            add(&mut backward, hunt(backward_faults(layer, rms)));
            add(&mut training, hunt(training_faults()));
        }
    }
    for (name, [found, planted]) in [
        ("forward", forward),
        ("backward", backward),
        ("training", training),
    ] {
        println!("{name}: {found} of {planted}");
        assert_eq!(found, planted, "{name}");
    }
}

/// Returns the largest ratio of all operations, and its place.
fn largest(found: &Bisection) -> (f64, String) {
    let rows = found.operations.iter();
    let row = rows.max_by(|a, b| a.worst_ratio().total_cmp(&b.worst_ratio()));
    let row = row.unwrap();
    (row.worst_ratio(), format!("{} of {}", row.of, row.path))
}

#[test]
fn clean_backends_have_no_culprit() {
    let mut overall = 0.0f64;
    for (rms, width, context, seed) in [
        (false, 32, 16, 1),
        (false, 64, 32, 2),
        (true, 32, 16, 3),
        (true, 64, 64, 4),
    ] {
        for precision in [Precision::F32, Precision::F64, Precision::BF16] {
            let experiment = experiment(rms, width, context, seed);
            let bisector = Bisector::new(experiment, precision).unwrap();
            let able = |backend: &Backend| backend.device_for(precision).is_ok();
            for backend in backends().into_iter().filter(able) {
                let mut clean = vec![Perturbation::default()];
                if precision == Precision::F32 {
                    clean.extend(equivalents(1).into_iter().map(|same| same.perturbation));
                }
                for perturbation in clean {
                    let found = findings(&bisector, backend, perturbation);
                    let (ratio, place) = largest(&found);
                    println!("{backend}:{precision} {rms} {width}x{context}: {ratio:.3}, {place}");
                    assert_eq!(found.culprit.is_some(), ratio > 1.0);
                    overall = overall.max(ratio);
                }
            }
        }
    }
    println!("largest ratio {overall:.3}");
    assert!(overall < 0.33, "the margin is less than three: {overall}");
}

fn written(
    experiment: Experiment,
    dtype: Precision,
    perturbation: Perturbation,
    out: &Path,
) -> Result<Bisection, Error> {
    let interrupt = AtomicBool::new(false);
    let options = BisectOptions {
        backends: backends(),
        dtype,
        out: Some(out.into()),
        interrupted: Arc::new(AtomicBool::new(false)),
        monitor: Monitor {
            report: &|_| {},
            interrupt: &interrupt,
            bars: false,
        },
        progress: &|_, _, _| {},
        perturbations: vec![perturbation],
    };
    bisect(experiment, &options)
}

/// Compiles a program with the Burn that this test was built with: `--emit=metadata`, or `--emit=link`.
fn compile(source: &Path, out: &Path, emit: &str) -> Result<(), String> {
    let executable = std::env::current_exe().unwrap();
    let deps = executable.parent().unwrap();
    let libraries = std::fs::read_dir(deps).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name()?.to_str()?;
        let is_burn = name.starts_with("libburn-") && name.ends_with(".rlib");
        is_burn.then_some(path)
    });
    let search = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let native = search.split(':').filter(|path| !path.is_empty());
    let native: Vec<String> = native.map(|path| format!("-Lnative={path}")).collect();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut reasons = String::from("no libburn was found");
    for library in libraries {
        let output = Command::new(&rustc)
            .args(["--edition", "2024", emit, "--crate-type=bin"])
            .args(["-D", "warnings", "-L"])
            .arg(format!("dependency={}", deps.display()))
            .args(&native)
            .arg("--extern")
            .arg(format!("burn={}", library.display()))
            .arg("--out-dir")
            .arg(out)
            .arg(source)
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(());
        }
        reasons = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    Err(reasons)
}

#[test]
fn the_smallest_case_is_written_as_a_program() {
    let root = tempfile::tempdir().unwrap();
    // The named mistakes cover each operation at least once.
    for (rms, names, extra) in [
        (
            false,
            &[
                "norm epsilon",
                "mask off by one",
                "wrong row",
                "positions off by one",
                "transposed weight",
                "residual branch",
                "GELU's derivative",
                "loss gradient",
                "repeated tokens",
                "one logit",
                "beta_2",
            ][..],
            None,
        ),
        (
            true,
            &[
                "norm's mean",
                "keys not rotated",
                "scores' scale",
                "softmax's sum",
                "gate and up swapped",
            ],
            Some(true),
        ),
    ] {
        let all = forward_faults(1, rms)
            .into_iter()
            .chain(backward_faults(1, rms))
            .chain(training_faults());
        let chosen: Vec<Fault> = all.filter(|fault| names.contains(&fault.name)).collect();
        assert_eq!(chosen.len(), names.len());
        for (number, fault) in chosen.into_iter().enumerate() {
            let out = root.path().join(format!("{rms}-{number}"));
            let mut experiment = experiment(rms, 32, 16, 5);
            experiment.model.qk_norm = extra;
            let found = written(experiment, Precision::F32, fault.perturbation, &out).unwrap();
            let culprit = found.culprit.unwrap();
            assert_eq!(
                Some((culprit.path.clone(), culprit.direction)),
                fault.at,
                "{}",
                fault.name
            );
            let (Some(source), Some(input)) = (&culprit.reproduction, &culprit.input) else {
                panic!("{}: no program", fault.name);
            };
            let smallest = culprit.smallest.unwrap();
            println!(
                "{:<24} {:?} -> {smallest:?}",
                fault.name, culprit.shapes.inputs
            );
            assert!(input.is_file() && out.join(Bisection::FILE).is_file());
            if let Err(reason) = compile(source, root.path(), "--emit=metadata") {
                let text = std::fs::read_to_string(source).unwrap();
                panic!("{}: {reason}\n{text}", fault.name);
            }
            // The program has the expected result, because the planted mistake is not in Burn.
            let run = ["beta_2", "GELU's derivative", "scores' scale"].contains(&fault.name);
            if run {
                compile(source, root.path(), "--emit=link").unwrap();
                let output = Command::new(root.path().join("reproduction"))
                    .output()
                    .unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                let errors = text
                    .lines()
                    .filter_map(|line| line.split("relative error ").nth(1));
                let errors: Vec<f64> = errors.map(|error| error.parse().unwrap()).collect();
                let small = |error: &f64| *error < 1e-6;
                assert!(
                    !errors.is_empty() && errors.iter().all(small),
                    "{}: {text}",
                    fault.name
                );
            }
        }
    }
}

#[test]
fn independent_rows_are_left_out() {
    let root = tempfile::tempdir().unwrap();
    let fault = |name: &str| {
        let mut all = forward_faults(0, false)
            .into_iter()
            .chain(backward_faults(0, false));
        all.find(|fault| fault.name == name).unwrap().perturbation
    };
    for (name, expected) in [
        ("norm epsilon", vec![vec![1, 32]]),
        ("GELU's derivative", vec![vec![1, 128]]),
        // The first token attends to a future key, so two tokens of one sequence are needed.
        ("mask off by one", vec![vec![1, 4, 2, 8], vec![1, 4, 2, 8]]),
    ] {
        let out = root.path().join(name);
        let found = written(
            experiment(false, 32, 16, 6),
            Precision::F32,
            fault(name),
            &out,
        );
        let culprit = found.unwrap().culprit.unwrap();
        assert_eq!(culprit.smallest, Some(expected), "{name}");
    }
}

fn foretoken(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_foretoken"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_command_says_that_backends_agree() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let out = out.to_str().unwrap();
    let backends: Vec<&str> = backends().iter().map(|backend| backend.name()).collect();
    let backends = backends.join(",");
    let small = [
        "bisect",
        "--backends",
        &backends,
        "--set",
        "data.world.train_bytes=20000",
        "--set",
        "model.context=16",
        "--out",
        out,
    ];
    let (code, text, errors) = foretoken(&small);
    assert_eq!(code, 0, "{text}{errors}");
    assert!(
        text.contains("within rounding at every operation")
            && text.contains("--set backend.fused=false"),
        "{text}"
    );
    assert!(
        text.lines()
            .all(|line| line.chars().count() <= 80 || line.starts_with("Written"))
    );
    let json = std::fs::read_to_string(Path::new(out).join(Bisection::FILE)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["culprit"].is_null() && json["reference"].is_string());
    assert_eq!(json["fused"], true);
    let row = &json["operations"][1];
    for key in [
        "path",
        "operation",
        "direction",
        "of",
        "shape",
        "local",
        "carried",
        "bound",
    ] {
        assert!(!row[key].is_null(), "{key}");
    }
    // A second call is refused, because the directory exists.
    let (code, text, errors) = foretoken(&small);
    assert_eq!((code, text.as_str()), (2, ""), "{errors}");
    assert!(
        errors.contains("already exists") && errors.lines().count() == 1,
        "{errors}"
    );
}

#[test]
fn errors_of_backends_are_one_line() {
    let first = backends()[0].name();
    for (backends, part) in [
        (format!("{first},{first}"), "twice"),
        ("flx".to_owned(), "flex"),
    ] {
        let (code, text, errors) = foretoken(&["bisect", "--backends", &backends]);
        assert_eq!((code, text.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(part), "{errors}");
    }
}
