//! The command `foretoken probe`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::experiment::ProbesSection;
use foretoken::science::probes::{
    Emergence, Means, Measure, ProbeRecord, Selection, Signal, Study,
};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{self, NONE, Shown, plural};
use foretoken::show::progress::{BuildReporter, targets_bar};
use foretoken::{Error, errln};
use foretoken_datasets::world::Family;

use super::interrupt::on_ctrl_c;
use super::model::{refuse_repeated, refused};
use super::report_args::{ReportArgs, print_and_write};
use super::required::BackendName;
use super::screen::{WIDTH, wrapped};

/// Columns of names in a table.
const NAME: usize = 26;

/// Measure what a model can, item by item, at each checkpoint of a run on a world
///
/// Items have a right answer and wrong ones, of which the exact distribution of the world says which is which: agreement of
/// subject and verb, by the words between them; facts, by how often the training text states them; sums, also such that
/// the training text does not contain; register, formal or informal; and recall of facts that only the context states,
/// which the world itself cannot write.
///
/// right: items whose right answer is more probable than each wrong one; chance: the same for a model that has no preference
/// among the answers. exact: items whose right answer greedy decoding writes, and of: the same for the exact distribution of
/// the world, which a perfect model has. Brier: squared error of the
/// probabilities of the answers, from 0 for the best to 2. bits: bits per byte of the right answers. Intervals are 95 %
/// confidence intervals over items. A report has more measures.
///
/// Over several checkpoints it compares how suddenly exact match and Brier score change, and tests whether bits per byte
/// predict the accuracy of later checkpoints. `[probes]` in an experiment does the same while the model trains.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken probe runs/world-flex-1                   the best weights
  foretoken probe runs/world-flex-1 --json            every item and its scores
  foretoken probe runs/mine --checkpoints 200,400,last --families facts,sums
  foretoken probe runs/mine --checkpoints all --out probes     with figures
  foretoken probe runs/mine --sweep sweeps/sizes      signal to noise of a sweep

