//! How often a comparison is right: clean runs that it must not accuse, and mistakes that it must name.
//!
//! The table that it prints is kept in `docs/calibration.md`:
//! `cargo test --release --workspace --features ndarray,libtorch,wgpu --test calibration -- --nocapture`
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod faults;

use std::collections::BTreeMap;

use foretoken::Experiment;
use foretoken::backend::Backend;
use foretoken::compare::{
    CompareOptions, Comparison, Entrant, Entry, Event, Verdict, Watcher, compare_unwritten,
};
use foretoken::precision::Precision;

use faults::{Fault, LLAMA, backward_faults, equivalents, forward_faults, training_faults};

/// Steps of each run: enough for what is wrong with an optimizer to show, and for rounding to grow.
const STEPS: usize = 16;

struct Silent;

impl Watcher for Silent {
    fn event(&mut self, _: Event) {}

    fn wants_to_stop(&self) -> bool {
        false
    }
}

/// An architecture and a size.
#[derive(Clone, Copy)]
struct Model {
    llama: bool,
    layers: usize,
    width: usize,
    context: usize,
}

impl Model {
    const fn new(llama: bool, layers: usize, width: usize, context: usize) -> Self {
        Self {
            llama,
            layers,
            width,
            context,
        }
    }

    fn name(self) -> String {
        let family = if self.llama { "llama" } else { "gpt2" };
        format!("{family} {}×{}×{}", self.layers, self.width, self.context)
    }

    fn experiment(self, seed: u64) -> Experiment {
        let mut overrides = vec![
            "data.world.train_bytes=40000".to_owned(),
            "data.world.valid_bytes=4096".into(),
            format!("model.layers={}", self.layers),
            "model.heads=4".into(),
            format!("model.width={}", self.width),
            format!("model.context={}", self.context),
            format!("train.seed={seed}"),
            "train.steps=200".into(),
            "train.batch=4".into(),
            "train.eval_windows=4".into(),
            "optimizer.warmup=4".into(),
        ];
        if self.llama {
            overrides.extend(LLAMA.map(str::to_owned));
        }
        Experiment::embedded(&overrides).unwrap()
    }
}

fn entrant(name: Backend) -> Entrant {
    Entrant {
        name,
        dtype: Precision::F32,
    }
}

fn reference() -> Entrant {
    Entrant {
        name: Backend::Flex,
        dtype: Precision::F64,
    }
}

/// Backends that are compiled in and quick.
fn backends() -> Vec<Backend> {
    [Backend::Flex, Backend::NdArray, Backend::LibTorch]
        .into_iter()
        .filter(|backend| backend.compiled_in())
        .collect()
}

fn compare(model: Model, seed: u64, options: &CompareOptions) -> Comparison {
    let compared = compare_unwritten(model.experiment(seed), options, &mut Silent);
    compared.unwrap().unwrap()
}

/// The largest error of a check, as a share of its bound.
fn worst_check(entry: &Entry) -> f64 {
    let shares = entry.checks.iter().map(|check| check.error / check.bound);
    shares.fold(0.0, f64::max)
}

/// The largest difference of a loss, as a share of the envelope.
fn worst_step(entry: &Entry, comparison: &Comparison) -> f64 {
    let envelope = comparison.envelope(Precision::F32).unwrap();
    let reference = &comparison.reference.losses;
    let shares = entry.losses.iter().zip(reference).zip(&envelope.loss);
    shares
        .map(|((loss, reference), bound)| (loss - reference).abs() / bound)
        .fold(0.0, f64::max)
}

