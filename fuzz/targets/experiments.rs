//! Bodies of the fuzz targets of `foretoken`: experiment files, plans of sweeps, and records of runs.

#[path = "../../experiments/src/verify/compare/page/tests/fixture.rs"]
mod fixture;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;

use foretoken::Experiment;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::engine::state::RunState;
use foretoken::experiment::Keep;
use foretoken::record::checkpoint::Checkpoints;
use foretoken::record::environment::Environment;
use foretoken::record::identity::Identity;
use foretoken::record::run::{MetricsLog, Record, RunDirectory, read_metrics};
use foretoken::science::compress::Compressor;
use foretoken::science::scaling::{
    Columns, Convention, FitRecord, Fits, Law, Method, Observations, Predictor, Settings,
};
use foretoken::science::sweep::{Plan, SweepDirectory};
use foretoken::science::tasks::{MAX_CHOICES, Task, TaskData};
use foretoken::verify::compare::{
    Check, Checked, Comparison, Computation, Entrant, Entry, Envelope, Invariance, Reference,
    Seeds, Verdict, of_runs, read, write_report,
};
use foretoken_datasets::Tokenizer;
use foretoken_model::{ModelConfig, Transformer};

use crate::target::{Target, accepted, file};

pub(crate) const TARGETS: [Target; 11] = [
    Target::new("experiment", experiment_seeds, experiment),
    Target::new("setting", setting_seeds, setting),
    Target::new("metrics", metrics_seeds, metrics),
    Target::new("checkpoint", checkpoint_seeds, checkpoint),
    Target::new("comparison", comparison_seeds, comparison),
    Target::new("compressed", compressed_seeds, compressed),
    Target::new("observations", observations_seeds, observations),
    Target::new("scaling_fit", scaling_fit_seeds, scaling_fit),
    Target::new("plan", plan_seeds, plan),
    Target::new("sweep_index", sweep_index_seeds, sweep_index),
    Target::new("task_items", task_items_seeds, task_items),
];

fn experiment_seeds() -> Vec<Vec<u8>> {
    let (_, mut seeds): (Vec<_>, Vec<_>) = configs().into_iter().partition(|text| is_plan(text));
    seeds.push(embedded().to_toml());
    seeds.into_iter().map(String::into_bytes).collect()
}

/// Returns the texts of `experiments/configs`, which has experiments and plans.
fn configs() -> Vec<String> {
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/configs");
    let files = fs::read_dir(configs).unwrap();
    files
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

fn is_plan(text: &str) -> bool {
    ["[axes]", "[[tied]]"]
        .iter()
        .any(|table| text.contains(table))
}

fn plan_seeds() -> Vec<Vec<u8>> {
    let ranges = "[axes]\nflops = { from = 1e9, to = 1e12, points = 3 }\n\
                  model.layers = { from = 2, to = 8, points = 2, multiple_of = 2 }\n\
                  [derive]\ntrain.steps = \"max(1, flops / (flops_per_token * tokens_per_step)) + sqrt(4) - -2^2\"\n";
    let plans = configs().into_iter().filter(|text| is_plan(text));
    // The base experiment is not beside the copy.
    let alone = plans.map(|plan| plan.replace("experiment = \"world.toml\"", "name = \"a\""));
    let all = alone.chain([ranges.to_owned()]);
    all.map(String::into_bytes).collect()
}

/// Reads the plan of a sweep.
fn plan(bytes: &[u8]) -> bool {
    accepted(Plan::read(&file("plan.toml", bytes))).is_some()
}

fn sweep_index_seeds() -> Vec<Vec<u8>> {
    let waiting = r#"{"name":"a","state":"waiting","keys":{"train.seed":1},"seed":1,"steps":9,"tokens":90,"parameters":5,
        "non_embedding_parameters":3,"flops":2e3,"memory_bytes":77,"shared":{"trunk":"b","step":4}}"#;
    let refused = r#"{"name":"b","state":"refused","keys":{},"seed":1,"reason":"[model]: no"}"#;
    let lines = [waiting.replace('\n', ""), refused.into()];
    vec![lines.join("\n").into_bytes()]
}

