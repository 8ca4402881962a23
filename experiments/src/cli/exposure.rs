//! The command `foretoken exposure`.

mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use foretoken::Error;
use foretoken::experiment::{DataSection, WindowKind};
use foretoken::record::run::RunDirectory;
use foretoken::record::source::{Checkpoint, Source};
use foretoken::science::exposure::{
    DEFAULT_STRATEGIES, ExposureRecord, Judge, Sequences, Settings, Shape, Strategy, Study,
};
use foretoken::show::format::{self, Shown};
use foretoken::show::progress::targets_bar;
use foretoken_datasets::world::TokenOracle;

use super::interrupt::on_ctrl_c;
use super::model::{ModelArgs, load_data, refuse_repeated, refused};
use super::report_args::{ReportArgs, print_and_write};

/// Largest number of steps by default.
const LENGTH: usize = 512;

/// Part of the context that the prompt fills by default.
const PROMPT_SHARE: usize = 8;

/// Measure how errors accumulate when a model reads what it has written itself
///
/// A model is trained on contexts of the data, and writes on contexts of its own. With the exact distribution o of a
/// world's next token, the error of a step is KL(o‖p). This command compares the errors on contexts of the data with those
/// on contexts that the model has written after the same prompts, for each way of choosing tokens: R(l), the sum over l
/// steps of free running; R(l)/ε(l), where ε(l) is the mean error of a step on the data; and the excess
/// (R(l)/(l ε(l)) − 1) · 100 % (Arora et al. 2022). Each step has the mean over the sequences that have not ended before
/// it. Their number at step l is in the column alive.
///
/// Texts that the oracle excludes have left its support. The errors above are those on possible contexts; beside them stand
/// how often sequences leave, when they come back, and what the excess is if an impossible context is charged with a
/// smoothed oracle, or all sequences that have left are left out. Intervals are 95 % intervals of a bootstrap over
/// sequences, and exact ones for shares of them.
///
/// Without --oracle the run must be of a world, with a char or byte tokenizer. Prompts are then of documents that neither
/// training nor validation has seen. With --oracle, a second model stands for o, and the data are the validation text.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken exposure runs/world-flex-1
  foretoken exposure runs/mine --strategies greedy,temperature=0.8+top-p=0.9
  foretoken exposure runs/world-flex-1 --length 32 --prompt 0 --json
  foretoken exposure runs/world-flex-1 --out page      with figures
  foretoken exposure runs/small --oracle runs/large    text of any kind
  foretoken exposure gpt2/ --oracle gpt2-large/ --data data/web

