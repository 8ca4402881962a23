//! The command `foretoken memory gap`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use foretoken::Error;
use foretoken::science::evaluate::{Estimate, Evaluation};
use foretoken::science::memory::{GapMeasurement, GapRecord, GapSettings};
use foretoken::show::format::{self, Shown, count};
use foretoken::show::output;
use foretoken::show::progress::targets_bar;

use super::super::interrupt::on_ctrl_c;
use super::super::model::ModelArgs;
use super::super::screen::{WIDTH, wrapped};
use super::texts::RunTexts;

/// Measure how much cheaper training text is than text that was not trained on, in bits per byte
///
/// Draws windows that the run has read in training up to the checkpoint, and windows of its validation text, and scores each
/// by itself, as in training; with data.windows = "documents" a window is of one document. Intervals are over windows, and
/// that of the gap takes both texts as independent. The difference of the two losses of a run mixes the loss of earlier
/// weights into the training loss; here both texts are scored by the same weights. The last checkpoint is measured by
/// default, because the one with the best validation loss has memorised less.
#[derive(Args)]
#[command(mut_arg("checkpoint", |checkpoint| checkpoint.default_value("last")), after_help = "\
Examples:
  foretoken memory gap runs/world-flex-1
  foretoken memory gap runs/world-flex-1 --checkpoint 400 --windows 2000
  foretoken memory gap runs/world-flex-1 --json             every window, too")]
pub(in crate::cli) struct GapArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Largest number of windows of each text
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    windows: u32,
    /// Windows that are computed at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Seed of the choice of windows
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: GapArgs) -> Result<ExitCode, Error> {
    let source = args.model.open_run()?;
    let (backend, precision) = args.model.backend()?;
    let interrupt = on_ctrl_c(|| {});
    let run = RunTexts::load(&source, &interrupt)?;
    let texts = run.texts();
    let settings = GapSettings {
        windows: args.windows as usize,
        batch: args.batch as usize,
        seed: args.seed,
    };
    let model = args.model.load(&source)?;
    let bar = targets_bar("scoring");
    bar.set_length(2 * u64::from(args.windows) * texts.context as u64);
    let began = Instant::now();
    let GapMeasurement {
        training,
        held_out,
        gap,
        loss_gap,
    } = settings.measure(&model, texts, &interrupt, &mut |done| bar.inc(done as u64))?;
    bar.finish_and_clear();
    let record = GapRecord {
        model: source.description(),
        backend: backend.name(),
        precision: precision.name(),
        context: texts.context,
        by_document: texts.border.is_some(),
        epochs: texts.epochs()?,
        seed: args.seed,
        training,
        held_out,
        gap,
        loss_gap,
        seconds: began.elapsed().as_secs_f64(),
    };
    output::write(&match args.json {
        true => serde_json::to_string(&record)? + "\n",
        false => format::plain(shown(&record)),
    });
    Ok(ExitCode::SUCCESS)
}

fn shown(record: &GapRecord) -> String {
    let mut shown = format!(
        "{} on {} in {}\n{} epochs of the training text read up to this checkpoint\n\n\
         {:<24} {:>9} {:>10}   95 % interval\n",
        record.model.shown(),
        record.backend,
        record.precision,
        format::significant(record.epochs, 2),
        "bits per byte",
        "windows",
        "value"
    );
    let row = |name: &str, windows: String, estimate: Option<Estimate>| {
        let value = estimate.map_or(format::NONE.into(), |e| format!("{:.4}", e.value));
        let interval = estimate.and_then(|estimate| estimate.interval);
        let interval = interval.map_or(String::new(), |[low, high]| {
            format!("{low:.4} to {high:.4}")
        });
        let row = format!("{name:<24} {windows:>9} {value:>10}   {interval}");
        format!("{}\n", row.trim_end())
    };
    let of = |name, evaluation: &Evaluation| {
        let windows = count(evaluation.documents.len() as u64);
        row(name, windows, evaluation.total.bits_per_byte)
    };
    shown += &of("training", &record.training);
    shown += &of("held out", &record.held_out);
    shown += &row("held out − training", String::new(), record.gap);
    if let Some(verdict) = record.verdict() {
        shown += &format!("{}\n", wrapped(&verdict, WIDTH).join("\n"));
    }
    shown + &format!("\n{}\n", format::seconds(record.seconds))
}
