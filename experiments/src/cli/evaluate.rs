//! The command `foretoken evaluate`.

mod task_words;
mod tasks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use clap::{Args, ValueEnum};
use foretoken::Error;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::engine::data::Data;
use foretoken::experiment::WindowKind;
use foretoken::record::run::{ReportDirectory, RunDirectory};
use foretoken::record::source::{Checkpoint, Source};
use foretoken::science::evaluate::{
    ContextPolicy, Encoder, Estimate, Evaluation, EvaluationRecord, Evaluator, Frequencies,
    Measures, PairedDifference, Rounding, RoundingVerdict, Second, Settings, StrideArgument, Text,
    with_rounded_weights,
};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{self, count, plural};
use foretoken::show::progress::{BuildReporter, targets_bar};
use foretoken_datasets::files::printable;
use foretoken_datasets::world::{WindowFloor, WorldCorpus};
use foretoken_datasets::{ReadOptions, SourceFile, Split, Tokenizer, find_sources};
use foretoken_model::Transformer;

use super::interrupt::on_ctrl_c;
use super::model::{ModelArgs, experiment_of_data, refused};
use super::read::ReadArgs;
use super::report_args::{ReportArgs, print_and_write};

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
  foretoken evaluate runs/world-flex-1                          the validation text of the run
  foretoken evaluate runs/world-flex-1 --stride 16              the same, with more context for each token
  foretoken evaluate gpt2/ book.txt 'essays/*.txt' --stride 512
  foretoken evaluate gpt2/ reviews.jsonl --stride documents --by document --json
  foretoken evaluate gpt2/ --data data/corpus                   the validation tokens of a dataset
  foretoken evaluate gpt2/ book.txt --against runs/mine         which is better, and is that more than chance?
  foretoken evaluate gpt2/ book.txt --against-backend libtorch  the same weights elsewhere: is the difference rounding?
  foretoken evaluate gpt2/ --tasks piqa,lambada --data tasks/   standard benchmarks, from files in tasks/
  foretoken evaluate gpt2/ --tasks arc_easy --data tasks/ --shots 5 --against runs/mine

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

/// Texts to evaluate on, not read yet.
enum Texts {
    Files(Vec<SourceFile>, Box<ReadOptions>),
    Datasets(Box<Data>),
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
    let (second_evaluation, _) = other.evaluate(&model, &texts, &interrupt)?;
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

/// Finds the texts: files, the data of an experiment, a folder of tokens, or the data of the run.
fn texts(args: &EvaluateArgs, source: &Source, interrupt: &AtomicBool) -> Result<Texts, Error> {
    if !args.texts.is_empty() {
        let options = args.read.options();
        let mut found = find_sources(&args.texts, options.format)?.files;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        return Ok(Texts::Files(found, Box::new(options)));
    }
    let Some(experiment) = experiment_of_data(args.data.as_deref(), source)? else {
        let message =
            "give a text, or --data DIR: this model is not a run, which would have one of its own";
        return Err(refused("TEXT", message));
    };
    let reporter = BuildReporter::new(Dashboard::Plain);
    let data = Data::load(&experiment.data, reporter.monitor(interrupt))?;
    let texts = Texts::Datasets(Box::new(data));
    texts.check(source.tokenizer()?, "--data")?;
    Ok(texts)
}

impl Texts {
    /// Refuses tokens of another tokenizer than this one. `argument` is named in the error.
    fn check(&self, tokenizer: &Tokenizer, argument: &str) -> Result<(), Error> {
        let Self::Datasets(data) = self else {
            return Ok(());
        };
        match data.tokenizer.difference(tokenizer) {
            None => Ok(()),
            Some(difference) => Err(refused(
                argument,
                format!(
                    "the tokens to evaluate on are of another tokenizer than the model's ({difference}); evaluate on \
                     their text instead"
                ),
            )),
        }
    }