/// Reads the index of a sweep.
fn sweep_index(bytes: &[u8]) -> bool {
    let path = file("sweep/index.jsonl", bytes);
    let sweep = SweepDirectory::open(path.parent().unwrap()).unwrap();
    accepted(sweep.entries()).is_some()
}

fn task_items_seeds() -> Vec<Vec<u8>> {
    let hellaswag = r#"{"activity_label":"a","ctx_a":"b [title] c","ctx_b":"D","endings":["e","f"],"label":"1"}"#;
    let arc = r#"{"id":"i","question":"q","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"B"}"#;
    let piqa = r#"{"goal":"g","sol1":"a","sol2":"b","label":0}"#;
    let winogrande = r#"{"sentence":"a _ b","option1":"c","option2":"d","answer":"2"}"#;
    let lambada = r#"{"text":"the last word"}"#;
    let blimp = r#"{"sentence_good":"a","sentence_bad":"b","UID":"u","pair_id":1}"#;
    let seeds = [hellaswag, arc, piqa, winogrande, lambada, blimp];
    seeds.map(|seed| seed.as_bytes().to_vec()).into()
}

/// Reads the items of all tasks, from lines and from a table.
fn task_items(bytes: &[u8]) -> bool {
    let never = AtomicBool::new(false);
    let mut accepts = false;
    for task in Task::ALL {
        let folder = match task {
            Task::Blimp => "tasks/blimp/",
            _ => "tasks/",
        };
        for extension in ["jsonl", "parquet"] {
            let path = file(&format!("{folder}{task}.{extension}"), bytes);
            let data = path
                .ancestors()
                .find(|path| path.ends_with("tasks"))
                .unwrap();
            if let Some(data) = accepted(TaskData::read(data, task, 0, &never)) {
                accepts = true;
                for item in &data.items {
                    let choices = item.choices.len();
                    assert!(item.gold < choices && choices <= MAX_CHOICES);
                    assert!(item.choices.iter().all(|choice| choice.bytes > 0));
                }
            }
            fs::remove_file(path).unwrap();
        }
    }
    accepts
}

fn embedded() -> Experiment {
    Experiment::embedded(&[]).unwrap()
}

/// Reads an experiment file. Accepted experiments are equal after writing and reading.
fn experiment(bytes: &[u8]) -> bool {
    let Some(read) = accepted(Experiment::load(&file("mine.toml", bytes), &[])) else {
        return false;
    };
    assert_written_and_read_equal(&read);
    true
}

fn assert_written_and_read_equal(experiment: &Experiment) {
    let toml = experiment.to_toml();
    let again = Experiment::load(&file("again.toml", toml.as_bytes()), &[]).unwrap();
    assert_eq!(again.to_toml(), toml);
    assert_eq!(again.hash(), experiment.hash());
    assert_eq!(again.differences(experiment), [""; 0]);
}