A run keeps the checkpoints of more steps if it is trained with
--set train.keep=[100,200,400].")]
pub(super) struct ProbeArgs {
    /// A run directory
    run: PathBuf,
    /// Checkpoints: all, best, last, and step numbers
    #[arg(long, value_name = "WHICH,…", value_delimiter = ',', num_args = 1.., default_value = "best")]
    checkpoints: Vec<Selection>,
    /// Families of items: agreement, facts, sums, register, recall [default: all that the world has]
    #[arg(long, value_name = "FAMILY,…", value_delimiter = ',', num_args = 1.., value_parser = family)]
    families: Vec<Family>,
    /// Items of each family
    #[arg(long, value_name = "N", default_value_t = 128)]
    items: usize,
    /// Directory of a sweep, or of runs, over whose last checkpoints signal to noise is measured
    #[arg(long, value_name = "DIR")]
    sweep: Option<PathBuf>,
    /// Backend to run on, with an optional precision, such as flex:f64 [default: the first one compiled in, in f32]
    #[arg(long, value_name = "NAME[:DTYPE]")]
    backend: Option<BackendName>,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

fn family(text: &str) -> Result<Family, String> {
    let known = Family::ALL.iter().find(|family| family.name() == text);
    known.copied().ok_or_else(|| {
        let names: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
        format!("the families are {}", names.join(", "))
    })
}

pub(super) fn run(args: ProbeArgs) -> Result<ExitCode, Error> {
    if !(1..=ProbesSection::MAX_ITEMS).contains(&args.items) {
        let message = format!(
            "is {}; it must be from 1 to {}",
            args.items,
            ProbesSection::MAX_ITEMS
        );
        return Err(refused("--items", message));
    }
    refuse_repeated("--families", &args.families, |family| family.name().into())?;
    refuse_repeated("--checkpoints", &args.checkpoints, ToString::to_string)?;
    let interrupt = on_ctrl_c(|| {});
    let directory = args.report.claim("probes-")?;
    let reporter = BuildReporter::new(Dashboard::Plain);
    let study = Study::open(
        &args.run,
        &args.families,
        args.items,
        BackendName::or_default(args.backend),
        reporter.monitor(&interrupt),
    )?;
    let steps = study.steps(&args.checkpoints)?;
    for note in study.notes() {
        errln!("note: {note}");
    }
    let only = matches!(args.checkpoints[..], [Selection::All]) && steps.len() < 3;
    if only {
        errln!(
            "note: {} has {}; to see how abilities develop, train with --set train.keep=[100,200,400]",
            args.run.shown(),
            plural(steps.len(), "checkpoint")
        );
    }
    let bar = targets_bar("probing");
    bar.set_length((study.rows() * steps.len()) as u64);
    let sweep = args.sweep.as_deref();
    let record = study.run(&steps, sweep, &interrupt, &mut |rows| bar.inc(rows as u64));
    bar.finish_and_clear();
    let record = record?;
    print_and_write(&record, args.json, shown, directory, ProbeRecord::write)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(record: &ProbeRecord) -> String {
    let mut text = format!(
        "{} on {} in {}\n",
        record.run.shown(),
        record.backend,
        record.precision
    );
    if let Some(last) = record.checkpoints.last() {
        text += &format!(
            "\n{}",
            heading(&format!(
                "step {}, validation loss {:.4}",
                last.step, last.valid_loss
            ))
        );
        for scores in &last.families {
            let (name, best) = (scores.family.name(), scores.exact_match_of_world);
            let (items, chance) = (scores.scores.len(), scores.chance);
            text += &row(name, items, &scores.means, chance, best);
            for level in scores.levels.iter().filter(|_| scores.levels.len() > 1) {
                let (name, best) = (format!("  {}", level.level), level.exact_match_of_world);
                text += &row(&name, level.items, &level.means, level.chance, best);
            }
        }
        let ceilings = last.families.iter();
        text += &ceilings
            .filter_map(|scores| scores.ceiling_sentence())
            .map(paragraph)
            .collect::<String>();
    }
    if record.checkpoints.len() > 1 {
        for family in &record.families {
            let mut results = record.of_family(family.family).peekable();
            if results.peek().is_none() {
                continue;
            }
            text += &format!("\n{}", heading(family.family.name()));
            for (checkpoint, scores) in results {
                let name = format!(
                    "  step {}, loss {:.4}",
                    checkpoint.step, checkpoint.valid_loss
                );
                let best = scores.exact_match_of_world;
                let (items, chance) = (scores.scores.len(), scores.chance);
                text += &row(&name, items, &scores.means, chance, best);
            }
            let emergence = record.emergence.iter();
            for emergence in emergence.filter(|emergence| emergence.family == family.family) {
                text += &sentences(emergence);
            }
        }
    }
    if let Some(signal) = &record.signal {
        text += &signal_table(signal);
    }
    text + &format!(
        "\n{} at {} in {}\n",
        plural(record.item_count(), "item"),
        plural(record.checkpoints.len(), "checkpoint"),
        format::seconds(record.seconds)
    )
}

fn heading(name: &str) -> String {
    let titles = format!(
        "{:>5}{:>6}  {:<9}{:>7}{:>6}{:>6}{:>6}{:>6}",
        "items", "right", "95 %", "chance", "exact", "of", "Brier", "bits"
    );
    format!("{}{titles}\n", named(name))
}

/// Fills the first column with a name. A longer name has a line of its own.
fn named(name: &str) -> String {
    match name.chars().count() > NAME {
        true => format!("{name}\n{:<NAME$}", ""),
        false => format!("{name:<NAME$}"),
    }
}

/// Formats means, with the accuracy of chance, and with the exact match of the world if it is known.
fn row(name: &str, items: usize, means: &Means, chance: f64, best: Option<f64>) -> String {
    let accuracy = means.get(Measure::Accuracy);
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    // Whole percents, rounded so that the interval does not become narrower.
    let interval = accuracy.interval.map_or(NONE.into(), |[low, high]| {
        let [low, high] = [(100.0 * low).floor(), (100.0 * high).ceil()];
        format!("{low} to {high}")
    });
    let value = |measure| means.get(measure).value;
    format!(
        "{}{items:>5}{:>6}  {interval:<9}{:>7}{:>6}{:>6}{:>6.2}{:>6}\n",
        named(name),
        percent(accuracy.value),
        percent(chance),
        percent(value(Measure::ExactMatch)),
        best.map_or(NONE.into(), percent),
        value(Measure::Brier),
        bits(value(Measure::BitsPerByte)),
    )
}

/// Formats bits per byte with at most five characters.
fn bits(value: f64) -> String {
    match value {
        large if large >= 99.5 => format!("{large:.0}"),
        large if large >= 9.95 => format!("{large:.1}"),
        small => format!("{small:.3}"),
    }
}

fn sentences(emergence: &Emergence) -> String {
    emergence.sentences().into_iter().map(paragraph).collect()
}

fn paragraph(text: String) -> String {
    wrapped(&format::plain(text), WIDTH).join("\n") + "\n"
}

fn signal_table(signal: &Signal) -> String {
    let mut text = format!(
        "\nsignal to noise over {} of {}\n{:<33}{:>8}{:>8}{:>8}  95 %\n",
        plural(signal.runs.len(), "run"),
        signal.sweep.shown(),
        "",
        "signal",
        "noise",
        "ratio"
    );
    for row in &signal.rows {
        let number = |value: f64| format::significant(value, 3);
        let line = format!(
            "{:<33}{:>8}{:>8}{:>8}  {}",
            format!("{}, {}", row.family, row.measure.words()),
            number(row.signal),
            number(row.noise),
            row.ratio.map_or(NONE.into(), number),
            row.interval.map_or(String::new(), |[low, high]| format!(
                "{} to {}",
                number(low),
                number(high)
            ))
        );
        text += &format!("{}\n", line.trim_end());
    }
    for run in &signal.skipped {
        text += &paragraph(format!("left out: {run}"));
    }
    text
}
