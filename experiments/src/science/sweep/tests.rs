//! Tests of plans and of the runs that they expand to.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::Monitor;

use super::shard::unit_count;
use super::{Entry, Plan, Run, Shard, expand};
use crate::experiment::Keep;

fn plan(text: &str) -> Plan {
    let text = format!("[set]\nmodel.vocab_size = 70\n{text}");
    Plan::parse(&text, "plan.toml", "plan", |_| {
        panic!("the base is embedded")
    })
    .unwrap()
}

fn runs_of(plan: &Plan) -> Vec<Run> {
    let interrupt = AtomicBool::new(false);
    let monitor = Monitor {
        report: &|_| {},
        interrupt: &interrupt,
        bars: false,
    };
    expand(plan, monitor).unwrap()
}

fn runs(text: &str) -> Vec<Run> {
    runs_of(&plan(text))
}

fn names(text: &str) -> Vec<String> {
    runs(text).into_iter().map(|run| run.name).collect()
}

#[test]
fn the_shipped_plan_covers_three_decades_of_compute() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/scaling-facts.toml");
    let runs = runs_of(&Plan::read(Path::new(path)).unwrap());
    assert!(runs.len() >= 30, "{} runs", runs.len());
    let mut flops: Vec<f64> = runs.iter().map(|run| run.cost.unwrap().flops).collect();
    flops.sort_by(f64::total_cmp);
    let decades = (flops[flops.len() - 1] / flops[0]).log10();
    assert!(decades >= 3.0, "{decades} decades");
    assert!(runs.iter().any(|run| run.shared.is_some()));
}

#[test]
fn the_shipped_plan_of_capacity_gives_each_parameter_three_bits() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/capacity.toml");
    let runs = runs_of(&Plan::read(Path::new(path)).unwrap());
    assert!(runs.iter().all(|run| run.refusal.is_none()));
    let bits_of_largest_text = |width: usize| {
        let of_width = runs
            .iter()
            .filter(|run| run.experiment.model.width == Some(width));
        let bits = of_width.map(|run| {
            let documents = run
                .experiment
                .data
                .world
                .as_ref()
                .unwrap()
                .train_documents
                .unwrap() as f64;
            362.0 * documents / run.cost.unwrap().parameters as f64
        });
        bits.fold(0.0, f64::max)
    };
    for width in [64, 96, 128] {
        let bits = bits_of_largest_text(width);
        assert!((2.9..3.1).contains(&bits), "{bits} bits for each parameter");
    }
}

#[test]
fn names_tell_runs_apart() {
    assert_eq!(
        names("[axes]\ntrain.seed = [7, 8]\noptimizer.clip = [0.5, 1e-5, 2]\n"),
        [
            "seed7-clip1e-5",
            "seed7-clip0.5",
            "seed7-clip2",
            "seed8-clip1e-5",
            "seed8-clip0.5",
            "seed8-clip2"
        ]
    );
    // The last part of a key is its label unless two axes have the same.
    assert_eq!(
        names("[axes]\ntrain.seed = [1]\ndata.world.seed = [2]\ndata.tokenizer = [\"a/b c\"]\n"),
        ["train_seed1-data_world_seed2-tokenizer-a_b_c"]
    );
    // What is no number stands after a separator, in the order of the plan.
    assert_eq!(
        names("[axes]\ndata.windows = [\"random\", \"epoch\"]\ntrain.steps = [9000]\n"),
        ["windows-random-steps9000", "windows-epoch-steps9000"]
    );
    // Only the first of keys that are tied names the runs, and others may repeat a value.
    assert_eq!(
        names("[[tied]]\ntrain.seed = [1, 2]\ntrain.steps = [9000, 9000]\n"),
        ["seed1", "seed2"]
    );
    assert_eq!(names(""), ["run"]);
    let variable = "v".repeat(100);
    let long = names(&format!(
        "[axes]\n{variable} = [1, 2]\n[derive]\ntrain.seed = \"{variable}\"\n"
    ));
    assert!(
        long.iter().all(|name| name.len() == 80) && long[0] != long[1],
        "{long:?}"
    );
}

#[test]
fn whole_numbers_may_be_written_with_an_exponent() {
    let runs = runs("train.batch = 1e1\n[axes]\ntrain.steps = [1e3, 2000]\n");
    let names: Vec<_> = runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["steps1000", "steps2000"]);
    let first = &runs[0].experiment.train;
    assert_eq!((first.steps, first.batch), (1000, 10));
}

#[test]
fn runs_are_in_the_order_of_their_numbers() {
    assert_eq!(
        names("[axes]\ntrain.steps = [1600, 400, 800]\n"),
        ["steps400", "steps800", "steps1600"]
    );
    // Tied values stay together.
    let tied = runs("[[tied]]\nmodel.width = [64, 32]\nmodel.heads = [4, 2]\n");
    let shapes: Vec<_> = tied
        .iter()
        .map(|run| (run.experiment.model.width, run.experiment.model.heads))
        .collect();
    assert_eq!(shapes, [(Some(32), Some(2)), (Some(64), Some(4))]);
}

