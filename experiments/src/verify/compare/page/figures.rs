//! Figures of a comparison's report, with their captions.

use super::Run;
use super::errors::heat_map;
use super::{table, words};
use crate::report::{
    Band, Bar, Bars, Block, BoxRow, Boxes, Figure, Line, LineKind, LinePlot, Plot, Section, Width,
};
use crate::show::format;
use crate::verify::compare::{Checked, Comparison, Envelope, Unit};

/// Creates the sections with figures for which there are numbers, in the order of the report.
pub(super) fn sections(comparison: &Comparison, runs: &[Run<'_>]) -> Vec<Section> {
    let drawn: Vec<&Run<'_>> = runs.iter().filter(|run| run.class.is_some()).collect();
    let of = |heading, figures: Vec<Figure>| {
        (!figures.is_empty()).then(|| Section::new(heading, vec![Block::Figures(figures)]))
    };
    let checks = table::checks(runs).map(|checks| {
        let blocks = vec![Block::Text(words::CHECKS.into()), Block::Table(checks)];
        Section::new("Checks of single steps", blocks)
    });
    let invariance = table::invariance(comparison, runs).map(|table| {
        let blocks = vec![Block::Text(words::INVARIANCE.into()), Block::Table(table)];
        Section::new("Cached steps and batches", blocks)
    });
    let sections = [
        of("Loss", loss(comparison, &drawn)),
        of(
            "Difference from the reference",
            differences(comparison, &drawn),
        ),
        of("Distance between weights", weights(comparison, &drawn)),
        checks,
        invariance,
        of("Gradients", errors(&drawn, Checked::Gradient, "gradient")),
        of("Updates", errors(&drawn, Checked::Update, "update")),
        of("Speed and memory", costs(comparison.unit, &drawn)),
        of("Time per step", times(&drawn)),
    ];
    sections.into_iter().flatten().collect()
}

fn of_lines(id: &str, caption: String, plot: LinePlot) -> Figure {
    Figure {
        id: id.into(),
        caption,
        plot: Plot::Lines(plot),
    }
}

fn line(run: &Run<'_>, values: &[f64]) -> Line {
    Line {
        name: run.name.clone(),
        kind: LineKind::Run,
        class: run.class.clone().unwrap_or_default(),
        steps: None,
        values: values.into(),
    }
}

fn loss(comparison: &Comparison, runs: &[&Run<'_>]) -> Vec<Figure> {
    let reference = &comparison.reference;
    let mut lines = vec![Line {
        name: format!("{} (reference)", reference.entrant),
        kind: LineKind::Reference,
        class: String::new(),
        steps: None,
        values: reference.losses.clone(),
    }];
    lines.extend(runs.iter().map(|run| line(run, &run.entry.losses)));
    if let Some(seeds) = &comparison.seeds {
        // The first seed is the experiment's own, and the reference already shows it.
        let others = seeds.seeds.iter().zip(&seeds.losses).skip(1);
        lines.extend(others.map(|(seed, losses)| Line {
            name: format!("seed {seed}"),
            kind: LineKind::Seed,
            class: String::new(),
            steps: None,
            values: losses.clone(),
        }));
    }
    if lines.iter().all(|line| line.values.is_empty()) {
        return Vec::new();
    }
    let plot = LinePlot {
        label: format!(
            "Loss at each step, of {} and every backend under test",
            reference.entrant
        ),
        axis: "step",
        quantity: match comparison.unit {
            Unit::Tokens => "loss, nats per token",
            Unit::Items => "loss",
        },
        log: false,
        width: Width::Full,
        lines,
        bands: Vec::new(),
        levels: Vec::new(),
        marks: Vec::new(),
    };
    let mut caption = format!(
        "Loss at each step. The wide pale line is the reference, {}.",
        reference.entrant
    );
    if comparison.seeds.is_some() {
        caption += " Grey: the reference with other seeds.";
    }
    vec![of_lines("loss", caption, plot)]
}

/// Creates bands from one of the two curves of each envelope, the largest first.
fn bands(comparison: &Comparison, curve: fn(&Envelope) -> &[f64]) -> Vec<Band> {
    let mut bands: Vec<Band> = comparison
        .envelopes
        .iter()
        .map(|envelope| Band {
            name: format!("envelope for {}", envelope.of.dtype),
            values: curve(envelope).into(),
        })
        .filter(|band| !band.values.is_empty())
        .collect();
    let last = |band: &Band| band.values.last().copied().unwrap_or(0.0);
    bands.sort_by(|a, b| last(b).total_cmp(&last(a)));
    bands
}

fn differences(comparison: &Comparison, runs: &[&Run<'_>]) -> Vec<Figure> {
    let reference = &comparison.reference;
    let difference = |run: &Run<'_>| -> Vec<f64> {
        let pairs = run.entry.losses.iter().zip(&reference.losses);
        pairs.map(|(loss, of)| (loss - of).abs()).collect()
    };
    let lines: Vec<Line> = runs.iter().map(|run| line(run, &difference(run))).collect();
    if lines.iter().all(|line| line.values.is_empty()) {
        return Vec::new();
    }
    let zeros = lines.iter().any(|line| line.values.contains(&0.0));
    let plot = LinePlot {
        label: format!(
            "Absolute difference between each backend's loss and that of {}, logarithmic",
            reference.entrant
        ),
        axis: "step",
        quantity: match comparison.unit {
            Unit::Tokens => "|loss − reference's loss|, nats per token",
            Unit::Items => "|loss − reference's loss|",
        },
        log: true,
        width: Width::Full,
        lines,
        bands: bands(comparison, |envelope| &envelope.loss),
        levels: Vec::new(),
        marks: Vec::new(),
    };
    let mut caption = format!("|loss − loss of {}| at each step.", reference.entrant);
    if !plot.bands.is_empty() {
        caption +=
            " Shaded: the envelope of differences that rounding explains, for each precision.";
    }
    if zeros {
        caption += " Steps without any difference lie at 0, below the logarithmic axis.";
    }
    vec![of_lines("difference", caption, plot)]
}

fn weights(comparison: &Comparison, runs: &[&Run<'_>]) -> Vec<Figure> {
    let lines: Vec<Line> = runs
        .iter()
        .filter(|run| !run.entry.weights_distance.is_empty())
        .map(|run| line(run, &run.entry.weights_distance))
        .collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let reference = comparison.reference.entrant;
    let plot = LinePlot {
        label: format!("Distance of each backend's weights from those of {reference}, logarithmic"),
        axis: "step",
        quantity: "‖weights − reference's‖ / ‖reference's‖",
        log: true,
        width: Width::Full,
        lines,
        bands: bands(comparison, |envelope| &envelope.weights),
        levels: Vec::new(),
        marks: Vec::new(),
    };
    let mut caption = format!(
        "Distance of the weights after each step from those of {reference}, over all parameters, \
         relative to their norm."
    );
    if !plot.bands.is_empty() {
        caption +=
            " Shaded: the envelope of differences that rounding explains, for each precision.";
    }
    vec![of_lines("weights", caption, plot)]
}

/// Creates one heat map for each backend. `name` is the quantity in the singular.
fn errors(runs: &[&Run<'_>], of: Checked, name: &str) -> Vec<Figure> {
    let figure = |run: &&Run<'_>| {
        let label = format!(
            "Error of the {name} of each parameter of {}, at its worst step",
            run.name
        );
        let map = heat_map(label, &run.entry.checks, of)?;
        let checks = || run.entry.checks.iter().filter(|check| check.of == of);
        let out = checks().filter(|check| !check.holds()).count();
        let caption = match out {
            0 => format!("{}: every {name} is within its bound.", run.name),
            _ => format!(
                "{}: {out} of {} {name}s out of bound, marked ×.",
                run.name,
                checks().count()
            ),
        };
        Some(Figure {
            id: format!("{name}-{}", run.slug()),
            caption,
            plot: Plot::HeatMap(map),
        })
    };
    runs.iter().filter_map(figure).collect()
}

fn costs(unit: Unit, runs: &[&Run<'_>]) -> Vec<Figure> {
    let bar = |value: fn(&Run<'_>) -> Option<f64>| -> Vec<Bar> {
        let bar = |run: &&Run<'_>| Bar {
            name: run.name.clone(),
            class: run.class.clone().unwrap_or_default(),
            value: value(run),
        };
        runs.iter().map(bar).collect()
    };
    let figures = [
        (
            "speed",
            match unit {
                Unit::Tokens => {
                    "Training speed in tokens per second: a step's tokens over the median time of a step."
                }
                Unit::Items => {
                    "Training speed in items per second: a step's items over the median time of a step."
                }
            },
            Bars {
                label: "Training speed of each backend",
                row: "entrant",
                quantity: match unit {
                    Unit::Tokens => "tokens_per_second",
                    Unit::Items => "items_per_second",
                },
                shown: match unit {
                    Unit::Tokens => {
                        |value| format!("{}{}tokens/s", format::rate(value), format::THIN)
                    }
                    Unit::Items => {
                        |value| format!("{}{}items/s", format::rate(value), format::THIN)
                    }
                },
                rows: bar(|run| run.entry.tokens_per_second),
            },
        ),
        (
            "memory",
            "Peak memory: of the device's pool if it has one, else resident memory above that of the process when the \
             run began.",
            Bars {
                label: "Peak memory of each backend",
                row: "entrant",
                quantity: "peak_memory_bytes",
                shown: |value| format::bytes(value as u64),
                rows: bar(|run| run.entry.peak_memory_bytes.map(|bytes| bytes as f64)),
            },
        ),
    ];
    let measured = |bars: &Bars| bars.rows.iter().any(|bar| bar.value.is_some());
    let figures = figures.into_iter().filter(|(_, _, bars)| measured(bars));
    figures
        .map(|(id, caption, bars)| Figure {
            id: id.into(),
            caption: caption.into(),
            plot: Plot::Bars(bars),
        })
        .collect()
}

fn times(runs: &[&Run<'_>]) -> Vec<Figure> {
    let rows: Vec<BoxRow> = runs
        .iter()
        .map(|run| BoxRow {
            name: run.name.clone(),
            class: run.class.clone().unwrap_or_default(),
            seconds: run.entry.seconds.clone(),
        })
        .collect();
    let mut seconds = rows.iter().flat_map(|row| &row.seconds);
    if !seconds.any(|seconds| seconds.is_finite()) {
        return Vec::new();
    }
    let caption = "Wall-clock time of a step, logarithmic. Line: the median, in numbers on the right; box: the \
                   middle half; whiskers: 5 % to 95 %; dots: the fastest and the slowest step.";
    vec![Figure {
        id: "time".into(),
        caption: caption.into(),
        plot: Plot::Boxes(Boxes {
            label: "Time per step of each backend",
            rows,
        }),
    }]
}
