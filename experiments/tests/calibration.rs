//! Calibration of the comparison: it must not report a difference of clean runs, and must report every planted mistake.
//!
//! The printed tables are in `docs/src/calibration.md`:
//! `cargo test --release --workspace --features ndarray,libtorch,wgpu --test calibration -- --nocapture`,
//! and with `--ignored` for the long tests.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod faults;

use std::collections::BTreeMap;

use foretoken::Experiment;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::engine::perturbation::Perturbation;
use foretoken::verify::compare::{
    CompareOptions, Comparison, Entrant, Entry, Event, Invariance, Judge, Verdict, Watcher,
    compare_unwritten,
};

use faults::{
    Fault, LLAMA, ROWS, backward_faults, clean_variants, equivalents, forward_faults, late_faults,
    training_faults,
};

/// Number of steps of each clean run, in which rounding grows.
const STEPS: usize = 16;

/// Number of steps of each run with a mistake, in which a mistake in the optimizer becomes visible.
const PLANTED_STEPS: usize = 8;

/// First step of late mistakes.
const LATE: usize = 150;

/// Watcher that ignores all events.
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
        self.experiment_with(seed, &[])
    }

    /// Returns the experiment with further keys.
    fn experiment_with(self, seed: u64, more: &[&str]) -> Experiment {
        let mut overrides = vec![
            "data.world.train_bytes=40000".to_owned(),
            "data.world.valid_bytes=4096".into(),
            format!("model.layers={}", self.layers),
            "model.heads=4".into(),
            format!("model.width={}", self.width),
            format!("model.context={}", self.context),
            format!("train.seed={seed}"),
            "train.steps=200".into(),
            format!("train.batch={ROWS}"),
            "train.eval_windows=4".into(),
            "optimizer.warmup=4".into(),
        ];
        if self.llama {
            overrides.extend(LLAMA.map(str::to_owned));
        }
        overrides.extend(more.iter().map(|key| (*key).to_owned()));
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

/// Returns the fast backends that are compiled in.
fn backends() -> Vec<Backend> {
    [Backend::Flex, Backend::NdArray, Backend::LibTorch]
        .into_iter()
        .filter(|backend| backend.compiled_in())
        .collect()
}

fn compare(experiment: Experiment, options: &CompareOptions) -> Comparison {
    let compared = compare_unwritten(experiment, options, &mut Silent);
    compared.unwrap().unwrap()
}

/// Returns whether a backend ran and agrees with the reference.
fn agrees(entry: &Entry) -> bool {
    [Verdict::Identical, Verdict::Rounding, Verdict::Own].contains(&entry.verdict)
}

/// Returns the largest error of a decisive check, as a share of its bound.
fn worst_check(entry: &Entry) -> f64 {
    let decides = entry
        .checks
        .iter()
        .filter(|check| check.bound > 0.0 && check.decides());
    let shares = decides.map(|check| check.error / check.bound);
    shares.fold(0.0, f64::max)
}

/// Returns the largest difference of a loss at a comparable step, as a share of the envelope.
fn worst_step(entry: &Entry, comparison: &Comparison) -> f64 {
    let envelope = comparison.envelope(entry.entrant.dtype).unwrap();
    let reference = &comparison.reference.losses;
    let shares = entry.losses.iter().zip(reference).zip(&envelope.loss);
    shares
        .take(entry.comparable_steps.unwrap())
        .map(|((loss, reference), bound)| (loss - reference).abs() / bound)
        .fold(0.0, f64::max)
}

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
            // wgpu takes long to compile its kernels without a GPU.
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
            // Another order of operations for the same function is not a mistake.
            for same in equivalents(0) {
                let index = options.entrants.len();
                options.entrants.push(entrant(Backend::Flex));
                options.perturbations.insert(index, same.perturbation);
                labels.push(format!("flex, {}", same.name));
            }
            let comparison = compare(model.experiment(seed), &options);
            for (label, entry) in labels.into_iter().zip(&comparison.backends) {
                pairs += 1;
                // Unchanged flex is the backend of the reference.
                let identical = [Verdict::Identical, Verdict::Own].contains(&entry.verdict);
                assert!(
                    agrees(entry),
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
            steps: PLANTED_STEPS,
            seeds: 3,
            ..CompareOptions::new(Vec::new(), reference())
        };
        for (place, fault) in planted.iter().enumerate() {
            // Backends alternate, so that each has mistakes.
            options.entrants.push(entrant(names[place % names.len()]));
            options
                .perturbations
                .insert(place, fault.perturbation.clone());
        }
        let comparison = compare(model.experiment(seed), &options);
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
    assert_eq!(
        named, planted,
        "docs/src/calibration.md says that all are named"
    );
}

#[test]
fn wrong_cache_entry_differs() {
    let names = backends();
    let clean = names.iter().map(|name| entrant(*name));
    let mut options = CompareOptions {
        steps: PLANTED_STEPS,
        seeds: 1,
        ..CompareOptions::new(clean.collect(), reference())
    };
    for name in &names {
        // The first token of a text is another one in the cache.
        let stale: fn(&mut [u32]) = |prefix| prefix[0] = u32::from(prefix[0] == 0);
        let perturbation = Perturbation {
            cached: Some(stale),
            ..Perturbation::default()
        };
        options
            .perturbations
            .insert(options.entrants.len(), perturbation);
        options.entrants.push(entrant(*name));
    }
    for (number, llama) in [false, true].into_iter().enumerate() {
        let model = Model::new(llama, 2, 32, 24);
        let comparison = compare(model.experiment(number as u64 + 1), &options);
        let (clean, wrong) = comparison.backends.split_at(names.len());
        for entry in clean {
            assert!(agrees(entry), "{}: {}", entry.label(), entry.reason);
            let verdicts = entry.invariance.iter().map(|invariance| invariance.verdict);
            let verdicts: Vec<Verdict> = verdicts.collect();
            assert_eq!(verdicts.len(), 3);
            println!("{} {}: {verdicts:?}", model.name(), entry.label());
        }
        for entry in wrong {
            assert_eq!(entry.verdict, Verdict::Differs, "{}", entry.label());
            assert_eq!(entry.judged_by, [Judge::Invariance]);
            let reason = "steps with a cache compute other logits than a full pass";
            assert!(entry.reason.starts_with(reason), "{}", entry.reason);
            // A full pass has no cache.
            assert!(!entry.invariance[1].differs());
        }
        assert!(comparison.has_failures());
        assert!(
            !comparison
                .reference
                .invariance
                .iter()
                .any(Invariance::differs)
        );
    }
}

/// A condition of training that differs from [`clean_runs_agree`].
struct Condition {
    name: &'static str,
    model: Model,
    dtype: Precision,
    steps: usize,
    seeds: std::ops::RangeInclusive<u64>,
    keys: &'static [&'static str],
}