#[test]
fn formulas_are_computed_after_those_that_they_refer_to() {
    let runs = runs(
        "[axes]\nbudget = [1e10]\n[derive]\n\
         optimizer.min_learning_rate = \"optimizer.learning_rate / 10\"\n\
         optimizer.learning_rate = \"1 / model.width\"\n\
         train.steps = \"steps\"\n\
         steps = \"budget / (flops_per_token * tokens_per_step)\"\n\
         model.heads = \"model.width / 8\"\n\
         model.width = \"32 + model.layers * 8\"\n",
    );
    let [run] = &runs[..] else { panic!("one run") };
    let (model, optimizer) = (&run.experiment.model, &run.experiment.optimizer);
    assert_eq!((model.width, model.heads), (Some(48), Some(6)));
    assert_eq!(optimizer.learning_rate, 1.0 / 48.0);
    assert_eq!(optimizer.min_learning_rate, 1.0 / 48.0 / 10.0);
    let cost = run.cost.unwrap();
    let flops_per_step = cost.flops / cost.steps as f64;
    assert_eq!(
        run.experiment.train.steps,
        (1e10 / flops_per_step).round() as usize
    );
}

#[test]
fn padding_of_document_windows_is_no_token() {
    // Documents of 7 bytes in windows of 16.
    let runs = runs(
        "data.windows = \"documents\"\ndata.world.kind = \"facts\"\ndata.world.facts = 50\ndata.world.answer = 3\n\
         data.world.train_documents = 100\ndata.world.valid_documents = 10\nmodel.context = 16\ntrain.batch = 4\n\
         [axes]\nratio = [70]\n[derive]\ntrain.steps = \"ratio * 28 / tokens_per_step\"\n",
    );
    let [run] = &runs[..] else { panic!("one run") };
    let cost = run.cost.unwrap();
    // Of the 64 positions of a step, 28 are targets.
    assert_eq!(cost.steps, 70);
    assert_eq!((cost.tokens, cost.positions), (28 * 70, 64 * 70));
}

#[test]
fn data_that_an_axis_chose_refuse_their_run_alone() {
    let runs = runs(
        "data.windows = \"documents\"\ndata.world.kind = \"facts\"\ndata.world.valid_documents = 10\n\
         [axes]\ndata.world.train_documents = [100, 1_000_000_000_000]\n",
    );
    let [small, large] = &runs[..] else {
        panic!("two runs")
    };
    assert!(small.refusal.is_none() && small.cost.is_some());
    let refusal = large.refusal.as_deref().unwrap();
    assert!(refusal.contains("train_documents"), "{refusal}");
}

#[test]
fn numbers_that_no_run_can_hold_are_refused() {
    let refusal = |text: &str| {
        let interrupt = AtomicBool::new(false);
        let monitor = Monitor {
            report: &|_| {},
            interrupt: &interrupt,
            bars: false,
        };
        let plan = Plan::parse(text, "plan.toml", "plan", |_| {
            panic!("the base is embedded")
        });
        let runs = plan.and_then(|plan| expand(&plan, monitor));
        runs.unwrap_err().to_string()
    };
    let message = refusal("[set]\ntrain.steps = 1.5\n[axes]\ntrain.seed = [1, 2]\n");
    assert!(
        message.starts_with("plan.toml: [set]: train.steps=1.5: "),
        "{message}"
    );
    let values: Vec<_> = (0..100_000).map(|value| value.to_string()).collect();
    let message = refusal(&format!("[axes]\ntrain.seed = [{}]\n", values.join(", ")));
    assert_eq!(
        message,
        "plan.toml: line 2: train.seed: has 100000 values; an axis has at most 10000"
    );
    let message = refusal("[axes]\nratio = [1]\n[derive]\ntrain.steps = \"ratio * 1e20\"\n");
    assert_eq!(
        message,
        "plan.toml: run ratio1: train.steps: 100000000000000000000 is more than 9007199254740992"
    );
}

#[test]
fn a_trunk_keeps_the_checkpoints_of_its_branches() {
    let wsd = "schedule.name = \"wsd\"\nschedule.decay = 0.1\n";
    let axis = "[axes]\ntrain.steps = [1000, 2000, 4000]\n";
    let of = |set: &str| runs(&format!("{wsd}{set}{axis}"));
    let shared: Vec<_> = of("")
        .iter()
        .map(|run| run.shared.as_ref().map(|s| s.step))
        .collect();
    assert_eq!(shared, [Some(900), Some(1800), None]);
    let keep = |runs: &[Run]| runs[2].experiment.train.keep.clone();
    assert_eq!(keep(&of("")), Keep::Steps(vec![900, 1800]));
    assert_eq!(
        keep(&of("train.keep = [900, 70]\n")),
        Keep::Steps(vec![70, 900, 1800])
    );
    assert_eq!(
        keep(&of("train.keep = 1500\n")),
        Keep::Steps(vec![900, 1500, 1800, 3000])
    );
    for alone in [
        format!("{wsd}train.early_stop = 3\n{axis}"),
        axis.to_owned(),
        format!("{wsd}{axis}[derive]\ntrain.eval_every = \"train.steps\"\n"),
    ] {
        assert!(
            runs(&alone).iter().all(|run| run.shared.is_none()),
            "{alone}"
        );
    }
}

#[test]
fn shards_are_balanced_and_have_whole_ladders() {
    let plan =
        "schedule.name = \"wsd\"\n[axes]\ntrain.steps = [100, 200]\ntrain.seed = [1, 2, 3, 4, 5]\n";
    let entries: Vec<Entry> = runs(plan).iter().map(Entry::new).collect();
    assert_eq!(unit_count(&entries), 5);
    let shards: Vec<Vec<String>> = (1..=3)
        .map(|index| {
            format!("{index}/3")
                .parse::<Shard>()
                .unwrap()
                .names(&entries)
        })
        .collect();
    let mut all: Vec<&String> = shards.iter().flatten().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 10);
    let sizes: Vec<usize> = shards.iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4, 2]);
    for shard in shards {
        for name in shard
            .iter()
            .filter_map(|name| name.strip_prefix("steps100"))
        {
            assert!(shard.contains(&format!("steps200{name}")), "{shard:?}");
        }
    }
}
