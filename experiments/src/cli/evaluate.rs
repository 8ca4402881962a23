//! The command `foretoken evaluate`.

mod task_words;
mod tasks;
mod texts;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use clap::{Args, ValueEnum};
use foretoken::Error;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::experiment::WindowKind;
use foretoken::record::run::{ReportDirectory, RunDirectory};
use foretoken::record::source::{Checkpoint, Source};
use foretoken::science::evaluate::{
    ContextPolicy, Encoder, Evaluation, EvaluationRecord, Evaluator, PairedDifference, Rounding,
    Second, Settings, StrideArgument, with_rounded_weights,
};
use foretoken::show::progress::targets_bar;
use foretoken_datasets::files::printable;
use foretoken_model::Transformer;

use super::interrupt::on_ctrl_c;
use super::model::{ModelArgs, refused};
use super::read::ReadArgs;
use super::report_args::{ReportArgs, print_and_write};
use texts::{Texts, texts};
use words::shown;

/// Tokens that are computed at once by default.
const BATCH_TOKENS: usize = 4096;

/// Measure how well a model predicts a text: loss, perplexity, bits per byte and accuracy, with intervals
///
/// Scores every token of the text once. What precedes a token when it is predicted is decided by --stride: with a
/// number S, windows as long as the context are moved by S tokens, so that each token is predicted from at least
/// context − S + 1 tokens; with `context`, windows are disjoint, as in training; with `documents`, every document is read
/// by itself, from its start. A smaller stride usually gives a better number, and takes longer.
///
/// Without a text, evaluates a run on its own validation text, which gives the validation loss of training.
///
/// Bits per byte divide by the bytes of the text, and are comparable between models with different tokenizers. Words are
/// the longest pieces of text without white space. Intervals are 95 % confidence intervals over documents, or over blocks
/// of the documents if there are fewer than 30.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken evaluate runs/world-flex-1                its validation text
  foretoken evaluate runs/world-flex-1 --stride 16    more context per token
  foretoken evaluate gpt2/ book.txt 'essays/*.txt' --stride 512
  foretoken evaluate gpt2/ reviews.jsonl --stride documents --by document --json
  foretoken evaluate gpt2/ --data data/corpus         text of a dataset
  foretoken evaluate gpt2/ book.txt --against runs/mine
  foretoken evaluate gpt2/ book.txt --against-backend libtorch
  foretoken evaluate gpt2/ --tasks piqa,lambada --data tasks/
  foretoken evaluate gpt2/ --tasks arc_easy --data tasks/ --shots 5

--against says which model is better, and whether that is more than chance;
--against-backend says whether the same weights differ by more than rounding.
The result does not depend on --batch or on the order of the files.")]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Files, folders and globs of text [default: the validation text of --data, or of the run]
    #[arg(value_name = "TEXT")]
    texts: Vec<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// A folder of tokens, or an experiment file whose data is used; with --tasks, the folder of their files
    #[arg(long, value_name = "DIR|EXPERIMENT.toml", conflicts_with = "texts")]
    data: Option<PathBuf>,
    /// Tokens between two windows: a number, context, or documents [default: as the validation of the run, else context]
    #[arg(long, value_name = "TOKENS")]
    stride: Option<StrideArgument>,
    /// Number of tokens that the model reads at once [default: its context]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Windows computed at once [default: as many as have 4096 tokens]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Print a result for each of these
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Text)]
    by: By,
    /// Compare with a second model on the same text [default: MODEL, if another --against-… is given]
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Checkpoint of the second model [default: that of --checkpoint]
    #[arg(long, value_name = "WHICH")]
    against_checkpoint: Option<Checkpoint>,
    /// Backend of the second model [default: that of --backend]
    #[arg(long, value_name = "NAME[:DTYPE]")]
    against_backend: Option<String>,
    #[command(flatten)]
    task: tasks::TaskArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object, with every item of --tasks
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Each file, or each dataset of a mixture
    Text,
    /// Each document
    Document,
}

impl EvaluateArgs {
    /// Returns the arguments of the second model, if there is one.
    fn second(&self) -> Option<ModelArgs> {
        let given = self.against.is_some()
            || self.against_checkpoint.is_some()
            || self.against_backend.is_some();
        given.then(|| {
            self.model.with(
                self.against.clone(),
                self.against_checkpoint,
                self.against_backend
                    .clone()
                    .map(|backend| (backend, "--against-backend".into())),
            )
        })
    }
}