The result does not depend on --batch, but for rounding. The same seed draws the
same texts.")]
pub(super) struct ExposureArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A stronger model with the same tokenizer, in the place of the exact oracle
    #[arg(long, value_name = "MODEL")]
    oracle: Option<PathBuf>,
    /// Checkpoint of the oracle, if it is a run
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "best",
        requires = "oracle"
    )]
    oracle_checkpoint: Checkpoint,
    /// A folder of tokens, or an experiment file whose validation text is used with --oracle [default: that of the run]
    #[arg(long, value_name = "DIR|EXPERIMENT.toml", requires = "oracle")]
    data: Option<PathBuf>,
    /// Ways of choosing tokens: greedy, temperature=T, top-k=K, top-p=P, min-p=P; + joins settings that act together
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = DEFAULT_STRATEGIES)]
    strategies: Vec<Strategy>,
    /// Largest number of steps l [default: 512, or what the context leaves after the prompt]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    length: Option<u32>,
    /// Tokens of a prompt, which are of the data [default: an eighth of the context]
    #[arg(long, value_name = "TOKENS")]
    prompt: Option<u32>,
    /// Number of sequences
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    sequences: u32,
    /// Two weights of a uniform distribution with which the exact oracle is smoothed
    #[arg(
        long,
        value_name = "W,W",
        value_delimiter = ',',
        default_value = "0.01,0.0001"
    )]
    smoothing: Vec<f64>,
    /// Sequences that are continued at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Draws of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(39..=100_000))]
    draws: u32,
    /// Seed of the draws of tokens, and of the bootstrap
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ExposureArgs) -> Result<ExitCode, Error> {
    let settings = settings(&args)?;
    let source = args.model.open()?;
    source.tokenizer()?;
    let (backend, precision) = args.model.backend()?;
    let interrupt = on_ctrl_c(|| {});
    let prepared = match &args.oracle {
        None => of_world(&args, &source, &interrupt)?,
        Some(_) => of_model(&args, &source, &interrupt)?,
    };
    let directory = args.report.claim("exposure-")?;
    let model = args.model.load(&source)?;
    let loaded;
    let judge = match &prepared.oracle {
        Oracle::Exact(oracle, world) => Judge::Exact(oracle.clone(), world.clone()),
        Oracle::Model(args, source) => {
            loaded = args.load(source)?;
            Judge::Model(&loaded, source.description())
        }
    };
    let study = Study {
        model: &model,
        judge,
        sequences: &prepared.sequences,
        settings,
    };
    let bar = targets_bar("free running");
    bar.set_length(study.tokens() as u64);
    let began = Instant::now();
    let (on_data, strategies) = study.run(&interrupt, &mut |drawn| bar.inc(drawn as u64))?;
    bar.finish_and_clear();
    let record = ExposureRecord {
        model: source.description(),
        backend: backend.name(),
        precision: precision.name(),
        method: study.method(),
        on_data,
        strategies,
        seconds: began.elapsed().as_secs_f64(),
    };
    print_and_write(
        &record,
        args.json,
        words::shown,
        directory,
        ExposureRecord::write,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the settings, checked before any file is opened.
fn settings(args: &ExposureArgs) -> Result<Settings, Error> {
    refuse_repeated("--strategies", &args.strategies, |strategy| {
        strategy.name.clone()
    })?;
    let is_weight = |weight: &f64| *weight > 0.0 && *weight < 1.0;
    let smoothing = match args.smoothing[..] {
        [first, second] if args.smoothing.iter().all(is_weight) => [first, second],
        _ => {
            let message = "needs two weights above 0 and below 1, such as 0.01,0.0001";
            return Err(refused("--smoothing", message));
        }
    };
    Ok(Settings {
        strategies: args.strategies.clone(),
        smoothing,
        batch: args.batch as usize,
        draws: args.draws as usize,
        seed: args.seed,
    })
}

/// Oracle that the model is compared with, and sequences of the data.
struct Prepared {
    oracle: Oracle,
    sequences: Sequences,
}

enum Oracle {
    Exact(Box<TokenOracle>, String),
    Model(Box<ModelArgs>, Box<Source>),
}

/// Prepares the exact oracle of the run's world, and fresh documents.
fn of_world(
    args: &ExposureArgs,
    source: &Source,
    interrupt: &AtomicBool,
) -> Result<Prepared, Error> {
    // Text without an exact distribution is not read.
    if let Ok(run) = RunDirectory::open(source.path()) {
        let section = run.experiment()?.data;
        if section.world.is_none() {
            return Err(no_world(&section, source));
        }
    }
    let Some((experiment, data)) = load_data(None, source, interrupt)? else {
        return Err(refused(
            &source.path().shown(),
            "is not a run, so that the exact distribution of its text is not known; name a stronger model with --oracle \
             MODEL, and data with --data DIR",
        ));
    };
    let Some(corpus) = &data.world else {
        return Err(no_world(&experiment.data, source));
    };
    let world = &corpus.world;
    let tokenizer = source.tokenizer()?;
    let oracle = TokenOracle::new(world, tokenizer)?;
    let by_document = experiment.data.windows == WindowKind::Documents;
    // The end of a document precedes the prompt.
    let shape = shape(args, 1, source.config().context)?;
    Ok(Prepared {
        oracle: Oracle::Exact(Box::new(oracle), world.config().kind.name().into()),
        sequences: Sequences::of_world(world, tokenizer, by_document, shape)?,
    })
}

fn no_world(data: &DataSection, source: &Source) -> Error {
    let names = data.mixture.iter().map(|entry| entry.path.clone());
    let names: Vec<String> = data.path.iter().cloned().chain(names).collect();
    let message = format!(
        "was trained on {}, whose exact distribution is not known; name a stronger model with --oracle MODEL",
        format::listed(&names)
    );
    refused(&source.path().shown(), message)
}

/// Prepares a model as the oracle, and the validation text.
fn of_model(
    args: &ExposureArgs,
    source: &Source,
    interrupt: &AtomicBool,
) -> Result<Prepared, Error> {
    let second = args
        .model
        .with(args.oracle.clone(), Some(args.oracle_checkpoint), None);
    let judge = second.open()?;
    let tokenizer = source.tokenizer()?;
    if let Some(difference) = tokenizer.difference(judge.tokenizer()?) {
        return Err(refused(
            "--oracle",
            format!("has another tokenizer than the model ({difference}); name one with the same"),
        ));
    }
    let Some((experiment, data)) = load_data(args.data.as_deref(), source, interrupt)? else {
        let message = "give a folder of tokens or an experiment file: this model is not a run, which would have data of \
                       its own";
        return Err(refused("--data", message));
    };
    if let Some(difference) = data.tokenizer.difference(tokenizer) {
        return Err(refused(
            "--data",
            format!(
                "the tokens are of another tokenizer than the model's ({difference}); build them with the model's"
            ),
        ));
    }
    let start = source.start_of_text()?;
    let context = source.config().context.min(judge.config().context);
    let shape = shape(args, start.len(), context)?;
    let by_document = experiment.data.windows == WindowKind::Documents;
    let end = start.last().copied().filter(|_| by_document);
    Ok(Prepared {
        sequences: Sequences::of_split(&data.valid, &start, end, shape)?,
        oracle: Oracle::Model(Box::new(second), Box::new(judge)),
    })
}

/// Returns the number and lengths of sequences, given the tokens before every prompt and the context.
fn shape(args: &ExposureArgs, start: usize, context: usize) -> Result<Shape, Error> {
    let prompt = args
        .prompt
        .map_or(context / PROMPT_SHARE, |prompt| prompt as usize);
    // The last token is not read.
    let fits = (context + 1).saturating_sub(start + prompt);
    if fits == 0 {
        return Err(refused(
            "--prompt",
            format!(
                "{prompt} tokens leave no step in the context of {context} tokens; choose a smaller number"
            ),
        ));
    }
    let length = match args.length.map(|length| length as usize) {
        Some(length) if length > fits => {
            return Err(refused(
                "--length",
                format!(
                    "{length} is more than the {fits} steps that the context of {context} tokens allows after the prompt of \
                     {prompt}; choose a smaller one"
                ),
            ));
        }
        Some(length) => length,
        None => fits.min(LENGTH),
    };
    Ok(Shape {
        sequences: args.sequences as usize,
        prompt,
        length,
    })
}