const SMALL: Model = Model::new(false, 1, 16, 8);
const LARGE_RATE: &[&str] = &["train.steps=500", "optimizer.learning_rate=3e-2"];
/// Override of the optimizer's epsilon, because the default is 0 in f16.
const EPSILON: &[&str] = &["optimizer.epsilon=1e-6"];

fn conditions() -> [Condition; 10] {
    [
        Condition::new("f32, 100 steps", Precision::F32, 100, &[]),
        Condition::new(
            "learning rate 3e-2, 100 steps",
            Precision::F32,
            100,
            LARGE_RATE,
        ),
        Condition::new(
            "dropout 0.1, 100 steps",
            Precision::F32,
            100,
            &["model.dropout=0.1"],
        ),
        Condition::new(
            "4 micro-batches, 100 steps",
            Precision::F32,
            100,
            &["train.accumulation=4"],
        ),
        Condition::new("bf16, 100 steps", Precision::BF16, 100, EPSILON),
        Condition::new(
            "bf16, learning rate 3e-2, 100 steps",
            Precision::BF16,
            100,
            LARGE_RATE,
        ),
        Condition::new("f16, 100 steps", Precision::F16, 100, EPSILON),
        Condition {
            seeds: 1..=3,
            ..Condition::new("500 steps", Precision::F32, 500, &["train.steps=500"])
        },
        Condition {
            seeds: 1..=3,
            ..Condition::new(
                "learning rate 3e-2, 500 steps",
                Precision::F32,
                500,
                LARGE_RATE,
            )
        },
        Condition {
            seeds: 1..=3,
            ..Condition::new(
                "65 536 tokens a batch, 4 steps",
                Precision::F32,
                4,
                &["train.batch=8192"],
            )
        },
    ]
}

impl Condition {
    fn new(
        name: &'static str,
        dtype: Precision,
        steps: usize,
        keys: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            model: SMALL,
            dtype,
            steps,
            seeds: 1..=6,
            keys,
        }
    }
}