fn setting_seeds() -> Vec<Vec<u8>> {
    [
        "train.steps=7",
        "optimizer.learning_rate=3e-4",
        "name = \"mine\"",
        "model.init_from=first run",
        "data={world={train_bytes=9, valid_bytes=9, seed=1}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Parses a value of `--set`.
fn setting(bytes: &[u8]) -> bool {
    let setting = String::from_utf8_lossy(bytes).into_owned();
    let Some(set) = accepted(Experiment::embedded(&[setting])) else {
        return false;
    };
    assert_written_and_read_equal(&set);
    true
}

thread_local! {
    static RUN: (tempfile::TempDir, RunDirectory) = run();
}

/// Writes a run directory without metrics.
fn run() -> (tempfile::TempDir, RunDirectory) {
    let root = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(Some(&root.path().join("run")), &embedded()).unwrap();
    run.write("experiment.toml", embedded().to_toml()).unwrap();
    let identity = Identity {
        experiment: embedded().hash(),
        initial_weights: "0".repeat(64),
        data: "1".repeat(64),
        replanned: Vec::new(),
    };
    let json = serde_json::to_vec(&identity).unwrap();
    run.write(Identity::FILE, json).unwrap();
    (root, run)
}

fn metrics_seeds() -> Vec<Vec<u8>> {
    let (_root, run) = run();
    let mut log = MetricsLog::open(&run, 0).unwrap();
    for step in 0..3 {
        let record = Record::Step {
            step,
            tokens: 64 * (step + 1),
            loss: 4.25 - step as f64 / 7.0,
            gradient_norm: 0.5,
            learning_rate: 1e-3,
            seconds: 0.125,
        };
        log.append(&record).unwrap();
    }
    let evaluation = Record::Evaluation {
        step: 3,
        tokens: 192,
        loss: 4.0,
        bits_per_byte: 5.8,
        perplexity: 54.6,
        accuracy: 0.125,
        targets: 128,
    };
    log.append(&evaluation).unwrap();
    let path = run.path().join("metrics.jsonl");
    vec![fs::read(path).unwrap()]
}

/// Reads a `metrics.jsonl`, and reports it if it is accepted.
fn metrics(bytes: &[u8]) -> bool {
    RUN.with(|(_, run)| {
        fs::write(run.path().join("metrics.jsonl"), bytes).unwrap();
        let read = accepted(read_metrics(run));
        let path = run.path().to_path_buf();
        let compared = accepted(of_runs(&[path.clone(), path], None));
        if let Some(comparison) = &compared {
            report_of(comparison);
        }
        assert!(read.is_some() || compared.is_none());
        compared.is_some()
    })
}

fn report_of(comparison: &Comparison) {
    let folder = tempfile::tempdir().unwrap();
    let page = write_report(comparison, folder.path()).unwrap();
    assert!(page.is_file());
}

fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let state = RunState {
        step: 1,
        tokens: 64,
        ..RunState::default()
    };
    let write_parts = |parts: &Path| {
        for name in ["model.bpk", "optimizer.bpk", "scheduler.bpk"] {
            fs::write(parts.join(name), name).unwrap();
        }
        Ok(())
    };
    checkpoints
        .save(&state, &Keep::default(), write_parts)
        .unwrap();
    vec![fs::read(checkpoints.path(1).join("checkpoint.json")).unwrap()]
}

/// Reads a `checkpoint.json`.
fn checkpoint(bytes: &[u8]) -> bool {
    let path = file("checkpoints/step-1/checkpoint.json", bytes);
    let directory = path.ancestors().nth(2).unwrap();
    let checkpoints = Checkpoints::new(directory);
    assert!(
        checkpoints.load(1).is_err(),
        "the checkpoint has no weights"
    );
    accepted(checkpoints.load(1));
    accepted(checkpoints.state(1)).is_some()
}

fn comparison_seeds() -> Vec<Vec<u8>> {
    vec![serde_json::to_vec(&fixture::comparison(3)).unwrap()]
}

/// Reads a `comparison.json`, and reports it if it is accepted.
fn comparison(bytes: &[u8]) -> bool {
    let path = file("comparison/comparison.json", bytes);
    let directory: &Path = path.parent().unwrap();
    let Some(comparison) = accepted(read(directory)) else {
        return false;
    };
    report_of(&comparison);
    true
}

static NEVER: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// A model of bytes with random weights.
    static MODEL: (Transformer, Tokenizer) = {
        let model = ModelConfig::new(256, 16, 1, 1, 8);
        (model.init(1, &Device::flex()).unwrap(), Tokenizer::byte())
    };
}