pub(super) fn run(args: EvaluateArgs) -> Result<ExitCode, Error> {
    if !args.task.tasks.is_empty() {
        return tasks::run(&args);
    }
    args.task.refuse_without_tasks()?;
    let source = args.model.open()?;
    let second = args.second();
    let second = match &second {
        Some(second) => Some((second, second.open()?)),
        None => None,
    };
    let stride = stride(&args, &source);
    let interrupt = on_ctrl_c(|| {});
    let mut first = Conditions::new(&args, stride, &args.model, &source)?;
    let directory = args.report.claim("evaluation-")?;
    let texts = texts(&args, &source, &interrupt)?;
    let Some((second, second_source)) = second else {
        let model = source.load_in(&first.device, first.precision)?;
        let evaluated = first.evaluate(&model, &texts, &interrupt)?;
        return finish(&args, directory, &first, &texts, evaluated, None);
    };
    let mut other = Conditions::new(&args, stride, second, &second_source)?;
    texts.check(second_source.tokenizer()?, "--against")?;
    let is_same_model = source.has_same_weights(&second_source)
        && source
            .tokenizer()?
            .difference(second_source.tokenizer()?)
            .is_none();
    let same_context = (first.settings.context, first.settings.policy)
        == (other.settings.context, other.settings.policy);
    let asks_rounding = is_same_model && same_context;
    first.keeps_targets = asks_rounding;
    other.keeps_targets = asks_rounding;
    let first_is_coarser = first.precision.unit_roundoff() >= other.precision.unit_roundoff();

    let model = source.load_in(&first.device, first.precision)?;
    let (evaluation, seconds) = first.evaluate(&model, &texts, &interrupt)?;
    let mut rounded = None;
    if asks_rounding && first_is_coarser {
        let model = with_rounded_weights(model, first.precision);
        rounded = Some(first.evaluate(&model, &texts, &interrupt)?.0);
    }
    let model = second_source.load_in(&other.device, other.precision)?;
    let (second_evaluation, _) = other
        .evaluate(&model, &texts, &interrupt)
        .map_err(|error| match error {
            // Such as a character that only the first tokenizer has.
            Error::Experiment { .. } => refused("--against", error),
            other => other,
        })?;
    if asks_rounding && !first_is_coarser {
        let model = with_rounded_weights(model, other.precision);
        rounded = Some(other.evaluate(&model, &texts, &interrupt)?.0);
    }
    let rounding = rounded.map(|rounded| {
        let coarser = match first_is_coarser {
            true => &evaluation,
            false => &second_evaluation,
        };
        Rounding::of(&evaluation, &second_evaluation, [coarser, &rounded])
    });
    let Some(difference) = PairedDifference::of(&evaluation, &second_evaluation) else {
        let message = "no document is long enough for both models to predict a token of it";
        return Err(refused("--against", message));
    };
    let second = Second {
        model: second_source.description(),
        backend: other.backend.name(),
        precision: other.precision.name(),
        context: other.settings.context,
        stride: other.settings.stride(),
        total: second_evaluation.total,
        difference,
        rounding,
    };
    let evaluated = (evaluation, seconds);
    finish(&args, directory, &first, &texts, evaluated, Some(second))
}

