//! The command `foretoken memory canaries`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use foretoken::Error;
use foretoken::experiment::DataSection;
use foretoken::science::memory::{
    CanaryGroup, CanaryRecord, CanarySettings, CanaryTexts, EXPOSURE_OF_CHANCE, copies,
};
use foretoken::show::format::{self, Shown, count, plural, significant};
use foretoken::show::progress::targets_bar;
use foretoken_datasets::{Canaries, Manifest};

use super::super::interrupt::on_ctrl_c;
use super::super::model::{ModelArgs, refused};
use super::super::report_args::{ReportArgs, print_and_write};
use super::texts::RunTexts;

/// Measure whether a run has memorised the canaries in its training text
///
/// Canaries are documents with a random secret, which `foretoken data build --canaries N` plants. Each secret is ranked by
/// its probability among references, other random secrets of the same format: its rank is 1 plus the number of references
/// that are at least as likely, and its exposure is log₂ (references + 1) − log₂ rank, in bits (Carlini et al. 2019).
///
/// Beside them stand as many controls, which were drawn and not planted, and show what chance gives: the exposure of a secret
/// that was never seen has a mean of 1/ln 2 = 1.44 bits. Intervals of means are over canaries; that of a canary, in --json, follows
/// from the exact interval of the share of references that are at least as likely. How likely chance is to rank the secrets
/// of a group as high is computed from the gamma distribution.
#[derive(Args)]
#[command(mut_arg("checkpoint", |checkpoint| checkpoint.default_value("last")), after_help = "\
Examples:
  foretoken data build stories/ --tokenizer char --canaries 12 --out data/planted
  foretoken train --set data.path=data/planted --out runs/planted
  foretoken memory canaries runs/planted
  foretoken memory canaries runs/planted --references 100000 --checkpoint best --json
  foretoken memory canaries runs/planted --out canaries          a report with a figure")]
pub(in crate::cli) struct CanariesArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Random secrets that each canary is ranked among
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    references: u32,
    /// Texts that are computed at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Seed of the references
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object, every canary, too
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: CanariesArgs) -> Result<ExitCode, Error> {
    let source = args.model.open_run()?;
    let (backend, precision) = args.model.backend()?;
    let interrupt = on_ctrl_c(|| {});
    let run = RunTexts::load(&source, &interrupt)?;
    let texts = run.texts();
    if texts.experiment.data.subset.is_some() {
        return Err(refused(
            &source.path().shown(),
            "was trained on a subset of its documents, so that the copies of its canaries are not those of \
             canaries.json; train without data.subset",
        ));
    }
    let canaries = canaries_of(&texts.experiment.data, &source.path().shown())?;
    let directory = args.report.claim("canaries-")?;
    let model = args.model.load(&source)?;
    let settings = CanarySettings {
        references: args.references as usize,
        seed: args.seed,
        batch: args.batch as usize,
    };
    let ranked = CanaryTexts {
        model: &model,
        canaries: &canaries,
        tokenizer: &texts.data.tokenizer,
        border: texts.border.or(texts.data.tokenizer.end_of_text()),
    };
    let bar = targets_bar("ranking");
    bar.set_length(ranked.work(settings.references)? as u64);
    let began = Instant::now();
    let ranks = settings.rank(ranked, &interrupt, &mut |done| bar.inc(done as u64))?;
    bar.finish_and_clear();
    let record = CanaryRecord {
        model: source.description(),
        backend: backend.name(),
        precision: precision.name(),
        epochs: texts.epochs()?,
        prefix: canaries.prefix.clone(),
        symbols: canaries.symbols,
        candidates: canaries.candidates,
        entropy_bits: canaries.entropy_bits,
        references: settings.references,
        seed: settings.seed,
        exposure_of_chance: EXPOSURE_OF_CHANCE,
        groups: CanaryGroup::of(&ranks),
        canaries: ranks,
        seconds: began.elapsed().as_secs_f64(),
    };
    print_and_write(&record, args.json, shown, directory, CanaryRecord::write)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the canaries of the one dataset that has any.
fn canaries_of(section: &DataSection, model: &str) -> Result<Canaries, Error> {
    let entries = section.mixture.iter().map(|entry| &entry.path);
    let mut found = Vec::new();
    for path in entries.chain(&section.path).map(Path::new) {
        if path.join(Manifest::FILE).exists()
            && let Some(canaries) = Canaries::read(path)?
        {
            found.push((PathBuf::from(path), canaries));
        }
    }
    match (found.pop(), found.pop()) {
        (Some((_, canaries)), None) => Ok(canaries),
        (Some((one, _)), Some((other, _))) => Err(refused(
            model,
            format!(
                "both {} and {} of its mixture have canaries; build all but one without",
                other.shown(),
                one.shown()
            ),
        )),
        (None, _) => Err(refused(
            model,
            "its training text has no canaries; plant some with foretoken data build --canaries N, and train on them",
        )),
    }
}

fn shown(record: &CanaryRecord) -> String {
    let mut shown = format!(
        "{} on {} in {}; {} epochs of the training text read\n",
        record.model.shown(),
        record.backend,
        record.precision,
        significant(record.epochs, 2)
    );
    shown += &format!(
        "{} of {:.1} bits, each ranked among {} references\n\n",
        plural(record.canaries.len(), "secret"),
        record.entropy_bits,
        count(record.references as u64)
    );
    shown += &format!(
        "{:<13} {:>8} {:>6} {:>15}  {:<15} {:>7} {:>9}\n",
        "copies", "canaries", "first", "exposure, bits", "95 % interval", "secret", "by chance"
    );
    for group in &record.groups {
        shown += &format!("{}\n", row(group));
    }
    shown += &format!(
        "\nSecrets that were never seen have 1/ln 2 = {EXPOSURE_OF_CHANCE:.2} bits on average. Ranked first,\nbefore \
         all references, they have {:.2} or more.\n",
        record.largest()
    );
    shown
        + &format!(
            "{}\n\n{}\n",
            record.verdict(),
            format::seconds(record.seconds)
        )
}

fn row(group: &CanaryGroup) -> String {
    let interval = group.exposure.interval;
    let interval = interval.map_or(String::new(), |[low, high]| {
        format!("{low:.2} to {high:.2}")
    });
    format!(
        "{:<13} {:>8} {:>6} {:>15.2}  {interval:<15} {:>7.1} {:>9}",
        copies(group.copies),
        count(group.canaries as u64),
        count(group.first as u64),
        group.exposure.value,
        group.bits,
        significant(group.chance, 2)
    )
}
