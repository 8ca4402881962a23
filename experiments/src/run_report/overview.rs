//! The first section of a report: tiles of one run or a table of several, with notes on missing data.

use std::time::Duration;

use super::history::RunHistory;
use super::reported_run::ReportedRun;
use super::sentences::{self, BITS_DIGITS};
use crate::report::{Block, Cell, Kind, Layout, Section, Table, Tile, Tone, headings};
use crate::show::format::{self, count, loss, significant};

pub(super) fn section(runs: &[ReportedRun<'_>]) -> Section {
    let mut blocks = vec![match runs {
        [only] => Block::Tiles(tiles(only.run)),
        _ => Block::Table(table(runs)),
    }];
    blocks.extend(sentences::notes(runs).into_iter().map(Block::Text));
    Section::new("Overview", blocks)
}

/// Returns the state of a run in a few words, and its rating.
pub(super) fn state(run: &RunHistory) -> (Tone, String) {
    let steps = count(run.steps() as u64);
    match (&run.result, run.broken_from()) {
        (_, Some(step)) => (
            Tone::Bad,
            format!("loss not finite from step {}", count(step as u64)),
        ),
        (Some(result), None) if result.early => {
            (Tone::Good, format!("stopped early after {steps} steps"))
        }
        (Some(_), None) => (Tone::Good, "complete".into()),
        (None, None) if run.of_comparison => (Tone::Neutral, "run of a comparison".into()),
        (None, None) => {
            let planned = count(run.experiment.train.steps as u64);
            (Tone::Fair, format!("unfinished: {steps} of {planned}"))
        }
    }
}

fn tiles(run: &RunHistory) -> Vec<Tile> {
    let tile = |label, value, detail| Tile {
        label,
        value,
        detail,
    };
    let bits = |value| significant(value, BITS_DIGITS);
    let mut tiles = Vec::new();
    if let Some((bits_per_byte, nats)) = run.validation() {
        let floor = match run.reachable_floor() {
            Some((floor, true)) => {
                format!("on validation text; floor of its windows {}", bits(floor))
            }
            Some((floor, false)) => format!("on validation text; floor {}", bits(floor)),
            None => "on validation text".into(),
        };
        tiles.push(tile("Bits per byte", bits(bits_per_byte), floor));
        tiles.push(tile(
            "Validation loss",
            loss(nats),
            format!("nats per token; perplexity {}", significant(nats.exp(), 4)),
        ));
    }
    let (training, detail) = match &run.result {
        Some(result) => (
            result.summary.train_loss,
            "nats per token, since the evaluation before the last",
        ),
        None => (
            run.losses.last().copied().unwrap_or(f64::NAN),
            "nats per token, at the last step",
        ),
    };
    tiles.push(tile("Training loss", loss(training), detail.into()));
    if let Some(last) = run.evaluations.last() {
        tiles.push(tile(
            "Next tokens right",
            format!("{}{}%", significant(100.0 * last.accuracy, 3), format::THIN),
            format!("after step {}", count(last.step as u64)),
        ));
    }
    if let Some((step, bits_per_byte)) = best(run) {
        let (label, kept) = match run.checkpoints.contains(&step) {
            true => ("Best checkpoint", format!("; checkpoints/step-{step}")),
            false if run.of_comparison => ("Best evaluation", String::new()),
            false => (
                "Best checkpoint",
                "; the checkpoint is missing from the directory".into(),
            ),
        };
        tiles.push(tile(
            label,
            format!("step {}", count(step as u64)),
            format!("{} bits per byte{kept}", bits(bits_per_byte)),
        ));
    }
    if let Some(rate) = run.tokens_per_second() {
        let mfu = run.result.as_ref().map(|result| result.summary.mfu);
        let mfu = mfu.filter(|mfu| mfu.is_finite());
        let mfu = mfu.map_or(String::new(), |mfu| {
            format!("; MFU {}{}%", significant(100.0 * mfu, 3), format::THIN)
        });
        tiles.push(tile(
            "Speed",
            format::rate(rate),
            format!("training tokens per second{mfu}"),
        ));
    }
    tiles.push(tile(
        "Time in training steps",
        time(run.training_seconds()),
        format!("{} steps; {}", count(run.steps() as u64), state(run).1),
    ));
    tiles
}

/// Returns step and bits per byte of the best weights.
fn best(run: &RunHistory) -> Option<(usize, f64)> {
    match run.best_of_result() {
        // The result has them over the windows of the final evaluation.
        Some(best) => Some((best.step, best.bits_per_byte)),
        None => run.best().map(|best| (best.step, best.bits_per_byte)),
    }
}

/// Formats a time span, with fractions of seconds below a minute.
fn time(seconds: f64) -> String {
    match seconds {
        60.0..1e12 => format::duration(Duration::from_secs_f64(seconds)),
        _ => format::seconds(seconds),
    }
}

/// Returns a table with a row for each run.
fn table(runs: &[ReportedRun<'_>]) -> Table {
    let bits = |value| significant(value, BITS_DIGITS);
    let row = |shown: &ReportedRun<'_>| {
        let run = shown.run;
        let (tone, state) = state(run);
        let validation = run.validation();
        let backend = &run.experiment.backend;
        vec![
            Cell {
                swatch: Some(shown.class.clone()),
                ..shown.name.clone().into()
            },
            format!("{}:{}", backend.name, backend.dtype).into(),
            Cell {
                kind: Kind::Badge(tone),
                ..state.into()
            },
            Cell::number(Some(run.steps()), |steps| count(steps as u64)),
            Cell::number(run.losses.last().copied(), loss),
            Cell::number(validation.map(|(_, nats)| nats), loss),
            Cell::number(validation.map(|(bits, _)| bits), bits),
            Cell::number(run.floor, bits),
            Cell::number(run.window_floor, bits),
            Cell::number(best(run), |(step, _)| count(step as u64)),
            Cell::number(run.tokens_per_second(), format::rate),
            Cell::number(Some(run.training_seconds()), time),
        ]
    };
    Table {
        caption: "The runs, each with its colour",
        layout: Layout::Cards,
        headings: headings([
            ("run", ""),
            ("backend", ""),
            ("state", ""),
            ("steps", ""),
            ("training loss", "last step, nats/token"),
            ("validation loss", "nats/token"),
            ("validation", "bits/byte"),
            ("entropy of the text", "bits/byte"),
            ("floor of the windows", "bits/byte"),
            ("best", "step"),
            ("speed", "tokens/s"),
            ("time", "in steps"),
        ]),
        rows: runs.iter().map(row).collect(),
    }
}
