//! The command `foretoken memory extract`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use foretoken::Error;
use foretoken::science::memory::{
    Excess, ExtractRecord, ExtractSettings, Extraction, Group, PrefixRecord, SetRecord,
};
use foretoken::science::{Share, ShareDifference};
use foretoken::show::format::{self, Shown, count, significant};
use foretoken::show::progress::targets_bar;

use super::super::interrupt::on_ctrl_c;
use super::super::model::{ModelArgs, refused};
use super::super::report_args::{ReportArgs, print_and_write};
use super::texts::RunTexts;

/// Largest suffix by default, that of the literature.
const SUFFIX: usize = 50;

/// Shortest prefix by default.
const SHORTEST: usize = 4;

/// Measure which training text a model gives back
///
/// Draws sequences from windows that the run has read in training, and from its validation text, and cuts each into a prefix
/// and a suffix. A suffix is extracted if greedy decoding gives it after the prefix (Carlini et al. 2022), and
/// (n, p)-discoverable if it is among n samples with probability p or more, 1 − (1 − p_z)^n ≥ p, where p_z is the probability
/// of the suffix (Hayes et al. 2024). Both are computed from the probabilities of the suffix; nothing is generated.
///
/// Suffixes of held-out text that are extracted were not memorised: they are predictable. Only the excess of training text
/// over them is memory. The last checkpoint is measured by default, because the one with the best validation loss has
/// memorised less.
///
/// Sequences are grouped by how often prefix and suffix occur in the training text. Prefixes of all lengths end at the same
/// suffix; with data.windows = "documents" they begin with the document. Intervals of shares are exact (Clopper and
/// Pearson), and those of differences follow from score intervals (Newcombe).
#[derive(Args)]
#[command(mut_arg("checkpoint", |checkpoint| checkpoint.default_value("last")), after_help = "\
Examples:
  foretoken memory extract runs/world-flex-1
  foretoken memory extract runs/mine --suffix 50 --prefixes 50,100,200 --sequences 5000
  foretoken memory extract runs/mine --samples 1,100,10000 --probability 0.9 --json
  foretoken memory extract runs/mine --checkpoint 400 --out extraction           a report with figures")]