    /// Counts the tokens of the training text, if there is one.
    fn frequencies(
        &self,
        vocabulary: usize,
        interrupt: &AtomicBool,
    ) -> Result<Option<Frequencies>, Error> {
        match self {
            Self::Files(..) => Ok(None),
            Self::Datasets(data) => {
                let splits = data.train.iter().map(|source| &source.split);
                Frequencies::of(splits, vocabulary, interrupt).map(Some)
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Files(files, _) => files.len(),
            Self::Datasets(data) => data.valid_by_dataset.len(),
        }
    }

    fn read(
        &self,
        number: usize,
        encoder: &Encoder<'_>,
        interrupt: &AtomicBool,
    ) -> Result<Text, Error> {
        match self {
            Self::Files(files, options) => encoder.file(&files[number], options, interrupt),
            Self::Datasets(data) => {
                let mut datasets: Vec<&(String, Split)> = data.valid_by_dataset.iter().collect();
                datasets.sort_by(|a, b| a.0.cmp(&b.0));
                let (name, split) = datasets[number];
                match data.world.as_ref().map(WorldCorpus::end).transpose()? {
                    Some(Some(end)) => encoder.split_at(name, split, end, interrupt),
                    _ => encoder.split(name, split, interrupt),
                }
            }
        }
    }

    /// Returns the floor for a model that sees only its windows; `None` unless the text is a world's and the windows are
    /// those of an evaluation in training.
    fn window_floor(&self, settings: Settings) -> Result<Option<WindowFloor>, Error> {
        let is_disjoint = settings.policy == ContextPolicy::Stride(settings.context);
        match self {
            Self::Datasets(data) if is_disjoint => {
                let world = data.world.as_ref();
                let floor = world.map(|world| world.window_floor_of_stream(settings.context));
                Ok(floor.transpose()?)
            }
            _ => Ok(None),
        }
    }

    fn floor(&self) -> Option<f64> {
        match self {
            Self::Files(..) => None,
            Self::Datasets(data) => data.floor_bits_per_byte,
        }
    }
}

fn shown(report: &EvaluationRecord) -> String {
    let Evaluation {
        total,
        texts,
        documents,
        not_scored,
        ..
    } = &report.evaluation;
    let mut shown = format!(
        "{} on {} in {}\n{}\n\n",
        report.model,
        report.backend,
        report.precision,
        report.settings().words()
    );
    shown += &table(total);
    if let Some(second) = &report.against {
        shown += &against(report, second);
    }
    if let Some(floor) = report.floor_bits_per_byte {
        shown += &format!(
            "The entropy of this text's source is {} bits per byte.\n",
            format::significant(floor, 4)
        );
    }
    if let Some(floor) = report.window_floor.filter(|floor| floor.cut > 0.0) {
        shown += &format!(
            "{} % of the targets lack the start of their document{}\n",
            format::significant(100.0 * floor.cut, 2),
            match floor.bits_per_byte {
                Some(floor) => format!(
                    ":\nthe floor of these windows is {} bits per byte.",
                    format::significant(floor, 4)
                ),
                None => ":\nthe entropy is out of reach.".into(),
            }
        );
    }
    if *not_scored > 0 {
        shown += &format!(
            "{} without a prediction, because no token precedes {}.\n",
            tokens(*not_scored),
            if *not_scored == 1 { "it" } else { "them" }
        );
    }
    if !report.tokenizer_is_exact {
        shown += "The tokenizer changes text: its tokens do not stand for exactly these bytes.\n";
    }
    shown += &format!(
        "\nExpected calibration error of the most probable token: {} %, over {}.\n",
        format::significant(
            100.0 * report.evaluation.calibration.expected_calibration_error,
            2
        ),
        plural(report.evaluation.calibration.bins.len(), "bin")
    );
    if !documents.is_empty() {
        shown += &format!(
            "\n{:>10} {:>12} {:>12}  document\n",
            "tokens", "bytes", "bits/byte"
        );
        for document in documents {
            let per_byte = match document.bytes {
                0 => format::NONE.into(),
                bytes => format!("{:.4}", document.bits / bytes as f64),
            };
            shown += &format!(
                "{:>10} {:>12} {per_byte:>12}  {} {}\n",
                document.tokens, document.bytes, document.text, document.document
            );
        }
    } else if texts.len() > 1 {
        shown += &format!(
            "\n{:>10} {:>12} {:>12}   {:<18} text\n",
            "tokens", "bytes", "bits/byte", "95 % interval"
        );
        for text in texts {
            let per_byte = text.measures.bits_per_byte;
            let interval = per_byte.and_then(|bits| bits.interval);
            shown += &format!(
                "{:>10} {:>12} {:>12}   {:<18} {}\n",
                text.measures.tokens,
                text.measures.bytes,
                per_byte.map_or(format::NONE.into(), |bits| number(bits.value)),
                interval.map_or(String::new(), |[low, high]| format!(
                    "{} to {}",
                    number(low),
                    number(high)
                )),
                printable(&text.name)
            );
        }
    }
    shown
        + &format!(
            "\n{} scored in {}, {} tokens/s\n",
            tokens(total.tokens),
            format::seconds(report.seconds),
            format::rate(report.tokens_per_second)
        )
}

/// Describes the difference from a second model.
fn against(report: &EvaluationRecord, second: &Second) -> String {
    let Second {
        model,
        backend,
        precision,
        total,
        difference,
        rounding,
        ..
    } = second;
    let mut shown = format!("Against {model} on {backend} in {precision}\n\n");
    let measured = [report.evaluation.total.bits_per_byte, total.bits_per_byte];
    let (name, measured, estimate) = match (measured, difference.bits_per_byte) {
        ([Some(first), Some(second)], Some(difference)) => {
            ("bits per byte", [first, second], Some(difference))
        }
        _ => {
            let first = report.evaluation.total.loss;
            ("loss", [first, total.loss], difference.loss)
        }
    };
    for (which, estimate) in ["first", "second"].into_iter().zip(measured) {
        shown += &format!(
            "{:<24} {:>10}\n",
            format!("{name}, {which}"),
            number(estimate.value)
        );
    }
    if let Some(difference) = estimate {
        shown += &difference_row(difference);
        shown += &match difference.contains(0.0) {
            _ if rounding.is_some() => String::new(),
            None => String::new(),
            Some(true) => "This text does not show which model is better.\n".into(),
            Some(false) if difference.value < 0.0 => "The second model is better.\n".into(),
            Some(false) => "The first model is better.\n".into(),
        };
    }
    if difference.left_out > 0 {
        shown += &format!(
            "{} left out: too short for one of the models.\n",
            plural(difference.left_out, "document")
        );
    }
    if let Some(rounding) = rounding {
        shown += &rounding_text(rounding);
    }
    shown + "\n"
}

/// Formats a difference, which may be small, with its interval.
fn difference_row(difference: Estimate) -> String {
    let number = |value: f64| match value.abs() {
        0.0 => "0".into(),
        size if size < 1e-3 => format!("{value:.1e}"),
        _ => format!("{value:.4}"),
    };
    let interval = difference.interval.map_or(String::new(), |[low, high]| {
        format!("{} to {}", number(low), number(high))
    });
    let row = format!(
        "{:<24} {:>10}   {interval}",
        "second − first",
        number(difference.value)
    );
    format!("{}\n", row.trim_end())
}

/// Answers whether the difference is more than rounding.
fn rounding_text(rounding: &Rounding) -> String {
    let Rounding {
        verdict,
        largest,
        root_mean_square,
        of_one_rounding,
        bound,
    } = rounding;
    let verdict = match verdict {
        RoundingVerdict::Identical => {
            return "Same weights: every token has the same bits.\n".into();
        }
        RoundingVerdict::Rounding => "Same weights: the difference is rounding.".to_owned(),
        RoundingVerdict::Differs => format!(
            "Same weights: the difference is more than rounding, which would be {bound:.1e}.\n\
             `foretoken bisect` names the operation that differs."
        ),
    };
    format!(
        "{verdict}\nTokens differ by {root_mean_square:.1e} nats in the root mean square, and by {largest:.1e} at most;\n\
         one rounding of every weight changes them by {of_one_rounding:.1e}.\n"
    )
}

fn tokens(number: u64) -> String {
    counted(number, "token")
}

/// Formats a number of things, with spaces between thousands.
fn counted(number: u64, what: &str) -> String {
    format!(
        "{} {what}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

/// Lists the measures with their intervals.
fn table(total: &Measures) -> String {
    let clusters = total.clusters_are.words();
    let rows = [
        ("loss", Some(total.loss), "nats/token"),
        ("", Some(total.bits_per_token), "bits/token"),
        ("perplexity", Some(total.perplexity), "per token"),
        ("bits per byte", total.bits_per_byte, ""),
        ("bits per character", total.bits_per_character, ""),
        ("word perplexity", total.word_perplexity, ""),
        ("accuracy", Some(total.accuracy.scaled(100.0)), "%"),
        (
            "accuracy of the first 5",
            Some(total.top_5_accuracy.scaled(100.0)),
            "%",
        ),
        ("mean rank", Some(total.mean_rank), ""),
    ];
    let mut table = format!(
        "{}, {}, {}, {}\n\n{:<24} {:>10}   {:<22}\n",
        tokens(total.tokens),
        counted(total.bytes, "byte"),
        counted(total.characters, "character"),
        counted(total.words, "word"),
        "",
        "value",
        match total.clusters {
            0 | 1 => "".into(),
            number => format!("95 % interval, over {} {clusters}", count(number as u64)),
        }
    );
    for (name, estimate, unit) in rows {
        if let Some(estimate) = estimate {
            table += &row(name, estimate, unit);
        }
    }
    table + "\n"
}

/// Formats a measure with its interval.
fn row(name: &str, estimate: Estimate, unit: &str) -> String {
    let interval = estimate.interval.map_or(String::new(), |[low, high]| {
        format!("{} to {}", number(low), number(high))
    });
    let value = number(estimate.value);
    let row = format!("{name:<24} {value:>10}   {interval:<22} {unit}");
    format!("{}\n", row.trim_end())
}

/// Formats a number with at least five digits, and at most four after the point.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{value:.3e}"),
        large if large >= 1000.0 => format!("{value:.1}"),
        large if large >= 100.0 => format!("{value:.2}"),
        large if large >= 10.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}