#[test]
#[ignore = "takes minutes; its table is in docs/src/calibration.md"]
fn clean_runs_agree_under_other_conditions() {
    println!(
        "| condition | pairs | accused | cannot tell | comparable steps | worst check | worst step |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (mut pairs, mut accused) = (0, Vec::new());
    for condition in conditions() {
        let mut row = (0, 0.0f64, usize::MAX, 0, 0.0f64, 0.0f64);
        let before = accused.len();
        for seed in condition.seeds.clone() {
            let on = |name| Entrant {
                name,
                dtype: condition.dtype,
            };
            let able = |name: &Backend| name.device_for(condition.dtype).is_ok();
            let mut names = backends();
            names.retain(able);
            let mut labels: Vec<String> = names.iter().map(Backend::to_string).collect();
            let entrants = names.iter().map(|name| on(*name)).collect();
            let mut options = CompareOptions {
                steps: condition.steps,
                ..CompareOptions::new(entrants, reference())
            };
            for same in clean_variants(0) {
                options
                    .perturbations
                    .insert(options.entrants.len(), same.perturbation);
                options.entrants.push(on(Backend::Flex));
                labels.push(format!("flex, {}", same.name));
            }
            let experiment = condition.model.experiment_with(seed, condition.keys);
            let comparison = compare(experiment, &options);
            for (label, entry) in labels.iter().zip(&comparison.backends) {
                // Equal bits are no evidence.
                if label == "flex" {
                    continue;
                }
                pairs += 1;
                if !agrees(entry) {
                    accused.push(format!(
                        "{}, seed {seed}, {label}: {}",
                        condition.name, entry.reason
                    ));
                }
                let comparable = entry.comparable_steps.unwrap();
                row.0 += 1;
                assert!(!entry.checks.is_empty(), "{label}: {}", entry.reason);
                row.1 += entry.undecided_checks() as f64 / entry.checks.len() as f64;
                row.2 = row.2.min(comparable);
                row.3 = row.3.max(comparable);
                row.4 = row.4.max(worst_check(entry));
                row.5 = row.5.max(worst_step(entry, &comparison));
            }
        }
        let (count, undecided, least, most, check, step) = row;
        println!(
            "| {} | {count} | {} | {:.0} % | {least} – {most} | {:.0} % | {:.0} % |",
            condition.name,
            accused.len() - before,
            100.0 * undecided / f64::from(count),
            100.0 * check,
            100.0 * step
        );
    }
    println!("{pairs} pairs, {} accused", accused.len());
    assert!(pairs >= 150, "{pairs}");
    assert!(accused.is_empty(), "{accused:#?}");
}

/// Plants late mistakes, and counts by name how many were planted and which were not reported.
fn plant_late(
    found: &mut BTreeMap<&'static str, (usize, Vec<String>)>,
    planted: Vec<Fault>,
    experiment: Experiment,
    steps: usize,
    what: &str,
) {
    let names = backends();
    let mut options = CompareOptions {
        steps,
        ..CompareOptions::new(Vec::new(), reference())
    };
    for (place, fault) in planted.iter().enumerate() {
        options.entrants.push(entrant(names[place % names.len()]));
        options
            .perturbations
            .insert(place, fault.perturbation.clone());
    }
    let comparison = compare(experiment, &options);
    for (fault, entry) in planted.iter().zip(&comparison.backends) {
        let row = found.entry(fault.name).or_default();
        row.0 += 1;
        // The verdict must be a difference, and not before the mistake begins.
        if entry.verdict != Verdict::Differs || entry.first_step < Some(steps / 2) {
            row.1
                .push(format!("{what}, {}: {}", entry.entrant, entry.reason));
        }
    }
}

/// Single steps show mistakes that begin half-way, even if training is chaotic.
#[test]
fn late_mistakes_differ() {
    let mut found = BTreeMap::new();
    let model = Model::new(false, 2, 32, 16);
    let keys = ["model.dropout=0.1", "optimizer.learning_rate=3e-2"];
    let experiment = model.experiment_with(1, &keys);
    plant_late(&mut found, late_faults::<12>(), experiment, 24, "24 steps");
    let missed: Vec<_> = found.values().flat_map(|(_, missed)| missed).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The runs have 300 steps, at learning rates at which rounding alone makes training chaotic.
#[test]
#[ignore = "takes minutes; its table is in docs/src/calibration.md"]
fn late_mistakes_differ_in_long_runs() {
    let mut found = BTreeMap::new();
    let models = [Model::new(false, 1, 16, 8), Model::new(true, 1, 16, 8)];
    for model in models {
        for (seed, rate) in [(1, "1e-3"), (2, "1e-2"), (3, "3e-2")] {
            let rate_key = format!("optimizer.learning_rate={rate}");
            let keys = ["model.dropout=0.1", "train.steps=500", &rate_key];
            let experiment = model.experiment_with(seed, &keys);
            let what = format!("{}, {rate}", model.name());
            plant_late(
                &mut found,
                late_faults::<LATE>(),
                experiment,
                2 * LATE,
                &what,
            );
        }
    }
    println!("| late mistake | planted | named | else |");
    println!("|---|---|---|---|");
    let (mut planted, mut missed) = (0, 0);
    for (name, (count, names)) in &found {
        println!(
            "| {name} | {count} | {} | {} |",
            count - names.len(),
            names.join("; ")
        );
        planted += count;
        missed += names.len();
    }
    println!("{planted} planted, {} named", planted - missed);
    assert_eq!(missed, 0, "docs/src/calibration.md says that all are named");
}