pub(in crate::cli) struct ExtractArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the suffix [default: a quarter of the context, at most 50]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    suffix: Option<u32>,
    /// Tokens of the prefixes [default: 4, 8, 16, … as far as the context allows]
    #[arg(long, value_name = "TOKENS,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    prefixes: Vec<u32>,
    /// Largest number of sequences of each text
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    sequences: u32,
    /// Numbers n of samples
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,10,100,1000", value_parser = clap::value_parser!(u64).range(1..))]
    samples: Vec<u64>,
    /// Probability p that one of n samples is the suffix
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    probability: f64,
    /// Sequences that are computed at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Draws of the bootstrap, for the bits of a token
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(39..=100_000))]
    draws: u32,
    /// Seed of the choice of sequences, and of the bootstrap
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object, every sequence, too
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ExtractArgs) -> Result<ExitCode, Error> {
    if !(args.probability > 0.0 && args.probability < 1.0) {
        let message = format!("is {}; it must be above 0 and below 1", args.probability);
        return Err(refused("--probability", message));
    }
    let source = args.model.open_run()?;
    let (backend, precision) = args.model.backend()?;
    let interrupt = on_ctrl_c(|| {});
    let run = RunTexts::load(&source, &interrupt)?;
    let texts = run.texts();
    let settings = settings(&args, texts.context, usize::from(texts.border.is_some()))?;
    let directory = args.report.claim("extraction-")?;
    let sets = settings.draw(texts)?;
    let model = args.model.load(&source)?;
    let extraction = Extraction {
        model: &model,
        training: texts
            .data
            .train
            .iter()
            .map(|source| &source.split)
            .collect(),
        settings,
    };
    let bar = targets_bar("counting and scoring");
    bar.set_length(extraction.work(&sets) as u64);
    let began = Instant::now();
    let [training, held_out] =
        extraction.run(&sets, &interrupt, &mut |done| bar.inc(done as u64))?;
    bar.finish_and_clear();
    let settings = extraction.settings;
    let record = ExtractRecord {
        model: source.description(),
        backend: backend.name(),
        precision: precision.name(),
        suffix: settings.suffix,
        prefixes: settings.prefixes,
        by_document: texts.border.is_some(),
        epochs: texts.epochs()?,
        samples: settings.samples,
        probability: settings.probability,
        seed: settings.seed,
        excess: Excess::of(&training, &held_out),
        training,
        held_out,
        seconds: began.elapsed().as_secs_f64(),
    };
    print_and_write(&record, args.json, shown, directory, ExtractRecord::write)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the settings, given the context and the number of tokens before every prefix.
fn settings(args: &ExtractArgs, context: usize, lead: usize) -> Result<ExtractSettings, Error> {
    // The last token is predicted, and not read.
    let fits = (context + 1).saturating_sub(lead);
    let suffix = args
        .suffix
        .map_or((context / 4).clamp(1, SUFFIX), |suffix| suffix as usize);
    let mut prefixes: Vec<usize> = args
        .prefixes
        .iter()
        .map(|prefix| *prefix as usize)
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    if prefixes.is_empty() {
        let longest = fits.saturating_sub(suffix);
        let doubled = std::iter::successors(Some(SHORTEST), |prefix| prefix.checked_mul(2));
        prefixes = doubled.take_while(|prefix| *prefix <= longest).collect();
        if prefixes.is_empty() && longest > 0 {
            prefixes.push(longest);
        }
    }
    match prefixes.last() {
        Some(longest) if longest + suffix <= fits => {}
        longest => {
            return Err(refused(
                if args.prefixes.is_empty() {
                    "--suffix"
                } else {
                    "--prefixes"
                },
                format!(
                    "a prefix of {} and a suffix of {suffix} tokens do not fit into the context of {context} tokens; \
                     choose shorter ones",
                    longest.copied().unwrap_or(1)
                ),
            ));
        }
    }
    let mut samples = args.samples.clone();
    samples.sort_unstable();
    samples.dedup();
    Ok(ExtractSettings {
        prefixes,
        suffix,
        sequences: args.sequences as usize,
        samples,
        probability: args.probability,
        seed: args.seed,
        draws: args.draws as usize,
        batch: args.batch as usize,
    })
}

fn shown(record: &ExtractRecord) -> String {
    let mut shown = format!(
        "{} on {} in {}\n{} epochs of the training text read up to this checkpoint\n\
         {} training and {} held-out sequences, suffixes of {} tokens\n",
        record.model.shown(),
        record.backend,
        record.precision,
        significant(record.epochs, 2),
        count(record.training.sequences as u64),
        count(record.held_out.sequences as u64),
        record.suffix
    );
    shown += &extracted(record);
    shown += &by_occurrences(record);
    shown + &format!("\n{}\n", format::seconds(record.seconds))
}

/// Lists extracted and discoverable shares by the length of the prefix: of both texts, and the excess of training.
fn extracted(record: &ExtractRecord) -> String {
    let mut table = format!(
        "\n{:<14} {:>5} {:<13} {:>5} {:<13} {:>6}\n",
        "extracted, %", "train", "", "held", "out", "excess"
    );
    let sets = record.training.by_prefix.iter();
    let sets = sets.zip(&record.held_out.by_prefix).zip(&record.excess);
    for ((training, held_out), excess) in sets {
        table += &format!("prefix {}\n", training.prefix);
        let share = |at: &PrefixRecord, of: &dyn Fn(&Group) -> Share| {
            at.all.as_ref().map(|group| {
                let share = of(group);
                (share.value, share.interval)
            })
        };
        let mut row =
            |name: &str, of: &dyn Fn(&Group) -> Share, excess: Option<ShareDifference>| {
                let excess = excess.map(|excess| (excess.value, excess.interval));
                let cells = [share(training, of), share(held_out, of), excess].map(|cell| {
                    let value = cell.map_or(format::NONE.into(), |(value, _)| percent(value));
                    format!(
                        "{value:>5} {:<13}",
                        cell.map_or(String::new(), |(_, ends)| interval(ends))
                    )
                });
                table += format!("{:<14} {}", format!("  {name}"), cells.join(" ")).trim_end();
                table.push('\n');
            };
        row("greedy", &|group| group.greedy, excess.greedy);
        for (index, samples) in record.samples.iter().enumerate() {
            let excess = excess.discoverable.get(index).copied().flatten();
            row(
                &format!("n = {samples}"),
                &|group| group.discoverable[index].share,
                excess,
            );
        }
    }
    table
        + &format!(
            "n = N: (N, {})-discoverable\nOnly the excess, training less held out, is memory.\n",
            record.probability
        )
}

fn percent(share: f64) -> String {
    // Small negative differences are rounded to 0 without a sign.
    format!("{:.1}", (1000.0 * share).round() / 10.0 + 0.0)
}

fn interval(ends: [f64; 2]) -> String {
    ends.map(percent).join(" to ")
}

/// Lists the longest prefix by how often the sequences occur in the training text.
fn by_occurrences(record: &ExtractRecord) -> String {
    let last = |set: &SetRecord| {
        set.by_prefix
            .last()
            .map_or(Vec::new(), |at| at.by_occurrences.clone())
    };
    let prefix = record.prefixes.last().copied().unwrap_or(0);
    let mut table = format!(
        "\n{:<27} {:>9} {:>9} {:<15} {:>10}\n",
        format!("prefix {prefix}, in training"),
        "sequences",
        "greedy, %",
        "95 % interval",
        "bits/token"
    );
    for (name, set) in [
        ("training", &record.training),
        ("held out", &record.held_out),
    ] {
        for group in last(set) {
            let times = occurrences(&group);
            let bits = group.bits_per_token;
            table += &format!(
                "{:<27} {:>9} {:>9} {:<15} {:>10}\n",
                format!("{name}, {times}"),
                count(group.greedy.trials),
                percent(group.greedy.value),
                interval(group.greedy.interval),
                bits.map_or(format::NONE.into(), |bits| format!("{:.3}", bits.value))
            );
        }
    }
    table
}

fn occurrences(group: &Group) -> String {
    match (group.from, group.to) {
        (1, 1) => "once".into(),
        (from, to) if from == to => format!("{from} times"),
        (from, to) => format!("{from} to {to} times"),
    }
}