/// Clean runs: nobody is accused, whatever the backend, the size and the seed.
#[test]
fn clean_runs_agree() {
    let models = [
        Model::new(false, 1, 16, 8),
        Model::new(false, 2, 32, 16),
        Model::new(false, 3, 48, 32),
        Model::new(true, 1, 32, 24),
        Model::new(true, 2, 64, 16),
    ];
    println!("| model | backend | pairs | identical | rounding | worst check | worst step |");
    println!("|---|---|---|---|---|---|---|");
    let mut pairs = 0;
    for (number, model) in models.into_iter().enumerate() {
        let mut rows = BTreeMap::<String, (usize, usize, usize, f64, f64)>::new();
        for seed in [1, 2, 3, 4, 5] {
            let mut names = backends();
            // wgpu compiles its kernels for a long time where there is no GPU.
            if Backend::Wgpu.compiled_in() && number == 1 && seed == 1 {
                names.push(Backend::Wgpu);
            }
            let entrants = names.iter().map(|name| entrant(*name));
            let mut options = CompareOptions {
                steps: STEPS,
                seeds: 1,
                ..CompareOptions::new(entrants.collect(), reference())
            };
            let mut labels: Vec<String> = names.iter().map(Backend::to_string).collect();
            // The same function in another order of operations is no mistake.
            for same in equivalents(0) {
                let place = options.entrants.len();
                options.entrants.push(entrant(Backend::Flex));
                options.tampering.insert(place, same.tampering);
                labels.push(format!("flex, {}", same.name));
            }
            let comparison = compare(model, seed, &options);
            for (label, entry) in labels.into_iter().zip(&comparison.backends) {
                pairs += 1;
                // Flex as it is has the reference's own backend.
                let identical = [Verdict::Identical, Verdict::Own].contains(&entry.verdict);
                assert!(
                    identical || entry.verdict == Verdict::Rounding,
                    "{}, seed {seed}, {label}: {:?}, {}",
                    model.name(),
                    entry.verdict,
                    entry.reason
                );
                let row = rows.entry(label).or_default();
                row.0 += 1;
                row.1 += usize::from(identical);
                row.2 += usize::from(entry.verdict == Verdict::Rounding);
                row.3 = row.3.max(worst_check(entry));
                row.4 = row.4.max(worst_step(entry, &comparison));
            }
        }
        for (label, (count, identical, rounding, check, step)) in rows {
            println!(
                "| {} | {label} | {count} | {identical} | {rounding} | {:.0} % | {:.0} % |",
                model.name(),
                100.0 * check,
                100.0 * step
            );
        }
    }
    println!("{pairs} pairs, 0 accused");
    assert!(pairs >= 50, "{pairs}");
}

/// Mistakes: at least 95 % of them are named as a difference in substance.
#[test]
fn planted_mistakes_differ() {
    let models = [
        (Model::new(false, 2, 32, 16), 1, 0),
        (Model::new(false, 2, 48, 24), 2, 1),
        (Model::new(true, 2, 32, 16), 3, 0),
        (Model::new(true, 3, 64, 8), 4, 2),
        (Model::new(false, 1, 64, 32), 5, 0),
    ];
    let mut rows = BTreeMap::<(&str, &str), (usize, usize, Vec<String>)>::new();
    for (model, seed, layer) in models {
        let mut planted: Vec<Fault> = forward_faults(layer, model.llama);
        planted.extend(backward_faults(layer, model.llama));
        planted.extend(training_faults());
        let names = backends();
        let mut options = CompareOptions {
            steps: STEPS,
            seeds: 3,
            ..CompareOptions::new(Vec::new(), reference())
        };
        for (place, fault) in planted.iter().enumerate() {
            // In turns, so that every backend makes mistakes.
            options.entrants.push(entrant(names[place % names.len()]));
            options.tampering.insert(place, fault.tampering.clone());
        }
        let comparison = compare(model, seed, &options);
        for (fault, entry) in planted.iter().zip(&comparison.backends) {
            let row = rows.entry((fault.name, fault.what)).or_default();
            row.0 += 1;
            row.1 += usize::from(entry.verdict == Verdict::Differs);
            if entry.verdict != Verdict::Differs {
                let verdict = entry.verdict.name();
                row.2
                    .push(format!("{verdict} ({}, {})", model.name(), entry.entrant));
            }
        }
    }
    println!("| mistake | what is wrong | planted | differs | else |");
    println!("|---|---|---|---|---|");
    let (mut planted, mut named) = (0, 0);
    for ((name, what), (count, differs, missed)) in rows {
        println!(
            "| {name} | {what} | {count} | {differs} | {} |",
            missed.join(", ")
        );
        planted += count;
        named += differs;
    }
    println!("{planted} planted, {named} named");
    assert!(planted >= 100, "{planted}");
    assert!(
        named as f64 >= 0.95 * planted as f64,
        "{named} of {planted}"
    );
}