/// Writes and prints the result.
fn finish(
    args: &EvaluateArgs,
    directory: Option<ReportDirectory>,
    conditions: &Conditions<'_>,
    texts: &Texts,
    (evaluation, seconds): (Evaluation, f64),
    against: Option<Second>,
) -> Result<ExitCode, Error> {
    let mut record = EvaluationRecord {
        model: conditions.source.description(),
        backend: conditions.backend.name(),
        precision: conditions.precision.name(),
        context: conditions.settings.context,
        stride: conditions.settings.stride(),
        floor_bits_per_byte: texts.floor(),
        window_floor: texts.window_floor(conditions.settings)?,
        tokenizer_is_exact: conditions.source.tokenizer()?.is_exact(),
        seconds,
        tokens_per_second: evaluation.total.tokens as f64 / seconds,
        evaluation,
        against,
    };
    if args.by != By::Document {
        record.evaluation.documents.clear();
    }
    print_and_write(
        &record,
        args.json,
        shown,
        directory,
        EvaluationRecord::write,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A model that is evaluated, and how.
struct Conditions<'s> {
    source: &'s Source,
    backend: Backend,
    precision: Precision,
    device: Device,
    settings: Settings,
    /// Whether the negative log-likelihood of every target is kept.
    keeps_targets: bool,
}

impl<'s> Conditions<'s> {
    fn new(
        args: &EvaluateArgs,
        stride: StrideArgument,
        model: &ModelArgs,
        source: &'s Source,
    ) -> Result<Self, Error> {
        source.tokenizer()?;
        let (backend, precision) = model.backend()?;
        Ok(Self {
            source,
            backend,
            precision,
            device: model.device()?,
            settings: settings(args, stride, source.config().context)?,
            keeps_targets: false,
        })
    }

    /// Evaluates a model, and returns the seconds that it takes, too.
    fn evaluate(
        &self,
        model: &Transformer,
        texts: &Texts,
        interrupt: &AtomicBool,
    ) -> Result<(Evaluation, f64), Error> {
        let tokenizer = self.source.tokenizer()?;
        let start = self.source.start_of_text()?;
        let encoder = Encoder::new(tokenizer, start, self.settings.policy);
        let frequencies = texts.frequencies(self.source.config().vocab_size, interrupt)?;
        let lengths = tokenizer.token_lengths();
        let mut evaluator =
            Evaluator::new(model, self.settings, lengths, frequencies, texts.count());
        if self.keeps_targets {
            evaluator = evaluator.keep_targets();
        }
        let bar = targets_bar("evaluating");
        let began = Instant::now();
        let mut names = Vec::new();
        for number in 0..texts.count() {
            let text = texts.read(number, &encoder, interrupt)?;
            names.push(text.name.clone());
            bar.inc_length(text.targets() as u64);
            evaluator.add(&text, interrupt, &mut |done| bar.inc(done as u64))?;
        }
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        let Some(evaluation) = evaluator.finish() else {
            let message = "has no token with another one before it, so there is nothing to predict; give a longer text";
            return Err(refused(&printable(&names.join(", ")), message));
        };
        Ok((evaluation, seconds))
    }
}

/// Returns the stride that is asked for, or that with which the validation of a run in training reads its own text.
fn stride(args: &EvaluateArgs, source: &Source) -> StrideArgument {
    let is_own_text = args.texts.is_empty() && args.data.is_none();
    let of_documents = || {
        let experiment = RunDirectory::open(source.path()).and_then(|run| run.experiment());
        experiment.is_ok_and(|experiment| experiment.data.windows == WindowKind::Documents)
    };
    args.stride
        .unwrap_or_else(|| match is_own_text && of_documents() {
            true => StrideArgument::Documents,
            false => StrideArgument::Context,
        })
}

/// Returns the number of tokens that a model reads at once.
fn context(args: &EvaluateArgs, of_model: usize) -> Result<usize, Error> {
    let context = args.context.map_or(of_model, |context| context as usize);
    if context > of_model {
        return Err(refused(
            "--context",
            format!(
                "{context} is more than the model's context of {of_model} tokens; choose a smaller one"
            ),
        ));
    }
    Ok(context)
}

fn settings(
    args: &EvaluateArgs,
    stride: StrideArgument,
    of_model: usize,
) -> Result<Settings, Error> {
    let context = context(args, of_model)?;
    let policy = match stride {
        StrideArgument::Tokens(stride) if stride > context => {
            return Err(refused(
                "--stride",
                format!(
                    "{stride} is more than the context of {context} tokens, so that tokens between two windows would \
                     not be scored; choose a number from 1 to {context}"
                ),
            ));
        }
        StrideArgument::Tokens(stride) => ContextPolicy::Stride(stride),
        StrideArgument::Context => ContextPolicy::Stride(context),
        StrideArgument::Documents => ContextPolicy::Documents,
    };
    Ok(Settings {
        context,
        policy,
        batch: match args.batch {
            Some(batch) => batch as usize,
            None => (BATCH_TOKENS / context).max(1),
        },
    })
}