fn with_compressor<R>(work: impl FnOnce(&Compressor<'_>) -> R) -> R {
    MODEL.with(|(model, tokenizer)| {
        let compressor = Compressor::new(model, tokenizer, Vec::new(), "flex:f32".into());
        work(&compressor.unwrap())
    })
}

fn compressed_seeds() -> Vec<Vec<u8>> {
    let files = [
        (&b""[..], 1),
        (b"a", 1),
        (b"two streams \xff\0 of bytes", 2),
    ];
    with_compressor(|compressor| {
        files
            .map(|(file, streams)| {
                let compressed = compressor.compress(file, Some(streams), &NEVER, &mut |_| {});
                compressed.unwrap().file
            })
            .into()
    })
}

/// Decompresses a file, as it is and with a valid checksum of its header.
fn compressed(bytes: &[u8]) -> bool {
    let mut sealed = bytes.to_vec();
    if let Some(length) = sealed.get(4..8).and_then(|length| length.try_into().ok())
        && let Some(header) = sealed.get_mut(..u32::from_le_bytes(length) as usize)
        && let Some((checked, crc)) = header.split_last_chunk_mut::<4>()
    {
        *crc = crc32fast::hash(checked).to_le_bytes();
    }
    with_compressor(|compressor| {
        let accepted = [bytes, &sealed].map(|bytes| {
            accepted(compressor.decompress("file.ftz", bytes, &NEVER, &mut |_| {})).is_some()
        });
        accepted.contains(&true)
    })
}

/// Returns tables of twelve runs, with tokens or with FLOPs.
fn observations_seeds() -> Vec<Vec<u8>> {
    let mut tokens = String::from("Params,Tokens,Loss,seed\n");
    let mut flops = String::from("# a comment\nModel Size,Training FLOP,loss\n");
    for i in 0..12 {
        let (n, d) = (1e5 * 2f64.powi(i % 4), 1e6 * 3f64.powi(i / 4));
        let loss = 1.0 + 60.0 * n.powf(-0.35) + 200.0 * d.powf(-0.4);
        tokens += &format!("{n},{d},{loss},{i}\n");
        flops += &format!("{n:e},{:e},{loss}\n", 6.0 * n * d);
    }
    vec![tokens.into_bytes(), flops.into_bytes()]
}

/// Reads a table. Accepted numbers are positive.
fn observations(bytes: &[u8]) -> bool {
    let path = file("runs.csv", bytes);
    let Some(read) = accepted(Observations::read(&[path], &Columns::default())) else {
        return false;
    };
    for convention in read.conventions() {
        let Some(runs) = accepted(read.with(convention)) else {
            return false;
        };
        assert!(
            runs.iter()
                .all(|run| run.parameters > 0.0 && run.loss > 0.0)
        );
    }
    true
}

fn scaling_fit_seeds() -> Vec<Vec<u8>> {
    let path = file("runs.csv", &observations_seeds()[0]);
    let read = Observations::read(&[path], &Columns::default()).unwrap();
    let settings = Settings {
        law: Law::Chinchilla,
        convention: Convention::Total,
        method: Method::Projection,
        threshold: 1e-3,
        fits_scale: false,
        draws: 3,
        bootstrap: 3,
        seed: 0,
    };
    let runs = read.with(Convention::Total).unwrap();
    let fits = Fits {
        sources: vec!["runs.csv".into()],
        skipped: Vec::new(),
        dropped: 0,
        fits: vec![FitRecord::fit("runs.csv", runs, settings).unwrap()],
    };
    vec![serde_json::to_vec(&fits).unwrap()]
}

/// Reads a fit, and predicts with it.
fn scaling_fit(bytes: &[u8]) -> bool {
    let Some(fits) = accepted(Fits::read(&file("fit.json", bytes))) else {
        return false;
    };
    for fit in &fits.fits {
        let predictor = Predictor::new(fit);
        predictor.loss(1e9, 1e10, 6e19);
        predictor.optimum(1e20);
    }
    true
}
