//! The command `foretoken inspect`.

mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::Args;
use foretoken::engine::data::Data;
use foretoken::record::source::{Checkpoint, Source};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::Shown;
use foretoken::show::output;
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, Experiment};
use foretoken_model::{GenerationMemory, ModelConfig, Part, TrainingMemory};
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use super::model::refused;

/// Show a model's modules and parameters, and the cost of training and generating with it
///
/// Memory is for f32, whatever precision an experiment trains in. Training memory counts weights, gradients, AdamW's
/// moments, and activations that are kept for the backward pass. Generation memory counts weights and key/value cache.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken inspect runs/world-flex-1                         the model of a run
  foretoken inspect llama-3.2-1b                              a published architecture, without weights
  foretoken inspect my.toml                                   the model that an experiment will train
  foretoken inspect gpt2 --batch 8 --context 256              the cost with batches of this size

Floating-point operations follow PaLM's appendix B: 6 N + 12 layers heads head_width context per trained
token. The forward pass is a third of that.")]
pub(super) struct InspectArgs {
    /// A run directory, an imported model, a Hugging Face folder, the name of a preset, or an experiment file
    #[arg(value_name = "MODEL|PRESET|EXPERIMENT.toml")]
    what: PathBuf,
    /// Sequences in a batch [default: the experiment's, otherwise 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Tokens in a sequence [default: the model's context]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    name: String,
    config: ModelConfig,
    parameters: usize,
    parts: Vec<PartReport>,
    tensors: Vec<Tensor>,
    batch: usize,
    context: usize,
    forward_flops_per_token: f64,
    training_flops_per_token: f64,
    training_memory: TrainingMemory,
    generation_memory: GenerationMemory,
}

#[derive(Serialize)]
struct PartReport {
    part: Part,
    parameters: usize,
    share: f64,
}

#[derive(Serialize)]
struct Tensor {
    path: String,
    shape: Vec<usize>,
}

/// The model that the argument names.
struct NamedModel {
    name: String,
    config: ModelConfig,
    /// Sequences in a training batch.
    batch: usize,
}

pub(super) fn run(args: InspectArgs) -> Result<ExitCode, Error> {
    let found = find(&args.what)?;
    let report = report(found, &args)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text_of(&report),
    };
    output::write(&text);
    Ok(ExitCode::SUCCESS)
}

fn find(what: &Path) -> Result<NamedModel, Error> {
    if what
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let experiment = Experiment::load(what, &[])?;
        return Ok(NamedModel {
            name: experiment.name.clone(),
            config: model_of_experiment(&experiment)?,
            batch: experiment.train.batch,
        });
    }
    let name = what.display().to_string();
    if what.exists() {
        let source = Source::open(what, Checkpoint::Best, None)?;
        return Ok(NamedModel {
            name: source.description(),
            config: source.config().clone(),
            batch: 1,
        });
    }
    match ModelConfig::preset(&name) {
        Some(config) => Ok(NamedModel {
            name,
            config,
            batch: 1,
        }),
        None => Err(refused(
            &name,
            format!(
                "there is no such model; the presets are {}",
                ModelConfig::PRESETS.join(", ")
            ),
        )),
    }
}

/// Returns the model of an experiment. The size of its vocabulary may depend on the data, which is then tokenized as
/// for training.
fn model_of_experiment(experiment: &Experiment) -> Result<ModelConfig, Error> {
    let model = &experiment.model;
    if model.vocab_size.is_some() {
        return model.config(0, None);
    }
    let progress = BuildReporter::new(Dashboard::PlainOnStderr);
    let interrupted = AtomicBool::new(false);
    let data = Data::load(&experiment.data, progress.monitor(&interrupted))?;
    model.config(data.tokenizer.vocab_size(), None)
}

fn report(found: NamedModel, args: &InspectArgs) -> Result<Report, Error> {
    let NamedModel { name, config, .. } = found;
    let batch = args.batch.map_or(found.batch, |batch| batch as usize);
    let context = args
        .context
        .map_or(config.context, |context| context as usize);
    if context > config.context {
        let message = format!(
            "{context} is more than the model's context of {} tokens; choose a smaller one",
            config.context
        );
        return Err(refused("--context", message));
    }
    let with_context = ModelConfig {
        context,
        ..config.clone()
    };
    let parameters = config.parameters();
    let part = |part| {
        let of_part = config.parameters_of(part);
        PartReport {
            part,
            parameters: of_part,
            share: of_part as f64 / parameters as f64,
        }
    };
    let tensor = |(path, shape)| Tensor { path, shape };
    Ok(Report {
        name,
        parameters,
        parts: Part::ALL.map(part).into(),
        tensors: config.tensors().into_iter().map(tensor).collect(),
        batch,
        context,
        forward_flops_per_token: with_context.flops_per_token() / 3.0,
        training_flops_per_token: with_context.flops_per_token(),
        training_memory: config.training_memory(batch, context),
        generation_memory: config.generation_memory(batch, context),
        config,
    })
}

fn text_of(report: &Report) -> String {
    let mut shown = format!("{}\n\n", report.name.shown());
    shown += &tree::draw(&report.config);
    shown += &format!(
        "\nParameters {:>36}\n",
        HumanCount(report.parameters as u64).to_string()
    );
    for PartReport {
        part,
        parameters,
        share,
    } in &report.parts
    {
        let name = match part {
            Part::Embeddings => "embeddings",
            Part::Attention => "attention",
            Part::FeedForward => "feed-forward",
            Part::Norms => "norms",
            Part::Head if report.config.tied_head => "head (the token embedding)",
            Part::Head => "head",
        };
        let parameters = HumanCount(*parameters as u64).to_string();
        shown += &format!("  {name:<28} {parameters:>16} {:>8.2} %\n", 100.0 * share);
    }

    let (batch, context) = (report.batch, report.context);
    shown += &format!("\nFloating-point operations per token, {context} tokens of context\n");
    for (name, flops) in [
        ("forward", report.forward_flops_per_token),
        ("training", report.training_flops_per_token),
    ] {
        shown += &format!("  {name:<28} {:>16}\n", flops_text(flops));
    }

    let sequences = if batch == 1 { "sequence" } else { "sequences" };
    shown += &format!("\nMemory for {batch} {sequences} of {context} tokens, in f32\n");
    let (training, generation) = (&report.training_memory, &report.generation_memory);
    for (depth, name, bytes) in [
        (1, "training", training.total()),
        (2, "weights", training.weights),
        (2, "gradients", training.gradients),
        (2, "AdamW moments", training.moments),
        (2, "activations (estimate)", training.activations),
        (1, "generation", generation.total()),
        (2, "weights", generation.weights),
        (2, "key/value cache", generation.cache),
    ] {
        let name = format!("{}{name}", "  ".repeat(depth));
        shown += &format!("{name:<30} {:>16}\n", BinaryBytes(bytes).to_string());
    }
    shown
}

/// Writes floating-point operations in the largest unit of which there is at least one.
fn flops_text(flops: f64) -> String {
    let units = [
        ("TFLOP", 1e12),
        ("GFLOP", 1e9),
        ("MFLOP", 1e6),
        ("kFLOP", 1e3),
    ];
    match units.into_iter().find(|(_, size)| flops >= *size) {
        Some((unit, size)) => format!("{:.2} {unit}", flops / size),
        None => format!("{flops} FLOP"),
    }
}
